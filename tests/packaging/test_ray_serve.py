"""The example for Ray Serve: what it hands to vLLM is what vLLM and the adapter take."""

from __future__ import annotations

import importlib.util
from dataclasses import fields

import pytest
import yaml
from environment import ROOT

from bidkv.adapters.vllm import SCHEDULER
from bidkv.adapters.vllm.server.configure import adapter_config

EXAMPLE = ROOT / "examples" / "ray_serve" / "llm.yaml"
DOCS = ROOT / "docs" / "server.md"


@pytest.fixture
def engine_kwargs() -> dict:
    (application,) = yaml.safe_load(EXAMPLE.read_text())["applications"]
    assert application["import_path"] == "ray.serve.llm:build_openai_app"
    (model,) = application["args"]["llm_configs"]
    return model["engine_kwargs"]


def test_the_adapter_takes_its_section_and_vllm_its_keys(engine_kwargs: dict) -> None:
    settings, control = adapter_config(engine_kwargs["additional_config"])
    assert settings.build().victim.name == "lcf-guard" and control is None
    assert engine_kwargs["scheduler_cls"] == SCHEDULER
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    from vllm.engine.arg_utils import EngineArgs

    assert engine_kwargs.keys() <= {field.name for field in fields(EngineArgs)}


def test_the_docs_show_what_the_file_says(engine_kwargs: dict) -> None:
    text = DOCS.read_text().partition("## Ray Serve")[2]
    shown = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert shown["engine_kwargs"].items() <= engine_kwargs.items()
