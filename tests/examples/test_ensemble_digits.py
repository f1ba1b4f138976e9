"""The example as its users run it, with few members and epochs, and what it says to wrong arguments."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ensemble_digits.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ensemble_digits", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_run_prints_its_tables_and_saves_its_figure(tmp_path: Path) -> None:
    arguments = ["--members", "2", "--epochs", "2", "--seed", "3", "--plot", "figure.png"]
    command = [sys.executable, "-W", "error", str(EXAMPLE), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    accuracies = dict(re.findall(r"^ *(\d+|together)  +(\d\.\d{3})$", done.stdout, re.MULTILINE))
    assert list(accuracies) == ["0", "1", "together"]
    assert float(accuracies["together"]) > 0.5
    sizes = re.findall(r"^\d\.\d to \d\.\d +(\d+)", done.stdout, re.MULTILINE)
    assert sum(map(int, sizes)) == 540  # 30 % of 1797
    assert re.search(r"2/2 .*accuracy=0\.\d{3}, loss=\d\.\d{3}", done.stderr)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--members", "0", r"needs a whole number from 1 to 4294967295, but got '0'"),
        ("--members", "many", r"needs a whole number from 1 to 4294967295, but got 'many'"),
        ("--epochs", "-1", r"needs a whole number from 1 to 4294967295, but got '-1'"),
        ("--epochs", "1.5", r"needs a whole number from 1 to 4294967295, but got '1.5'"),
        ("--seed", "4294967296", r"needs a whole number from 0 to 4294967295, but got '4294967296'"),
        ("--plot", "nowhere/figure.png", r"cannot write 'nowhere/figure.png': No such file or directory"),
        ("--plot", ".", r"cannot write '.': Is a directory"),
    ],
)
def test_a_wrong_argument_ends_it_before_any_training(
    option: str,
    value: str,
    message: str,
    example: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        example.main([option, value])
    assert ended.value.code == 2
    assert f"argument {option}: {message}" in capsys.readouterr().err


def test_an_accuracy_that_is_too_low_for_the_default_settings_is_a_failure(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(example, "EPOCHS", 1)
    monkeypatch.setattr(example, "MEMBERS", 1)
    monkeypatch.setattr(example, "train", lambda members, epochs, *split: example.np.eye(10)[None, split[-1] - 1])
    with pytest.raises(SystemExit, match=r"should reach an accuracy of 0.97, but reached 0.000"):
        example.main([])


def test_entropy_bins_tell_the_confidence_and_accuracy_of_the_examples_in_them(example: ModuleType) -> None:
    sure, torn = [1.0] + [0.0] * 9, [0.5, 0.5] + [0.0] * 8  # entropies 0 and log 2
    rows = example.calibration_of(example.np.array([sure, sure, torn]), example.np.array([0, 1, 0]))
    assert rows == [("0.0 to 0.1", 2, 1.0, 0.5), ("0.6 to 1.0", 1, 0.5, 1.0)]
