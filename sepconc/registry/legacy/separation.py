"""Checkpoints of the separation-concentration program (``main.py``), and our names for what they hold.

A checkpoint is a dictionary stored by ``torch.save``: ``epoch`` (epochs done), ``arch``, ``state_dict``, ``best_acc1``
(percent, on the test images) and ``optimizer``. The keys of the state dict begin with the number of a block, and
``module.`` where the program ran on a GPU. Beside it lies ``args.json`` with the options.

=====================================================  ==========================================
theirs, after ``<block>.module.``                      ours
=====================================================  ==========================================
``linear_proj.standardization.*``                      ``blocks.<block>.projection.standardization.*``
``linear_proj.proj.weight``                            ``blocks.<block>.projection.weight``
``analysis.frame_weight``                              ``blocks.<block>.frame.weight``
``classifier.bn.*``                                    ``head.norm.*``
``classifier.classifier.*``                            ``head.linear.*``
``classifier.classifier.<i>.*``                        ``head.hidden.<i>.*``, the last ``head.linear.*``
``scattering.*``                                       dropped: filters, which follow from the parameters
``analysis.lambda_``, ``analysis.factor``              not stored; compared with what the parameters give
=====================================================  ==========================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconc.errors import CorruptFile
from sepconc.registry import files
from sepconc.registry.files import Stamp
from sepconc.registry.legacy.archives import read_states
from sepconc.registry.names import shown

if TYPE_CHECKING:
    from torch import Tensor

_KEY = re.compile(r"(?P<block>[0-9]{1,3})\.(module\.)?(?P<name>[A-Za-z0-9_.]{1,200})")
_LINEAR = re.compile(r"classifier\.classifier\.(?P<number>[0-9]{1,3}\.)?(?P<kind>weight|bias)")
_STARTS = {
    "linear_proj.standardization.": "projection.standardization.",
    "linear_proj.proj.weight": "projection.weight",
    "analysis.frame_weight": "frame.weight",
}
_CONSTANTS = ("analysis.lambda_", "analysis.factor")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_OPERATORS = (".projection.weight", ".frame.weight")
_LONGEST_ARGS = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, by our names.

    Attributes
    ----------
    path, stamp
        The file, its size and SHA-256.
    arch, epoch, best_accuracy
        As stored; the accuracy is a fraction, None if there is none.
    net : dict of str to Tensor
        The state dict by our names, in the order of the file.
    constants : dict of str to Tensor
        What :data:`_CONSTANTS` says, under ``<block>.<name>``.
    unknown : list of str
        Keys of the state dict that we have no name for.
    optimizer : dict or None
        As stored.
    """

    path: Path
    stamp: Stamp
    arch: str
    epoch: int
    best_accuracy: float | None
    net: dict[str, Tensor]
    constants: dict[str, Tensor]
    unknown: list[str]
    optimizer: dict[str, Any] | None

    def momenta(self) -> dict[str, Tensor]:
        """The optimiser's momentum by our names; empty where it has none.

        The program's optimiser has two groups, in the order of the parameters: all but projections and frames, and
        those.

        Raises
        ------
        CorruptFile
            The optimiser's parameters aren't those of the network.
        """
        if not self.optimizer:
            return {}
        parameters = [name for name in self.net if not name.endswith(_BUFFERS)]
        names = [name for name in parameters if not name.endswith(_OPERATORS)]
        names += [name for name in parameters if name.endswith(_OPERATORS)]
        try:
            groups = [number for group in self.optimizer["param_groups"] for number in group["params"]]
            state = self.optimizer["state"]
            momenta = {
                name: state.get(number, {}).get("momentum_buffer") for name, number in zip(names, groups, strict=True)
            }
            found = {name: momentum for name, momentum in momenta.items() if momentum is not None}
            good = all(momentum.shape == self.net[name].shape for name, momentum in found.items())
        except (LookupError, TypeError, ValueError, AttributeError):
            good = False
        if not good:
            message = f"{self.path} has an optimiser whose parameters aren't those of its network; it was not imported."
            raise CorruptFile(message)
        return found


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint, with ``weights_only=True``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    CorruptFile
        It holds something else; UnsafeFile if it could run code.
    """
    path = Path(path)
    content, stamp = read_states(path)
    problem = _problem(content)
    if problem:
        message = f"{path} isn't a checkpoint of the separation-concentration program: {problem}. It was not imported."
        raise CorruptFile(message)
    state = content["state_dict"]
    names = {key: our_name(key, state) for key in state}
    return Checkpoint(
        path=path,
        stamp=stamp,
        arch=content["arch"],
        epoch=content["epoch"],
        best_accuracy=_fraction(content.get("best_acc1")),
        net={name: state[key] for key, name in names.items() if name},
        constants={_short(key): state[key] for key in state if _short(key).partition(".")[2] in _CONSTANTS},
        unknown=[key for key, name in names.items() if name is None],
        optimizer=content.get("optimizer"),
    )


def our_name(key: str, state: Mapping[str, Any]) -> str | None:
    """Our name of an entry of the program's state dict; "" for what we don't store, None for what isn't known."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    block, name = match["block"], match["name"]
    if name in _CONSTANTS or name.startswith("scattering."):
        return ""
    if name.startswith("classifier.bn."):
        return name.replace("classifier.bn.", "head.norm.")
    if _LINEAR.fullmatch(name):
        return _head_name(name, state)
    start = next((start for start in _STARTS if name.startswith(start)), None)
    return None if start is None else f"blocks.{block}.{_STARTS[start]}{name.removeprefix(start)}"


