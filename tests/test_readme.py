"""README.md does what it says: its Python runs, and its set-up is what CI runs."""

import io
import re
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
SCRIPT = (ROOT / ".ci" / "run").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def promised(code: str) -> list[str]:
    """What the comments behind calls of `print` say that they print."""
    return re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)


@pytest.mark.no_leak_check("trains a model")
def test_its_python_runs_in_order_and_prints_what_it_says() -> None:
    names: dict[str, object] = {"__name__": "readme"}
    for number, code in enumerate(blocks("python")):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code, f"README.md, python block {number}", "exec"), names)
        lines = iter(printed.getvalue().splitlines())
        for line in promised(code):
            assert line in lines


def test_its_first_two_sh_blocks_are_the_set_up() -> None:
    example, test = blocks("sh")
    assert example.splitlines() == ['pip install ".[examples]"', "python examples/ensemble_digits.py"]
    assert test.splitlines() == ['pip install ".[test]"', "python -m pytest -n 2 --dist loadfile"]


@pytest.mark.parametrize("number", [1, 2])
def test_ci_takes_out_the_very_same_blocks(number: int, tmp_path: Path) -> None:
    (function,) = re.findall(r"^block\(\) \{.*?^\}", SCRIPT, re.MULTILINE | re.DOTALL)
    taken = tmp_path / "block.sh"
    subprocess.run(["bash", "-c", f'{function}\nblock {number} "{taken}"'], cwd=ROOT, check=True)
    assert taken.read_text() == blocks("sh")[number - 1]


def test_ci_runs_both_before_anything_else() -> None:
    steps = re.findall(r"^step (.*)$", SCRIPT, re.MULTILINE)
    assert [re.search(r"\$scratch/(\w+)\.sh", step).group(1) for step in steps[:2]] == ["example", "test"]  # type: ignore[union-attr]
    assert re.findall(r'^block (\d) "\$scratch/(\w+)\.sh"$', SCRIPT, re.MULTILINE) == [("1", "example"), ("2", "test")]


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
