"""Stock vLLM has the faults that the fuzz takes for vLLM's own: each in the smallest case that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("vllm")

import vllm  # noqa: E402

from fuzz.bench import Bench  # noqa: E402
from fuzz.cases import Case, Engine, Op  # noqa: E402
from fuzz.check import bound_of  # noqa: E402
from fuzz.drive import Driver, StuckError, Trace  # noqa: E402
from fuzz.known import crash  # noqa: E402
from fuzz.oracles import wrong_outputs  # noqa: E402
from ray_jobs.engines.shared.tiny_model import make_tiny_llama  # noqa: E402

IN_FLIGHT = {"asynchronous": True, "depth": 2}


def only(*versions: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not vllm.__version__.startswith(versions), reason=f"vLLM {vllm.__version__} has no such fault"
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


def stock(model: Path, engine: Engine, *ops: Op) -> tuple[Case, Trace]:
    case = Case(0, "stock", engine, ops)
    return case, Driver(case, Bench(model, engine), None, bound_of, 300).run()


def test_a_load_that_fails_under_a_step_in_flight_gives_wrong_tokens(model: Path) -> None:
    engine = Engine(blocks=1501, connector="sync", fail_loads=True, **IN_FLIGHT)
    case, trace = stock(model, engine, Op(0, "add", "1_r6", prompt=180, output=50))
    (wrong,) = wrong_outputs(case, trace, True)
    assert any(fault.explains(f"outputs: {wrong}") for fault in trace.faults)


@only("0.26.", "0.32.")
@only("0.26.")
def test_a_session_that_stops_with_drafts_in_flight_is_queued_twice(model: Path) -> None:
    engine = Engine(blocks=3001, spec=3, **IN_FLIGHT)
    _, trace = stock(
        model, engine, Op(0, "add", "r1", prompt=64, output=10, resumable=True), Op(40, "end", "r1")
    )
    oracle, text = trace.problems[0]
    assert any(fault.explains(f"{oracle}: {text}") for fault in trace.faults)


@only("0.26.")
def test_a_reset_with_drafts_in_flight_drops_later_steps(model: Path) -> None:
    reset = Op(4, "reset", value=True)
    engine = Engine(blocks=200, spec=3, **IN_FLIGHT)
    _, trace = stock(model, engine, Op(0, "add", "r1", prompt=16, output=8), reset)
    assert isinstance(trace.error, StuckError)
    assert any(fault.explains(f"no_exception: StuckError: {trace.error}") for fault in trace.faults)


MAMBA_PROMPTS = {
    "r0": 180,
    "r1": 33,
    "r2": 64,
    "r3": 180,
    "r4": 120,
    "r6": 73,
    "r7": 33,
    "r10": 33,
    "r12": 120,
    "r14": 73,
}


def test_mamba_blocks_run_out_though_vllm_found_that_there_is_room(model: Path) -> None:
    engine = Engine(
        blocks=87,
        seats=16,
        budget=100,
        caching=True,
        depth=3,
        layout="mamba-align",
        connector="sync",
        reserve_full=False,
    )
    ops = [Op(0, "add", name, prompt=prompt, output=10) for name, prompt in MAMBA_PROMPTS.items()]
    _, trace = stock(model, engine, *ops)
    assert trace.error is not None and crash(trace.error, engine)


@only("0.26.", "0.32.")
def test_a_lora_slot_is_taken_twice(model: Path) -> None:
    engine = Engine(blocks=114, depth=3, loras=1)
    first = Op(5, "add", "r7", prompt=33, output=50, lora=1)
    plain = Op(57, "add", "r1", prompt=206, output=25)
    _, trace = stock(model, engine, first, plain, Op(57, "add", "r2", prompt=206, output=25, lora=2))
    assert trace.error is not None and crash(trace.error, engine)


@only("0.26.")
def test_a_sessions_next_input_fails_with_drafts_in_flight(model: Path) -> None:
    engine = Engine(blocks=37, spec=3, **IN_FLIGHT)
    session = Op(0, "add", "r5", prompt=64, output=25, resumable=True)
    _, trace = stock(model, engine, session, Op(39, "chunk", "r5", prompt=1, output=1), Op(60, "end", "r5"))
    assert trace.error is not None and crash(trace.error, engine)
