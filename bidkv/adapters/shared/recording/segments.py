"""The files of a recording: JSON Lines in segments, of which the oldest goes when there are too many."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import time
from pathlib import Path

from bidkv.adapters.shared.recording.place import RecordingPlace

NAME = re.compile(
    r"recording-(?P<rank>[a-z0-9]+)-(?P<start>\d{8}T\d{6}-[0-9a-f]{4})-(?P<number>\d{6})\.jsonl"
)
"""Of a segment: which of several engines, when it started (UTC, and four digits of chance), and which of its segments."""
ALONE = "dp0"
PARTS = 16  # segments that a full recording has


class Segments:
    """Writes lines, whole or not at all. Each segment begins with `head`, so that it can be read without the others.

    All segments of one rank, those of earlier starts included, stay below `place.mib`; those that other servers write
    are left to them. Every method may raise `OSError`; what was written before stays readable.
    """

    def __init__(self, place: RecordingPlace, rank: str | None, head: bytes):
        self._folder, self._rank, self.head = Path(os.path.abspath(place.folder)), rank or ALONE, head
        self._most = place.mib * 1024 * 1024
        self._start = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{secrets.token_hex(2)}"
        self._number = 0
        self._handle: int | None = None
        self._path = self._folder
        self._size = 0

    def write(self, lines: bytes) -> None:
        """Appends whole lines. Raises `FileNotFoundError` if the segment is no more where it was."""
        if self._handle is None or self._size + len(lines) > self._most // PARTS:
            self._next(len(lines))
        elif os.stat(self._path).st_ino != os.fstat(self._handle).st_ino:
            raise FileNotFoundError(errno.ENOENT, "another file is in its place", str(self._path))
        self._append(lines)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _next(self, size: int) -> None:
        self.close()
        self._number += 1
        self._make_room(len(self.head) + max(size, self._most // PARTS))
        self._path = self._folder / f"recording-{self._rank}-{self._start}-{self._number:06d}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle, self._size = os.open(self._path, flags, 0o600), 0
        _lock(self._handle, fcntl.LOCK_EX)  # as long as it is written
        self._append(self.head)

    def _append(self, lines: bytes) -> None:
        written = os.write(self._handle, lines)
        if written != len(lines):  # the disk was full in the middle of it
            os.ftruncate(self._handle, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._size += written

    def _make_room(self, size: int) -> None:
        names = [name for name in map(NAME.fullmatch, os.listdir(self._folder)) if name]
        own = sorted((n for n in names if n["rank"] == self._rank), key=lambda n: (n["start"], n["number"]))
        sizes = {name[0]: _size(self._folder / name[0]) for name in own}
        total = sum(sizes.values()) + size
        for name, gone in sizes.items():
            if total <= self._most:
                break
            if gone and not _is_written(self._folder / name):
                (self._folder / name).unlink(missing_ok=True)
                total -= gone


def _size(path: Path) -> int:
    """0 of what is no file, or was removed by another server that makes room."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _lock(handle: int, kind: int) -> bool:
    """Whether nobody else has it; yes where the file system has no locks."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno != errno.EWOULDBLOCK
    return True


def _is_written(path: Path) -> bool:
    """Whether a server writes this segment now."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)
