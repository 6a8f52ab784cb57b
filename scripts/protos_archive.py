"""Packs the protos, and google/api's that they import, into one archive for callers in other languages."""

import argparse
import re
import tarfile
from io import BytesIO
from pathlib import Path

from google.api import http_pb2

ROOT = Path(__file__).parents[1]
GOOGLE = Path(http_pb2.__file__).parents[2]  # googleapis-common-protos keeps its protos beside its code
IMPORT = re.compile(r'^import (?:public |weak )?"([^"]+)";', re.MULTILINE)


def collect() -> dict[str, bytes]:
    """Every proto by its name in an import: ours and all that they import, except what each protoc brings."""
    files: dict[str, bytes] = {}
    wanted = [path.relative_to(ROOT).as_posix() for path in (ROOT / "protos").rglob("*.proto")]
    while wanted:
        name = wanted.pop()
        if name not in files and not name.startswith("google/protobuf/"):
            files[name] = ((ROOT if name.startswith("protos/") else GOOGLE) / name).read_bytes()
            wanted += IMPORT.findall(files[name].decode())
    return dict(sorted(files.items()))


def pack(destination: Path) -> None:
    """Write the archive; the same protos give the same bytes."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(destination, "w") as archive:
        for name, content in collect().items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.protos_archive", description=__doc__)
    parser.add_argument("destination", type=Path, metavar="PATH", help="the archive to write, a .tar file")
    pack(parser.parse_args().destination)
