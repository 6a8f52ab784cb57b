"""The page in Debian's Chromium, as a person uses it, before a server that the test can stop, fill and empty."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.browser import CHROMIUM, PHONE_WIDTH
from tests.page.strokes import Stroke
from tests.programs import ROOT, ServerProcess, server_process
from tests.serving.conftest import Publisher

FOLDER = ROOT / "serving" / "page"
SIZES = {"desktop": (1280, 900), "phone": (PHONE_WIDTH, 844)}
SETTLED_MS = 400
"""After the last change of a drawing its answer is there: the page waits 60 ms, the answer takes some 20."""

Serve = Callable[..., AbstractContextManager[ServerProcess]]


@dataclass
class Desk:
    """One page before a person: what they do, and what they see."""

    page: Page
    server: str
    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def open(self) -> "Desk":
        """Load the page."""
        self.page.goto(f"http://{self.server}/")
        return self

    def draw(self, strokes: Iterable[Stroke]) -> None:
        """Draw strokes with the mouse, points in shares of the paper."""
        box = self.page.locator("#drawing").bounding_box()
        assert box is not None
        mouse = self.page.mouse
        for stroke in strokes:
            first, *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            mouse.move(*first)
            mouse.down()
            for point in others:
                mouse.move(*point)
            mouse.up()

    def settle(self) -> None:
        """Wait until the newest drawing has its answer."""
        self.page.wait_for_timeout(SETTLED_MS)

    def expect_answer(self, label: str) -> None:
        """The large label, and the bar that stands out."""
        expect(self.page.locator("#label")).to_have_text(label)
        if label != "?":
            expect(self.page.locator("#bars .top .name")).to_have_text(label)

    def expect_status(self, text: str | re.Pattern[str]) -> None:
        """The status line says so."""
        expect(self.page.locator("#status")).to_have_text(text, timeout=60_000)

    def expect_version(self, version: int) -> None:
        """The answer that is shown is of this version."""
        expect(self.page.locator("#facts")).to_contain_text(f"version {version} on CPU", timeout=60_000)


Open = Callable[..., Desk]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; ended with the module, since Playwright's event loop is in the way of asynchronous tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def page_server(repository: Path, log: Path, *options: str) -> Iterator[ServerProcess]:
    """The server program, with the page."""
    quick = ("--provider", "cpu", "--poll-ms", "20", "--drain-linger-s", "0.02")
    with server_process(repository, log, "--transport", "envoy", "--static-files", str(FOLDER), *quick, *options) as it:
        yield it
        if it.process.poll() is None:
            it.terminate()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with version 1, shared by a module."""
    folder = tmp_path_factory.mktemp("served")
    publisher = Publisher(folder / "repository")
    publisher.publish(1)
    with page_server(publisher.root, folder / "log") as server:
        yield server.address


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """An empty repository and its publisher."""
    return Publisher(tmp_path / "repository")


@pytest.fixture
def serve(publisher: Publisher, tmp_path: Path) -> Serve:
    """Start a server on the publisher's repository, for the length of a `with`."""

    def start(*options: str) -> AbstractContextManager[ServerProcess]:
        publisher.root.mkdir(exist_ok=True)
        return page_server(publisher.root, tmp_path / "log", *options)

    return start


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open the page of a server; at the end, no script must have failed and no request have left the origin."""
    desks: list[Desk] = []

    def open_page(server: str, size: str = "desktop", *, is_dark: bool = False) -> Desk:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if is_dark else "light",
            is_mobile=size == "phone",
            has_touch=size == "phone",
            device_scale_factor=2 if size == "phone" else 1,
        )
        desk = Desk(context.new_page(), server)
        desk.page.on("request", lambda request: desk.requests.append(request.url))
        desk.page.on("pageerror", lambda error: desk.faults.append(str(error)))
        desk.page.on("console", lambda message: desk.faults.append(message.text))
        desks.append(desk)
        return desk

    yield open_page
    for desk in desks:
        desk.page.context.close()
        told = [fault for fault in desk.faults if not fault.startswith("Failed to load resource")]  # refused calls
        assert told == []
        own = (f"http://{desk.server}/", "data:", "blob:")
        assert [url for url in desk.requests if not url.startswith(own)] == []


@dataclass
class Held:
    """Calls of a page that the test keeps from their answers."""

    page: Page
    routes: list[Route]

    def take(self, route: Route) -> None:
        """Hold one more."""
        self.routes.append(route)

    def wait(self, count: int) -> None:
        """Until so many have been held."""
        for _ in range(200):
            if len(self.routes) >= count:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"{len(self.routes)} calls came, expected {count}")


def hold(page: Page, path: str) -> Held:
    """Hold all calls of a path from now on."""
    held = Held(page, [])
    page.route(f"**/{path}", held.take)
    return held


@pytest.fixture
def desk(open_page: Open, served: str) -> Desk:
    """The page of the shared server, on a desktop."""
    return open_page(served).open()
