"""`bidkv-explain FOLDER`: where the latency of a recorded server was lost, from what it recorded itself.

Seconds of every request add up to its E2E: they were measured as spans, each of which ends where the next begins.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from tracking.cli import exit_on_bad_input
from tracking.errors import require
from tracking.explaining.attribute import Attribution, attribute
from tracking.explaining.findings import sentence
from tracking.explaining.render import as_data, notes, print_tables
from tracking.places import replace_text, require_file
from tracking.recorded.read import Recorded, read_recordings

WIDTH = 80  # columns, when the output is not a terminal
HELP = """\
bidkv-explain FOLDER [--html FILE] [--format text|json] says where the latency of a recorded server was lost.

  bidkv-explain /var/lib/vllm/record                    by cause, class of request and hour, and in a sentence
  bidkv-explain /var/lib/vllm/record --html page.html   the same as one page, too
  bidkv-explain /var/lib/vllm/record --format json      for programs

FOLDER is what BIDKV_RECORD or --bidkv-record named; the server may still write into it. Seconds of every request add up to
its E2E: they were measured as spans, each of which ends where the next begins. Exit code: 0, or 2 on bad input.
"""


def explain(folder: str) -> tuple[list[Recorded], Attribution]:
    """What a folder has, attributed. Raises ValueError where there is nothing to explain."""
    recordings = read_recordings(folder)
    found = attribute(recordings)
    require(
        bool(found.requests["ttft_s"].notna().any()),
        "folder",
        folder,
        "a recording in which a request was answered",
    )
    return recordings, found


def write_page(recordings: list[Recorded], found: Attribution, path: str) -> None:
    """Replaces the file once all is there."""
    from tracking.explaining.page import page  # takes a second

    replace_text(Path(path), page(recordings, found).text("report.html"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bidkv-explain", allow_abbrev=False)
    parser.format_help = lambda: HELP
    parser.add_argument("folder")
    parser.add_argument("--html", metavar="FILE")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    flags = parser.parse_args(arguments)
    with exit_on_bad_input():
        if flags.html is not None:
            require_file("--html", flags.html, ".html")
        recordings, found = explain(flags.folder)
        if flags.html:
            write_page(recordings, found, flags.html)
    if flags.format == "json":
        print(json.dumps(as_data(recordings, found), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    print_tables(console, found)
    for note in notes(recordings, found):
        console.print(f"note: {note}", style="yellow", markup=False)
    console.print(sentence(found), style="bold", markup=False)
    if flags.html:
        console.print(f"written: {flags.html}", markup=False, soft_wrap=True)


def cli() -> None:
    """The command: 0, or 2 on bad input."""
    main()


if __name__ == "__main__":
    cli()
