"""Writes what `docs/` has from the code: strategies.md, metrics.md, and the tables between `<!-- NAME -->` marks.

    python scripts/docs_pages.py            # writes them; --check only says which are out of date, with exit code 1

They are committed, so that they can be read on GitHub; a test checks that they are current.
"""

from __future__ import annotations

import inspect
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bidkv import create_default_registry
from bidkv.adapters.shared.meter import LIVE_METRICS
from bidkv.describe import rule, summary
from bidkv.policy import Policy
from bidkv.retention import RULES
from bidkv.retention.lru import Lru
from bidkv.strategies import BUILT_IN
from bidkv.strategies.base import Strategy
from tracking.cli import CONF
from tracking.metrics.catalogue import METRICS

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
FIGURE, SHOWN = ROOT / "scripts" / "readme" / "frontier.png", DOCS / "frontier.png"
BETTER = {"lower": "lower is better", "higher": "higher is better", "none": ""}


def pages() -> dict[Path, str]:
    """Every page that is made from the code, in whole or in part, as it should be."""
    found = {DOCS / "strategies.md": strategies_page(), DOCS / "metrics.md": metrics_page()}
    tables = {"workloads": workloads_table(), "guardrails": guardrails_table(), "result": result_table()}
    for path in sorted(DOCS.glob("*.md")):
        text = found.get(path, path.read_text())
        for name, table in tables.items():
            begin, mark, rest = text.partition(f"<!-- {name} -->\n")
            if mark:
                text = f"{begin}{mark}\n{table}\n\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"
        found[path] = text
    return found


def main() -> None:
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if FIGURE.read_bytes() != (SHOWN.read_bytes() if SHOWN.exists() else None):
        stale.append(SHOWN)
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(DOCS.parent)}: out of date; python scripts/docs_pages.py writes it")
        sys.exit(bool(stale))
    for path, text in pages().items():
        path.write_text(text)
    SHOWN.write_bytes(FIGURE.read_bytes())


def result_table() -> str:
    """The README's: what stands between its marks of the proof."""
    return (
        README.read_text()
        .partition("<!-- proof")[2]
        .partition("-->\n")[2]
        .partition("<!-- /proof -->")[0]
        .strip()
    )


def workloads_table() -> str:
    """Every file of `conf/workload` and what its first lines say of it."""
    lines = ["| `workload=` | what it is |", "|---|---|"]
    for path in sorted((CONF / "workload").glob("*.yaml")):
        lines.append(f"| `{path.stem}` | {_cell(_comment(path))} |")
    return "\n".join(lines)


def guardrails_table() -> str:
    """The rules of `conf/guardrails/default.yaml`."""
    lines = ["| metric | strategy / baseline must be |", "|---|---|"]
    for limit in OmegaConf.load(CONF / "guardrails" / "default.yaml").rules:
        text = f"at least {limit.min_ratio:g}" if "min_ratio" in limit else f"at most {limit.max_ratio:g}"
        lines.append(f"| {METRICS[limit.metric].title} | {text} |")
    return "\n".join(lines)


