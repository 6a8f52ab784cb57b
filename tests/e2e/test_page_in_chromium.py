"""The report as a browser shows it: on a desktop, on a phone, in the dark, on paper."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.request import Request
from pipeline.run import run
from tests.browser import PHONE_WIDTH, measure, needs_chromium, print_page, screenshot
from tests.outcomes import published
from tests.pipeline.presets import write_preset

pytestmark = [pytest.mark.slow, needs_chromium]

WIDTHS = {"desktop": 1280, "phone": PHONE_WIDTH}


@pytest.fixture(scope="module")
def page(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a version that a run published after another one, whose figures stand beside."""
    folder = tmp_path_factory.mktemp("run")
    presets = [write_preset(folder / f"{seed}.toml", epochs="1", seed=str(seed)) for seed in (0, 1)]
    asked = [
        Request(folder / "repository", preset=str(preset), device="cpu", dataset=small_folder) for preset in presets
    ]
    _, report = [published(run(request)).report for request in asked]
    return report


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_is_wider_than_the_window(page: Path, tmp_path: Path, width: int) -> None:
    """But for tables, which scroll by themselves; and every picture is there."""
    found = measure(page, tmp_path, width=width)
    assert (found.window, found.page) == (width, width)
    assert found.wide == []
    assert found.broken == 0
    assert found.images == 5 + 25  # figures and mistakes


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_the_screenshot_shows_something(page: Path, tmp_path: Path, width: int, *, is_dark: bool) -> None:
    """Light ground or dark, and much on it: letters, lines and colours."""
    shot = tmp_path / "shot.png"
    screenshot(page, shot, width=width, height=4000, is_dark=is_dark)
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape == (4000, width, 3)
    ground = pixels[5, 5]
    assert (ground.mean() < 64) if is_dark else (ground.mean() > 250)
    differs = np.abs(pixels.astype(int) - ground).max(axis=2) > 40
    assert 0.02 < differs.mean() < 0.6
    thirds = np.array_split(differs.any(axis=1), 3)
    assert all(third.mean() > 0.2 for third in thirds)  # none of it is empty
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200


def test_it_prints(page: Path, tmp_path: Path) -> None:
    """A PDF of a few pages, also from a browser that prefers the dark."""
    paper = tmp_path / "report.pdf"
    print_page(page, paper)
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12
