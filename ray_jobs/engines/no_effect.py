"""Keys of an engine, a strategy or a run that change nothing of what is run, given the rest of the job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from bidkv import create_default_registry
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import PARAMS_OF, JobConfig, StrategyConfig, defaults
from ray_jobs.engines.routers.config import router_classes
from ray_jobs.engines.shared.models import FROM_SHAPE, TINY
from ray_jobs.engines.sim.model_config import config_file, read_config
from ray_jobs.engines.sim.shape import ModelShape
from tracking.typed import Idle

SHAPE_FILE = "engine.sim.model_shape.path"
SIZES_OF_CONFIG = (
    "architecture", "model_type", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim", "experts",
    "experts_per_token", "tied_embeddings",
)  # fmt: skip
OF_A_CLIENT = {
    "kind", "url", "api", "control_file", "model", "vocab_size", "env", "pass_env", "num_gpus", "num_cpus", "start_timeout_s",
}  # fmt: skip
FROM_CONFIG = "model_shape@engine.sim.model_shape=from_config"
OWN_MODEL = (
    "the model is engine.sim.model_shape: model_shape@engine.sim.model_shape=qwen2.5-7b (a file of conf/model_shape), "
    "or =from_config with engine.sim.model_shape.path=…/config.json for a model of yours"
)


def idle_job_keys(job: JobConfig) -> Iterator[Idle]:
    """Each with why, and with what has the effect that was probably meant."""
    yield from idle_strategy_keys(job.strategy)
    if job.run.until != "precision":
        for key in ("precision", "p99_precision", "min_requests"):
            yield Idle(f"run.{key}", "it is for run.until=precision")
    if job.engine.kind == "endpoint":
        yield Idle("run.log_schedule", "a server's steps are its own")
        yield Idle(
            "workload.declared",
            "OpenAI's routes carry no more than max_tokens, which is how long each answer is here",
        )
    if not job.engine_used.kv_offload_gib:
        yield Idle("engine.kv_offload_eviction", "there is no host memory; engine.kv_offload_gib=16 has some")
    elif job.engine.kv_offload_eviction == "retention" and (
        job.strategy.kill_switch or job.strategy.rules().retention.stock
    ):
        yield Idle(
            "engine.kv_offload_eviction",
            f"strategy={job.strategy.name} has no rule that host memory could follow; strategy.retention=ttl_learned has one",
        )
    yield from idle_engine_keys(job.engine)


def idle_strategy_keys(strategy: StrategyConfig) -> Iterator[Idle]:
    """Those of `strategy` alone."""
    yield Idle(
        "strategy.name",
        "it says which parameters are the pair's own; strategy=NAME chooses one, strategy.label=NAME names it",
    )
    if strategy.kill_switch:
        for key in ("admission", "victim", "retention", "params", "admission_params", "retention_params"):
            yield Idle(
                f"strategy.{key}",
                f"strategy={strategy.name} leaves all to the engine; strategy=backfill does not",
            )
    else:
        yield from _left_out(strategy)


def _left_out(strategy: StrategyConfig) -> Iterator[Idle]:
    """A parameter as the named strategy has it is left out, also where the half that is put in its place has another."""
    registry = create_default_registry()
    if strategy.name not in registry.list_strategies():
        return
    named, used = (
        registry.get(strategy.name),
        registry.pair(strategy.admission, strategy.victim, strategy.retention),
    )
    for key, half in PARAMS_OF.items():
        declared, own = (defaults(getattr(pair, half)) for pair in (named, used))
        for name, value in declared.items():
            if name not in getattr(strategy, key) and (name not in own or own[name] != value):
                because = (
                    f"{value} is left out as strategy={strategy.name} has it, but strategy.{half} is another"
                )
                yield Idle(f"strategy.{key}.{name}", because)


def idle_engine_keys(engine: EngineConfig) -> Iterator[Idle]:
    """Those of `engine` alone."""
    if engine.kind == "endpoint":
        yield from _of_a_server(engine)
        return
    for key in ("url", "api", "control_file", "server"):
        yield Idle(
            f"engine.{key}", f"engine.kind={engine.kind} is started here; engine=endpoint drives a server"
        )
    simulated = engine.simulated
    disaggregated = engine.disaggregation.engines > 0
    if disaggregated:
        yield Idle("engine.replicas", "engine.disaggregation says how many there are")
    else:
        yield Idle(
            "engine.disaggregation",
            "no engine decodes only; engine.disaggregation.prefill=1 engine.disaggregation.decode=1 has one that does",
        )
    split = engine.disaggregation
    if disaggregated and max(split.prefill, split.decode) == 1:
        yield Idle("engine.router", "one engine on each side has nobody to choose from; a side may have more")
    elif engine.replicas == 1 and not disaggregated:
        yield Idle("engine.router", "one engine has no router; engine.replicas=4 has four")
    elif not router_classes()[engine.router.name].looks:
        yield Idle("engine.router.stale_s", f"{engine.router.name} looks at no replica")
    elif not simulated:
        yield Idle(
            "engine.router.stale_s", "Ray Serve's router asks its replicas itself; engine=vllm_sim has it"
        )
    if engine.model != TINY or simulated:
        yield Idle(
            "engine.tiny",
            f"it is the shape of engine.model={TINY}; here {OWN_MODEL if simulated else 'is another'}",
        )
    if engine.sim is not None:
        yield from _shape(engine.sim.model_shape)
    if simulated:
        yield from _simulated(engine)
        return
    if engine.model != FROM_SHAPE:
        yield Idle("engine.sim", f"engine.kind={engine.kind} runs for real; engine=vllm_sim simulates")
        return
    for key in (
        "calibration",
        "scheduling",
        "kv_offload_pools",
        "async_scheduling",
        "reserved_bytes",
        "shortcuts",
        "check",
        "wall_timeout_s",
    ):
        yield Idle(f"engine.sim.{key}", f"engine.kind={engine.kind} runs for real; engine=vllm_sim simulates")


def _of_a_server(engine: EngineConfig) -> Iterator[Idle]:
    """All but how it is reached, what is asked of it, and what the client takes."""
    for own in fields(engine):
        if own.name not in OF_A_CLIENT:
            yield Idle(
                f"engine.{own.name}", "a server that is up has its own, and says what must be known of it"
            )


def _shape(shape: ModelShape) -> Iterator[Idle]:
    """With a `config` the model is that one's; it may stand in a file of conf/model_shape."""
    if not shape.config or not shape.path or read_config(config_file(shape.path)) != shape.config:
        yield Idle(SHAPE_FILE, f"the shape is declared in conf/model_shape; {FROM_CONFIG} reads the file")
    for size in SIZES_OF_CONFIG if shape.config else ():
        yield Idle(
            f"engine.sim.model_shape.{size}",
            f"{shape.name} is what its config.json says; with a file of your own: {FROM_CONFIG}",
        )


def _simulated(engine: EngineConfig) -> Iterator[Idle]:
    yield Idle("engine.model", f"a simulation loads none; {OWN_MODEL}")
    yield Idle("engine.dtype", "a simulation has engine.sim.model_shape.dtype")
    for key in ("load_format", "enforce_eager", "seed"):
        yield Idle(f"engine.{key}", "a simulation has no weights and no kernels")
    if engine.is_sglang:
        yield Idle("engine.sim.shortcuts", "they leave out work of vLLM's scheduler; SGLang's has none here")
        yield Idle(
            "engine.sim.scheduling",
            "what strategies take of SGLang's thread is not modelled; engine=vllm_sim has it",
        )
    if engine.num_blocks is not None:
        for key in ("gpu_memory_utilization", "sim.reserved_bytes", "sim.hardware.memory"):
            yield Idle(
                f"engine.{key}",
                f"engine.num_blocks={engine.num_blocks} says how much memory there is; null asks the device",
            )
    if engine.sim.model_shape.tensor_parallel == 1:
        for key in ("hardware.link_bandwidth", "calibration.link_efficiency"):
            yield Idle(
                f"engine.sim.{key}", "one device has no others: engine.sim.model_shape.tensor_parallel=2"
            )
