"""The bar says what a person wants to know, on the console that it was given."""

from io import StringIO

import pytest
from rich.console import Console

from pipeline.train import Progress
from pipeline.training.progress import show_progress


def test_the_bar_tells_epoch_loss_and_step() -> None:
    """The last line shows the epoch, the loss, and the steps taken of all."""
    text = StringIO()
    with show_progress(Console(file=text, force_terminal=True, width=120)) as on_progress:
        on_progress(Progress(epoch=2, epochs=6, step=470, steps=1410, loss=0.0625))
    assert "epoch 2/6, loss 0.062" in text.getvalue()
    assert "470/1410" in text.getvalue()


def test_stdout_stays_free(capsys: pytest.CaptureFixture[str]) -> None:
    """By default nothing is written to stdout, which belongs to results."""
    with show_progress() as on_progress:
        on_progress(Progress(epoch=1, epochs=1, step=1, steps=1, loss=1.0))
    assert capsys.readouterr().out == ""
