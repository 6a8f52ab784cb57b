"""Shows a person how far the training is: one bar on stderr, gone quiet where stderr is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline.train import Progress


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[Callable[[Progress], None]]:
    """Yield what `train` takes as `on_progress`; the bar ends with the block."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console or Console(stderr=True)) as bar:
        task = bar.add_task("training", total=None, visible=False)  # not every run trains

        def on_progress(progress: Progress) -> None:
            description = f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}"
            bar.update(task, description=description, completed=progress.step, total=progress.steps, visible=True)

        yield on_progress
