"""Windows of a file: no two seeds of a sweep share a request, and a seed's window is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.workload.windows import Rows, check_windows, rows_of, smallest_gap
from tests.workload.helpers_workload import freeze, from_file


def windows_of(seeds: range, count: int, total: int) -> list[Rows]:
    return sorted({rows_of(seed, count, total) for seed in seeds}, key=lambda rows: rows.begin)


@pytest.mark.parametrize("total", [50, 300, 8819, 12031, 19366])
@pytest.mark.parametrize("count", [7, 50, 500, 2000])
@pytest.mark.parametrize("first", [0, 100, 12345])
def test_as_many_seeds_in_a_row_as_the_file_holds_share_nothing(total: int, count: int, first: int) -> None:
    if count > total:
        return
    held = total // count
    windows = windows_of(range(first, first + held), count, total)
    assert len(windows) == held and windows[0].begin == 0
    if held > 1:
        assert windows[-1].end == total
        assert 0 <= smallest_gap(windows) <= (total - held * count) / (held - 1)
    few = windows_of(range(first, first + max(1, held // 4)), count, total)
    if 1 < len(few) and held >= 8 and len(few) <= 4:  # that leave room are no neighbours
        assert smallest_gap(few) >= count


def test_a_window_depends_on_its_seed_alone() -> None:
    assert rows_of(3, 2000, 19366) == Rows(13024, 15024, 19366)
    assert rows_of(3, 2000, 19366) == rows_of(3 + 9, 2000, 19366)


def trace_file(folder: Path, rows: int) -> Path:
    path = folder / "azure.csv"
    lines = [f"2023-11-16 18:{n // 60:02}:{n % 60:02}.0,{n + 1},9" for n in range(rows)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    return path


def test_seeds_that_would_share_a_window_are_refused_with_the_cure(tmp_path) -> None:
    workload = from_file("azure", trace_file(tmp_path, 300), num_requests=50, pick="window")
    traces = {seed: freeze(workload, seed) for seed in range(7)}
    apart = check_windows([traces[seed] for seed in range(6)], "azure.csv")
    assert [rows.begin for rows in apart] == [0, 50, 100, 150, 200, 250] and smallest_gap(apart) == 0
    with pytest.raises(
        ValueError,
        match="seed='0,1,2,3,4,5,6': must be at most 6 in a row, or workload.num_requests at most 42",
    ):
        check_windows(traces.values(), "azure.csv")
    with pytest.raises(
        ValueError, match="seed='0,6': must be seeds in a row, such as 0 to 1: seeds 0 and 6 would"
    ):
        check_windows([traces[0], traces[6]], "azure.csv")
    whole = freeze(from_file("azure", trace_file(tmp_path, 300), pick="window"), 1)
    assert check_windows([whole], "azure.csv") == []
