"""What a crash may leave of a folder, where only what was synchronised is certainly on the disk.

Recorded is every call that changes the folder, and its fsyncs. At any point a file has the bytes of its last fsync, or
half or all of what was written since, and a directory the names of its last fsync, those of now, or these with one
change lost (as ALICE and CrashMonkey assume: Pillai and others, "All File Systems Are Not Created Equal", OSDI 2014).
"""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

Names = Mapping[str, int]
"""The number of the inode behind each name of a directory."""

CHANGES = ("fsync", "replace", "rename", "truncate", "link", "unlink", "rmdir", "mkdir")


@dataclass(frozen=True)
class Event:
    """The folder at some moment, and what is then synchronised."""

    root: int
    directories: Mapping[int, Names]
    files: Mapping[int, bytes]
    synced: int = 0
    """The number of what is synchronised; 0 for nothing."""
    place: str = ""
    """The function and line that calls it."""


@dataclass(frozen=True)
class State:
    """What a crash may leave: every file with its content, by its path."""

    files: tuple[tuple[str, bytes], ...]
    directories: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Lay it out on the disk."""
        for name in self.directories:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, content in self.files:
            (folder / name).write_bytes(content)


@contextmanager
def recording(folder: Path) -> Iterator[list[Event]]:
    """Note the state of `folder` before and after each call that changes it; at the end, too."""
    recorder = _Recorder(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, recorder.noted(getattr(os, name), is_sync=name == "fsync"))
        yield recorder.events
    recorder.look()


class _Recorder:
    """Looks at a folder again and again. An inode that is used again after it was free gets another number."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self._folder = folder
        self._numbers: dict[int, int] = {}
        self._unused = count(1)

    def noted(self, call: Callable[..., Any], *, is_sync: bool) -> Callable[..., Any]:
        """The call, with a look before and after it."""

        def noted(*arguments: Any, **options: Any) -> Any:
            self.look(os.fstat(arguments[0]).st_ino if is_sync else 0)
            try:
                return call(*arguments, **options)
            finally:
                self.look()

        return noted

    def look(self, synced: int = 0) -> None:
        """Note what is there."""
        directories: dict[int, Names] = {}
        files: dict[int, bytes] = {}
        paths = {path: path.stat().st_ino for path in (self._folder, *self._folder.rglob("*"))}
        self._numbers = {inode: self._numbers.get(inode) or next(self._unused) for inode in paths.values()}
        numbers = {path: self._numbers[inode] for path, inode in paths.items()}
        for path, number in numbers.items():
            if path.is_dir():
                directories[number] = {child.name: numbers[child] for child in path.iterdir()}
            else:
                files[number] = path.read_bytes()
        place = _caller() if synced else ""
        self.events.append(Event(numbers[self._folder], directories, files, self._numbers.get(synced, 0), place))


def _caller() -> str:
    """The function and line of the pipeline that asks for an fsync."""
    frames = [
        frame for frame in traceback.extract_stack() if Path(frame.filename).parent.name in ("pipeline", "versions")
    ]
    ours = [frame for frame in frames if "tests" not in Path(frame.filename).parts and "durable" not in frame.filename]
    return f"{Path(ours[-1].filename).name}:{ours[-1].name}:{ours[-1].lineno}"


@dataclass
class _Disk:
    """What is certainly on the disk."""

    names: dict[int, Names] = field(default_factory=dict)
    content: dict[int, bytes] = field(default_factory=dict)


def crash_states(events: list[Event], ignored: str = "") -> Iterator[tuple[State, bool]]:
    """Every state that a crash at one of the events may leave, and whether all was over by then.

    The folder is on the disk as it is at the first event. `ignored` is the place of an fsync that does nothing.
    """
    disk = _Disk(dict(events[0].directories), dict(events[0].files))
    seen: set[tuple[State, bool]] = set()
    for number, event in enumerate(events):
        for state in _states(event, disk):
            if (found := (state, number == len(events) - 1)) not in seen:
                seen.add(found)
                yield found
        if event.synced and event.place != ignored:
            if event.synced in event.directories:
                disk.names[event.synced] = event.directories[event.synced]
            elif event.synced in event.files:
                disk.content[event.synced] = event.files[event.synced]


def _states(event: Event, disk: _Disk) -> Iterator[State]:
    now = event.directories
    lost: dict[int, Names] = {inode: disk.names.get(inode, {}) for inode in now}
    lost.update({inode: names for inode, names in disk.names.items() if inode not in now})
    kept = {**lost, **now}
    layouts = [kept, lost]
    for inode, names in now.items():
        layouts += [{**kept, inode: lost[inode]}, {**lost, inode: names}]
        for name in lost[inode].keys() | names.keys():
            if lost[inode].get(name) != names.get(name):
                layouts.append({**kept, inode: _with(names, name, lost[inode].get(name))})
    empty = {inode: disk.content.get(inode, b"") for inode in event.files}
    certain = {**disk.content, **empty}
    torn = {**certain, **{inode: _torn(empty[inode], content) for inode, content in event.files.items()}}
    for layout in layouts:
        for content in ({**certain, **event.files}, certain, torn):
            files, directories = _tree(layout, content, event.root, "")
            yield State(tuple(sorted(files)), tuple(sorted(directories)))


def _torn(certain: bytes, now: bytes) -> bytes:
    """What is appended loses nothing that was there."""
    kept = len(certain) if now.startswith(certain) else 0
    return now[: kept + (len(now) - kept) // 2]


def _with(names: Names, name: str, inode: int | None) -> Names:
    others = {other: number for other, number in names.items() if other != name}
    return others if inode is None else {**others, name: inode}


def _tree(
    layout: Mapping[int, Names], content: Mapping[int, bytes], inode: int, path: str
) -> tuple[list[tuple[str, bytes]], list[str]]:
    files: list[tuple[str, bytes]] = []
    directories = [path] if path else []
    for name, child in layout[inode].items():
        below = f"{path}/{name}" if path else name
        if child in layout:
            found, deeper = _tree(layout, content, child, below)
            files += found
            directories += deeper
        else:
            files.append((below, content.get(child, b"")))
    return files, directories
