"""Values that no configuration may have: each is one line that names the key and the value."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401 (registers the configuration's schema)
from ray_jobs.drive.secrets import refuse_secrets
from tracking.secrets import looks_secret

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
        ("+engine.env={HF_TOKEN: hf_hunter2}", ["engine.env", "HF_TOKEN", "engine.pass_env"]),
        ("+engine.env.OPENAI_KEY=hunter2", ["engine.env", "OPENAI_KEY"]),
        ("+engine.extra.hf_token=hf_hunter2", ["engine.extra", "hf_token", "engine.pass_env"]),
        ("+strategy.engine.api_key=hunter2", ["strategy.engine", "api_key"]),
        ("tracking.uri='postgresql://db/x?password=hunter2'", ["tracking.uri", "PGPASSWORD"]),
        ("tracking.artifact_root=s3://me:hunter2@bucket/x", ["tracking.artifact_root", "bucket"]),
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


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "tokenizer_mode", "KEYBOARD", "OMP_NUM_THREADS"]
)
def test_what_only_sounds_like_a_secret_is_none(name):
    assert not looks_secret(name)


@pytest.mark.parametrize(
    "override",
    [
        "+engine.env.HF_TOKEN=hunter2", "engine.env={HF_TOKEN: hunter2}", "+engine.extra.hf_token=hunter2,hunter3",
        "tracking.uri=http://me:hunter2@host", "+strategy.engine.api_key=hunter2",
    ],
)  # fmt: skip
def test_a_typed_secret_is_refused_before_hydra_writes_it_down(override):
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("config", [])
    with pytest.raises(ValueError) as caught:
        refuse_secrets(config, ["seed=0,1", override])
    assert "hunter2" not in str(caught.value)


def test_a_secret_in_a_file_of_the_users_is_refused_too():
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose("config", ["+engine.env.HF_TOKEN=hunter2"])  # as a file would have it
        refuse_secrets(
            compose("config", []), ["seed=range(3)", "strategy=glob(*)", "workload.rate=choice(1,2)"]
        )
    with pytest.raises(ValueError, match="HF_TOKEN"):
        refuse_secrets(config, [])
