"""An explanation as one page."""

from __future__ import annotations

from collections.abc import Sequence

from tracking.explaining.attribute import Attribution
from tracking.explaining.findings import groups, measures, rows_of, sentence
from tracking.explaining.render import BY, notes, percent, seconds
from tracking.recorded.read import Recorded
from tracking.reporting.page import Grid, Note, Page, Section


def page(recordings: Sequence[Recorded], found: Attribution) -> Page:
    columns = measures(found)
    grid = Grid(
        ["", *(column.name for column in columns)],
        [
            ["seconds", *(seconds(column.seconds) for column in columns)],
            *(
                [cause.words, *(percent(column.shares[cause.name]) for column in columns)]
                for cause in rows_of(columns)
            ),
        ],
        "Shares of each latency by cause; those of a p99 are of the slowest hundredth of the requests.",
    )
    sections = [Section("Where the time went", [Note(sentence(found), lead=True), grid])]
    for column, title in BY.items():
        rows = [
            [
                row.name, f"{row.requests:,}", seconds(row.ttft_s), seconds(row.ttft_p99_s), seconds(row.e2e_s),
                f"{percent(row.share)} {row.largest.words}",
            ]
            for row in groups(found, column)
        ]  # fmt: skip
        header = ["", "requests", "mean TTFT", "p99 TTFT", "mean E2E", "most of TTFT is"]
        sections.append(Section(title.capitalize(), [Grid(header, rows)]))
    sections.append(Section("Notes", [Note(text) for text in notes(recordings, found)]))
    head = recordings[-1].head
    if len({recorded.server for recorded in recordings}) > 1:
        return Page("Where the latency of several servers is lost", "together: see the notes", sections)
    subtitle = f"{head['model']} on {head['engine']} {head['engine_version']}, {head['num_blocks']:,} blocks, {head['max_num_seqs']} seats"
    return Page("Where the latency of this server is lost", subtitle, sections)
