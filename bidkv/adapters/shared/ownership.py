"""Whose a folder or a file is: what steers a server, or tells of it, is nobody else's to write."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from bidkv.errors import BidValidationError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

Refused = Callable[[str], BidValidationError]
"""Makes the error out of what is wrong; it names the place that was given."""


def check_own_folder(folder: Path, refused: Refused, name: str) -> None:
    """Raises `BidValidationError` unless the folder is there and nobody else may write it, or put another folder in
    its place. `name` is what the message calls it.

    Who may write the folder may put another file there. A sticky folder such as /tmp is no exception: anybody
    may be the first to make the file. Above it one is enough: what is there can be replaced by its owner only.
    """
    try:
        found = os.stat(folder)
    except OSError as error:
        raise refused(f"{name} {folder}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise refused(f"{folder} is no folder")
    check_owner(folder, found, refused, name, f"use a folder of the server's own, or chmod go-w {folder}")
    for above in _leading_to(folder):
        cure = f"use a folder of the server's own, or chmod go-w {above}"
        check_owner(above, os.lstat(above), refused, f"{above}, on the way to it,", cure, sticky_will_do=True)


def check_owner(
    what: str | Path,
    found: os.stat_result,
    refused: Refused,
    name: str,
    cure: str,
    sticky_will_do: bool = False,
) -> None:
    """Raises `BidValidationError` unless `what` is this process's user's or root's and nobody else may write it.
    `cure` says what to do if others may."""
    own = os.geteuid()
    if found.st_uid not in (own, 0):
        raise refused(
            f"{name} belongs to user {found.st_uid}, must be user {own}'s or root's: chown {own} {what}"
        )
    if stat.S_ISLNK(found.st_mode) or (sticky_will_do and found.st_mode & stat.S_ISVTX):
        return  # only its owner turns a link, and what is in a sticky folder
    if found.st_mode & OTHERS_WRITE:
        mode = f"{stat.S_IMODE(found.st_mode):o}"
        raise refused(f"{name} may be written by group or others (mode {mode}): {cure}")


def _leading_to(folder: Path) -> list[Path]:
    """Folders above it and links on the way to it, as the path is written and as it is."""
    real = Path(os.path.realpath(folder))
    return list(dict.fromkeys([*folder.parents, *([folder] if folder.is_symlink() else []), *real.parents]))
