"""Picks the test images that the page offers: `python -m scripts.make_samples` writes serving/page/samples.json."""

import base64
import json
from pathlib import Path

from serving.idx import read_images, read_labels

ROOT = Path(__file__).parents[1]
MNIST = ROOT / "data" / "mnist"
SAMPLES = ROOT / "serving" / "page" / "samples.json"

EASY = (13, 5, 35, 32, 19, 15, 11, 17, 110, 12)
"""One of each digit, by its place in the test set; versions 1 and 2 of tests/serving are sure of them all."""
HARD = (2118, 9729, 1226, 947)
"""A 6, a 5, a 7 and an 8 that a person reads, and both versions take for a 0, a 6, a 2 and a 9."""


def make_samples() -> str:
    """What the file holds: height and width of the images, and each with its label and its bytes in base64."""
    images = read_images(MNIST / "t10k-images-idx3-ubyte.gz")
    labels = read_labels(MNIST / "t10k-labels-idx1-ubyte.gz")
    samples = [
        {
            "index": index,
            "label": str(labels[index]),
            "hard": index in HARD,
            "pixels": base64.b64encode(images[index].tobytes()).decode(),
        }
        for index in (*EASY, *HARD)
    ]
    height, width = images.shape[1:]
    licence = "MNIST test images by LeCun, Cortes and Burges, CC BY-SA 3.0"
    return json.dumps({"licence": licence, "height": height, "width": width, "samples": samples}, indent=1) + "\n"


if __name__ == "__main__":
    SAMPLES.write_text(make_samples())
