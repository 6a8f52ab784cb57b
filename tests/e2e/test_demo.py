"""`make demo`, as a newcomer sees it: twice."""

import re
from pathlib import Path

import pytest

from tests.programs import run_program


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_and_runs_again(tmp_path: Path) -> None:
    """The whole path on the real data; the second time it publishes nothing new, and nothing breaks."""
    for news in ("published now", "nothing new"):
        done = run_program("scripts.demo", "--repository", tmp_path / "repository", OMP_NUM_THREADS="1", COLUMNS="200")
        assert done.returncode == 0, done.stderr
        accuracy = re.search(r"accuracy: (\d+\.\d+) %", done.stdout)
        assert accuracy is not None
        assert float(accuracy[1]) >= 98.3
        assert news in done.stdout
        assert str(tmp_path / "repository" / "digits" / "1") in done.stdout
    assert sorted(path.name for path in (tmp_path / "repository" / "digits").iterdir() if path.name.isdecimal()) == [
        "1"
    ]
