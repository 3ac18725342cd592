"""Parameters of the four separation-concentration networks (Zarka, Guth and Mallat, ICLR 2021)."""

from __future__ import annotations

from sepconc.params.field import PerBlock, param, params
from sepconc.params.training import TrainingParams


@params
class SeparationParams(TrainingParams):
    """What the four networks have in common: the head, and the step that keeps operators tight."""

    n_blocks: int = param(4, "Number of blocks; scatnet and analysis always have one.", at_least=1)
    pars_beta: float = param(5e-4, "Step size that keeps projections and frames tight (Parseval step).", at_least=0)
    classifier_type: str = param("fc", "Classifier on top: a linear layer or a perceptron.", choices=["fc", "mlp"])
    avg_ker_size: int = param(1, "Side of the average pooling before the classifier.", at_least=1)
    nb_hidden_units: int = param(2048, "Units in a hidden layer of the perceptron.", at_least=1)
    dropout_p_mlp: float = param(0.3, "Dropout probability in the perceptron.", at_least=0, at_most=1)
    nb_l_mlp: int = param(2, "Number of hidden layers of the perceptron.", at_least=1)


@params
class ProjectionParams:
    """Separation by wavelets, and the projection that follows it."""

    scat_angles: PerBlock = param(
        8, "Orientations of the wavelets, one number or one per block.", at_least=1, per_block=True
    )
    P_proj_size: PerBlock | None = param(
        None,
        "Outputs of the projection, one number or one per block; None means min(256, incoming channels).",
        type=int,
        at_least=1,
        per_block=True,
    )
    P_kernel_size: PerBlock = param(
        1, "Side of the projection's kernel, one number or one per block.", at_least=1, per_block=True
    )


@params
class FrameParams:
    """Concentration in a learned tight frame."""

    frame_width: PerBlock = param(
        2048, "Atoms of the tight frame, one number or one per block.", at_least=1, per_block=True
    )
    frame_kernel_size: PerBlock = param(1, "Side of an atom, one number or one per block.", at_least=1, per_block=True)
    frame_stride: PerBlock = param(
        1, "Step between two positions of an atom, one number or one per block.", at_least=1, per_block=True
    )
    non_linearity: str = param(
        "relu", "Non-linearity between analysis and synthesis.", choices=["relu", "softshrink", "absolute"]
    )
    zero_bias: bool = param(False, "Use a ReLU without threshold.")


@params
class AnalysisParams(FrameParams, SeparationParams):
    """Concentration of the image itself, patch by patch.

    The defaults are the paper's for CIFAR-10: atoms of 8×8 at half their side; with patches of one pixel a grey image
    would keep its signs only.
    """

    frame_kernel_size: PerBlock = param(8, "Side of an atom, one number or one per block.", at_least=1, per_block=True)
    frame_stride: PerBlock | None = param(
        None,
        "Step between two positions of an atom, one number or one per block; None means half its side.",
        type=int,
        at_least=1,
        per_block=True,
    )


@params
class ScatNetParams(ProjectionParams, SeparationParams):
    """The scattering tree, a projection and a classifier."""

    scattering_J: int = param(
        4, "Log-scale of the scattering transform: it averages over squares of side 2^J.", at_least=1
    )


@params
class ScatNetBlockParams(ProjectionParams, SeparationParams):
    """Phase scattering and projection, block after block."""


@params
class ScatNetBlockAnalysisParams(FrameParams, ProjectionParams, SeparationParams):
    """Phase scattering, projection and concentration, block after block."""
