"""The report as a browser shows it: on a desktop, on a phone, in the dark, on paper."""

import json
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.run import Outcome, Request, run
from tests.outcomes import published
from tests.pipeline.presets import write_preset

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium as `chromium` (Debian: apt-get install chromium)"),
]

WIDTHS = {"desktop": 1280, "phone": 390}
DARK = ("--blink-settings=preferredColorScheme=0",)
MEASURE = """
<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")]
    .filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth + 0.5)
    .map(e => e.outerHTML.slice(0, 80));
  const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
  parent.postMessage(JSON.stringify({width: innerWidth, page: document.documentElement.scrollWidth, wide, broken,
                                     images: document.images.length}), "*");
});
</script>
"""
# A window of Chromium's is never narrower than 500 pixels; a frame in it is as narrow as a phone, to the page as well.
FRAME = """
<!doctype html><pre id="measured"></pre>
<script>addEventListener("message", e => { document.getElementById("measured").textContent = btoa(e.data) })</script>
<iframe src="measured.html" style="border: 0; width: {width}px; height: 900px"></iframe>
"""

Browse = Callable[..., str]


@pytest.fixture(scope="module")
def page(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a version that a run published."""
    folder = tmp_path_factory.mktemp("run")
    preset = write_preset(folder / "short.toml", epochs="1")
    outcome: Outcome = run(
        Request(repository=folder / "repository", preset=str(preset), device="cpu", dataset=small_folder)
    )
    return published(outcome).report


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Opens a page in a browser without a window, and returns what it printed."""

    def open_page(page: Path, *arguments: str) -> str:
        assert CHROMIUM is not None
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run(
            [*command, profile, *arguments, page.as_uri()], capture_output=True, text=True, timeout=90, check=True
        )
        return done.stdout

    return open_page


def measured(page: Path, browse: Browse, folder: Path, width: int) -> dict[str, object]:
    """What a copy of the page says of itself when a script asks it; the report itself has none."""
    (folder / "measured.html").write_text(page.read_text().replace("</body>", f"{MEASURE}</body>"))
    frame = folder / "frame.html"
    frame.write_text(FRAME.replace("{width}", str(width)))
    dom = browse(frame, "--dump-dom", "--window-size=1400,1000", "--virtual-time-budget=10000")
    found = re.search(r'<pre id="measured">([^<]+)</pre>', dom)
    assert found, dom[-500:]
    told: dict[str, object] = json.loads(b64decode(found[1]))
    return told


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_is_wider_than_the_window(page: Path, browse: Browse, tmp_path: Path, width: int) -> None:
    """But for tables, which scroll by themselves; and every picture is there."""
    found = measured(page, browse, tmp_path, width)
    assert found["width"] == width
    assert found["page"] == width
    assert found["wide"] == []
    assert found["broken"] == 0
    assert int(str(found["images"])) >= 4


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_screenshot_shows_something(page: Path, browse: Browse, tmp_path: Path, width: int, scheme: str) -> None:
    """Light ground or dark, and much on it: letters, lines and colours."""
    shot = tmp_path / "shot.png"
    browse(page, f"--screenshot={shot}", f"--window-size={width},4000", *(DARK if scheme == "dark" else ()))
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape == (4000, width, 3)
    ground = pixels[5, 5]
    assert (ground.mean() < 64) if scheme == "dark" else (ground.mean() > 250)
    differs = np.abs(pixels.astype(int) - ground).max(axis=2) > 40
    assert 0.02 < differs.mean() < 0.6
    thirds = np.array_split(differs.any(axis=1), 3)
    assert all(third.mean() > 0.2 for third in thirds)  # none of it is empty
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200


def test_it_prints(page: Path, browse: Browse, tmp_path: Path) -> None:
    """A PDF of a few pages."""
    paper = tmp_path / "report.pdf"
    browse(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer", *DARK)
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12