def strategies_page() -> str:
    """A section for each strategy: the idea, the two rules with their formulas and sources, the parameters."""
    registry = create_default_registry()
    lines = [
        "# Strategies", "",
        "A strategy is three independent choices: who is **admitted** first, who is the **victim** when memory runs out, and",
        "whose cached blocks are given up first between the turns of conversations (**[retention](#retention)**). Any three",
        "work together: `strategy=lcf strategy.admission=sjf strategy.retention=gdsf`. This page is made from the classes of",
        "`bidkv/admission/`, `bidkv/victim/` and `bidkv/retention/`, a file a rule, and `bidkv/strategies/triples.py`, which",
        "names strategies.", "",
        "c are computed tokens (KV in the cache now), o output tokens so far, M the declared `max_tokens`, n earlier",
        "preemptions, s a request's predicted KV token-seconds. Policies see what a server knows. What sees true output",
        "lengths ends in `_oracle`: a reference for what knowledge would be worth, not a policy to run.", "",
        "| strategy | admission | victim | retention | idea |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for cls in sorted(BUILT_IN, key=_name):
        link = f"[`{cls.name}`](#{cls.name})"
        rules = " | ".join(rule_class.name for rule_class in _rules(cls))
        lines.append(f"| {link} | {rules} | {_cell(summary(cls))} |")
    for cls in sorted(BUILT_IN, key=_name):
        strategy = registry.get(cls.name)
        lines += ["", f"## {cls.name}", "", summary(cls), ""]
        lines += _policy("Admission", strategy.admission) + _policy("Victim", strategy.victim)
        if not strategy.retention.stock:
            name = strategy.retention.name
            lines += [f"**Retention: [`{name}`](#{name})**. {rule(type(strategy.retention))}", ""]
        files = ", ".join(f"`{_file(rule_class)}`" for rule_class in _rules(cls) if rule_class is not Lru)
        lines += [
            f"Code: {files}"
            + (f", configuration: `conf/strategy/{cls.name}.yaml`" if _config(cls.name) else "")
        ]
    lines += ["", "## Retention", ""]
    lines += [
        "Whose blocks leave the prefix cache next, of those that no request runs on: `strategy.retention=gdsf` beside any",
        "strategy, `--bidkv-retention gdsf` on a vLLM server. Without it the engine keeps what it keeps by itself (`lru`).",
        "",
        "**Beside host memory** (`engine.kv_offload_gib`, vLLM's `--kv-offloading-size`) a rule is told what has a copy there: a",
        "return then costs a load, not a prompt. Rules that weigh what a return costs (`ttl_learned`, `auction`) go by that; of all",
        "others, who has copies of all that it would lose goes first. What the device still has counts as used in host memory too,",
        "which vLLM 0.32 and 0.33 leave out. **Host memory itself gives up by vLLM's `lru`, or by the same rule** with",
        "`engine.kv_offload_eviction=retention`; on a server, vLLM 0.32 or newer:",
        "",
        "```console",
        "$ python -m bidkv.adapters.vllm.serve MODEL --strategy kept-first --kv-offloading-size 32 --kv-transfer-config '{"
        '"kv_connector_extra_config": {"eviction_policy": "RetentionEviction", "cache_policy_module_path": '
        '"bidkv.adapters.vllm.memory.host_eviction"}}'
        "'",
        "```",
        "",
        "The records say both (`run_start`): `host_eviction` is `retention` or `engine`; `retention_decides` is false beside a",
        "connector that does not tell what it holds (LMCache, tiers behind host memory, `store_threshold`): vLLM's `lru` stays there.",
        "A rule other than `lru` needs vLLM with one KV cache group of full attention. SGLang is started with its own `lfu`,",
        "`slru` and `tlru`, which go by the nodes of its radix tree; it has no others.",
    ]  # fmt: skip
    for rule_class in RULES:
        lines += ["", f"### {rule_class.name}", "", *_policy("Retention", rule_class())]
        lines += [f"Code: `{_file(rule_class)}`"]
    lines += ["", "## Engine settings as strategies", ""]
    lines += ["These are configurations only: the engine decides, with a setting of its own changed.", ""]
    lines += ["| `strategy=` | what it is | engine setting |", "|---|---|---|"]
    known = {cls.name for cls in BUILT_IN}
    for path in sorted((CONF / "strategy").glob("*.yaml")):
        if path.stem not in known:
            engine = OmegaConf.to_container(OmegaConf.load(path)).get("engine", {})
            settings = ", ".join(f"`{key}={value}`" for key, value in engine.items()) or "-"
            lines.append(f"| `{path.stem}` | {_cell(_comment(path))} | {settings} |")
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """The catalogue by topic, and what a server shows live."""
    lines = [
        "# Metrics", "",
        "Made from `tracking/metrics/catalogue.py`: the key is what MLflow stores, the meaning is what reports print.", "",
        "Only requests outside the warm-up count. Latencies run from the *scheduled* arrival, so a slow client or a full",
        "server cannot hide waiting. A request that failed, timed out or was never sent misses the SLO and stays in the",
        "distributions. A p99 needs 1,000 requests. A metric that a run cannot have (no preemption, no deadline) is absent.",
        "", "*Nominal tax* is the share of executed tokens that preemption threw away; *executed tax* the share that was",
        "really computed again: the prefix cache gives some back.",
    ]  # fmt: skip
    for topic, metrics in groupby(METRICS.values(), key=lambda m: m.measure.__module__):
        module = sys.modules[topic]
        lines += [
            "",
            f"## {topic.rpartition('.')[2].capitalize()}",
            "",
            module.__doc__.strip().split("\n\n")[0],
            "",
        ]
        lines += ["| key | title | unit | better | measured by | meaning |", "|---|---|---|---|---|---|"]
        for m in metrics:
            row = (f"`{m.name}`", m.title, m.unit, BETTER[m.better].split(" ")[0], m.source, m.doc)
            lines.append(f"| {' | '.join(map(_cell, row))} |")
    lines += ["", "## Live metrics of a server", ""]
    lines += ["On a vLLM server's own `/metrics`, with vLLM's labels `model_name` and `engine`:", ""]
    lines += ["| name | kind | labels | meaning |", "|---|---|---|---|"]
    for live in LIVE_METRICS:
        lines.append(f"| `{live.name}` | {live.kind} | {', '.join(live.labels) or '-'} | {live.help} |")
    return "\n".join(lines) + "\n"


def _policy(half: str, policy: Policy) -> list[str]:
    """A paragraph for one half, all of its docstring, and its parameters with their defaults."""
    cls = type(policy)
    lines = [f"**{half}: `{cls.name}`** ({cls.source}). {rule(cls)}", ""]
    lines += [
        part
        for more in inspect.cleandoc(cls.__dict__.get("__doc__") or "").split("\n\n")[1:]
        for part in (more, "")
    ]
    params = [
        p
        for p in inspect.signature(cls).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if params:
        key = "strategy.params" if half == "Victim" else f"strategy.{half.lower()}_params"
        lines += [f"Parameters (`{key}`): " + ", ".join(f"`{p.name}={_default(p)}`" for p in params), ""]
    return lines


def _rules(strategy: type[Strategy]) -> tuple[type[Policy], ...]:
    return strategy.admission_class, strategy.victim_class, strategy.retention_class


def _file(cls: type) -> str:
    """The file of a class, from the folder of this repository."""
    return f"{cls.__module__.replace('.', '/')}.py"


def _default(parameter: inspect.Parameter) -> Any:
    return "(needed)" if parameter.default is parameter.empty else parameter.default


def _comment(path: Path) -> str:
    """The first comment of a configuration file."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _config(name: str) -> bool:
    return (CONF / "strategy" / f"{name}.yaml").is_file()


def _name(cls: type) -> str:
    return cls.name


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
