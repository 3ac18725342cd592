"""Every training command of the source README runs as written, with ``--dummy --max-steps 2 -b 2`` appended."""

import itertools
import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[3] / "shared" / "sources" / "separation-concentration-readme.md"
SHORTENED = ["--dummy", "--max-steps", "2", "-b", "2"]


def readme_commands() -> list[list[str]]:
    """The options of every training command; ``[a/b]`` stands for two of them. Empty where the README isn't there."""
    if not README.is_file():
        return []
    blocks = re.findall(r"^```\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    texts = [" ".join(block.split()) for block in blocks if block.lstrip().startswith("python main.py")]
    return [words for text in texts for words in _alternatives(text.removeprefix("python main.py").split())]


def _alternatives(words: list[str]) -> list[list[str]]:
    choices = [word[1:-1].split("/") if word.startswith("[") else [word] for word in words]
    return [list(chosen) for chosen in itertools.product(*choices)]


COMMANDS = readme_commands()


def title(words: list[str]) -> str:
    chosen = [words[words.index(flag) + 1] for flag in ("--dataset", "-a", "--non-linearity") if flag in words]
    return "-".join(chosen)


def test_all_commands_are_found(shared):
    assert README.is_file()
    titles = [title(words) for words in COMMANDS]
    assert len(titles) == len(set(titles)) == 15
    assert len([each for each in titles if each.startswith("imagenet-")]) == 4
    assert all("--learning-rate-adjust-frequency" in words and "--dir" in words for words in COMMANDS)
    assert not any("[" in word or "\\" in word for words in COMMANDS for word in words)


def marked(words: list[str]) -> object:
    """ImageNet's commands take seconds each; one of them is in the fast set."""
    slow = title(words).startswith("imagenet-scatnetblock")
    return pytest.param(words, id=title(words), marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("words", [marked(words) for words in COMMANDS])
def test_a_command_runs(words, train, place):
    outcome = train("net", *words, *SHORTENED)
    assert outcome.code == 0, outcome.err
    assert "net: 2 updates, nothing stored (--max-steps)" in outcome.out
    assert "error" not in outcome.err
    assert sorted(path.name for path in place.iterdir()) == ["config.yml"]
