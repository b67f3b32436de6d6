"""Configuration of an engine: `engine`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from pkgutil import iter_modules
from typing import Any
from urllib.parse import urlsplit

from omegaconf import MISSING

from ray_jobs.engines.routers.config import RouterConfig
from ray_jobs.engines.routers.served import SERVED
from ray_jobs.engines.said_once import check_said_once
from ray_jobs.engines.sglang_config import check_sglang
from ray_jobs.engines.sim.config import SimConfig
from ray_jobs.engines.sim.disaggregated.config import DisaggregationConfig
from tracking.errors import require, require_one_of
from tracking.secrets import check_names

APIS = ("completions", "chat")
EVICTIONS = ("lru", "arc", "retention")  # of host memory
DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
MOST_SEQS = 65_536  # beyond it vLLM's own buffers do not fit any machine
LIMITS = (
    "block_size", "num_blocks", "max_num_seqs", "max_model_len", "max_num_batched_tokens", "prefix_caching",
)  # fmt: skip
"""Keys of `engine` that a simulation of a real one has from it."""
PASS_ENV = "engine.pass_env=[{}]"  # how an engine is given a secret
SEVERAL = ("vllm", "vllm_sim")  # kinds of which there may be several behind a router
SIMULATED = ("vllm_sim", "sglang_sim")  # kinds that run on virtual time
SGLANG = ("sglang", "sglang_sim")  # kinds that are SGLang's scheduler
GIB = 2**30
NOT_AN_ENGINE = {"config", "job", "no_effect", "said_once", "sglang_config"}
"""The other modules of this package."""


def engine_kinds() -> list[str]:
    """The engines there are: `ray_jobs/engines/<kind>.py` is one, and needs to be named nowhere else."""
    modules = iter_modules([str(Path(__file__).parent)])
    return sorted(m.name for m in modules if not m.ispkg and m.name not in NOT_AN_ENGINE)


@dataclass
class TinyModelConfig:
    """Shape of the random Llama that `engine.model=tiny-llama` stands for."""

    hidden_size: int = 64
    layers: int = 2


@dataclass
class EngineConfig:
    """An inference engine and its limits. Tokens and blocks are counts, times are seconds."""

    kind: str = MISSING
    model: str = MISSING
    tiny: TinyModelConfig = field(default_factory=TinyModelConfig)
    vocab_size: int = 32000  # prompt token ids are drawn below it
    load_format: str = "auto"
    dtype: str = "auto"
    block_size: int = 16
    num_blocks: int | None = None  # KV-cache blocks; null = as many as memory holds
    max_num_seqs: int = 32
    max_model_len: int = 8192
    max_num_batched_tokens: int | None = None
    prefix_caching: bool = True
    kv_offload_gib: float = (
        0.0  # host memory that takes KV blocks which leave the device; vLLM only, 0 = none
    )
    kv_offload_eviction: str = (
        "lru"  # what that gives up first: vLLM's lru or arc, or retention: the strategy's rule
    )
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    adapter: bool = True  # false = vLLM as it is: its own scheduler, and nothing but what the client sees
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)  # further engine arguments, by the engine's names
    env: dict[str, str] = field(
        default_factory=dict
    )  # environment of the engine's process; stored with the run
    pass_env: list[str] = field(default_factory=list)  # variables it gets from the driver's, stored nowhere
    python: str | None = None  # interpreter of the engine's own environment; null = the driver's
    num_gpus: float = 0.0
    num_cpus: float = 1.0
    start_timeout_s: float = 600.0
    replicas: int = 1  # equal engines behind a router, real ones all on one node; vLLM only
    router: RouterConfig = field(default_factory=RouterConfig)  # who gets a request
    disaggregation: DisaggregationConfig = field(default_factory=DisaggregationConfig)  # kind=vllm_sim only
    sim: SimConfig | None = None  # kind=vllm_sim and sglang_sim only
    url: str | None = None  # kind=endpoint only: the server that is driven, as http://host:8000
    api: str = "completions"  # or chat; endpoint only
    control_file: str | None = (
        None  # the server's own --bidkv-control, which switches strategies; endpoint only
    )
    server: dict[str, str] = field(default_factory=dict)  # endpoint only: what it said of itself

    def __post_init__(self) -> None:
        require_one_of("engine.kind", self.kind, engine_kinds())
        for key in ("block_size", "max_num_seqs", "max_model_len", "vocab_size", "tensor_parallel_size"):
            require(getattr(self, key) > 0, f"engine.{key}", getattr(self, key), "> 0")
        require(self.max_num_seqs <= MOST_SEQS, "engine.max_num_seqs", self.max_num_seqs, f"<= {MOST_SEQS}")
        if self.max_num_batched_tokens is not None:
            tokens = self.max_num_batched_tokens
            require(tokens > 0, "engine.max_num_batched_tokens", tokens, "> 0 or null")
        require_one_of("engine.dtype", self.dtype, DTYPES)
        require(self.start_timeout_s > 0, "engine.start_timeout_s", self.start_timeout_s, "> 0")
        check_names("engine.env", self.env, PASS_ENV)
        check_names("engine.extra", self.extra, PASS_ENV)
        require(
            0 < self.gpu_memory_utilization <= 1,
            "engine.gpu_memory_utilization", self.gpu_memory_utilization, "in (0, 1]",
        )  # fmt: skip
        require(self.num_gpus >= 0, "engine.num_gpus", self.num_gpus, ">= 0")
        require(self.num_cpus >= 0, "engine.num_cpus", self.num_cpus, ">= 0")
        require(self.num_cpus > 0 or self.num_gpus > 0, "engine.num_cpus", self.num_cpus, "> 0 without a GPU")
        self._host_memory_in_gib()
        require(
            0 <= self.kv_offload_gib < inf, "engine.kv_offload_gib", self.kv_offload_gib, ">= 0, and a number"
        )
        if self.kv_offload_gib:
            require(
                self.kind.startswith("vllm") and self.prefix_caching,
                "engine.kv_offload_gib", self.kv_offload_gib,
                "0 without vLLM and engine.prefix_caching: blocks in host memory are found by their hashes",
            )  # fmt: skip
        self._check_eviction()
        if self.num_blocks is not None:
            require(self.num_blocks > 0, "engine.num_blocks", self.num_blocks, "> 0")
            capacity = (self.num_blocks - 1) * self.block_size  # vLLM keeps one block empty
            require(
                capacity >= self.max_model_len,
                "engine.num_blocks", self.num_blocks,
                f"at least {-(-self.max_model_len // self.block_size) + 1}, so that one request of "
                f"engine.max_model_len={self.max_model_len} tokens fits beside the empty block",
            )  # fmt: skip
        require(
            self.adapter or self.kind == "vllm",
            "engine.adapter",
            self.adapter,
            "true but for engine.kind=vllm",
        )
        require(1 <= self.replicas <= 1024, "engine.replicas", self.replicas, "from 1 to 1024")
        if self.replicas > 1:
            check_replicas(self)
        if self.disaggregation.engines:
            check_disaggregated(self)
        require_one_of("engine.api", self.api, APIS)
        if self.simulated:
            require(
                self.sim is not None, "engine.sim", self.sim,
                f"given for engine.kind={self.kind} (start from engine={self.kind})",
            )  # fmt: skip
        if self.is_sglang:
            check_sglang(self)
        elif self.kind != "endpoint":
            check_said_once(self)
        if self.simulated:
            check_simulated(self)
        elif self.kind == "endpoint":
            check_endpoint(self)
        else:
            check_gpus(self)

    @property
    def runs_for_real(self) -> bool:
        """Whether it is started here, and not simulated."""
        return not self.simulated and self.kind != "endpoint"

    @property
    def simulated(self) -> bool:
        """Whether it runs on virtual time."""
        return self.kind in SIMULATED

    @property
    def is_sglang(self) -> bool:
        """Whether SGLang's scheduler decides, for real or simulated."""
        return self.kind in SGLANG

    def _check_eviction(self) -> None:
        key, value = "engine.kv_offload_eviction", self.kv_offload_eviction
        require_one_of(key, value, EVICTIONS)
        if value == "lru":
            return
        require(
            "kv_transfer_config" not in self.extra, key, value, "lru beside engine.extra.kv_transfer_config"
        )
        require(self.adapter or value != "retention", key, value, "lru or arc with engine.adapter=false")

    def _host_memory_in_gib(self) -> None:
        """From here on `sim.kv_offload_pools` is `kv_offload_gib`, which results and comparisons name.

        Raises ValueError if both are said, or where only vLLM knows how large a block is.
        """
        key, pools = "engine.sim.kv_offload_pools", self.sim.kv_offload_pools if self.sim else None
        if pools is None:
            return
        require(
            not self.kv_offload_gib, key, pools, f"null beside engine.kv_offload_gib={self.kv_offload_gib}"
        )
        require(
            self.kind == "vllm_sim", key, pools,
            f"null with engine.kind={self.kind}; engine.kv_offload_gib says how much host memory a real engine has",
        )  # fmt: skip
        shape = self.sim.model_shape
        require(
            not shape.config, key, pools,
            "null for a model of a config.json, whose blocks vLLM lays out; engine.kv_offload_gib has the GiB",
        )  # fmt: skip
        blocks = blocks_that_fit(self) if self.num_blocks is None else self.num_blocks
        of_all = blocks * self.block_size * shape.kv_bytes_per_token * shape.tensor_parallel
        self.kv_offload_gib = pools * of_all / GIB
        self.sim = replace(self.sim, kv_offload_pools=None)


