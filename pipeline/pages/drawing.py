"""Draws a figure twice with matplotlib, in light and in dark ink on a transparent ground."""

import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from pipeline.pages.page import Figure

LIGHT_INK = "#1b1f24"
DARK_INK = "#e6edf3"
DOTS_PER_INCH = 150


def draw(
    name: str, caption: str, paint: Callable[[Canvas], None], *, width: float = 7.0, height: float = 4.0
) -> Figure:
    """Have `paint` fill an empty canvas of so many inches, and keep what it painted; no global state is touched."""
    return Figure(name, caption, _paint(paint, LIGHT_INK, width, height), _paint(paint, DARK_INK, width, height))


def _paint(paint: Callable[[Canvas], None], ink: str, width: float, height: float) -> bytes:
    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
    grounds = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
    settings: Any = dict.fromkeys(inks, ink) | dict.fromkeys(grounds, "none")
    with rc_context(settings), warnings.catch_warnings():
        # A label in a script that matplotlib's font lacks is a box here; the page's own text has it as it is.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        canvas = Canvas(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
        paint(canvas)
        file = BytesIO()
        surface = FigureCanvasAgg(canvas)  # Canvas.savefig would lay it out and draw it twice
        surface.print_png(file, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return file.getvalue()
