"""The benchmark of a card, without one: every figure is found and told."""

import json
from pathlib import Path

import pytest

from tests.programs import run_program


@pytest.mark.slow
def test_the_figures_are_written_and_told(tmp_path: Path) -> None:
    """Of bare sessions, on the CPU; the table names each way, and a sentence says from where the card is ahead."""
    options = ("--device", "cpu", "--quick", "--only", "inference", "--out", tmp_path)
    ran = run_program("tests.benchmarks.bench_gpu", *options)
    assert ran.returncode == 0, ran.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["inference"]["default"]["CUDA, as served"]["64"] > 0
    table = (tmp_path / "figures.md").read_text()
    assert "| CUDA, plain run |" in table
    assert "default: the card is " in table
    assert (tmp_path / "overtakes.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="here is a card")
def test_without_a_card_nothing_is_measured(tmp_path: Path) -> None:
    """Unless the CPU is asked for, to see that it runs."""
    ran = run_program("tests.benchmarks.bench_gpu", "--out", tmp_path / "gpu")
    assert ran.returncode != 0
    assert "cuda was asked for, but torch finds no usable GPU" in ran.stderr
    assert not (tmp_path / "gpu").exists()
