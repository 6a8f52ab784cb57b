"""Text from outside is printed in one line, without control characters; the log is too."""

import logging

import pytest
from rich.console import Console

from pipeline.__main__ import main
from pipeline.logs import LineFormatter
from pipeline.printable import for_terminal, printable
from tests.programs import run_program

CODES = (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0xD800)
EVIL = "".join(map(chr, CODES))


def test_control_characters_are_shown_as_escapes() -> None:
    """C0, DEL, C1, what reorders a line or separates two, and halves of surrogate pairs; letters of any script stay."""
    assert printable(f"é字👍🏽{EVIL}").isprintable()
    assert printable("é 字 👍🏽 \\") == "é 字 👍🏽 \\"
    assert printable("\x1b\n\x9b\u202e") == r"\x1b\n\x9b\u202e"


def test_rich_prints_it_as_text() -> None:
    """Neither control characters nor markup."""
    with (console := Console(width=2000)).capture() as captured:
        console.print(for_terminal(f"[bold]{EVIL}[/bold]"))
    assert captured.get().removesuffix("\n").isprintable()
    assert captured.get().startswith("[bold]")


def test_a_record_is_one_line_and_a_traceback_is_indented() -> None:
    """No second record can be forged."""
    with pytest.raises(ValueError, match="x") as error:
        raise ValueError(f"x{EVIL}")
    exception = (error.type, error.value, error.tb)
    made = logging.LogRecord("x", logging.WARNING, __file__, 1, "%s", (EVIL,), exception)
    first, *others = LineFormatter("%(asctime)s %(message)s").format(made).split("\n")
    assert first.isprintable()
    assert others
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_that_includes_the_log_of_a_program_that_sets_up_none() -> None:
    """Such as `python -m pipeline run --no-prefect`."""
    code = "import logging; from pipeline import logs; logs.set_up(); logging.getLogger('x').warning('a\\x1b\\nb')"
    assert run_program("timeit", "-n1", "-r1", code).stderr == "a\\x1b\\nb\n"


def test_what_was_typed_is_repeated_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """By the parser of the commands, at any depth."""
    with pytest.raises(SystemExit):
        main(["run", "--bogus=\x1b[31m"])
    assert r"--bogus=\x1b[31m" in capsys.readouterr().err
