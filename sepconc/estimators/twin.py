"""AlexNets, ResNets and their wavelet twins as classifiers (Leterme et al., arXiv:2212.00394)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sepconc.data.images import ImageSet
from sepconc.errors import BadInput
from sepconc.estimators import pretraining
from sepconc.estimators.base import ImageClassifier
from sepconc.nets.regularisation import l1_penalty, mixing_weights
from sepconc.nets.twins import Transform, build_twin
from sepconc.params.field import document
from sepconc.params.twin import ABOUT_TRAINING, TwinParams
from sepconc.params.twin_configs import smallest_side


@document
class TwinClassifier(TwinParams, ImageClassifier):
    """An AlexNet or a ResNet: plain, with blurs, or a twin with wavelets in its first layer.

    Images have one or three channels; a grey image becomes one with three equal colours. "auto" augmentation crops at
    random, resizes and mirrors where the data set's own augmentation does something, and photographs are resized to the
    network's own size in evaluation, as in the publication.

    Examples
    --------
    >>> from sepconc import TwinClassifier, load_dataset
    >>> clf = TwinClassifier(arch="dtcwpt_resnet18", config="Ft40YEx_mod", epochs=2)
    >>> clf.fit(load_dataset("cifar10", n_imgs=2000))  # doctest: +SKIP
    >>> clf.net_.first_conv.resulting_kernel.weight.shape  # doctest: +SKIP
    torch.Size([88, 3, 30, 30])
    """

    about_training = ABOUT_TRAINING

    def build_network(
        self, image_shape: tuple[int, int, int], num_classes: int, generator: torch.Generator | None = None
    ) -> nn.Module:
        if image_shape[0] not in (1, 3):
            message = f"{self.arch} takes grey or coloured images (1 or 3 channels); got {image_shape[0]} channels."
            raise BadInput(message)
        transform = Transform(self.wavelet, self.padding_mode, self.trainable_qmf)
        with _seeded(generator):
            return build_twin(self.arch, self.config, num_classes, transform, repairs=self.repairs)

    def min_side(self) -> int:
        return smallest_side(self.arch, self.config)

    def start_from(self, net: nn.Module) -> None:
        if self.pretrained_model is not None:
            pretraining.load_first_weights(self, net)

    def penalty(self, net: nn.Module) -> Tensor | None:
        return l1_penalty(mixing_weights(net), self.lambda_params) if self.has_l1loss else None

    def watched_weights(self, net: nn.Module) -> Sequence[Tensor]:
        return mixing_weights(net) if self.get_gradients else ()

    def usual_augmentation(self, images: ImageSet) -> str | None:
        return super().usual_augmentation(images) and "resized-crop-flip"

    def usual_eval_resize(self, images: ImageSet) -> int | None:
        return None


@contextlib.contextmanager
def _seeded(generator: torch.Generator | None) -> Iterator[None]:
    """Let torch's own initialisations draw from ``generator``, and leave the global stream as it was.

    Without a generator they draw from the global stream, as everywhere in torch.
    """
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield
