"""One HTML page in one file: sections of sentences, tables, figures and pictures, for a phone, the dark and paper."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

INDEX = "index.html"
TEMPLATE = Path(__file__).with_name("page.html.jinja")


@dataclass(frozen=True)
class Figure:
    """A picture for light and one for dark surroundings, PNG files, and the sentence of what is seen."""

    name: str
    """Of its file, without ending."""
    caption: str
    light: bytes
    dark: bytes

    @property
    def light_uri(self) -> str:
        """The picture as an address that needs no other file."""
        return data_uri(self.light)

    @property
    def dark_uri(self) -> str:
        """The same for dark surroundings."""
        return data_uri(self.dark)


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; every row has as many cells as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A small picture as it is, every pixel a square, and the lines below it."""

    png: bytes
    lines: Sequence[str]

    @property
    def uri(self) -> str:
        """The picture as an address that needs no other file."""
        return data_uri(self.png)


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side, as many in a row as there is room for."""

    pictures: Sequence[Picture]
    caption: str = ""


@dataclass(frozen=True)
class Link:
    """A sentence that leads elsewhere."""

    text: str
    target: str


Block = str | Figure | Table | Gallery | Link
"""A paragraph, a figure, a table, small pictures or a link."""


@dataclass(frozen=True)
class Section:
    """A part of the page under its own heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """What stands first is the verdict; then the sections, in order."""

    title: str
    verdict: str
    is_good: bool
    """Whether the verdict is a good one; None of its meaning stands in the colour alone."""
    sections: Sequence[Section]

    @property
    def figures(self) -> list[Figure]:
        """Every figure on it."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]


def write_page(page: Page, folder: Path) -> Path:
    """Write index.html, which needs no other file, and beside it every figure as a PNG; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for figure in page.figures:
        (folder / f"{figure.name}.png").write_bytes(_on_white(figure.light))
    path = folder / INDEX
    path.write_text(render(page), encoding="utf-8")
    return path


def _on_white(png: bytes) -> bytes:
    """The same picture without transparency: nobody knows on what ground a file is looked at."""
    picture = Image.open(BytesIO(png)).convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    file = BytesIO()
    ground.convert("RGB").save(file, format="PNG")
    return file.getvalue()


def render(page: Page) -> str:
    """The page as HTML; whatever comes from outside, such as a label's name, is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=page)


def data_uri(png: bytes) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{b64encode(png).decode()}"
