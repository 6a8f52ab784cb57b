"""The pack for a GPU machine: onnxruntime's own CUDA library, with the kernels of one generation of cards."""

from pathlib import Path

import onnxruntime
import pytest

from scripts.gpu_pack import blank_other_kernels, download, kernels, section

LIBRARY = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"


def test_the_kernels_of_one_generation_stay() -> None:
    """Not a byte of them changes or moves, and nothing of the others is left; what is no GPU code stays."""
    before = LIBRARY.read_bytes()
    library = bytearray(before)
    blank_other_kernels(library, 90)
    begin, end = section(library, ".nv_fatbin")
    assert len(library) == len(before)
    assert library[:begin] == before[:begin]
    assert library[end:] == before[end:]
    kept = dropped = 0
    for capability, start, size in kernels(library):
        code = library[start : start + size]
        if capability == 90:
            assert code == before[start : start + size]
            kept += size
        else:
            assert not any(code)
            dropped += size
    assert kept > 20 * 2**20
    assert dropped > kept


def test_a_card_that_onnxruntime_does_not_know_is_told() -> None:
    """The message names those that it does know."""
    with pytest.raises(SystemExit, match=r"no kernels for compute capability 42; choose of .*90.* with --arch"):
        blank_other_kernels(bytearray(LIBRARY.read_bytes()), 42)


def test_a_package_that_is_not_pinned_is_told(tmp_path: Path) -> None:
    """Nothing is fetched that the lock does not name."""
    with pytest.raises(SystemExit, match=r"dev\.txt: pins no left-pad; run `make lock`"):
        download(["left-pad"], "3.12", tmp_path)
