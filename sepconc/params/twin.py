"""Parameters of AlexNets, ResNets and their wavelet twins (Leterme et al., arXiv:2212.00394)."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Sequence
from typing import Any

from sepconc.errors import BadParameter
from sepconc.params.field import param, params
from sepconc.params.training import TrainingParams
from sepconc.params.twin_configs import find_config, find_family, twin_archs

ABOUT_TRAINING = ("has_l1loss", "lambda_params", "get_gradients", "pretrained_model", "status_pretrained")
"""The parameters here that a network doesn't depend on."""
REPAIRS = ("pasa-softmax", "alignment", "blur-size")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
WAVELETS = ("qshift_06", "qshift_a", "qshift_b", "qshift_c", "qshift_d", "qshift_32")


def _arch(value: Any) -> str | None:
    if value in twin_archs():
        return None
    close = difflib.get_close_matches(str(value), twin_archs(), n=3)
    hint = f" (close: {', '.join(close)})" if close else ""
    return f"be the name of an AlexNet or a ResNet, as sepconc.list_archs() has them{hint}"


def _wavelet(value: Any) -> str | None:
    return None if value in WAVELETS else f"be a wavelet with a dual tree: {', '.join(WAVELETS)}"


def _lambdas(value: Any) -> str | None:
    expected = "be numbers of at least 0, one for every scale of the wavelet maps"
    if not hasattr(value, "__len__") or isinstance(value, str) or not len(value):
        return expected
    good = all(
        isinstance(each, numbers.Real) and not isinstance(each, bool) and 0 <= each < float("inf") for each in value
    )
    return None if good else expected


def _repairs(value: Any) -> str | None:
    if isinstance(value, Sequence) and not isinstance(value, str) and all(each in REPAIRS for each in value):
        return None
    return f"be a sequence of some of {', '.join(REPAIRS)}"


@params
class TwinParams(TrainingParams):
    """Which network, its wavelets, and the regulariser of its mixing weights."""

    epochs: int = param(90, "Number of passes through the training set.", at_least=1, runtime=True)
    lr: float = param(0.1, "Initial learning rate.", above=0, flags=["-lr", "--learning-rate"])
    arch: str = param(
        "resnet18", "Name of the architecture; sepconc.list_archs() has them.", check=_arch, has_flag=False
    )
    config: str | None = param(
        None,
        "Name of the configuration; sepconc.list_configs(arch) has them. None is Std; twins need one.",
        type=str,
        has_flag=False,
    )
    wavelet: str = param("qshift_a", f"Filters of the dual-tree transform: {', '.join(WAVELETS)}.", check=_wavelet)
    padding_mode: str = param("zeros", "How images are continued for the transform.", choices=PADDING_MODES)
    trainable_qmf: bool = param(False, "Learn the filters of the wavelets too.")
    repairs: tuple[str, ...] = param(
        (),
        'Departures from the published networks: "pasa-softmax" (every adaptive blur sums to 1), "alignment" (both '
        'halves of an AlexNet\'s stem lie at the same places), "blur-size" (one size of blurs in AlexNet twins).',
        type=object,
        several=True,
        check=_repairs,
        parse=str,
    )
    has_l1loss: bool = param(False, "Add the regulariser of the mixing weights to the loss.")
    lambda_params: tuple[float, ...] | None = param(
        None,
        "Weight of the regulariser for every scale of the wavelet maps, the coarsest first.",
        type=object,
        several=True,
        check=_lambdas,
        parse=float,
    )
    get_gradients: bool = param(
        False, "Record the largest gradient of every output of the mixing, update by update, in grads_."
    )
    pretrained_model: str | None = param(
        None, "Name of a stored classifier of the same network, whose weights are the first ones.", type=str
    )
    status_pretrained: str = param("checkpoint", "Status of that classifier.")

    def check_together(self) -> None:
        """Check the pair of names, the number of weights of the regulariser, and the parts of a batch.

        Raises
        ------
        BadParameter
            Listing the valid configurations, or naming the numbers that don't fit.
        """
        who, scales = type(self).__name__, find_config(self.arch, self.config).scales
        self._check_wavelets()
        if (self.has_l1loss or self.get_gradients) and not scales:
            flag = "has_l1loss" if self.has_l1loss else "get_gradients"
            message = f"`{flag}` of {who} is about mixed wavelet maps, and {self.arch} has none; leave it out."
            raise BadParameter(message)
        if self.has_l1loss and (self.lambda_params is None or len(self.lambda_params) != scales):
            message = (
                f"`lambda_params` of {who} must have one number for each of the {scales} scales of "
                f"{self.arch} {self.config}; got {self.lambda_params!r}."
            )
            raise BadParameter(message)
        if self.lambda_params is not None and not self.has_l1loss:
            message = f"`lambda_params` of {who} has no meaning without `has_l1loss`; give both, or neither."
            raise BadParameter(message)
        if self.batch_size % self.batch_accum:
            message = (
                f"`batch_accum` of {who} must divide `batch_size`: {self.batch_size} images can't be split into "
                f"{self.batch_accum} equal parts. Choose another number."
            )
            raise BadParameter(message)

    def _check_wavelets(self) -> None:
        """Refuse options of the wavelets, or repairs, of a network that has nothing of the kind."""
        who, family, config = type(self).__name__, find_family(self.arch), find_config(self.arch, self.config)
        defaults = {"wavelet": "qshift_a", "padding_mode": "zeros", "trainable_qmf": False}
        changed = [name for name, default in defaults.items() if getattr(self, name) != default]
        if changed and not family.is_twin:
            message = f"`{changed[0]}` of {who} is about wavelets, and {self.arch} has none; leave it out."
            raise BadParameter(message)
        adaptive = family.antialiasing == "zou" or config.wavelet_half == "maxblur-adaptive"
        meant = {
            "pasa-softmax": adaptive,
            "alignment": family.depth is None and config.is_complex,
            "blur-size": self.arch == "DtCwptZhangAlexNet" and config.blur is None,
        }
        idle = [repair for repair in self.repairs if not meant[repair]]
        if idle:
            which = f"{self.arch} {self.config or ''}".strip()
            message = f'The repair "{idle[0]}" of {who} changes nothing in {which}; leave it out of `repairs`.'
            raise BadParameter(message)

    def means_the_same(self, name: str, one: Any, other: Any) -> bool:
        """Whether two values of a parameter make the same classifier; None is the configuration Std."""
        return (one or "Std") == (other or "Std") if name == "config" else one == other
