"""How busy engines were, from what their runs say of themselves."""

from __future__ import annotations

import pytest

from tracking.reporting.engines import engine_uses, engines_section, runs_an_hour
from tracking.reporting.page import Note
from tracking.store.reader import StoredRun
from tracking.store.record import SERVED_TAGS


def run(engine: str, since: float, until: float, strategy: str = "stock") -> StoredRun:
    tags = {"strategy": strategy, "seed": "0", "host": "h", "gpus": engine, "engine_id": f"e{engine}"}
    tags |= {"engine_start_s": "30.0", **dict(zip(SERVED_TAGS, (str(since), str(until)), strict=True))}
    return StoredRun(f"{engine}-{since}", "a run", tags, {}, {}, lambda: pytest.fail("not needed"))


def test_what_goes_by_between_the_runs_of_an_engine_is_lost() -> None:
    runs = [run("0", 1000, 1090), run("1", 1000, 1050), run("0", 1100, 1200), run("1", 1050, 1100)]
    first, second = engine_uses(runs)
    assert (first.name, first.runs, first.start_s) == ("h GPU 0 (e0)", 2, 30.0)
    assert (first.span_s, first.busy_s, first.lost) == (200, 190, pytest.approx(0.05))
    assert (second.span_s, second.lost) == (100, 0)
    assert runs_an_hour([first, second]) == pytest.approx(36 + 72)
    (sentence, *_) = engines_section(runs).parts
    assert isinstance(sentence, Note)
    assert sentence.text == "2 engines, 108 runs an hour together; 3.3% of their time was lost between runs."


def test_runs_of_older_stores_say_nothing_of_it() -> None:
    old = run("0", 1000, 1090)
    old.tags = {key: value for key, value in old.tags.items() if key not in SERVED_TAGS}
    assert engines_section([old]) is None
