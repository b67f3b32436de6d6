"""An answer on a screen."""

from __future__ import annotations

import math
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ray_jobs.advise.advise import STOCK
from ray_jobs.advise.answer import as_json
from tracking.evidence.statistics import Interval
from tracking.reporting.words import change, short_name

WIDTH = 100  # columns, when the output is not a terminal
TITLES = {
    "session_mean_s": "mean session time, s", "session_p90_s": "p90 session time, s", "cached_share": "found in cache",
    "ttft_rmst_s": "mean TTFT, s", "ttft_p99_s": "p99 TTFT, s", "e2e_rmst_s": "mean E2E, s",
    "e2e_p99_s": "p99 E2E, s", "throughput_tok_s": "throughput, tok/s", "goodput_req_s": "within SLO, req/s",
    "gpu_h_per_mtok": "GPU-hours / M tokens", "prompt_gpus": "computing prompts, GPUs", "recomputed_gpu_s": "recomputed, GPU-s",
}  # fmt: skip


def print_answer(found: dict[str, Any], form: str) -> None:
    """To stdout: `form` is "text" or "json"."""
    if form == "json":
        print(as_json(found))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    engine = found["engine"]

    def line(name: str, text: str, style: str | None = None) -> None:
        console.print(f"{name:<9} {text}", markup=False, soft_wrap=True, style=style)

    now = f"; {found['now']}, which is called stock here" if found["now"] != STOCK else ""
    devices = f"{engine['devices']} x " if engine["devices"] > 1 else ""
    line(
        "for",
        f"{found['workload']} at {found['load']}; {engine['model_shape']} on {devices}{engine['device']}{now}",
    )
    if found["recorded"]:
        line("fitted", found["recorded"]["fit"]["text"])
        done = found["recorded"]["reproduced"]
        line("checked", done["text"] if done else "what was recorded could not be simulated")
    if found["pressure"]:
        line("load", found["pressure"]["text"])
        line("here", found["here"]["text"])
    line(
        "answer",
        found["recommendation"] + (f" (better, but unsure: {found['but']})" if found["but"] else ""),
        "bold green" if found["confirmed"] and found["strategy"] else "bold",
    )
    line("because", found["why"])
    if found["besides"]:
        line("besides", "; ".join(found["besides"]))
    if found["more"]:
        line("more", more_line(found["more"]))
    if found["next"]:
        line("next", found["next"])
        for note in found["notes"]:
            line("note", note, "yellow")
        return
    line("run", found["command"])
    console.print()
    if found["confirmed"]:
        console.print(effects(found["confirmed"], "simulated"))
    elif found["stock"]:
        line("stock", ", ".join(f"{TITLES[key]} {value:.3g}" for key, value in found["stock"].items()))
    if found["real"]:
        console.print(effects(found["real"], "real engine"))
    if found["memory"]:
        line("memory", found["memory"]["text"])
    if found["highest_rate"]:
        line("SLO", slo_line(found))
    search = found["search"]
    searched = f"{search['tried']} of {search['settings']} settings, " if search["tried"] else ""
    line(
        "searched",
        f"{searched}{search['runs']} runs, {search['seconds']:.0f} s, seed {search['seed']}",
    )
    for note in found["notes"]:
        line("note", note, "yellow")


def more_line(more: dict[str, Any]) -> str:
    """What would bring an answer."""
    whom = f"to tell of {more['strategy']}, " if more["strategy"] else ""
    if more["log_requests"]:
        return f"{whom}a log of about {more['log_requests']:,} requests would do"
    return f"{whom}about {more['minutes']} min would do: {more['command']}"


def effects(confirmed: dict[str, Any], where: str) -> Table:
    """A row a metric: stock, the candidate, and the change with its 95 % interval."""
    title = f"{where}, {confirmed['pairs']} fresh traces"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("")
    for name in ("stock", confirmed["strategy"], "change [95 %]"):
        table.add_column(Text(name), justify="right", overflow="fold")
    table.add_column("guardrail")
    states = {check["metric"]: check for check in confirmed["guardrails"]}
    for effect in confirmed["effects"]:
        metric = effect["metric"]
        check = states.pop(metric, None)
        table.add_row(
            TITLES[metric],
            number(effect["stock"]),
            number(effect["candidate"]),
            changed(effect),
            f"{check['limit']} {check['status']}" if check else "",
        )
    for metric, check in states.items():
        ratio = change(_interval(check["ratio"])) if check["ratio"] else ""
        table.add_row(short_name(metric), "", "", ratio, f"{check['limit']} {check['status']}")
    return table


def number(value: float) -> str:
    """A dash for what too few requests leave unsaid, such as a p99."""
    return "-" if math.isnan(value) else f"{value:.3g}"


def changed(effect: dict[str, Any]) -> str:
    if math.isnan(effect["stock"]) or math.isnan(effect["candidate"]):
        return "-"
    if effect["ratio"]:
        return change(_interval(effect["ratio"]))
    difference = _interval(effect["difference"])
    return f"{difference.value:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}]"


def slo_line(found: dict[str, Any]) -> str:
    """The highest rates within the SLO."""
    slo, rate = found["slo"], found["highest_rate"]
    text = f"{slo['share']:.0%} within TTFT {slo['ttft_s']:g} s and TPOT {slo['tpot_s']:g} s up to: stock {_rate(rate, 'stock')}"
    if "recommended" in rate:
        text += f", recommended {_rate(rate, 'recommended')}"
        text += f" ({change(_interval(rate['ratio']))})" if rate["ratio"] else ""
    return text


def _rate(rate: dict[str, Any], which: str) -> str:
    cost = rate[f"{which}_gpu_h_per_mtok"]
    costs = f" at {cost:.3g} GPU-hours / M tokens" if cost else ""
    return f"{rate[which]:.3g} {rate['unit']}{costs}" if rate[which] else "no rate"


def _interval(value: Any) -> Interval:
    return value if isinstance(value, Interval) else Interval(**value)
