"""The README's tour, run as written: the lines of its ``bash`` blocks and its ``python`` blocks, in their order."""

import re
import shlex
from pathlib import Path

import pytest

from sepconc.cli.eval import main as evaluate
from sepconc.cli.main import main as sepconc_command
from sepconc.cli.train import main as train

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = {"python train.py": train, "python eval.py": evaluate, "sepconc": sepconc_command}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def run(line: str) -> int:
    start = next(start for start in COMMANDS if line.startswith(start))
    return COMMANDS[start](shlex.split(line.removeprefix(start)))


def demo_commands() -> list[str]:
    recipe = (REPOSITORY / "Makefile").read_text().split("\ndemo:")[1].split("\n\n")[0].replace("\\\n", "")
    return [re.sub(r".*\$\(BIN\)/(python )?", r"\1", line) for line in recipe.splitlines() if "$(DEMO_CONFIG)" in line]


def registry_commands() -> list[str]:
    """Those that need no other machine, no older registry, and not this repository's own."""
    lines = re.findall(r"^\$ (sepconc .*)$", "\n".join(blocks("console")), flags=re.MULTILINE)
    return [line for line in lines if line.split()[1] not in ("pull", "import-legacy", "plot-kernels")]


def test_the_readme_has_the_two_commands_and_the_tour():
    assert "make demo" in README
    assert "make test" in README
    assert len(blocks("bash")) >= 5
    assert len(blocks("python")) >= 3
    assert len(registry_commands()) >= 5


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_demo_and_the_tour_run_as_written(monkeypatch, capsys):
    commands = demo_commands()
    assert len(commands) == 5
    for line in commands:
        assert run(line) == 0, line
    for line in "\n".join(blocks("bash")).splitlines():
        if line and not line.startswith(("source ", "export ")):
            assert run(line) == 0, line
    (REPOSITORY / "build" / "first-blocks.zip").unlink(missing_ok=True)
    for line in registry_commands():
        assert run(line) == 0, line
    names = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["clf"].score(names["test"]) >= 0.97
    assert "first-blocks" in capsys.readouterr().out