def blocks_that_fit(engine: EngineConfig) -> int:
    """KV-cache blocks in the memory that weights and `reserved_bytes` leave of `gpu_memory_utilization`."""
    sim = engine.sim
    free = memory_of(engine) - sim.model_shape.weight_bytes
    return max(0, int(free // (sim.model_shape.kv_bytes_per_token * engine.block_size)))


def memory_of(engine: EngineConfig) -> float:
    """Bytes of one simulated device for weights and KV cache."""
    sim = engine.sim
    return sim.hardware.memory * engine.gpu_memory_utilization - sim.reserved_bytes


def check_endpoint(engine: EngineConfig) -> None:
    """Raises ValueError if `engine` names no server that could be asked."""
    require(
        engine.url is not None, "engine.url", engine.url, "the server's address, as http://127.0.0.1:8000"
    )
    check_url("engine.url", engine.url)
    require(
        len(engine.pass_env) <= 1,
        "engine.pass_env",
        engine.pass_env,
        "the one variable with the server's API key",
    )
    require(engine.num_gpus == 0, "engine.num_gpus", engine.num_gpus, "0: the client needs none")


def check_url(key: str, url: str) -> None:
    """Raises ValueError if `url` is no server's address; a password in it is not repeated."""
    parts = urlsplit(url)
    require(
        parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment),
        key, url, "http:// or https:// with a host, as http://127.0.0.1:8000",
    )  # fmt: skip
    require(
        parts.username is None, key, f"{parts.scheme}://…@{parts.hostname}",
        f"without a password, which would be stored: {PASS_ENV.format('NAME')} names the variable that has the API key",
    )  # fmt: skip
    require(parts.path in ("", "/"), key, url, f"without the path {parts.path}: it is added")


def check_replicas(engine: EngineConfig) -> None:
    """Raises ValueError if `engine` cannot be several, or its router cannot be in front of them."""
    require(
        engine.kind in SEVERAL,
        "engine.replicas", engine.replicas, f"1 but for engine.kind={' and '.join(SEVERAL)}",
    )  # fmt: skip
    if engine.router.rule.hears:
        check_hears(engine)
    if not engine.runs_for_real:
        return
    require(
        engine.router.name in SERVED,
        "engine.router.name", engine.router.name,
        f"{' or '.join(SERVED)} in front of real engines, which are Ray Serve's own; engine=vllm_sim has the others",
    )  # fmt: skip
    require(
        engine.num_gpus == int(engine.num_gpus),
        "engine.num_gpus", engine.num_gpus, "a whole number with engine.replicas: each has GPUs of its own",
    )  # fmt: skip


def check_hears(engine: EngineConfig) -> None:
    """Raises ValueError if `engine` has nothing to tell its router, or is told itself whom to tell."""
    require(
        engine.prefix_caching,
        "engine.router.name", engine.router.name, "another with engine.prefix_caching=false: there is no KV to go to",
    )  # fmt: skip
    own = engine.extra.get("kv_events_config")
    require(
        own is None,
        "engine.extra.kv_events_config", own, f"left out beside engine.router.name={engine.router.name}, which sets it",
    )  # fmt: skip


def check_disaggregated(engine: EngineConfig) -> None:
    """Raises ValueError if `engine` cannot be some that prefill and some that decode."""
    counts = f"engine.disaggregation.prefill={engine.disaggregation.prefill}"
    require(
        engine.kind == "vllm_sim",
        "engine.disaggregation.prefill", engine.disaggregation.prefill,
        "0 but for engine.kind=vllm_sim: it is simulated only",
    )  # fmt: skip
    require(
        engine.replicas == 1,
        "engine.replicas", engine.replicas, f"1 beside {counts}: prefill and decode say how many there are",
    )  # fmt: skip
    require(
        engine.kv_offload_gib == 0,
        "engine.kv_offload_gib", engine.kv_offload_gib,
        f"0 beside {counts}: an engine has one KV connector here, and that one is NIXL's",
    )  # fmt: skip
    require(
        not engine.router.rule.hears,
        "engine.router.name", engine.router.name,
        f"another beside {counts}: Dynamo has other rules in front of engines that prefill or decode only",
    )  # fmt: skip
    own = engine.extra.get("kv_transfer_config")
    require(
        own is None,
        "engine.extra.kv_transfer_config",
        own,
        f"left out beside {counts}, which sets NIXL's connector",
    )


def check_gpus(engine: EngineConfig) -> None:
    """Raises ValueError unless `engine`, which runs for real, has a GPU for each of its tensor-parallel ranks."""
    ranks = engine.tensor_parallel_size
    require(
        engine.num_gpus == ranks or engine.num_gpus <= 1 == ranks,
        "engine.num_gpus", engine.num_gpus,
        f"engine.tensor_parallel_size={ranks}, since an engine has its GPUs on one node",
    )  # fmt: skip


def check_simulated(engine: EngineConfig) -> None:
    """Raises ValueError if `engine`, which has `sim`, cannot be simulated."""
    require(
        engine.tensor_parallel_size == 1, "engine.tensor_parallel_size", engine.tensor_parallel_size,
        "1 in a simulation (set engine.sim.model_shape.tensor_parallel)",
    )  # fmt: skip
    if engine.kv_offload_gib:
        bandwidth = engine.sim.hardware.host_bandwidth
        require(
            bandwidth is not None, "engine.sim.hardware.host_bandwidth", bandwidth,
            "given with engine.kv_offload_gib",
        )  # fmt: skip
    # Of a config.json's model the engine's start says so: vLLM's own classes know what it takes.
    if engine.num_blocks is None and not engine.sim.model_shape.config:
        fit, sim = blocks_that_fit(engine), engine.sim
        require(
            fit > 1, "engine.sim.model_shape", sim.model_shape.name,
            f"smaller, or on more or larger devices: its weights leave no memory of {sim.hardware.name} for KV "
            "(hardware@engine.sim.hardware=, engine.sim.model_shape.tensor_parallel=)",
        )  # fmt: skip
        require(
            (fit - 1) * engine.block_size >= engine.max_model_len,
            "engine.max_model_len", engine.max_model_len,
            f"<= {(fit - 1) * engine.block_size}, the tokens that {sim.hardware.name} holds beside the weights of "
            f"{sim.model_shape.name}",
        )  # fmt: skip
