"""Whose a control file is: it steers the server, so nobody but the server's user may write it."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path

from bidkv.adapters.shared.ownership import check_own_folder, check_owner
from bidkv.errors import BidValidationError

MOST_BYTES = 64 * 1024


def check_place(path: str | Path) -> None:
    """Raises `BidValidationError`, in one line, if a control file at `path` would be refused now."""
    check_folder(path)
    if os.path.lexists(path):
        read_guarded(path)


def check_folder(path: str | Path) -> None:
    """Raises `BidValidationError` unless the file's folder is there and nobody else may write it, or put another
    folder in its place (see `check_own_folder`)."""
    if not str(path).strip():
        raise _refused(path, "must be a file's path")
    check_own_folder(Path(os.path.abspath(path)).parent, partial(_refused, path), "its folder")


def read_guarded(path: str | Path) -> bytes:
    """The bytes of a regular file of this process's user, or root's, that nobody else may write, in such a folder.

    Root may write everything anyway, and /etc is his. Raises `BidValidationError`, in one line with the cure,
    on anything else, and on more than 64 KiB. Never waits, as opening a FIFO would; follows no link.
    """
    check_folder(path)
    try:
        _check_file(path, os.lstat(path))  # opening a device may do something
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, str(error.strerror)) from None
    try:
        _check_file(path, os.fstat(handle))  # what was opened, whatever is at the path by now
        content = b""
        while len(content) <= MOST_BYTES:
            more = os.read(handle, MOST_BYTES + 1 - len(content))
            if not more:
                return content
            content += more
    except OSError as error:
        raise _refused(path, str(error.strerror)) from None
    finally:
        os.close(handle)
    raise _refused(path, f"must be no larger than {MOST_BYTES} bytes")


def _check_file(path: str | Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = stat.filemode(found.st_mode)[0]
        raise _refused(path, f"must be a regular file, is of type {kind!r}; replace it with one")
    check_owner(path, found, partial(_refused, path), "it", f"chmod go-w {path}")


def _refused(path: str | Path, why: str) -> BidValidationError:
    return BidValidationError(f"control file {path}: {why}")
