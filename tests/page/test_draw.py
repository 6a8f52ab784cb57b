"""The page: draw, undo, choose a photo or a test image, look inside, and be answered."""

import json
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Request, expect

from scripts.make_samples import EASY, HARD, SAMPLES, make_samples
from tests.browser import needs_chromium
from tests.page.conftest import FOLDER, Desk, Open, hold
from tests.page.strokes import DIGITS, PLACES, Place, Stroke

pytestmark = [needs_chromium, pytest.mark.xdist_group("page")]

MOST_BYTES = 100 * 1024


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, id=name, marks=() if place == Place() else pytest.mark.slow)
        for name, place in PLACES.items()
    ],
)
def test_every_digit_is_read_as_drawn(desk: Desk, place: Place) -> None:
    """Ten digits, each drawn on the cleared paper, are answered with their own labels."""
    for digit, strokes in DIGITS.items():
        desk.draw(place.put(strokes))
        desk.settle()
        desk.expect_answer(digit)
        desk.page.locator("#clear").click()
        desk.expect_answer("?")


def test_an_answer_is_told_in_full(desk: Desk) -> None:
    """Label, confidence, ten probabilities, version, provider, time, the image that the model saw, and in words."""
    desk.draw(Place().put(DIGITS["3"]))
    desk.settle()
    page = desk.page
    expect(page.locator("#confidence")).to_have_text(page.locator("#bars .top .share").inner_text())
    expect(page.locator("#bars li")).to_have_count(10)
    expect(page.locator("#facts")).to_contain_text("version 1 on CPU")
    assert 0 < int(page.locator("#facts").inner_text().split(" · ")[1].split()[0]) < 5000
    expect(page.locator("#seen")).to_have_attribute("aria-label", "What the model saw: 28 by 28 pixels")
    brightest = (
        "canvas => Math.max(...canvas.getContext('2d').getImageData(0, 0, 28, 28).data.filter((_, i) => i % 4 < 3))"
    )
    assert page.locator("#seen").evaluate(brightest) > 200
    expect(page.locator("#spoken")).to_have_text("3, 100 %")
    expect(page.locator("#model")).to_contain_text("98.79 % of test images right".replace(" ", "\xa0"))


def test_one_request_at_a_time(desk: Desk) -> None:
    """While somebody draws, the next question waits for the last answer."""
    desk.page.evaluate(
        """() => {
            const own = window.fetch; let now = 0; window.most = 0; window.asked = 0;
            window.fetch = async (path, options) => {
                if (!path.includes("classify")) return own(path, options);
                window.asked++; window.most = Math.max(window.most, ++now);
                try { return await own(path, options); } finally { now--; }
            };
        }"""
    )
    desk.draw(Place().put(DIGITS["8"]))
    desk.settle()
    asked, most = desk.page.evaluate("[window.asked, window.most]")
    assert asked > 1
    assert most == 1


def test_what_is_cleared_is_not_asked_again(desk: Desk) -> None:
    """A refusal that would have passed comes after Clear: nothing is said of it, and the next drawing is answered."""
    held = hold(desk.page, "v1/classify")
    desk.page.locator("#samples button").nth(4).click()
    held.wait(1)
    desk.page.locator("#clear").click()
    held.routes[0].abort()
    desk.page.wait_for_timeout(800)  # longer than the page would have waited
    assert len(held.routes) == 1
    desk.expect_status("")
    expect(desk.page.locator(".answer.stale")).to_have_count(0)
    desk.page.unroute_all()
    desk.draw(Place().put(DIGITS["1"]))
    desk.settle()
    desk.expect_answer("1")


def test_an_answer_that_comes_after_clear_is_not_shown(desk: Desk) -> None:
    """Not even once something else has been begun."""
    held = hold(desk.page, "v1/classify")
    desk.page.locator("#samples button").nth(4).click()
    held.wait(1)
    desk.page.locator("#clear").click()
    desk.page.locator("#samples button").nth(7).click()
    held.routes[0].continue_()
    held.wait(2)
    desk.expect_answer("?")
    held.routes[1].continue_()
    desk.expect_answer("7")


def test_layers_are_those_of_what_is_drawn(desk: Desk) -> None:
    """Maps that come after the next drawing was begun are not shown."""
    held = hold(desk.page, "v1/feature-maps")
    rows = desk.page.locator("#layers > li")
    desk.page.locator("#samples button").nth(4).click()
    held.wait(1)
    desk.page.locator("#samples button").nth(7).click()
    desk.expect_answer("7")
    held.routes[0].continue_()
    held.wait(2)
    expect(rows).to_have_count(0)
    held.routes[1].continue_()
    expect(rows).to_have_count(6)


