"""Learned lengths: a prior, what is forgotten, how much is kept, and who may teach whom."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidkv import BidValidationError, RequestState, create_default_registry
from bidkv.checks import check_at_least
from bidkv.lengths import seen
from bidkv.lengths.estimates import DeclaredLengths, LearnedLengths, learned_by, make_lengths, teach
from bidkv.request import FinishedRequest


def request(declared: int, output: int = 0, prompt: int = 500) -> RequestState:
    return RequestState("a", 0, prompt, output, declared)


def learn(lengths: LearnedLengths, count: int, output: int, declared: int, prompt: int = 500) -> None:
    for _ in range(count):
        lengths.observe(FinishedRequest("x", prompt, output, declared))


@pytest.mark.parametrize(
    ("declared", "output", "mean"),
    [
        (130_572, 0, 512),
        (130_572, 2000, 2512),  # still running: as much again as at the start
        (100, 0, 100),  # a declaration is a bound
        (2100, 2000, 2100),
        (2000, 2000, 2001),
        (0, 0, 512),
    ],
)
def test_what_is_unknown_starts_from_the_prior(declared: int, output: int, mean: float) -> None:
    assert LearnedLengths().mean(request(declared, output)) == mean
    assert LearnedLengths().quantile(request(declared, output), 0.9) == mean


def test_the_prior_is_a_parameter() -> None:
    assert make_lengths("p", "learned", prior=64).mean(request(130_572)) == 64
    assert make_lengths("p", "declared", prior=64).mean(request(0)) == 64
    assert DeclaredLengths().mean(request(0)) == 512
    with pytest.raises(BidValidationError, match="p: prior must be >= 1, got 0"):
        make_lengths("p", "learned", prior=0)
    with pytest.raises(BidValidationError, match="nan"):
        check_at_least("p", 1, prior=float("nan"))


def test_an_output_longer_than_all_known_ones_is_not_expected_to_fill_a_huge_context() -> None:
    lengths = LearnedLengths()
    learn(lengths, 30, 300, 130_572)
    assert lengths.mean(request(130_572, 300)) == 300 + 512
    assert lengths.mean(request(130_572, 4000)) == 8000
    assert lengths.mean(request(1024, 300)) == 300 + (1024 - 300) / 4


@pytest.mark.parametrize("flood", [(1, 1), (2, 1), (20, 1), (131_072, 100_000)])
@pytest.mark.parametrize("unseen", [600, 777, 1024, 4096, 130_572])
def test_a_flood_of_another_kind_does_not_halve_what_is_expected_of_others(
    flood: tuple[int, int], unseen: int
) -> None:
    lengths = LearnedLengths()
    for output in range(400, 450):
        learn(lengths, 12, output, 1024)
    before = lengths.mean(request(unseen))
    declared, output = flood
    learn(lengths, 600, output, declared, prompt=20)
    after = lengths.mean(request(unseen))
    if not (declared > 100_000 and unseen > 1024):  # there the flood is of their own kind
        assert before / 2 < after < before * 2
    assert lengths.mean(request(1024)) == pytest.approx(424.5, abs=10)


def test_a_flood_before_anything_else_is_known_leaves_the_prior() -> None:
    lengths = LearnedLengths()
    learn(lengths, 600, 1, 1)
    assert lengths.mean(request(1024)) == 512
    assert lengths.mean(request(300)) == 300


def test_what_is_old_is_forgotten_after_so_many_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "LATEST", 3000)
    lengths = LearnedLengths()
    learn(lengths, 100, 900, 1024)
    learn(lengths, 2000, 5, 64)
    assert lengths.mean(request(1024)) == 900
    learn(lengths, 4000, 5, 64)
    assert lengths.mean(request(1024)) == 512, "the prior again: nobody declared as much for long"
    learn(lengths, 20, 700, 1024)
    assert lengths.mean(request(1024)) == 700


def test_the_number_of_kinds_and_of_outputs_is_bounded_whoever_asks() -> None:
    draw, lengths = random.Random(0), LearnedLengths()
    for number in range(60_000):
        declared = draw.choice((draw.randrange(1, 131_072), draw.randrange(1, 400)))
        lengths.observe(FinishedRequest("x", draw.randrange(1, 65_536), number % 700, declared))
        if number % 100 == 0:
            lengths.mean(request(draw.randrange(1, 131_072)))
    kinds = lengths._samples
    assert len(kinds) <= 2 * seen.KINDS + 20
    assert kinds.outputs <= 3 * (seen.LATEST + 1024)
    assert len(kinds._answers) <= 4096


def test_kinds_that_come_once_push_out_no_kind_that_is_known() -> None:
    lengths = LearnedLengths()
    learn(lengths, 20, 100, 1000)
    for declared in range(2000, 12_000):
        lengths.observe(FinishedRequest("x", 500, 1500, declared))
    assert lengths.mean(request(1000)) == 100
    assert lengths.mean(request(1020)) == 100, "its power of two"


@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 300), st.integers(1, 3000)), max_size=120))
def test_every_estimate_lies_above_what_is_there_and_within_what_is_declared(kinds: list) -> None:
    lengths = LearnedLengths(enough=3, window=8)
    for declared, prompt, output in kinds:
        asked = request(declared, output % declared, prompt)
        for estimate in (lengths.mean(asked), lengths.quantile(asked, 0.5)):
            assert asked.output_tokens + 1 <= estimate <= declared
        lengths.observe(FinishedRequest("x", prompt, min(output, declared), declared))


@pytest.mark.parametrize("name", ["backfill", "bidkv2", "peak-gate", "a-min"])
def test_what_one_strategy_learned_another_can_start_from(name: str) -> None:
    registry = create_default_registry()
    old, new = registry.get("backfill"), registry.get(name)
    for _ in range(30):
        old.observe(FinishedRequest("x", 500, 200, 1024))
    learned = learned_by(old.admission, old.victim)
    assert learned_by(registry.get("lcf").admission) is None
    teach(learned, new.admission, new.victim)
    assert learned_by(new.admission).mean(request(1024)) == 200
    for _ in range(600):
        new.observe(FinishedRequest("x", 500, 800, 1024))
    assert learned_by(new.admission, new.victim).mean(request(1024)) == 800
    assert learned.mean(request(1024)) == 200, "each has its own copy"


def test_a_copy_knows_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = LearnedLengths(), LearnedLengths(enough=3)
    learn(first, 10, 50, 100)
    second.adopt(first)
    assert not first.knows(request(100)) and second.knows(request(100))
    assert replace(request(100), output_tokens=10).output_tokens == 10
    assert second.mean(request(100, 10)) == 50
