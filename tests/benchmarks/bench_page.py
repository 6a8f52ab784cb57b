"""How long a person waits: digits drawn on the page, in Chromium, before `--transport envoy`.

    python -m tests.benchmarks.bench_page [--digits 30]

The time is the browser's own, from `fetch` until the last byte of the answer, of every question that the page asks
while the strokes are drawn and once they are. Chromium, the server and this program share the machine.
"""

import argparse
import os
import statistics
import sys
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from playwright.sync_api import sync_playwright

from tests.benchmarks import table
from tests.browser import CHROMIUM
from tests.page.conftest import SIZES, Desk, page_server
from tests.page.strokes import DIGITS, Place
from tests.serving.conftest import Publisher

HEAD = ("digits", "questions", "median, ms", "p90, ms", "load of the machine before")
WIDTH, HEIGHT = SIZES["desktop"]
TAKEN_MS = """() => {
    const taken = performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/v1/classify"));
    performance.clearResourceTimings();
    return taken.map(({ duration }) => duration);
}"""


def questions_ms(address: str, digits: int) -> list[float]:
    """Draw so many digits, each on the cleared paper; how long each question took."""
    taken: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        desk = Desk(browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}), address).open()
        for digit, strokes in islice(cycle(DIGITS.items()), digits):
            desk.draw(Place().put(strokes))
            desk.settle()
            desk.expect_answer(digit)
            taken += desk.page.evaluate(TAKEN_MS)
            desk.page.locator("#clear").click()
        browser.close()
    return taken


def main() -> None:
    """Measure, and print it as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=30, help="how many are drawn (default: 30)")
    digits = parser.parse_args().digits
    load, *_ = os.getloadavg()
    with TemporaryDirectory() as folder:
        publisher = Publisher(Path(folder) / "repository")
        publisher.publish(1)
        with page_server(publisher.root, Path(folder) / "log") as server:
            taken = questions_ms(server.address, digits)
    row = (
        f"{digits}",
        f"{len(taken)}",
        f"{statistics.median(taken):.1f}",
        f"{np.percentile(taken, 90):.1f}",
        f"{load:.1f}",
    )
    print(f"{table.markdown(HEAD, [row])}\n\n{table.machine()}")


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    main()