def test_layers_wait_for_the_answer(desk: Desk) -> None:
    """An answer to what was drawn before is shown, and its layers are not while the next answer is late."""
    held = hold(desk.page, "v1/classify")
    desk.page.locator("#samples button").nth(4).click()
    held.wait(1)
    desk.page.locator("#samples button").nth(7).click()
    held.routes[0].continue_()
    held.wait(2)
    desk.expect_answer("4")
    with desk.page.expect_response("**/v1/feature-maps"):
        pass
    desk.page.wait_for_timeout(100)
    expect(desk.page.locator("#layers > li")).to_have_count(0)
    held.routes[1].continue_()
    expect(desk.page.locator("#layers > li")).to_have_count(6)


def test_undo_takes_back_a_stroke_and_clear_all(desk: Desk) -> None:
    """By button or by key; clearing can be undone too."""
    page = desk.page
    seven_and_more = [*DIGITS["1"], [(0.15, 0.5), (0.5, 0.5), (0.85, 0.5)]]
    desk.draw(Place().put(seven_and_more))
    desk.settle()
    page.locator("#undo").click()
    desk.settle()
    desk.expect_answer("1")
    page.keyboard.press("Escape")
    desk.expect_answer("?")
    expect(page.locator("#clear")).to_be_disabled()
    page.keyboard.press("Control+z")
    desk.expect_answer("1")
    page.keyboard.press("Control+z")
    desk.expect_answer("?")
    expect(page.locator("#undo")).to_be_disabled()


def test_a_finger_draws(open_page: Open, served: str) -> None:
    """A touch on a phone leaves ink, and the page does not scroll."""
    desk = open_page(served, "phone").open()
    session = desk.page.context.new_cdp_session(desk.page)
    box = desk.page.locator("#drawing").bounding_box()
    assert box is not None
    points = [
        {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in Place().put(DIGITS["7"])[0]
    ]
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points[:1]})
    for point in points[1:]:
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    desk.settle()
    desk.expect_answer("7")
    assert desk.page.evaluate("scrollY") == 0


