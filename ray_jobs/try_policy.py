"""A policy of one's own against a baseline: `bidkv-bench try my_policy.py:MyVictim baseline=lcf-guard`.

Needs no package and no YAML: the class is loaded from its file, also in the actors. Both run on the simulator
over the same traces; what is printed opens with the comparison's sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from bidkv import AdmissionPolicy, Strategy, VictimPolicy
from bidkv.policy_file import absolute, is_reference, load_policy
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.launch import run_sweep
from ray_jobs.drive.no_effect import refuse_no_effect
from ray_jobs.rehearsal import rehearse
from tracking.cli import CONF, exit_on_bad_input
from tracking.errors import require

HELP = """\
bidkv-bench try FILE.py:CLASS [baseline=NAME] [seeds=N] [KEY=VALUE ...] runs a policy of yours beside a baseline.

  bidkv-bench try my_policy.py:MyVictim                          against stock vLLM, 8 seeds, about a minute
  bidkv-bench try my_policy.py:MyVictim baseline=lcf-guard seeds=16
  bidkv-bench try my_policy.py:MyStrategy workload=h100_bursty engine.num_blocks=900 strategy.params.weight=0.5

The class is a VictimPolicy, an AdmissionPolicy (the other half is the baseline's) or a Strategy. Keys that begin with
strategy. are your policy's, all others hold for both. Everything that can be set: bidkv-bench experiment=try --cfg job
Exit code: 0 both were compared, 1 a run has no result or your policy raised in one, 2 bad input.
"""
SIMULATOR = "vllm_sim"
HALVES = (("victim", VictimPolicy, "params"), ("admission", AdmissionPolicy, "admission_params"))
OWN_KEYS = {"baseline": "stock", "seeds": "8"}


def planned(arguments: Sequence[str]) -> list[BenchConfig]:
    """The jobs of both strategies, seed by seed. Raises ValueError on what the user got wrong."""
    reference, *overrides = arguments
    require(is_reference(reference), "try", reference, "FILE.py:CLASS")
    own = OWN_KEYS | dict(word.split("=", 1) for word in overrides if word.partition("=")[0] in OWN_KEYS)
    seeds = own["seeds"]
    require(seeds.isdigit() and int(seeds) > 1, "seeds", seeds, "a whole number > 1")
    rest = [word for word in overrides if word.partition("=")[0] not in OWN_KEYS]
    engine = next((word.partition("=")[2] for word in rest if word.startswith("engine=")), SIMULATOR)
    require(engine == SIMULATOR, "engine", engine, f"{SIMULATOR} here; bidkv-bench runs the others")
    cls = load_policy(absolute(reference))
    jobs = composed(cls, absolute(reference), own["baseline"], rest)
    refuse_no_effect([(job, [word for word in rest if not word.startswith("strategy.")]) for job in jobs])
    rehearse(jobs[1].strategy, absolute(reference).rpartition(":")[0])
    return [replace(job, seed=seed) for seed in range(int(seeds)) for job in jobs]


def composed(cls: type, reference: str, baseline: str, overrides: Sequence[str]) -> list[BenchConfig]:
    """The baseline's job and the policy's."""
    mine = [f"++{word}" for word in overrides if word.startswith("strategy.")]
    shared = [word for word in overrides if not word.startswith("strategy.")]
    ConfigStore.instance().store(name="bench_schema", node=BenchConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        theirs, bare = (
            compose("config", ["experiment=try", f"strategy={name}", *words])
            for name, words in ((baseline, shared), ("stock", [*shared, *mine]))
        )
    first = OmegaConf.to_object(theirs)
    require(cls.name != first.strategy.label, "name", cls.name, "another one than the baseline's")
    second, own = theirs.copy(), bare.strategy
    second.strategy.update({"name": cls.name, "label": cls.name, "engine": {}, "kill_switch": False})
    for half, base, params in HALVES:
        if issubclass(cls, (base, Strategy)):  # else this half is the baseline's, and so are its parameters
            second.strategy[half], second.strategy[params] = reference, {}
        second.strategy[params] = {**second.strategy[params], **own[params]}
    return [first, OmegaConf.to_object(second)]


def try_policy(arguments: Sequence[str]) -> None:
    """Runs and compares; leaves with the command's exit code."""
    with exit_on_bad_input():
        jobs = planned(arguments)
        baseline, mine = jobs[0].strategy.label, jobs[1].strategy.label
    outcome = run_sweep(jobs, baseline)
    raised = [row for row in outcome.rows if row.strategy == mine and row.flags.get("degraded") == "true"]
    if raised:
        what = raised[0].flags.get("strategy_error", "see strategy_error in their events.jsonl")
        print(
            f"error: {mine} raised in {len(raised)} runs, where vLLM chose instead: {what}", file=sys.stderr
        )
        sys.exit(1)


def cli(arguments: Sequence[str] | None = None) -> None:
    """The command; without a policy, or with --help, it says how it is used."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(HELP, end="")
        sys.exit(0 if arguments else 2)
    try_policy(arguments)


if __name__ == "__main__":
    cli()
