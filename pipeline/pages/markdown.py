"""Text and tables in Markdown, of what comes from outside."""

from collections.abc import Sequence

SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#"})


def text(content: str) -> str:
    """Text from outside, such as a label's name, as Markdown shows it; it stays in its line."""
    return " ".join(content.split()).translate(SPECIAL)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; every row has as many cells as the header."""
    lines = [header, ["---"] * len(header), *([text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
