"""Stock vLLM has the faults that the fuzz takes for vLLM's own: each in the smallest case that shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("vllm")

import vllm  # noqa: E402

from fuzz.bench import Bench  # noqa: E402
from fuzz.cases import Case, Engine, Op  # noqa: E402
from fuzz.check import bound_of  # noqa: E402
from fuzz.drive import Driver, StuckError, Trace  # noqa: E402
from fuzz.known import crash  # noqa: E402
from fuzz.oracles import place_of, wrong_outputs  # noqa: E402
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


def explained(trace: Trace, found: str) -> bool:
    return any(fault.explains(found) for fault in trace.faults)


def together(sizes: dict[str, tuple[int, int, int]]) -> list[Op]:
    """Requests that come at once: prompt, output and shared prefix, by name."""
    return [Op(0, "add", name, prompt=p, output=o, prefix=x) for name, (p, o, x) in sizes.items()]


def test_a_load_that_fails_under_a_step_in_flight_gives_wrong_tokens(model: Path) -> None:
    engine = Engine(blocks=1501, connector="sync", fail_loads=True, **IN_FLIGHT)
    case, trace = stock(model, engine, Op(0, "add", "1_r6", prompt=180, output=50))
    (wrong,) = wrong_outputs(case, trace, True)
    assert explained(trace, f"outputs: {wrong}")


@only("0.32.")
def test_a_session_whose_last_token_is_in_flight_when_it_is_preempted_is_lost(model: Path) -> None:
    session = Op(0, "add", "r1", prompt=63, output=3, resumable=True)
    engine = Engine(blocks=37, **IN_FLIGHT)
    _, trace = stock(model, engine, Op(0, "add", "r0", prompt=493, output=20), session, Op(40, "end", "r1"))
    assert trace.preemptions == {"r1": 1}
    oracle, text = trace.problems[0]
    assert explained(trace, f"seen_on_the_way: {oracle}: {text}")


@only("0.26.")
def test_a_session_that_stops_with_drafts_in_flight_is_queued_twice(model: Path) -> None:
    engine = Engine(blocks=3001, spec=3, **IN_FLIGHT)
    session = Op(10, "add", "r1", prompt=64, output=10, resumable=True)
    _, trace = stock(model, engine, session, Op(32, "chunk", "r1", prompt=10, output=1))
    assert explained(trace, f"no_exception: RuntimeError: {trace.error}")


@only("0.26.")
def test_a_reset_with_drafts_in_flight_drops_later_steps(model: Path) -> None:
    reset = Op(4, "reset", value=True)
    engine = Engine(blocks=200, spec=3, **IN_FLIGHT)
    _, trace = stock(model, engine, Op(0, "add", "r1", prompt=16, output=8), reset)
    assert isinstance(trace.error, StuckError)
    assert explained(trace, f"no_exception: StuckError: {trace.error}")


@only("0.26.")
def test_two_resets_in_a_row_drop_too_little(model: Path) -> None:
    resets = [Op(at, "reset", value=True) for at in (20, 21)]
    engine = Engine(blocks=102, budget=32, asynchronous=True, depth=3)
    _, trace = stock(model, engine, Op(0, "add", "r0", prompt=33, output=50), *resets)
    assert trace.error is not None
    assert explained(trace, f"no_exception: AssertionError: {trace.error} ({place_of(trace.error)})")


@only("0.26.")
def test_who_has_loaded_waits_behind_one_that_finds_no_memory(model: Path) -> None:
    sizes = {"r1": (180, 2, 0), "r3": (64, 50, 64), "r4": (120, 10, 0), "r5": (1, 1, 64)}
    sizes |= {"r6": (120, 50, 0), "r7": (16, 50, 40), "r8": (180, 2, 0)}
    _, trace = stock(model, Engine(blocks=41, budget=64, connector="async"), *together(sizes))
    assert isinstance(trace.error, StuckError)
    assert explained(trace, f"no_exception: StuckError: {trace.error}")


@only("0.26.")
def test_a_sessions_next_input_waits_behind_one_that_finds_no_memory(model: Path) -> None:
    session = Op(3, "add", "r1", prompt=244, output=50, resumable=True)
    other = Op(8, "add", "r9", prompt=368, output=2)
    later = Op(17, "chunk", "r1", prompt=1, output=4), Op(90, "end", "r1")
    _, trace = stock(model, Engine(blocks=41), session, other, *later)
    assert isinstance(trace.error, StuckError)
    assert explained(trace, f"no_exception: StuckError: {trace.error}")


def test_mamba_blocks_run_out_though_vllm_found_that_there_is_room(model: Path) -> None:
    sizes = {"r0": (180, 25, 0), "r1": (33, 2, 16), "r2": (64, 10, 0), "r3": (180, 10, 0), "r4": (120, 10, 0)}
    sizes |= {
        "r7": (33, 50, 0),
        "r8": (120, 1, 0),
        "r9": (64, 50, 0),
        "r11": (1, 10, 64),
        "r14": (33, 50, 40),
    }
    engine = Engine(
        blocks=87, seats=16, budget=100, caching=True, depth=3, layout="mamba-align", connector="sync"
    )
    if not vllm.__version__.startswith("0.26."):  # other ten, where the whole prompt need not fit
        sizes = {
            "r0": (180, 25, 0),
            "r1": (33, 2, 0),
            "r2": (64, 10, 0),
            "r3": (180, 10, 0),
            "r4": (120, 10, 0),
        }
        sizes |= {
            "r6": (33, 1, 40),
            "r7": (33, 50, 0),
            "r10": (33, 2, 0),
            "r12": (120, 10, 0),
            "r14": (33, 50, 40),
        }
        engine = replace(engine, reserve_full=False, caching=False)
    _, trace = stock(model, engine, *together(sizes))
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
