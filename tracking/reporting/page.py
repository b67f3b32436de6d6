"""A page of sections, written once and rendered as HTML (self-contained) and as Markdown."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tracking.plots.style import look

SVG_LIMIT = 150_000  # bytes; a page with dozens of larger ones is slow to open
PNG_COLOURS = 256  # a palette: a third of the size, and a figure has few colours


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, drawn once; `savefig` would draw it twice."""
    buffer = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    with look():  # ticks are made when they are drawn, and look as it is said then
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.quantize(PNG_COLOURS, dither=Image.Dither.NONE).save(buffer, "png")
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file."""
    buffer = io.BytesIO()
    with look():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


@dataclass
class Picture:
    """A figure with a file name (no suffix) and a caption that says how to read it."""

    name: str
    figure: Figure | None
    caption: str = ""
    kind: str = "picture"

    @cached_property
    def png(self) -> bytes:
        return png(self.figure)

    @cached_property
    def svg(self) -> bytes:
        return svg(self.figure)

    def draw(self, vector: bool = True) -> None:
        """Makes the files and forgets the figure, which keeps what it was drawn from."""
        if vector:
            _ = self.svg
        _ = self.png
        self.figure = None

    def uri(self, vector: bool) -> str:
        """The figure as a data URI, so that ids of several SVGs on a page cannot clash; PNG if that is smaller
        by far, or unless `vector`."""
        if vector and len(self.svg) <= SVG_LIMIT:
            return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass
class Grid:
    """A table of strings. `word_columns` hold verdicts, which the page colours by first word; one that is
    `folded` opens at a click, and on paper."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    word_columns: Sequence[int] = ()
    folded: bool = False
    kind: str = "grid"


@dataclass
class Note:
    """A sentence; `strong` ones are warnings, a `lead` is the answer."""

    text: str
    strong: bool = False
    lead: bool = False
    kind: str = "note"


@dataclass
class Listing:
    """Text to be shown as it is, folded away in HTML."""

    title: str
    text: str
    kind: str = "listing"


@dataclass
class Section:
    """A heading and what stands under it."""

    title: str
    parts: list[Picture | Grid | Note | Listing] = field(default_factory=list)

    @property
    def pictures(self) -> list[Picture]:
        return [part for part in self.parts if isinstance(part, Picture)]

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass
class Page:
    """A title, a line under it, and the sections."""

    title: str
    subtitle: str
    sections: list[Section]
    vector: bool = True  # figures in the HTML are SVG where that is not large

    def write(self, folder: Path) -> list[Path]:
        """Writes report.html, report.md and, for the latter, figures/*.png; returns the first two."""
        figures = folder / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        for section in self.sections:
            for picture in section.pictures:
                (figures / f"{picture.name}.png").write_bytes(picture.png)
        written = []
        for name in ("report.html", "report.md"):
            (folder / name).write_text(self.text(name), encoding="utf-8")
            written.append(folder / name)
        return written

    def text(self, name: str) -> str:
        """The page as report.html or report.md."""
        templates = Environment(
            loader=PackageLoader("tracking.reporting"),
            autoescape=lambda template: ".html" in template,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return templates.get_template(f"{name}.j2").render(page=self)
