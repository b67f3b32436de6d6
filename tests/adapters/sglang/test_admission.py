"""The queue of one admission round, on stand-ins for SGLang's requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bidkv.adapters.sglang.admission import AdmissionRound
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.request import PoolState, RequestState


def req(name: str, prompt: int, most: int = 10, output: int = 0) -> Any:
    return SimpleNamespace(
        rid=name,
        origin_input_ids=[0] * prompt,
        output_ids=[0] * output,
        sampling_params=SimpleNamespace(max_new_tokens=most),
    )


def arranged(
    queue: list[Any],
    running: list[Any],
    free: int,
    overtaken: dict[str, int] | None = None,
    admission: str = "backfill",
    clip: int = 4096,
    decodes: int = 1000,
    chunked: Any = None,
    mixed: bool = False,
    **params: Any,
) -> tuple[str, str]:
    """Who is shown and who is held, each as one string; a pool of 1,000 tokens in pages of 10."""
    settings = AdapterSettings(strategy=admission, admission=admission, victim="lcf", admission_params=params)
    session = SimpleNamespace(
        strategy=settings.build(),
        pool=PoolState(capacity_tokens=1000),
        admits=lambda state, others: session.strategy.admission.admits(state, others, session.pool),
    )
    pool = SimpleNamespace(page_size=10, num_blocks=100, reclaimable_tokens=lambda: free)
    turn = AdmissionRound(
        SimpleNamespace(new_token_ratio=0.5, chunked_req=chunked, is_mixed_chunk=mixed),
        pool,
        session,
        running,
        lambda r: RequestState(
            r.rid, 0, len(r.origin_input_ids), len(r.output_ids), r.sampling_params.max_new_tokens
        ),
        lambda r: (overtaken or {}).get(r.rid, 0),
        clip,
        decodes,
    )
    held = turn.arrange(queue)
    return "".join(r.rid for r in queue), "".join(r.rid for r in held)


FREE = {"headroom": 0.0, "growth": 0.0}


def test_who_fits_passes_a_first_one_that_does_not() -> None:
    running = [req("x", 100, 100)]
    queue = [req("a", 50), req("b", 400), req("c", 60), req("d", 300), req("e", 20)]
    # 200 free, 50 of them reserved: a (50 + 10) and c (60 + 10) fit, beside them e (20 + 10) does not
    assert arranged(queue, running, 200, **FREE) == ("ac", "bde")


def test_memory_is_reckoned_with_the_engines_own_clip() -> None:
    running = [req("x", 100, 500)]
    queue = [req("a", 100, 300), req("b", 30, 10)]
    # 150 free. Clipped to 16 tokens of output a (100 + 16) fits beside x (8) and nobody need pass it; unclipped nobody fits.
    assert arranged(list(queue), running, 150, clip=16, **FREE) == ("ab", "")
    assert arranged(list(queue), running, 150, **FREE) == ("ab", "")
    # 300 free, 250 of them reserved for x unless clipped: then b passes.
    assert arranged(list(queue), running, 300, clip=4096, **FREE) == ("ba", "")
    assert arranged(list(queue), running, 300, clip=16, **FREE) == ("ab", "")


def test_nobody_passes_one_who_was_overtaken_often() -> None:
    queue = [req("a", 400), req("b", 20), req("c", 400)]
    running = [req("x", 100, 100)]
    assert arranged(list(queue), running, 100, {"c": 5}, max_overtaken=6, **FREE) == ("b", "ac")
    assert arranged(list(queue), running, 100, {"c": 5}, max_overtaken=5, **FREE) == ("", "cab")


def test_passers_make_no_prefill_of_their_own_but_after_a_while() -> None:
    running, behind = [req("x", 100, 100)], [req("b", 400), req("c", 20), req("d", 30)]
    rule = {"alone_after": 64, "alone_after_s": 1e9} | FREE
    arrange = lambda queue, **where: arranged(list(queue), running, 200, **rule, **where)  # noqa: E731
    assert arrange(behind, decodes=63) == ("", "bcd")
    assert arrange(behind, decodes=64) == ("cd", "b")
    assert arrange([req("a", 50), *behind], decodes=0) == ("acd", "b")  # a prefills anyway
    # A prompt that is cut into chunks goes on anyway; chunks beside decodes stall nobody.
    assert arrange(behind, decodes=0, chunked=req("long", 900)) == ("cd", "b")
    assert arrange(behind, decodes=0, mixed=True) == ("cd", "b")


def test_headroom_hides_the_queue_unless_nothing_runs() -> None:
    queue = [req("a", 50), req("b", 40)]
    running = [req("x", 100, 20)]
    assert arranged(list(queue), running, 100, headroom=0.06, growth=0.0, depth=1) == ("b", "a")
    assert arranged(list(queue), running, 100, headroom=0.1, growth=0.0) == ("", "ab")
    assert arranged(list(queue), [], 100, headroom=0.1, growth=0.0) == ("ab", "")


def test_a_gate_without_backfill_holds_all_behind_it() -> None:
    running, limits = [req("x", 100, 20)], {"admission": "peak-gate"}
    # the peak is where a finishes: 650 + 400 tokens of the 1,000; 500 + 400 fit
    assert arranged([req("a", 650, 400), req("b", 10)], running, 900, **limits) == ("", "ab")
    assert arranged([req("a", 500, 400), req("b", 10)], running, 900, **limits) == ("ab", "")