def photo(path: Path, strokes: list[Stroke], *, size: tuple[int, int], turned: bool = False) -> Path:
    """A large picture of dark ink on grey paper; `turned` as a camera stores it that was held upright."""
    picture = Image.new("RGB", size, (196, 190, 178))
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    drawing = ImageDraw.Draw(picture)
    for stroke in strokes:
        points = [(left + x * side, top + y * side) for x, y in stroke]
        drawing.line(points, fill=(40, 42, 60), width=side // 18, joint="curve")
    exif = Image.Exif()
    if turned:
        picture = picture.rotate(90, expand=True)
        exif[0x0112] = 6
    picture.save(path, quality=90, exif=exif)
    return path


@pytest.mark.parametrize("turned", [False, True], ids=["as it lies", "turned by its EXIF data"])
def test_a_photo_is_read(desk: Desk, tmp_path: Path, *, turned: bool) -> None:
    """From a phone, 12 million pixels: it is made smaller, sent, and shown on the paper."""
    file = photo(tmp_path / "four.jpg", Place(size=(0.4, 0.55)).put(DIGITS["4"]), size=(4000, 3000), turned=turned)
    with desk.page.expect_request("**/v1/classify") as sent:
        desk.page.locator("#file").set_input_files(file)
    assert len(sent.value.post_data or "") < 500_000
    desk.expect_answer("4")
    expect(desk.page.locator("#invitation")).to_have_class("invitation gone")
    desk.page.locator("#undo").click()
    desk.expect_answer("?")


def sent_photo(request: Request) -> bytes:
    """The file that a question is about."""
    (file,) = json.loads(request.post_data or "")["photos"]
    return b64decode(file)


@pytest.mark.parametrize("ink", ["white", "black"])
def test_a_drawing_on_nothing_keeps_its_transparency(desk: Desk, tmp_path: Path, ink: str) -> None:
    """Light ink without a ground is read as well as dark: the service gives it one; what is opaque goes as JPEG."""
    picture = Image.new("RGBA", (1500, 1500), (0, 0, 0, 0))
    for stroke in Place().put(DIGITS["4"]):
        ImageDraw.Draw(picture).line([(1500 * x, 1500 * y) for x, y in stroke], fill=ink, width=90, joint="curve")
    picture.save(tmp_path / "four.png")
    with desk.page.expect_request("**/v1/classify") as sent:
        desk.page.locator("#file").set_input_files(tmp_path / "four.png")
    desk.expect_answer("4")
    assert sent_photo(sent.value)[:4] == b"\x89PNG"
    with desk.page.expect_request("**/v1/classify") as sent:
        desk.page.locator("#file").set_input_files(
            photo(tmp_path / "two.png", Place().put(DIGITS["2"]), size=(600, 600))
        )
    desk.expect_answer("2")
    assert sent_photo(sent.value)[:3] == b"\xff\xd8\xff"


def test_a_photo_is_pasted_or_dropped(desk: Desk, tmp_path: Path) -> None:
    """As well as chosen."""
    file = photo(tmp_path / "two.png", Place(size=(0.4, 0.55)).put(DIGITS["2"]), size=(600, 600))
    for event, carrier in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        desk.page.evaluate(
            """async ([bytes, event, carrier]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(bytes)], "two.png", {type: "image/png"}));
                const kind = event === "paste" ? ClipboardEvent : DragEvent;
                document.body.dispatchEvent(new kind(event, {[carrier]: transfer, bubbles: true, cancelable: true}));
            }""",
            [list(file.read_bytes()), event, carrier],
        )
        desk.expect_answer("2")
        desk.page.keyboard.press("Escape")
        desk.expect_answer("?")


def test_a_file_that_is_no_picture_is_told_of(desk: Desk, tmp_path: Path) -> None:
    """With its name, and what was there stays."""
    desk.draw(Place().put(DIGITS["0"]))
    (tmp_path / "letter.png").write_text("Dear Sir")
    desk.page.locator("#file").set_input_files(tmp_path / "letter.png")
    desk.expect_status("letter.png is no picture that this browser can read: JPEG, PNG and WebP are.")
    desk.settle()
    desk.expect_answer("0")


def test_a_photo_that_the_service_refuses_is_told_of_in_its_words(desk: Desk, tmp_path: Path) -> None:
    """A blank sheet; the next drawing is answered as ever."""
    Image.new("RGB", (300, 300), "white").save(tmp_path / "blank.png")
    with desk.page.expect_response("**/v1/classify") as answered:
        desk.page.locator("#file").set_input_files(tmp_path / "blank.png")
    assert answered.value.status == 400
    message = answered.value.json()["message"]
    desk.expect_status(f"This picture cannot be read: {message.split(': ', 1)[1]}")
    desk.draw(Place().put(DIGITS["1"]))
    desk.settle()
    desk.expect_answer("1")
    desk.expect_status("")


def test_test_images_are_answered(desk: Desk) -> None:
    """One of each digit is right; the hard ones say what they are labelled, and whether the answer is."""
    buttons = desk.page.locator("#samples button")
    expect(buttons).to_have_count(len(EASY) + len(HARD))
    for digit in range(10):
        buttons.nth(digit).click()
        desk.expect_answer(str(digit))
        expect(desk.page.locator("#remark")).to_have_text(f"labelled {digit}: right")
        expect(buttons.nth(digit)).to_have_attribute("aria-pressed", "true")
    buttons.last.click()
    desk.expect_answer("9")
    expect(desk.page.locator("#remark")).to_have_text("labelled 8: wrong")


def test_the_network_shows_its_layers(desk: Desk) -> None:
    """From the image to the readout, as many maps as each has, each with its range."""
    desk.page.locator("#samples button").nth(3).click()
    rows = desk.page.locator("#layers > li")
    expect(rows).to_have_count(6)
    expect(rows.locator("h3")).to_have_text(
        ["the image", "convolution 1", "pooling 1", "convolution 2", "pooling 2", "readout"]
    )
    for row, maps in enumerate((1, 4, 4, 8, 8, 0)):
        expect(rows.nth(row).locator("canvas")).to_have_count(maps)
    second = rows.nth(1).locator("canvas").nth(1)
    second.hover()
    expect(rows.nth(1).locator(".range")).to_contain_text("map 2: ")
    assert second.evaluate("canvas => [canvas.width, canvas.height]") == [28, 28]
    rows.nth(1).locator("canvas").first.focus()
    desk.page.keyboard.press("ArrowRight")
    expect(second).to_be_focused()
    desk.page.keyboard.press("Escape")
    expect(rows).to_have_count(0)


def test_the_keyboard_is_enough(desk: Desk) -> None:
    """Tab reaches every control in the order of the page; arrow keys and space draw."""
    page = desk.page
    expect(page.locator("#samples button").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#drawing")).to_be_focused()
    expect(page.locator("#keys")).to_be_visible()
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "Space", *["ArrowDown"] * 6, "Space"):
        page.keyboard.press(f"Shift+{key}" if key.startswith("Arrow") else key)
    desk.settle()
    desk.expect_answer("1")
    for name in ("undo", "clear", "choose"):
        page.keyboard.press("Tab")
        expect(page.locator(f"#{name}")).to_be_focused()
        assert page.locator(f"#{name}").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    desk.expect_answer("0")
    expect(page.locator("#layers > li")).to_have_count(6)
    for _ in range(len(EASY) + len(HARD)):
        page.keyboard.press("Tab")
    expect(page.locator("#layers canvas").first).to_be_focused()


def test_the_samples_are_the_test_sets_own() -> None:
    """What `python -m scripts.make_samples` writes is what is there."""
    assert SAMPLES.read_text() == make_samples()
    assert {sample["label"] for sample in json.loads(SAMPLES.read_text())["samples"]} == set(DIGITS)


def test_all_files_together_are_small() -> None:
    """At most 100 KB, and nothing but text."""
    files = list(FOLDER.iterdir())
    assert {file.suffix for file in files} == {".html", ".css", ".js", ".json"}
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
