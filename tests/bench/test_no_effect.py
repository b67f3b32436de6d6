"""What is typed has an effect, or is one line that names the cure; nothing is ignored."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from commands import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.calibrate
import ray_jobs.capacity
import ray_jobs.freeze
import ray_jobs.recommend
import ray_jobs.run
import ray_jobs.upload  # noqa: F401 (each registers its configuration's schema)
import tracking.compare
import tracking.report  # noqa: F401
from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.no_effect import idle_recommend_keys
from ray_jobs.calibrate import CalibrateConfig
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.no_effect import idle_capacity_keys, refuse_no_effect
from ray_jobs.freeze import FreezeConfig, idle_keys
from ray_jobs.upload import UploadConfig
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.no_effect import idle_workload_keys
from tracking.bad_values import about_value
from tracking.cli import CONF, one_line
from tracking.config import CompareConfig, ReportConfig
from tracking.nearest import plain, refuse_words
from tracking.no_effect import idle_compare_keys, idle_store_keys
from tracking.typed import idle_ones, refuse_idle, refuse_unknown, typed_keys

COMMANDS: dict[str, tuple[type, Callable]] = {
    "recommend": (RecommendConfig, idle_recommend_keys),
    "capacity": (BenchConfig, idle_capacity_keys),
    "freeze": (FreezeConfig, lambda job: idle_keys(job.workload)),
    "upload": (UploadConfig, lambda _: ()),
    "calibrate": (CalibrateConfig, ray_jobs.calibrate.idle_keys),
    "compare": (CompareConfig, idle_compare_keys),
    "report": (ReportConfig, lambda _: idle_store_keys()),
}


def line_of(command: str, words: list[str]) -> str | None:
    """What the command would print, or None if it would begin; as its `main` does it, without a process."""
    try:
        refuse_words(words, CONF)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            job = compose(command, words)
        if command == "config":
            refuse_no_effect([(OmegaConf.to_object(job), words)])
        else:
            schema, idle = COMMANDS[command]
            keys = typed_keys(words)
            refuse_unknown(keys, schema)
            refuse_idle(keys, idle(OmegaConf.to_object(job)))
    except Exception as error:  # whatever the command would print in a line
        return about_value(error) or plain(error, CONF, words) or one_line(error)
    return None


TWO = ["engine=vllm_cpu", "engine.replicas=2"]
AFFINITY = "router@engine.router=prefix-affinity"
SPLIT = ["engine.disaggregation.prefill=1", "engine.disaggregation.decode=1"]
AZURE = ["workload=azure_conv", "workload.source.path=azure.csv"]
SIM = ["engine=vllm_sim"]
FOUR = [*SIM, "engine.replicas=4"]
KV_AWARE = "router@engine.router=kv-aware"
L4 = ["hardware@engine.sim.hardware=l4"]
SHAPE_FILE = "engine.sim.model_shape.path=config.json"
BAD = [
    # Typos: the nearest key, name or word.
    ("config", ["workload.rat=3"], "did you mean workload.rate?"),
    ("config", ["+workload.rat=3"], "did you mean workload.rate?"),
    ("config", ["++engine.numblocks=600"], "did you mean engine.num_blocks?"),
    ("config", ["num_blocks=600"], "did you mean engine.num_blocks?"),
    ("config", ["rate=3"], "did you mean workload.rate?"),
    ("config", ["think_time_s=1"], "did you mean workload.arrivals.think_time_s?"),
    ("config", ["workload.think_time=1"], "did you mean workload.arrivals.think_time_s?"),
    ("config", ["workload=mixed", "workload.source.components.chta.weight=1"], "components.chat?"),
    ("config", ["workload=mixed", "+workload.source.components.chat.prompt.medain=9"], "prompt.median?"),
    ("config", ["strategyy=lcf"], "did you mean strategy?"),
    ("config", ["strategy=backfil"], "did you mean strategy=backfill?"),
    ("config", ["workload=mixd"], "did you mean workload=mixed?"),
    ("config", ["engine=vllm_simm"], "did you mean engine=vllm_sim?"),
    ("config", ["experiment=sim_quik"], "did you mean experiment=sim_quick?"),
    ("config", [*SIM, "hardware@engine.sim.hardware=h100"], "did you mean hardware=h100-sxm"),
    ("config", [*SIM, "model_shape@engine.sim.model_shape=llama-8b"], "llama-3.1-8b"),
    ("config", ["strategy=backfill", "strategy.admission_params.dept=4"], "strategy.admission_params.depth?"),
    ("config", ["strategy=lcf", "strategy.victim=lfc"], "did you mean lcf?"),
    ("config", ["workload=mixed", "workload.arrivals.kind=gama"], "did you mean gamma?"),
    ("config", ["engine.dtype=bfloat61"], "did you mean bfloat16?"),
    ("config", ["objective=e2e_mean"], "e2e_mean_s"),
    ("config", ["hardware=l4"], "write hardware@engine.sim.hardware="),
    ("config", [*SIM, "hardwar@engine.sim.hardware=l4"], "write hardware@engine.sim.hardware="),
    ("config", ["engine=vllm_cpu", "hardware@engine.sim.hardware=l4"], "engine=vllm_sim"),
    ("config", [*SIM, "engine.sim.hardware=l4"], "must be hardware@engine.sim.hardware=l4"),
    ("config", ["sim_quick"], "such as experiment=sim_quick"),
    ("config", ["--rate=3"], "keys have no dashes: rate=3"),
    ("config", ["--cfg"], "such as --cfg job"),
    ("config", ["workload.rate=2,"], "several values are A,B"),
    ("config", ["seed=rnage(8)"], "Available: bool,choice"),
    ("config", ["workload=mixed", "workload.load=95"], "a share of the capacity, e.g. 95%"),
    ("config", ["tracking.uri=sqlite:/foo"], "sqlite:///FILE"),
    ("recommend", ["budgett=2min"], "did you mean budget?"),
    ("recommend", ["objective=mena"], "did you mean mean?"),
    ("recommend", ["space.always=backfil"], "backfill"),
    ("freeze", ["outt=x.parquet", "out=x.parquet"], "did you mean out?"),
    ("upload", ["spol=x"], "did you mean spool?"),
    # No far-fetched proposals: what there is beside it.
    ("config", ["strategy.params.graec=3"], "strategy.params has no keys here"),
    ("config", ["strategy=backfill", "strategy.admission_params.zzz=3"], "there are strategy.admission_params.depth"),
    ("recommend", ["space.strategies.mine=lcf"], "there are space.strategies.lcf-guard"),
    ("recommend", ["guardrails.rules.0.limit=3"], "guardrails.rules[0].max_ratio"),
    ("freeze", ["out=x.parquet", "engine.max_model_len=9"], "did you mean max_model_len?"),
    ("capacity", ["out=x"], "--cfg job shows all keys"),
    ("config", ["~experiment", *SIM, "strategy=kept-first", "engine.kv_offload_eviction=retention"], "there is no host memory"),
    (
        "config",
        ["~experiment", *SIM, "strategy=backfill", "engine.kv_offload_gib=4", "engine.kv_offload_eviction=retention"],
        "has no rule that host memory could follow",
    ),
    # Values of another kind, in words.
    ("config", ["strategy=[stock,backfill]"], "A,B without brackets sweeps"),
    ("config", [*SIM, "engine.sim.calibration=h100"], "must be calibration@engine.sim.calibration="),
    ("freeze", ["out=x.parquet", "seed=1,2"], "only bidkv-bench sweeps"),
    ("config", ["--cfg", "job", "-x"], "-x: there is no such flag"),
    ("compare", ["sweep=[]"], "sweep=[]: must be latest"),
    ("report", ["run="], "run='': must be the id of a run"),
    ("report", ["folder="], "folder='': must be a folder's name"),
    ("config", [*SIM, "strategy.name=backfill"], "strategy=NAME chooses one"),
    ("config", ["seed=zero"], "seed=zero: must be a whole number"),
    ("config", ["seed=1.5"], "seed=1.5: must be a whole number"),
    ("config", ["slo.ttft_s=2s"], "slo.ttft_s=2s: must be a number"),
    ("config", ["engine.prefix_caching=perhaps"], "engine.prefix_caching=perhaps: must be true or false"),
    ("config", ["engine.env=3"], "engine.env=3: must be a mapping, such as {KEY: VALUE}"),
    ("config", ["engine.max_num_seqs=null"], "engine.max_num_seqs=null: must be given"),
    ("recommend", ["search.rungs=3"], "search.rungs=3: must be a list, such as [A,B]"),
    ("freeze", [], "out: must be given"),
    ("config", ["~engine.num_blocks"], "engine.num_blocks=null asks for nothing"),
    ("config", ["--cfg", "jobs"], "must be one of job, hydra, all"),
    ("config", ["--cfg=jobs"], "must be one of job, hydra, all"),
    # Several engines, and who is in front of them.
    ("config", [*TWO, "router@engine.router=sticky"], "must be power-of-two or prefix-affinity or kv-aware in front of real"),
    ("config", [*TWO, "engine.router.stale_s=1"], "engine.router.stale_s=1: would change nothing"),
    ("config", [*TWO, "engine.num_gpus=0.5"], "engine.num_gpus=0.5: must be a whole number"),
    ("config", [*TWO, AFFINITY, "engine.router.params.match=7"], "engine.router.params.match=7: must be from 0 to 1"),
    ("config", [*TWO, AFFINITY, "engine.router.params.match=most"], "must be numbers"),
    ("config", [*TWO, KV_AWARE, "engine.prefix_caching=false"], "must be another with engine.prefix_caching=false"),
    ("config", [*FOUR, KV_AWARE, "engine.router.params.weight=-1"], "engine.router.params.weight=-1: must be from 0 to 1e+06"),
    ("config", [*FOUR, KV_AWARE, "engine.router.params.weight=true"], "engine.router.params={'weight': True}: must be numbers"),
    ("config", [*FOUR, KV_AWARE, "engine.router.params.weight=1e308"], "engine.router.params.weight=1e+308: must be from 0 to"),
    ("config", [*FOUR, KV_AWARE, "+engine.extra.enable_prefix_caching=false"], "must be left out: engine.prefix_caching says it"),
    ("config", ["engine=vllm", "+engine.extra.tensor_parallel_size=2"], "must be left out: engine.tensor_parallel_size says it"),
    ("config", [*SIM, "+strategy.engine.num_gpu_blocks_override=90"], "must be left out: engine.num_blocks says it"),
    ("config", [*FOUR, KV_AWARE, "engine.prefix_caching=false"], "must be another with engine.prefix_caching=false"),
    ("config", [*FOUR, KV_AWARE, "+engine.extra.kv_events_config.publisher=zmq"], "engine.extra.kv_events_config={'publisher': 'zmq'}: must be left out"),
    ("config", [*SIM, *SPLIT, KV_AWARE], "engine.router.name='kv-aware': must be another beside engine.disaggregation.prefill=1"),
    ("config", ["engine=sglang_shape", "engine.replicas=2"], "1 but for engine.kind=vllm and vllm_sim"),
    ("config", ["engine=vllm_cpu", AFFINITY], "engine.replicas=4 has four"),
    ("recommend", ["engine.replicas=4"], "engine.replicas=4: must be 1: the search simulates one engine"),
    ("config", ["engine=vllm_cpu", *SPLIT], "engine.disaggregation.prefill=1: must be 0 but for engine.kind=vllm_sim"),
    ("config", [*SIM, "engine.disaggregation.gb_s=3"], "engine.disaggregation.gb_s=3: would change nothing"),
    ("config", [*SIM, *SPLIT, "engine.replicas=1"], "engine.disaggregation says how many there are"),
    ("recommend", SPLIT, "engine.disaggregation.prefill=1: must be 0: the search simulates one engine"),
    # An experiment and what was typed beside it.
    ("config", ["experiment=sim_quick", "engine=sglang"], "engine=sglang: experiment=sim_quick chooses calibration@"),
    ("config", ["experiment=sim_quick", "hardware=l4"], "write hardware@engine.sim.hardware="),
    # Sizes that no machine bears, and numbers that say nothing.
    ("config", ["workload=mixed", "workload.num_requests=99999999999"], "from 1 to 10,000,000"),
    ("config", ["workload=closed_loop", "workload.arrivals.users=99999999999"], "from 1 to 10,000,000"),
    ("recommend", ["search.requests=99999999999"], "from 20 to 10,000,000, or null"),
    ("recommend", ["processes=99999"], "4 a core"),
    ("recommend", ["model="], "not empty, or null"),
    ("config", ["seed=-1"], "from 0 to"),
    ("config", ["repeat=-3"], ">= 0"),
    ("freeze", ["out=x.parquet", "max_model_len=0"], "max_model_len=0: must be > 1"),
    ("freeze", ["out=x.parquet", "vocab_size=1"], "vocab_size=1: must be > 4"),
    ("recommend", [*SIM, *L4, "model_shape@engine.sim.model_shape=llama-3.1-70b-tp2"], "leave no memory of L4 for KV"),
    # Places that cannot take a result, before the work.
    ("recommend", ["out=/"], "out='/': must be a file's name"),
    ("recommend", [f"out={CONF}"], "this is a folder"),
    ("recommend", [f"out={CONF}/recommend.yaml/x.json"], "is a file"),
    ("report", [f"folder={CONF}/recommend.yaml"], "is a file"),
    ("config", [f"figures={CONF}/recommend.yaml"], "is a file"),
    ("freeze", ["out=x.csv"], "ends in .parquet"),
    ("freeze", ["workload=frozen", "workload.source.path=x.parquet", "out=./x.parquet"], "which would be gone"),
    ("calibrate", ["steps=[x]", "name=x", "out=x.txt"], "ends in .yaml"),
    ("config", ["tracking.uri=mlruns"], "sqlite:///FILE"),
    # Keys that exist, and would change nothing.
    ("config", ["workload=mixed", "workload.source.path=mylog.csv"], "workload=csv"),
    ("config", ["workload=mixed", "workload.source.pick=head"], "reads no file"),
    ("config", [*AZURE, "workload.rate=4"], "workload.arrivals.time_scale=0.5"),
    ("config", [*AZURE, "workload.load=high"], "workload.load=95%"),
    ("config", [*AZURE, "workload.source.tokenizer=t.json"], "counts of tokens"),
    ("config", [*AZURE, "workload.arrivals.users=4"], "workload=closed_loop has users"),
    ("config", [*AZURE, "workload.load=95%", "workload.arrivals.time_scale=2"], "sets how fast it is"),
    ("config", ["workload=mixed", "workload.load=95%", "workload.rate=4"], "a share of workload.capacity"),
    ("config", ["workload=mixed", "workload.load=low", "workload.rate=4"], "leave one of them out"),
    ("config", ["workload=mixed", "workload.loads.high=9"], "workload.load is medium"),
    ("config", ["workload=mixed", "workload.capacity=9"], "workload.load=95%"),
    ("config", ["workload=mixed", "workload.arrivals.burstiness=0.5"], "kind=gamma has bursts"),
    ("config", ["workload=mixed", "workload.arrivals.time_scale=2"], "set workload.rate instead"),
    ("config", ["workload=mixed", "workload.declared.slack=2"], "workload.declared.kind is fixed"),
    ("config", ["workload=mixed", "workload.declared.max_tokens=99"], "components.chat.max_tokens"),
    ("config", ["workload=mixed", "workload.sessions.count=3"], "workload=sessions has"),
    ("config", ["workload=sessions", "+workload.source.components.x.weight=1"], "x"),
    ("config", ["workload=frozen", "workload.source.path=t.parquet", "workload.length_scale=2"], "bidkv-freeze"),
    ("config", [*SIM, "engine.model=Qwen/Qwen3-32B"], "engine.sim.model_shape.path="),
    ("config", [*SIM, "engine.tiny.layers=3"], "tiny-llama"),
    ("config", [*SIM, "engine.dtype=half"], "engine.sim.model_shape.dtype"),
    ("config", ["deployed=gpt-oss-120b-h100", "engine.sim.model_shape.kv_heads=4"], "what its config.json says"),
    ("config", [*SIM, "engine.num_blocks=900", "engine.gpu_memory_utilization=0.8"], "engine.num_blocks=900"),
    ("config", ["strategy=stock", "strategy.victim=lcf"], "leaves all to the engine"),
    ("config", ["run.precision=0.1"], "run.until=precision"),
    ("config", ["cluster=ray", "cluster.num_cpus=3"], "has its own"),
    ("config", ["capacity.precision=0.1"], "workload.load=95%"),
    ("config", ["objective=e2e_p99_s"], "experiment=search"),
    ("config", [*SIM, SHAPE_FILE], "=from_config reads the file"),
    ("recommend", [*SIM, SHAPE_FILE], "=from_config reads the file"),
    ("recommend", ["engine=vllm_shape", SHAPE_FILE], "=from_config reads the file"),
    ("calibrate", ["steps=[x]", "name=x", "model_shape.path=c.json"], "model_shape=from_config reads the file"),
    ("calibrate", ["steps=[x]", "name=x", "tracking.resume=false"], "for who writes them"),
    ("compare", ["tracking.spool=x"], "for who writes them"),
    ("compare", ["format=json", "detail=true"], "has every metric anyway"),
    ("compare", ["format=csv", "classes=true"], "format=json has"),
    ("report", ["tracking.artifact_root=x"], "for who writes them"),
    ("recommend", ["engine.model=Qwen/Qwen3-32B"], "engine.sim.model_shape.path="),
    ("recommend", ["workload.source.path=mylog.csv"], "workload=csv"),
    ("recommend", ["workload.num_requests=3000"], "search.requests"),
    ("recommend", ["workload=sessions", "search.requests=50"], "workload.sessions.count"),
    ("recommend", ["search.real_requests=50"], "confirm=real"),
    ("recommend", ["tracking.experiment=mine"], "confirm=real"),
    ("recommend", ["search.rate_seeds=0", "slo_share=0.9"], "no highest rate"),
    ("freeze", ["workload.source.path=nofile.csv", "out=x.parquet"], "workload=csv"),
    ("freeze", ["workload=frozen", "workload.source.path=t", "seed=3", "out=x.parquet"], "its requests already"),
    ("capacity", ["workload.rate=3"], "the highest rate"),
    ("capacity", ["strategy=lcf"], "that of stock"),
    ("capacity", ["seed=3"], "capacity.seed"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "words", "cure"), BAD, ids=lambda value: str(value)[:60])
def test_what_would_be_ignored_or_is_mistyped_is_one_line_with_its_cure(command, words, cure):
    line = line_of(command, words)
    assert line is not None, "accepted"
    assert cure in line and "\n" not in line, line


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("ray_jobs.run", ["workload=mixed", "workload.source.path=mylog.csv", "strategy=lcf,bidkv"]),
        ("ray_jobs.run", ["workload=mixed", "workload.rate=-1"]),
        ("ray_jobs.run", ["workload=mixed,nosuch"]),
        ("ray_jobs.run", ["seed=range(0)"]),
        ("ray_jobs.run", ["seed=0,1,0"]),
        ("ray_jobs.upload", ["spool={folder}/nosuch"]),
        ("ray_jobs.capacity", ["workload=sessions"]),
        ("ray_jobs.recommend", ["engine.model=Qwen/Qwen3-32B"]),
        ("ray_jobs.freeze", ["workload.source.path=nofile.csv", "out={folder}/trace.parquet"]),
    ],
)
def test_the_command_ends_with_2_and_has_written_nothing(tmp_path, module, words):
    tmp_path = tmp_path / "made"  # by the command, if at all
    folders = [f"hydra.sweep.dir={tmp_path}/hydra/now"] if module == "ray_jobs.run" else []
    command = [sys.executable, "-m", module, *(word.format(folder=tmp_path) for word in words), *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("error: "), done.stderr
    assert not tmp_path.exists()


def test_in_a_sweep_a_key_has_to_count_in_one_combination():
    words = [["workload=mixed", *AZURE[1:]], AZURE]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        jobs = [(OmegaConf.to_object(compose("config", each)), each) for each in words]
    refuse_no_effect(jobs)
    with pytest.raises(ValueError, match="workload.source.path=azure.csv: would change nothing"):
        refuse_no_effect(jobs[:1])


def test_a_workloads_own_size_counts_where_no_experiment_is_named():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name, requests in (("sessions", None), ("mixed", 1000), ("long_context", 500)):
            assert compose("config", [f"workload={name}"]).workload.num_requests == requests


CHANGES = {
    "rate": 7.7, "load": "high", "capacity": 9.0, "arrivals.burstiness": 0.3, "arrivals.users": 3,
    "arrivals.think_time_s": 0.7, "arrivals.time_scale": 3.0, "declared.slack": 2.5, "declared.max_tokens": 77,
    "length_scale": 0.5, "sessions.max_turns": 1, "sessions.count": 3, "num_requests": 7, "warmup_requests": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", ["mixed", "h100_bursty", "closed_loop", "sessions_small", "long_context"])
def test_what_is_said_to_change_nothing_changes_nothing_and_the_rest_does(name):
    """The rules are held against traces: each key is set, and the trace is another one or it is not."""

    def frozen(*words: str):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            workload = OmegaConf.to_object(
                compose("freeze", [f"workload={name}", "out=x.parquet", *words])
            ).workload
        small = replace(
            workload, sessions=replace(workload.sessions, count=min(workload.sessions.count or 9, 9))
        )
        trace = freeze_trace(small, 0, 32000, 8192)
        facts = (trace.hash, trace.closed_loop_users, trace.think_time_s, [r.warmup for r in trace.requests])
        return workload, facts

    few = [] if name == "sessions_small" else ["workload.num_requests=20", "workload.warmup_requests=0"]
    workload, before = frozen(*few)
    for key, value in CHANGES.items():
        words = [
            *(word for word in few if not word.startswith(f"workload.{key}=")),
            f"workload.{key}={value}",
        ]
        idle = idle_ones({f"workload.{key}": value}, idle_workload_keys(workload))
        if idle:
            if (name, key) == ("closed_loop", "rate"):
                continue  # the workload itself refuses it
            assert frozen(*words)[1] == before, f"{key} is said to change nothing: {idle}"
        else:
            assert frozen(*words)[1] != before, f"{key} changes nothing, and no rule says so"