def read_args(path: Path) -> dict[str, Any]:
    """The options that the program stored as ``args.json``."""
    try:
        text = files.read_bytes(path)
        args = json.loads(text) if len(text) <= _LONGEST_ARGS else None
    except OSError as error:
        message = f"{path} can't be read: {error.strerror or error}. Check the path and its permissions."
        raise CorruptFile(message) from error
    except (ValueError, RecursionError) as error:
        message = f"{path} isn't JSON ({shown(str(error), 100)}). Restore it, or give the parameters as options."
        raise CorruptFile(message) from error
    if not isinstance(args, dict):
        message = f"{path} doesn't hold the options of a training. Restore it, or give the parameters as options."
        raise CorruptFile(message)
    return args


def _head_name(name: str, state: Mapping[str, Any]) -> str:
    match = _LINEAR.fullmatch(name)
    if match["number"] is None:
        return f"head.linear.{match['kind']}"
    others = (_LINEAR.fullmatch(_short(key).partition(".")[2]) for key in state)
    last = max(int(other["number"][:-1]) for other in others if other and other["number"])
    number = int(match["number"][:-1])
    return f"head.linear.{match['kind']}" if number == last else f"head.hidden.{number}.{match['kind']}"


def _short(key: str) -> str:
    """``<block>.<name>``, without ``module.``."""
    match = _KEY.fullmatch(key)
    return f"{match['block']}.{match['name']}" if match else ""


def _problem(content: Any) -> str:
    """Why something can't be a checkpoint, or an empty text."""
    import torch

    if not isinstance(content, dict) or not {"epoch", "arch", "state_dict"} <= set(content):
        return "it has no epoch, arch and state_dict"
    state = content["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        return "its state_dict holds other things than tensors"
    if not isinstance(content["arch"], str) or type(content["epoch"]) is not int or not 0 <= content["epoch"] < 10**9:
        return "its arch isn't a text, or its epoch no number of epochs"
    if not isinstance(content.get("optimizer"), dict | None):
        return "its optimizer isn't a state dict"
    return ""


def _fraction(percent: Any) -> float | None:
    """A percentage, perhaps in a tensor, as a fraction."""
    import torch

    if isinstance(percent, torch.Tensor) and percent.numel() == 1:
        percent = percent.item()
    good = type(percent) in (int, float) and 0 <= percent <= 100
    return percent / 100 if good else None
