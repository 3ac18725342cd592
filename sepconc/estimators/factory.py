"""Classifiers and networks by the name of their architecture."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sepconc.estimators.base import ImageClassifier
from sepconc.params.archs import find_arch, resolve
from sepconc.params.field import check_names, check_params
from sepconc.training.randomness import RandomStreams


def make_classifier(arch: str, **params: Any) -> ImageClassifier:
    """A classifier of an architecture, with its parameters by name.

    Raises
    ------
    UnknownArchitecture, BadParameter
        For a name that is none, with the close ones.
    """
    row = find_arch(arch)
    check_names(resolve(row.params), params)
    return resolve(row.estimator)(**{**row.preset, **params})


def build_network(arch: str, *, num_classes: int, image_shape: tuple[int, int, int], **params: Any) -> nn.Module:
    """The network of an architecture as a plain torch module, (B, C, H, W) -> (B, num_classes).

    Parameters
    ----------
    image_shape : (C, H, W).
    params : the classifier's parameters; with ``random_state`` the initial weights are drawn from that seed, otherwise
        from torch's global generator.

    Raises
    ------
    UnknownArchitecture, BadParameter
        Also when a parameter doesn't fit the images.
    """
    clf = make_classifier(arch, **params)
    check_params(clf)
    clf.check_together()
    seed = clf.random_state
    generator = None if seed is None else RandomStreams(int(seed), torch.device("cpu")).init
    return clf.build_network(tuple(image_shape), num_classes, generator)
