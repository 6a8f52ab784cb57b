"""A data set of one's own, from a folder of pictures to a client that is answered with names; docs/data.md tells it."""

import json
import logging
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from pipeline.request import Request
from pipeline.run import run
from scripts.make_letters import LETTERS, draw_letter, make_letters
from serving.client import DigitClient
from tests.outcomes import ended, evaluated, published
from tests.programs import ROOT, server_process

COLOUR = ROOT / "scripts" / "letters.toml"
GREY = {"features = [3, 8, 16]": "features = [1, 4, 8]", "sizes = [20, 10, 5]": "sizes = [32, 16, 8]"}
UNSEEN = 30
"""Pictures of each letter that are drawn anew, and that no file holds."""


def preset(folder: Path, *, grey: bool) -> Path:
    """The preset of docs/data.md, or its grey sister, with the folder of the data set in it."""
    text = COLOUR.read_text()
    for old, new in GREY.items() if grey else ():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "my.toml"
    path.write_text(f'{text}\n[data]\nfolder = "letters"\n')
    return path


@pytest.mark.parametrize(
    ("size", "grey"),
    [(20, False), pytest.param(32, True, marks=pytest.mark.slow)],
    ids=["colour, 20 x 20", "grey, 32 x 32"],
)
def test_letters_are_served_by_name(tmp_path: Path, size: int, grey: bool) -> None:
    """Pictures in, letters out: more than 95 of 100 that were never seen are right, as pixels and as PNG files."""
    repository = tmp_path / "repository"
    make_letters(tmp_path / "letters", count=80, size=size, grey=grey)
    mine = str(preset(tmp_path, grey=grey))
    outcome = run(Request(repository, "letters", mine, device="cpu", cache=tmp_path / "cache"))
    assert evaluated(outcome).accuracy > 0.95
    manifest = json.loads((published(outcome).path / "manifest.json").read_text())
    assert manifest["labels"] == list(LETTERS)
    report = published(outcome).report.read_text()
    assert all(f"<td>{letter}</td>" in report for letter in LETTERS)

    random = np.random.default_rng(1)
    pictures = [(letter, draw_letter(letter, size, random, grey=grey)) for letter in LETTERS * UNSEEN]
    arguments = ("--model", "letters", "--provider", "cpu")
    with server_process(repository, tmp_path / "log", *arguments) as server, DigitClient(server.address) as client:
        model = client.model()
        by_pixels = client.classify(np.stack([np.asarray(picture) for _, picture in pictures]))
        files = [BytesIO() for _ in pictures]
        for file, (_, picture) in zip(files, pictures, strict=True):
            picture.save(file, "PNG")
        by_png = client.classify_png([file.getvalue() for file in files])
    assert model.labels == tuple(LETTERS)
    assert (model.image_height, model.image_width, model.image_channels) == (size, size, 1 if grey else 3)
    assert np.array_equal(by_pixels.probabilities, by_png.probabilities)
    right = [model.labels[digit] == letter for digit, (letter, _) in zip(by_pixels.digits, pictures, strict=True)]
    assert np.mean(right) > 0.95


@pytest.mark.parametrize(
    ("fraction", "is_skipped"),
    [(0.15, False), pytest.param(0.03, True, marks=pytest.mark.slow)],
    ids=["few", "very few"],
)
def test_the_second_version_of_a_small_data_set_is_published(
    tmp_path: Path, fraction: float, is_skipped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Trained again with another seed, it is as good: no gate asks for more than the validation images can prove."""
    make_letters(tmp_path / "letters")
    first = preset(tmp_path, grey=False)
    first.write_text(f"{first.read_text()}validation_fraction = {fraction}\n")
    second = tmp_path / "second.toml"
    second.write_text(first.read_text().replace("seed = 0", "seed = 1"))
    request = Request(tmp_path / "repository", "letters", device="cpu", cache=tmp_path / "cache")
    outcomes = [ended(run(replace(request, preset=str(path)))) for path in (first, second)]
    assert [published(outcome).version for outcome in outcomes] == [1, 2]
    champion = next(verdict for verdict in outcomes[1].verdicts if verdict.gate == "champion")
    assert champion.skipped is is_skipped
    assert ("cannot prove the preset's margin" in champion.detail) is not is_skipped
    assert any(record.levelno == logging.WARNING for record in caplog.records) is is_skipped
