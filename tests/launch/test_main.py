"""The command line of the launcher."""

import sys
from pathlib import Path

import pytest

from graphstate.launch.__main__ import main

SCRIPT = Path(__file__).parent / "programs" / "waits.py"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--processes=0", str(SCRIPT)], "argument --processes: '0' is not a number from 1 on"),
        (["--devices=many", str(SCRIPT)], "argument --devices: 'many' is not a number from 1 on"),
        (["--timeout=soon", str(SCRIPT)], "argument --timeout: 'soon' is not a number of seconds from 1 on"),
        (["nowhere.py"], "there is no script nowhere.py"),
        ([], "the following arguments are required: script, arguments"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert told in capsys.readouterr().err


def test_what_follows_the_script_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(
        sys.modules["graphstate.launch.__main__"], "run", lambda *args, **kwargs: called.append((args, kwargs)) or 7
    )
    assert main(["--devices", "4", str(SCRIPT), "--devices", "9", "more"]) == 7
    options = {"processes": 2, "devices": 4, "port": None, "timeout": 300.0}
    assert called == [((SCRIPT, ["--devices", "9", "more"]), options)]
