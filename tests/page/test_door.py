"""The page as the door serves it: its files, drawings, layers, and replicas that are not there yet or not any more."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import needs_chromium
from tests.page.conftest import FOLDER, Open
from tests.page.strokes import DIGITS, Place
from tests.programs import ServerProcess, server_process
from tests.serving.conftest import Publisher
from tests.serving.doors import door_process

pytestmark = [needs_chromium, pytest.mark.xdist_group("page")]

NONE_READY = "No network is ready yet, or it is away for a moment. This page goes on by itself."


@pytest.fixture
def replica(publisher: Publisher, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server without a model."""
    publisher.root.mkdir()
    with start(publisher, tmp_path) as server:
        yield server


def start(publisher: Publisher, folder: Path, *options: str) -> AbstractContextManager[ServerProcess]:
    """Start a server as those behind doors are, without the page."""
    return server_process(publisher.root, folder / "replica.log", "--provider", "cpu", "--poll-ms", "20", *options)


def test_a_page_behind_the_door(replica: ServerProcess, publisher: Publisher, open_page: Open, tmp_path: Path) -> None:
    """Before there is a model, with its model, and while the only replica is away."""
    with door_process([replica.address], tmp_path / "door.log") as door:
        desk = open_page(door.address).open()
        desk.expect_status(NONE_READY)
        desk.draw(Place().put(DIGITS["2"]))
        desk.settle()
        desk.expect_status(NONE_READY)
        desk.expect_answer("?")

        publisher.publish(1)
        desk.expect_version(1)
        desk.expect_answer("2")
        desk.expect_status("")
        expect(desk.page.locator("#model")).to_contain_text("Version\xa01")
        expect(desk.page.locator("#layers > li")).to_have_count(6)
        desk.page.locator("#samples button").nth(4).click()
        desk.expect_answer("4")
        asked = {url.removeprefix(f"http://{door.address}/") for url in desk.requests}
        assert {path or "index.html" for path in asked if not path.startswith("data:")} == {
            *(file.name for file in FOLDER.iterdir() if file.name != "openapi.json"),
            *("v1/model", "v1/classify", "v1/feature-maps"),
        }

        replica.terminate()
        desk.expect_status(NONE_READY)
        desk.page.locator("#samples button").nth(7).click()
        desk.settle()
        desk.expect_answer("4")
        expect(desk.page.locator(".answer.stale")).to_have_count(1)
        with start(publisher, tmp_path, "--port", replica.address.rpartition(":")[2]):
            desk.expect_answer("7")
            desk.expect_status("")
