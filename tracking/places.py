"""Whether a place that is named for a result can take it: asked before the work, which may take minutes; and how it does."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tracking.errors import require


def require_file(key: str, path: str, suffix: str = "") -> None:
    """Raises ValueError if no file that ends in `suffix` can be written there. Folders on the way are made later."""
    place = Path(path)
    require(bool(place.name), key, path, "a file's name")
    require(
        not place.is_dir(),
        key,
        path,
        f"a file: this is a folder, such as {place / ('result' + suffix)} would be one",
    )
    require(place.name.endswith(suffix), key, path, f"a name that ends in {suffix}")
    require_folder(key, str(place.parent))


def require_folder(key: str, path: str) -> None:
    """Raises ValueError if there is no such folder and none can be made, or if it cannot be written to."""
    require(bool(path.strip()), key, path, "a folder's name; . is this one")
    place = Path(path).absolute()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    require(there.is_dir(), key, path, f"in a folder: {there} is a file")
    require(os.access(there, os.W_OK | os.X_OK), key, path, f"where files can be written: {there} takes none")


def replace_text(path: Path, text: str) -> None:
    """Puts a file there in one step, so that nobody ever reads half of it. Folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
