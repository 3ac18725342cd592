"""A photograph from its scattering coefficients: original, order 1, order 2, side by side in one picture.

    python examples/reconstruction.py [OUT.png] [--J 2] [--steps 50]

Gradient descent from uniform noise on the mean squared error of the coefficients, as `sepconc.scattering.invert`
does it. A larger J averages more away.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from sepconc.errors import SepConcError
from sepconc.scattering import Scattering2D, invert, psnr

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tiff")


def main() -> None:
    """Reconstruct, print the signal-to-noise ratios, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", default="build/reconstruction.png")
    parser.add_argument("--J", type=int, default=2, help="log-2 of the scale (default: 2)")
    parser.add_argument("--steps", type=int, default=50, help="steps of gradient descent (default: 50)")
    options = parser.parse_args()
    out = Path(options.out)
    if out.suffix.lower() not in PICTURES:
        parser.error(f"{out} must end in one of {', '.join(PICTURES)}")
    if options.steps < 1:
        parser.error(f"--steps must be at least 1; got {options.steps}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        reconstruct(out, options.J, options.steps)
    except (SepConcError, OSError) as error:
        parser.error(str(error))


def reconstruct(out: Path, J: int, steps: int) -> None:
    """Three panels side by side, in a file."""
    photograph = load_sample_image("china.jpg")[:384, :512]
    x = torch.from_numpy(photograph.copy()).permute(2, 0, 1).float() / 255
    panels = [x]
    for order in (1, 2):
        scattering = Scattering2D(J, x.shape[-2:], max_order=order)
        result = invert(scattering, scattering(x), steps=steps, lr=0.5, loss="mse", start="uniform")
        panels.append(result.signal.clamp(0, 1))
        relative = min(result.losses)
        print(f"order {order}: PSNR {psnr(panels[-1], x):.1f} dB, relative squared error {relative:.1e}")
    picture = (255 * torch.cat(panels, dim=-1)).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(picture)).save(out)
    print(f"original, order 1 and order 2: {out}")


if __name__ == "__main__":
    main()
