"""Where a recording goes, and how much of it is kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bidkv.adapters.shared.ownership import check_own_folder
from bidkv.errors import BidValidationError

MIB = 1024
LEAST_MIB, MOST_MIB = 16, 1024 * 1024


@dataclass(frozen=True)
class RecordingPlace:
    """A folder, and how many MiB all segments of one engine may take in it."""

    folder: str
    mib: int = MIB

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str) or not self.folder.strip():
            raise BidValidationError(f"record: must be a folder, got {self.folder!r}")
        number = isinstance(self.mib, int) and not isinstance(self.mib, bool)
        if not number or not LEAST_MIB <= self.mib <= MOST_MIB:
            raise BidValidationError(
                f"record_mib: must be from {LEAST_MIB} to {MOST_MIB} MiB, got {self.mib!r}"
            )

    def prepare(self) -> None:
        """Makes the folder if only its last part is missing. Raises `BidValidationError`, in one line, unless it is
        this user's or root's and nobody else may write it, as a control file's must be."""
        folder = Path(os.path.abspath(self.folder))
        if not os.path.lexists(folder):
            check_own_folder(folder.parent, self._refused, "the folder above it")
            try:
                folder.mkdir(mode=0o700, exist_ok=True)  # another server may have made it by now
            except OSError as error:
                raise self._refused(str(error.strerror)) from None
        check_own_folder(folder, self._refused, "it")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise self._refused("it takes no files; choose another folder")

    def _refused(self, why: str) -> BidValidationError:
        return BidValidationError(f"record {self.folder}: {why}")
