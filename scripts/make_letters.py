"""Draws a data set of letters, to try a data set of one's own with: `python -m scripts.make_letters FOLDER`.

Each letter lies in a directory of its own, shifted, turned, scaled and in noise, with some ink on some ground.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDE"
SCALE = 4  # drawn larger and then made smaller, so that edges are smooth
LARGEST_TURN = 15.0  # degrees
CONTRAST = 90  # at least between the brightness of ink and of ground, of 255
NOISE = 12.0  # standard deviation, of 255


def make_letters(folder: Path, *, count: int = 120, size: int = 20, grey: bool = False, seed: int = 0) -> Path:
    """Draw `count` PNG files of each letter, `size` x `size` pixels; the same seed gives the same pixels."""
    random = np.random.default_rng(seed)
    for letter in LETTERS:
        directory = folder / letter
        directory.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            draw_letter(letter, size, random, grey=grey).save(directory / f"{index:04}.png")
    return folder


def draw_letter(letter: str, size: int, random: np.random.Generator, *, grey: bool) -> Image.Image:
    """One letter, light on dark; random shift, turn, size, noise and, unless `grey`, colours."""
    side = SCALE * size
    mask = Image.new("L", (side, side))
    font = ImageFont.load_default(float(side * random.uniform(0.65, 0.85)))
    middle = tuple(side / 2 + side * random.uniform(-0.08, 0.08, 2))
    ImageDraw.Draw(mask).text((middle[0], middle[1]), letter, fill=255, font=font, anchor="mm")
    turned = mask.rotate(random.uniform(-LARGEST_TURN, LARGEST_TURN), Image.Resampling.BICUBIC)
    cover = np.asarray(turned.resize((size, size), Image.Resampling.BOX))[..., np.newaxis] / 255  # [0, 1]
    ground, ink = _colours(random, 1 if grey else 3)
    pixels = ground + cover * (ink - ground) + random.normal(0, NOISE, (size, size, len(ink)))
    rounded = pixels.clip(0, 255).astype(np.uint8)
    return Image.fromarray(rounded[..., 0] if grey else rounded)


def _colours(random: np.random.Generator, channels: int) -> np.ndarray:
    """A dark ground and a lighter ink, float (2, channels), [0, 255]."""
    while True:
        colours = random.uniform(0, 255, (2, channels))
        if colours[1].mean() - colours[0].mean() >= CONTRAST:
            return colours


def main() -> None:
    """Draw what the command line says."""
    parser = argparse.ArgumentParser(description="Draw a data set of letters, one directory a letter.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to draw it; made if it is not there")
    parser.add_argument("--count", type=int, default=120, help="pictures of each letter (default: %(default)s)")
    parser.add_argument("--size", type=int, default=20, help="pixels of a side (default: %(default)s)")
    parser.add_argument("--grey", action="store_true", help="grey pictures instead of colour")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    options = parser.parse_args()
    if options.count < 1 or options.size < 1:
        parser.error("--count and --size: expected at least 1")
    made = make_letters(options.folder, count=options.count, size=options.size, grey=options.grey, seed=options.seed)
    print(f"{len(LETTERS) * options.count} pictures of {', '.join(LETTERS)} in {made}", file=sys.stderr)


if __name__ == "__main__":
    main()
