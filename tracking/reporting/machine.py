"""Comparisons for machines: JSON as a tree, CSV as one line for each comparison and guardrail."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tracking.evidence.classes import ClassResult, who_pays
from tracking.evidence.guardrails import GuardrailCheck
from tracking.evidence.paired import Comparison, Table
from tracking.evidence.statistics import Interval
from tracking.evidence.two_way import TwoWay
from tracking.reporting.headline import headline
from tracking.reporting.two_way import two_way_tree
from tracking.store.reader import StoredSweep

COLUMNS = (
    "workload", "state", "what", "strategy", "metric", "verdict", "exploratory", "control", "pairs", "blocks", "caveats", "skew", "borrowed",
    "failed", "ratio", "ratio_low", "ratio_high", "difference", "difference_low", "difference_high", "p",
    "p_holm", "family", "smallest_shown", "baseline_mean", "mean", "limit", "how",
    "fits", "sessions_fit", "load",
)  # fmt: skip


def as_json(
    sweep: StoredSweep, tables: Sequence[Table], both: Sequence[TwoWay] = (), classes: bool = True
) -> str:
    """The sweep as a tree, with who pays if `classes`. Numbers that do not exist are null, infinite ones the strings "inf" and "-inf"."""
    tree = {
        "sweep": sweep.sweep_id,
        "name": sweep.name,
        "unfinished": sweep.unfinished,
        "tables": [_table(table, classes) for table in tables],
        "across": two_way_tree(both),
    }
    return json.dumps(_plain(tree), indent=2, allow_nan=False)


def as_csv(tables: Sequence[Table]) -> str:
    """Empty where a column does not apply; `what` is "comparison" or "guardrail"."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        where = {"workload": table.title, "state": table.state, **asdict(table.scale)}
        for row in table.comparisons:
            writer.writerow(where | {"what": "comparison"} | _flat(_comparison(table, row)))
        for check in table.guardrails:
            writer.writerow(where | {"what": "guardrail"} | _flat(_guardrail(check)))
    return out.getvalue()


def _table(table: Table, classes: bool) -> dict[str, Any]:
    paid = [_class(result) for result in who_pays(table)] if classes else []
    return {
        "workload": table.title,
        "state": table.state,
        "baseline": table.baseline,
        "primary": table.primary,
        "seeds": table.seeds,
        "scale": asdict(table.scale) | {"text": table.scale.text},
        "headline": headline(table),
        "comparisons": [_comparison(table, row) for row in table.comparisons],
        "under_pressure": {
            "seeds": table.pressed_seeds,
            "effects": {name: test.ratio or test.difference for name, test in table.under_pressure.items()},
        },
        "guardrails": [_guardrail(check) for check in table.guardrails],
        "classes": paid,
        "notes": table.notes,
    }


def _comparison(table: Table, row: Comparison) -> dict[str, Any]:
    test = row.test
    return {
        "strategy": row.strategy,
        "metric": row.metric,
        "verdict": row.verdict,
        "exploratory": row.exploratory,
        "control": row.strategy in table.controls,
        "pairs": test.pairs,
        "blocks": row.blocks,
        "caveats": "; ".join(row.caveats),
        "skew": test.skew,
        "borrowed": test.spread.borrowed(len(test.scores)),
        "failed": test.failed,
        "ratio": test.ratio,
        "difference": test.difference,
        "p": test.p_value,
        "p_holm": row.p_holm,
        "family": row.family,
        "smallest_shown": row.smallest_shown,
        "baseline_mean": test.baseline_mean,
        "mean": test.mean,
    }


def _guardrail(check: GuardrailCheck) -> dict[str, Any]:
    return {
        "strategy": check.strategy,
        "metric": check.metric,
        "verdict": check.status,
        "limit": check.limit,
        "ratio": check.ratio,
        "how": check.how,
    }


def _class(result: ClassResult) -> dict[str, Any]:
    return {
        "class": result.kind,
        "strategy": result.strategy,
        "pairs": result.pairs,
        "ratio": result.ratio,
        "missed_baseline": result.missed[0] if result.missed else None,
        "missed": result.missed[1] if result.missed else None,
        "unserved_baseline": result.unserved[0],
        "unserved": result.unserved[1],
    }


def _flat(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals as three columns."""
    flat: dict[str, Any] = {}
    for key, value in cells.items():
        if isinstance(value, Interval):
            flat |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        else:
            flat[key] = value
    return {key: "" if isinstance(x, float) and math.isnan(x) else x for key, x in flat.items()}


def _plain(value: Any) -> Any:
    """The same in what JSON has."""
    if isinstance(value, Interval):
        return {key: _plain(getattr(value, key)) for key in ("value", "low", "high")}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
