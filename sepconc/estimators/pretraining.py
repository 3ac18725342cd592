"""The first weights of a network, taken from a stored classifier of the same architecture."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sepconc.errors import BadParameter
from sepconc.estimators import persistence
from sepconc.params.field import param_infos
from sepconc.params.training import TrainingParams
from sepconc.registry.store import configured_registry

if TYPE_CHECKING:
    from sepconc.estimators.twin import TwinClassifier

logger = logging.getLogger(__name__)


def load_first_weights(clf: TwinClassifier, net: nn.Module) -> None:
    """Give ``net`` the weights of the classifier that ``clf`` names; a last layer of other classes stays as drawn.

    Raises
    ------
    ClassifierNotFound
        With the close names.
    BadParameter
        It has another architecture, configuration or wavelet; the differences are named.
    CorruptFile
        Its weights are missing, or aren't those of its architecture.
    """
    store = configured_registry()
    stored = store.load(clf.pretrained_model, clf.status_pretrained, tensors=True, histories=False)
    what = f'"{clf.pretrained_model}" ({clf.status_pretrained})'
    with persistence.understanding(store.paths(stored.row)["classif"]):
        _refuse_another_network(clf, stored.record, what)
    weights = persistence.stored_weights(stored)
    classes = f"{len(stored.record['learned']['classes']['values'])} classes"
    kept = _keep_last_layer(net, weights)
    persistence.load_weights(net, weights, what)
    if kept:
        logger.info("%s has %s: the last layer starts from new weights, the others from its.", what, classes)


def _refuse_another_network(clf: TwinClassifier, record: Mapping[str, Any], what: str) -> None:
    theirs = persistence.from_record(record)
    free = (*param_infos(TrainingParams), *clf.about_training, "trainable_qmf")
    differences = [
        f"{name} {getattr(theirs, name, None)} (stored) instead of {getattr(clf, name)}"
        for name in param_infos(type(clf))
        if name not in free and not clf.means_the_same(name, getattr(theirs, name, None), getattr(clf, name))
    ]
    if differences:
        message = (
            f"`pretrained_model` {what} is another network: {'; '.join(differences)}. "
            "Name a classifier of the same one, or leave it out."
        )
        raise BadParameter(message)


def _keep_last_layer(net: nn.Module, weights: dict[str, Tensor]) -> bool:
    """Put the last layer's own weights in place of those for another number of classes; whether that was done."""
    own = net.state_dict()
    name = next(name for name, module in net.named_modules() if module is net.last_linear)
    keys = [f"{name}.weight", f"{name}.bias"]
    fits = all(isinstance(weights.get(key), Tensor) and weights[key].shape == own[key].shape for key in keys)
    if not fits:
        weights.update({key: own[key] for key in keys})
    return not fits
