"""Opens a page in Debian's Chromium, without a window, as a phone, a desk or a printer would show it."""

import json
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

CHROMIUM = shutil.which("chromium")
PHONE_WIDTH = 390
"""CSS pixels of a common phone."""

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium as `chromium` (Debian: apt-get install chromium)"
)

DARK = "--blink-settings=preferredColorScheme=0"
MEASURE = """
<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")]
    .filter(e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth + 0.5)
    .map(e => e.outerHTML.slice(0, 80));
  const broken = [...document.images].filter(i => !i.complete || !i.naturalWidth).length;
  parent.postMessage(JSON.stringify({window: innerWidth, page: document.documentElement.scrollWidth, wide, broken,
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


@dataclass(frozen=True)
class Measured:
    """What a page says of itself in a window of some width; lengths in CSS pixels."""

    window: int
    page: int
    """Its width; more than the window's means to scroll sideways."""
    wide: list[str]
    """The elements that reach beyond the window, those that scroll by themselves excepted."""
    broken: int
    """The number of pictures that did not load."""
    images: int


def screenshot(page: Path | str, picture: Path, *, width: int, height: int, is_dark: bool = False) -> None:
    """Write a PNG of the first width x height CSS pixels of a page, a file or an address."""
    shot = (f"--screenshot={picture}", f"--window-size={width},{height}", "--hide-scrollbars")
    # All stages, so that what fades in is drawn as it stands in the end.
    still = ("--run-all-compositor-stages-before-draw", "--virtual-time-budget=20000")
    _chromium(page, *shot, *still, *([DARK] if is_dark else []))


def rendered(page: Path | str) -> str:
    """The HTML of a page after its scripts have run."""
    return _chromium(page, "--dump-dom", "--window-size=1280,3000", "--virtual-time-budget=20000")


def print_page(page: Path, paper: Path) -> None:
    """Print a page to a PDF file, from a browser that prefers the dark."""
    _chromium(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer", DARK)


def measure(page: Path, folder: Path, *, width: int) -> Measured:
    """What a copy of the page says of itself when a script asks it; the page itself needs none."""
    (folder / "measured.html").write_text(page.read_text().replace("</body>", f"{MEASURE}</body>"))
    frame = folder / "frame.html"
    frame.write_text(FRAME.replace("{width}", str(width)))
    dom = _chromium(frame, "--dump-dom", "--window-size=1400,1000", "--hide-scrollbars", "--virtual-time-budget=10000")
    found = re.search(r'<pre id="measured">([^<]+)</pre>', dom)
    if found is None:
        raise AssertionError(f"the page did not load in its frame: {dom[-500:]}")
    return Measured(**json.loads(b64decode(found[1])))


def _chromium(page: Path | str, *arguments: str) -> str:
    if CHROMIUM is None:
        raise AssertionError("chromium is not installed")
    address = page.resolve().as_uri() if isinstance(page, Path) else page
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *arguments]
        done = subprocess.run([*command, address], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(f"chromium failed: {done.stderr}")
    return done.stdout
