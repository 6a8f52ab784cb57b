"""Packs what a GPU machine that reaches no package registry lacks, for it to run `make check-gpu` and `make bench-gpu`.

    python -m scripts.gpu_pack FOLDER [--arch 90] [--piece-mib 40]

Such a machine has a Python with torch (2.11 or newer, built for CUDA 13), onnx, pytest and what comes with them. The
folder then holds the wheels of everything else, as requirements/dev.txt pins it, and onnxruntime-gpu, cut down: its
CUDA library has the same kernels for several generations of cards, of which one is kept; the others' are overwritten
with zeros, which pack to nothing. 255 MB become about 61 MB, in pieces. docs/gpu.md says what to do with the folder
there. The images of MNIST are in the checkout.
"""

import argparse
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "dev.txt"
RUNTIME = "onnxruntime-gpu"
WHEELS = (
    *(
        "annotated-types",
        "cronsim",
        "googleapis-common-protos",
        "grpcio",
        "grpcio-health-checking",
        "grpcio-reflection",
    ),
    *("grpcio-status", "ngh2", "opentelemetry-api", "prometheus-client", "protobuf", "pydantic", "pydantic-core"),
    *("pytest-asyncio", "pytest-timeout", "typing-extensions", "typing-inspection", "uvloop"),
)
"""What a machine for torch lacks, or may have too old, of what tests/gpu and bench_gpu import."""

CUDA_LIBRARY = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
LEFT_OUT = (
    *("onnxruntime/quantization/", "onnxruntime/tools/", "onnxruntime/transformers/"),
    *("onnxruntime/ThirdPartyNotices.txt", "onnxruntime/capi/libonnxruntime_providers_tensorrt.so"),
    "onnxruntime/capi/libonnxruntime.so",  # for C; Python's module has all of it
)
GLIBCS = (28, 27, 17)
PACK = "onnxruntime.tar.xz"
UNPACK = f"""#!/bin/sh
# Usage: unpack SITE - makes the folder SITE, to be put on PYTHONPATH.
set -eu
here=$(dirname "$0")
python=${{PYTHON:-python3}}
mkdir -p "$1"
cat "$here"/{PACK}.* > "$1/{PACK}"
"$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="data")' "$1/{PACK}" "$1"
rm "$1/{PACK}"
"$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$1" "$here"/*.whl
# onnxruntime looks for CUDA's libraries beside itself; torch has brought them elsewhere.
"$python" - "$1/nvidia" <<'END'
import importlib.util, pathlib, sys
found, link = importlib.util.find_spec("nvidia"), pathlib.Path(sys.argv[1])
if found and not link.exists():
    link.symlink_to(list(found.submodule_search_locations)[0])
END
"""


def main() -> None:
    """Fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", type=int, default=90, help="compute capability to keep (default: 90, H100 and H200)")
    parser.add_argument("--python", default="3.12", help="the Python of that machine (default: %(default)s)")
    parser.add_argument("--piece-mib", type=int, default=40, help="no piece is larger (default: %(default)s)")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    download(WHEELS, options.python, folder)
    with TemporaryDirectory() as name:
        download([RUNTIME], options.python, Path(name))
        (wheel,) = Path(name).glob("*.whl")
        pack = slimmed(wheel, options.arch)
    for number, start in enumerate(range(0, len(pack), options.piece_mib << 20)):
        (folder / f"{PACK}.{number:02d}").write_bytes(pack[start : start + (options.piece_mib << 20)])
    (folder / "unpack").write_text(UNPACK)
    (folder / "unpack").chmod(0o755)
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()) / 2**20:.0f} MiB")


def download(names: tuple[str, ...] | list[str], python: str, folder: Path) -> None:
    """Fetch the wheels that the lock pins, for another Python."""
    lock = LOCK.read_text()
    pinned = []
    for name in names:
        found = re.search(rf"^{re.escape(name)}==([^\s;]+)", lock, re.MULTILINE)
        if not found:
            raise SystemExit(f"{LOCK}: pins no {name}; run `make lock`")
        pinned.append(f"{name}=={found[1]}")
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBCS] + ["--platform=manylinux2014_x86_64"]
    asked = ["--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *asked]
    subprocess.run([*command, f"--dest={folder}", *pinned], check=True)


def slimmed(wheel: Path, arch: int) -> bytes:
    """The package of the wheel as a tar, packed, with the kernels of one generation of cards."""
    packed = BytesIO()
    with (
        zipfile.ZipFile(wheel) as content,
        lzma.open(packed, "wb", preset=6) as stream,
        tarfile.open(fileobj=stream, mode="w|") as tar,
    ):
        for info in content.infolist():
            if info.is_dir() or info.filename.startswith(LEFT_OUT) or not info.filename.startswith("onnxruntime"):
                continue
            data = bytearray(content.read(info))
            if info.filename == CUDA_LIBRARY:
                blank_other_kernels(data, arch)
            member = tarfile.TarInfo(info.filename)
            member.size, member.mode = len(data), 0o755 if ".so" in info.filename else 0o644
            tar.addfile(member, BytesIO(data))
    return packed.getvalue()


def blank_other_kernels(library: bytearray, arch: int) -> None:
    """Overwrite with zeros the GPU code for every other compute capability; nothing moves."""
    found = list(kernels(library))
    capabilities = sorted({capability for capability, _, _ in found})
    if arch not in capabilities:
        known = ", ".join(map(str, capabilities))
        raise SystemExit(f"onnxruntime has no kernels for compute capability {arch}; choose of {known} with --arch")
    for capability, start, size in found:
        if capability != arch:
            library[start : start + size] = bytes(size)


def kernels(library: bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield compute capability, offset and bytes of each piece of GPU code in a 64-bit ELF file.

    nvcc keeps them in the section .nv_fatbin: containers (magic, version, header's bytes, body's bytes), whose bodies
    are entries (kind, version, header's bytes, code's bytes, …, and at byte 28 the capability).
    """
    at, end = section(library, ".nv_fatbin")
    while at + 16 <= end:
        magic, _, header, body = struct.unpack_from("<IHHQ", library, at)
        if magic != 0xBA55ED50:
            at += 8  # containers begin at multiples of eight
            continue
        entry, at = at + header, at + header + body
        while entry < at:
            _, _, entry_header, code = struct.unpack_from("<HHIQ", library, entry)
            (capability,) = struct.unpack_from("<I", library, entry + 28)
            yield capability, entry + entry_header, code
            entry += entry_header + code


def section(library: bytearray, name: str) -> tuple[int, int]:
    """Where a section of a 64-bit ELF file begins and ends (System V ABI, "Sections")."""
    (table,) = struct.unpack_from("<Q", library, 0x28)
    header_bytes, count, names_index = struct.unpack_from("<HHH", library, 0x3A)

    def header(index: int) -> tuple[int, int, int]:
        name_at, _, _, _, offset, size = struct.unpack_from("<IIQQQQ", library, table + index * header_bytes)
        return name_at, offset, size

    _, names, _ = header(names_index)
    for index in range(count):
        name_at, offset, size = header(index)
        if library[names + name_at : library.index(0, names + name_at)].decode() == name:
            return offset, offset + size
    raise SystemExit(f"there is no section {name}: is this onnxruntime's CUDA library?")


if __name__ == "__main__":
    main()
