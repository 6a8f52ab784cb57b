"""The page for everybody: axe finds nothing that keeps people from using it, and nothing is wider than a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser import needs_chromium
from tests.page.conftest import SIZES, Open
from tests.page.strokes import DIGITS, Place

pytestmark = [needs_chromium, pytest.mark.xdist_group("page")]


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing(served: str, open_page: Open, size: str, *, is_dark: bool) -> None:
    """Before a drawing, with its answer and layers, and with a status: contrast, names, roles, landmarks."""
    desk = open_page(served, size, is_dark=is_dark).open()
    expect(desk.page.locator("#samples button").first).to_be_visible()
    faults = Axe().run(desk.page)
    assert faults.violations_count == 0, faults.generate_report()
    desk.draw(Place().put(DIGITS["4"]))
    expect(desk.page.locator("#layers > li")).to_have_count(6)
    desk.page.evaluate("dispatchEvent(new ErrorEvent('error', {message: 'for the sake of its colours'}))")
    desk.expect_status("This page has a fault: for the sake of its colours. Reloading it may help.")
    faults = Axe().run(desk.page)
    assert faults.violations_count == 0, faults.generate_report()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(served: str, open_page: Open, width: int) -> None:
    """Also on the smallest phones."""
    desk = open_page(served, "phone")
    desk.page.set_viewport_size({"width": width, "height": 800})
    desk.open()
    desk.draw(Place().put(DIGITS["4"]))
    expect(desk.page.locator("#layers > li")).to_have_count(6)
    assert desk.page.evaluate("document.documentElement.scrollWidth") == width


def test_who_wants_no_motion_gets_none(served: str, open_page: Open) -> None:
    """Bars jump where they otherwise glide."""
    desk = open_page(served)
    desk.page.emulate_media(reduced_motion="reduce")
    desk.open()
    expect(desk.page.locator("#bars li")).to_have_count(10)
    assert desk.page.locator("#bars .fill").first.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
