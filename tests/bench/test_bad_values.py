"""Values that no configuration may have: each is one line that names the key and the value."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401 (registers the configuration's schema)

CONF = str(Path(__file__).parents[2] / "conf")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("workload.rate=-1", ["workload.rate", "-1"]),
        ("engine.num_blocks=2", ["engine.num_blocks", "2", "engine.max_model_len"]),
        ("engine.kind=tgi", ["engine.kind", "tgi", "vllm"]),
        ("tracking.experiment=", ["tracking.experiment", "empty"]),
        ("tracking.uri=", ["tracking.uri", "empty"]),
        ("tracking.uri=postgresql://me:hunter2@db/x", ["tracking.uri", "PGPASSWORD", "db"]),
        ("strategy.label=''", ["strategy.label", "empty"]),
        ("engine.num_cpus=0", ["engine.num_cpus", "> 0"]),
        ("cluster.num_cpus=0", ["cluster.num_cpus", "> 0"]),
        ("engine.tensor_parallel_size=2", ["engine.num_gpus", "engine.tensor_parallel_size=2"]),
        ("engine.start_timeout_s=-1", ["engine.start_timeout_s", "-1"]),
        ("engine.max_num_batched_tokens=0", ["engine.max_num_batched_tokens", "0"]),
        ("engine.max_num_seqs=1000000000", ["engine.max_num_seqs", "1000000000"]),
        ("engine.dtype=nonsense", ["engine.dtype", "nonsense", "bfloat16"]),
        ("+engine.env.HF_TOKEN=hf_hunter2", ["engine.env", "HF_TOKEN", "engine.pass_env"]),
        ("run.request_timeout_s=1e-9", ["run.request_timeout_s", "1e-09"]),
        ("objective=nope", ["objective", "nope", "e2e_mean_s"]),
    ],
)
def test_a_bad_value_is_one_line(override, words):
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("config", [override])
    with pytest.raises(ValueError) as caught:
        OmegaConf.to_object(config)
    text = str(caught.value.__cause__ or caught.value)
    assert "\n" not in text and "hunter2" not in text
    for word in words:
        assert word in text
