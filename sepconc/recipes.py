"""Recipes: the commands of published experiments under their names, read from ``recipes.csv``.

A command holds the arguments of ``train.py``, the name first. Against the published text, our data sets and schedules
are spelled out, as are values that were another program's defaults (``--lr 0.1 --epochs 90``), and what belongs to a
machine is left out (``--data``, ``--dir``, ``-j``). The separation-concentration networks were trained on all training
images and followed on the test images: hence ``--no-validation``, and ``eval.py`` afterwards.
"""

from __future__ import annotations

import csv
import shlex
from dataclasses import dataclass
from functools import cache
from importlib import resources

from sepconc.params.archs import ARCHS


@dataclass(frozen=True)
class Recipe:
    """An experiment: its name, the arguments of ``train.py``, where it was published, and a remark."""

    name: str
    command: str
    source: str
    note: str

    @property
    def arguments(self) -> list[str]:
        """The arguments of ``train.py``, word by word."""
        return shlex.split(self.command)

    @property
    def arch(self) -> str:
        """The architecture."""
        return self._after("-a")

    @property
    def dataset(self) -> str:
        """The data set."""
        return self._after("-ds")

    @property
    def is_runnable(self) -> bool:
        """Whether this version has its architecture."""
        return self.arch in ARCHS

    def _after(self, flag: str) -> str:
        words = self.arguments
        return words[words.index(flag) + 1]


@cache
def recipes() -> dict[str, Recipe]:
    """All of them by name, in the order of the file."""
    text = resources.files("sepconc").joinpath("recipes.csv").read_text(encoding="utf-8")
    return {row["name"]: Recipe(**row) for row in csv.DictReader(text.splitlines())}
