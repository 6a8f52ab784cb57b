"""The page when something changes under its hands: versions, models, the service itself."""

import json
import re

import pytest
from google.protobuf.json_format import MessageToDict
from playwright.sync_api import Route, expect

from pipeline.versions.history import to_json
from serving.errors import OverloadedError, to_status
from tests.browser import needs_chromium
from tests.page.conftest import Open, Serve
from tests.page.strokes import DIGITS, Place
from tests.serving.conftest import Publisher

pytestmark = [pytest.mark.slow, needs_chromium, pytest.mark.xdist_group("page")]


def test_a_new_version_answers_for_what_is_drawn(serve: Serve, publisher: Publisher, open_page: Open) -> None:
    """It is told of, and asked about the same drawing; a rollback too."""
    publisher.publish(1)
    with serve() as server:
        desk = open_page(server.address).open()
        desk.draw(Place().put(DIGITS["5"]))
        desk.expect_version(1)
        for version in (2, 1):
            publisher.publish(version)
            desk.expect_status(f"Now version {version} answers.")
            desk.expect_version(version)
            desk.expect_answer("5")
            expect(desk.page.locator("#model")).to_contain_text(f"Version\xa0{version}")


@pytest.mark.parametrize("version", [3, 4], ids=["smaller images", "letters, in colour"])
def test_a_model_that_takes_other_images(serve: Serve, publisher: Publisher, open_page: Open, version: int) -> None:
    """Labels and sizes are the model's: nothing of MNIST is taken for granted."""
    publisher.publish(1)
    with serve() as server:
        desk = open_page(server.address).open()
        desk.page.locator("#samples button").nth(7).click()
        desk.expect_answer("7")
        publisher.publish(version)
        desk.expect_version(version)
        size = {3: 24, 4: 20}[version]
        expect(desk.page.locator("#seen")).to_have_attribute(
            "aria-label", f"What the model saw: {size} by {size} pixels"
        )
        if version == 3:
            desk.expect_answer("7")
        else:
            expect(desk.page.locator("h1")).to_have_text("Draw one of A, B, C, D, E")
            expect(desk.page.locator("#bars .name")).to_have_text(list("ABCDE"))
            expect(desk.page.locator("#try")).to_be_hidden()
        desk.page.locator("#clear").click()
        desk.draw(Place().put(DIGITS["0"]))
        if version == 3:
            desk.expect_version(version)
        else:  # the service prepares drawings for grey images alone
            desk.expect_status(re.compile("This picture cannot be read: .*colour"))
            desk.expect_answer("?")


def test_a_page_before_its_model(serve: Serve, publisher: Publisher, open_page: Open) -> None:
    """It says that there is none, and answers what was drawn meanwhile once there is one."""
    with serve() as server:
        desk = open_page(server.address).open()
        desk.expect_status("No model has been published yet. This page goes on by itself when there is one.")
        desk.draw(Place().put(DIGITS["2"]))
        desk.expect_answer("?")
        publisher.publish(1)
        desk.expect_version(1)
        desk.expect_answer("2")
        desk.expect_status("")


def test_a_server_that_goes_away_and_comes_back(serve: Serve, publisher: Publisher, open_page: Open) -> None:
    """It says so, and what was drawn meanwhile is answered by itself."""
    publisher.publish(1)
    with serve() as server:
        desk = open_page(server.address).open()
        expect(desk.page.locator("#samples button").first).to_be_visible()
        server.terminate()
    desk.expect_status("The service does not answer. This page goes on by itself when it does.")
    desk.draw(Place().put(DIGITS["6"]))
    desk.settle()
    desk.expect_answer("?")
    with serve("--port", server.address.rpartition(":")[2]):
        desk.expect_version(1)
        desk.expect_answer("6")
        desk.expect_status("")


def test_an_overloaded_server_is_asked_again(serve: Serve, publisher: Publisher, open_page: Open) -> None:
    """After the time that it names, and the answer comes without another stroke."""
    publisher.publish(1)
    error = OverloadedError("the queue is full", retry_after_s=0.7)
    refusal = json.dumps(MessageToDict(to_status(error), preserving_proto_field_name=True))
    refused: list[str] = []

    def refuse(route: Route) -> None:
        if len(refused) < 2:
            refused.append(route.request.url)
            route.fulfill(status=429, content_type="application/json", body=refusal)
        else:
            route.continue_()

    with serve() as server:
        desk = open_page(server.address).open()
        desk.page.route("**/v1/classify", refuse)
        desk.page.locator("#samples button").nth(4).click()
        desk.expect_status("The service is busy. Trying again …")
        desk.expect_answer("4")
        desk.expect_status("")
        assert len(refused) == 2


def test_a_version_without_feature_maps(serve: Serve, publisher: Publisher, open_page: Open) -> None:
    """Answers, and says that there is nothing to see inside."""
    publisher.publish_copy(5, of=1)
    directory = publisher.model.path(5)
    manifest = publisher.model.manifest(5)
    kept = [file for file in manifest.files if file.path != "features.onnx"]
    del manifest.files[:]
    manifest.files.extend(kept)
    (directory / "features.onnx").unlink()
    (directory / "manifest.json").write_bytes(to_json(manifest))
    publisher.point_at(5)
    with serve() as server:
        desk = open_page(server.address).open()
        desk.draw(Place().put(DIGITS["9"]))
        desk.expect_version(5)
        expect(desk.page.locator("#inside-note")).to_have_text("Version 5 was published without what its layers see.")
        expect(desk.page.locator("#layers > li")).to_have_count(0)
        desk.draw(Place().put(DIGITS["1"]))
        desk.settle()
        assert sum(url.endswith("/v1/feature-maps") for url in desk.requests) == 1  # it does not ask in vain again


def test_a_fault_of_the_page_is_not_silent(serve: Serve, publisher: Publisher, open_page: Open) -> None:
    """Whatever a script throws stands in the status line."""
    publisher.publish(1)
    with serve() as server:
        desk = open_page(server.address).open()
        desk.page.evaluate("setTimeout(() => { throw new Error('out of ink') })")
        desk.expect_status(re.compile("This page has a fault: out of ink"))
        assert [fault for fault in desk.faults if "out of ink" in fault]
        desk.faults.clear()
