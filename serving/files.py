"""Files for a browser, read from a folder once, when the server starts."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 8 * 2**20
"""All files together: they are kept in memory."""

INDEX = "index.html"

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True)
class File:
    """One file, as a browser gets it."""

    content: bytes
    content_type: str

    @property
    def etag(self) -> str:
        """A browser that shows this need not get the file again."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    @property
    def headers(self) -> dict[str, str]:
        """What is told with it: it may be kept, and is asked for again each time."""
        return {
            "content-type": self.content_type,
            "etag": self.etag,
            "cache-control": "no-cache",
            "x-content-type-options": "nosniff",
        }


def read_files(folder: Path) -> dict[str, File]:
    """The files of a folder and of those in it, by path: "/" is index.html, hidden ones are left out.

    Raises OSError where the folder is none, a file cannot be read, or all of them are too large.
    """
    if not folder.is_dir():
        raise OSError(f"{folder} is no folder of files to serve (--static-files)")
    files, total = {}, 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        total += path.stat().st_size
        if total > MAX_BYTES:
            raise OSError(f"{folder} holds more than {MAX_BYTES} bytes, which would stay in memory (--static-files)")
        file = File(path.read_bytes(), _CONTENT_TYPES.get(path.suffix, "application/octet-stream"))
        files[f"/{name.as_posix()}"] = file
        if path.name == INDEX:
            files[f"/{name.parent.as_posix()}/".replace("/./", "/")] = file
    return files
