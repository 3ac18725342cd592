"""The sizes of a two-dimensional transform: how far an image is padded, and what is left after subsampling.

Kymatio's conventions: a side of n pixels is completed to the second multiple of 2^J above n, half of it on each side
(the odd pixel at the end), by reflection about the border pixels. After subsampling by 2^J one sample is dropped at
each end.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Parameters and sizes of one transform; what an engine gets beside the images and the filters.

    Attributes
    ----------
    shape : (int, int)
        Sides (H, W) of the image, in pixels, before padding.
    J, L, max_order : int
        Scales, angles, and the largest order.
    pre_pad : bool
        Whether the images come padded already.
    """

    shape: tuple[int, int]
    J: int
    L: int
    max_order: int = 2
    pre_pad: bool = False

    @property
    def padded_shape(self) -> tuple[int, int]:
        """Sides of the grid on which the filters live; multiples of 2^J."""
        step = 2**self.J
        height, width = ((side // step + 2) * step for side in self.shape)
        return height, width

    @property
    def input_shape(self) -> tuple[int, int]:
        """Sides of the images the transform takes."""
        return self.padded_shape if self.pre_pad else self.shape

    @property
    def output_shape(self) -> tuple[int, int]:
        """Sides of every output channel: H // 2^J, W // 2^J."""
        return self.shape[0] >> self.J, self.shape[1] >> self.J

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Pixels to add at the left, right, top and bottom, the order torch uses."""
        (H, W), (M, N) = self.input_shape, self.padded_shape
        return (N - W) // 2, (N - W + 1) // 2, (M - H) // 2, (M - H + 1) // 2
