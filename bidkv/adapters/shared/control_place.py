"""Whose a control file is: it steers the server, so nobody but the server's user may write it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bidkv.errors import BidValidationError

MOST_BYTES = 64 * 1024
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check_place(path: str | Path) -> None:
    """Raises `BidValidationError`, in one line, if a control file at `path` would be refused now."""
    check_folder(path)
    if os.path.lexists(path):
        read_guarded(path)


def check_folder(path: str | Path) -> None:
    """Raises `BidValidationError` unless the file's folder is there and nobody else may write it, or put another
    folder in its place.

    Who may write the folder may put another file there. A sticky folder such as /tmp is no exception: anybody
    may be the first to make the file. Above it one is enough: what is there can be replaced by its owner only.
    """
    folder = _folder(path)
    try:
        found = os.stat(folder)
    except OSError as error:
        raise _refused(path, f"its folder {folder}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(path, f"{folder} is no folder")
    _check_owner(path, folder, found, "its folder")
    for above in _leading_to(folder):
        _check_owner(path, above, os.lstat(above), "on the way to it", sticky_will_do=True)


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
    _check_owner(path, path, found, "it")


def _leading_to(folder: Path) -> list[Path]:
    """Folders above it and links on the way to it, as the path is written and as it is."""
    real = Path(os.path.realpath(folder))
    return list(dict.fromkeys([*folder.parents, *([folder] if folder.is_symlink() else []), *real.parents]))


def _check_owner(
    path: str | Path, what: str | Path, found: os.stat_result, name: str, sticky_will_do: bool = False
) -> None:
    own = os.geteuid()
    called = f"{what}, {name}," if sticky_will_do else name
    if found.st_uid not in (own, 0):
        cure = f"chown {own} {what}"
        raise _refused(
            path, f"{called} belongs to user {found.st_uid}, must be user {own}'s or root's: {cure}"
        )
    if stat.S_ISLNK(found.st_mode) or (sticky_will_do and found.st_mode & stat.S_ISVTX):
        return  # only its owner turns a link, and what is in a sticky folder
    if found.st_mode & OTHERS_WRITE:
        mode = f"{stat.S_IMODE(found.st_mode):o}"
        cure = (
            f"chmod go-w {what}"
            if what == path
            else f"use a folder of the server's own, or chmod go-w {what}"
        )
        raise _refused(path, f"{called} may be written by group or others (mode {mode}): {cure}")


def _folder(path: str | Path) -> Path:
    return Path(os.path.abspath(path)).parent


def _refused(path: str | Path, why: str) -> BidValidationError:
    return BidValidationError(f"control file {path}: {why}")
