"""Opens a page in Debian's Chromium, without a window, as a phone or a desk would show it."""

import html
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

CHROMIUM = shutil.which("chromium")
PHONE_WIDTH = 390
"""CSS pixels of a common phone; a window of Chromium is not narrower than 500, so a frame of this width plays it."""


def screenshot(page: Path, picture: Path, *, width: int, height: int, is_dark: bool = False) -> None:
    """Write a PNG of the first width x height CSS pixels of a page."""
    shot = [f"--screenshot={picture}", f"--window-size={width},{height}", "--hide-scrollbars"]
    _chromium(page, *shot, *(["--blink-settings=preferredColorScheme=0"] if is_dark else []))


def width_on_a_phone(page: Path, folder: Path) -> int:
    """How many CSS pixels wide the page is in a phone's window; more than PHONE_WIDTH means to scroll sideways."""
    frame = folder / "frame.html"
    content = html.escape(page.read_text(encoding="utf-8"))
    frame.write_text(
        f'<iframe id="phone" width="{PHONE_WIDTH}" height="800" srcdoc="{content}"></iframe><script>'
        'document.getElementById("phone").onload = event => '
        "document.title = `wide ${event.target.contentDocument.documentElement.scrollWidth}`</script>",
        encoding="utf-8",
    )
    found = re.search(r"<title>wide (\d+)</title>", _chromium(frame, "--dump-dom"))
    if found is None:
        raise AssertionError("the page did not load in its frame")
    return int(found[1])


def _chromium(page: Path, *arguments: str) -> str:
    if CHROMIUM is None:
        raise AssertionError("chromium is not installed")
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *arguments]
        done = subprocess.run([*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(f"chromium failed: {done.stderr}")
    return done.stdout
