from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import bidkv
from bidkv import (
    BaselineRegistry,
    BidKVStrategy,
    BidValidationError,
    PreemptEvictStrategy,
    RequestState,
    Strategy,
    UnknownNameError,
    compute_utility,
    create_default_registry,
    disruption,
    eligible_victims,
)
from bidkv.strategies import BUILT_IN

CONF = Path(__file__).resolve().parents[2] / "conf" / "strategy"


def state(name: str, computed: int = 100, output: int = 10, declared: int = 100, **more) -> RequestState:
    return RequestState(
        name,
        computed,
        prompt_tokens=max(0, computed - output),
        output_tokens=output,
        max_tokens=declared,
        **more,
    )


def victim(policy: str, *states: RequestState, **params) -> str:
    return create_default_registry().pair("fcfs", policy, **params).victim.select(states, 0.0).request_id


def test_lifo_takes_the_last() -> None:
    assert victim("lifo", state("a"), state("b", 5), state("c", 50)) == "c"


def test_largest() -> None:
    assert victim("largest", state("a", 10), state("b", 90), state("c", 50)) == "b"


def test_lcf() -> None:
    assert victim("lcf", state("a", 60), state("b", 20), state("c", 50)) == "b"


def test_lcf_guard_skips_who_suffered_thrice_unless_all_did() -> None:
    tired, fresh = state("a", 10, preemptions=3), state("b", 500, preemptions=2)
    assert victim("lcf-guard", tired, fresh) == "b"
    assert victim("lcf", tired, fresh) == "a"
    assert victim("lcf-guard", tired, state("b", 500, preemptions=9)) == "a"
    assert victim("lcf-guard", tired, fresh, max_preemptions=4) == "a"


def test_least_progress() -> None:
    assert victim("least-progress", state("a", output=5), state("b", output=2), state("c", output=9)) == "b"


def test_priority_takes_the_least_important_then_the_latest() -> None:
    states = [
        state("a", priority=2, arrival=1.0),
        state("b", priority=2, arrival=5.0),
        state("c", arrival=9.0),
    ]
    assert victim("priority", *states) == "b"


def test_cost_aware_weighs_blocks_tokens_and_completion() -> None:
    shared = state("a", 160, output=0, private_blocks=2, total_blocks=10)
    private = state("b", 160, output=0, private_blocks=10)
    nearly_done = state("c", 160, output=95, private_blocks=10)
    assert victim("cost-aware", private, shared, nearly_done) == "b"
    # 10/160 * (1 - .9) = .00625 < 2/160 * 1
    assert victim("cost-aware", shared, state("d", 160, output=90, private_blocks=10)) == "a"


def test_cost_aware_says_what_it_misses() -> None:
    with pytest.raises(BidValidationError, match="private_blocks of request 'a' is not known"):
        victim("cost-aware", state("a"), state("b"))


def test_oracles_use_the_true_length_and_say_when_it_is_missing() -> None:
    long = state("a", 400, output=10, true_output_tokens=100)  # 90 left, .225 a token
    short = state("b", 40, output=10, true_output_tokens=30)  # 20 left, .5 a token
    assert victim("srpt_oracle", short, long) == "a"
    assert victim("ratio_oracle", long, short) == "b"
    nearly_done = state("c", 400, output=95, true_output_tokens=100)
    assert victim("srpt_oracle", short, nearly_done) == "b"
    for policy in ("srpt_oracle", "ratio_oracle"):
        with pytest.raises(BidValidationError, match="true_output_tokens"):
            victim(policy, state("a"))


def test_bidkv_prefers_large_fresh_unpreempted_requests() -> None:
    assert victim("bidkv", state("a", 100, output=0), state("b", 120, output=90)) == "a"  # 120/1.45 < 100
    assert victim("bidkv", state("a", 100, output=0), state("b", 120, output=0, preemptions=1)) == "a"
    assert (
        victim("bidkv", state("a", 100, output=0), state("b", 120, output=90), completion_weight=0.0) == "b"
    )


@given(st.integers(1, 10_000), st.integers(0, 500), st.integers(0, 400), st.integers(0, 9))
def test_bidkv_score_is_the_utility_of_the_surrogate(computed, output, declared, preemptions) -> None:
    request = RequestState("a", computed, 1, output, declared, preemptions=preemptions)
    assert BidKVStrategy().victim.score(request, 0.0) == pytest.approx(
        compute_utility(computed, disruption(request))
    )


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 300), st.integers(0, 3)), min_size=1, max_size=9),
    st.integers(0, 200),
    st.floats(0, 1),
)
def test_bidkv2_scores_are_the_utility_of_what_is_needed(drawn, shortfall, kept) -> None:
    policy = create_default_registry().get("bidkv2").victim
    policy.pool.shortfall_tokens, policy.kept.value, policy.wait_seconds = shortfall, kept, 0.5
    states = [
        state(f"r{n}", computed, private_tokens=min(computed, private), preemptions=preemptions)
        for n, (computed, private, preemptions) in enumerate(drawn)
    ]

    def utility(request: RequestState) -> float:
        seconds = 1 + request.private_tokens * (1 - kept) / policy.tokens_per_step
        freed = min(request.private_tokens, shortfall or request.private_tokens)
        return compute_utility(freed, seconds * policy.pool.seconds_per_step + 0.5)

    assert policy.scores(states, 0.0) == pytest.approx([utility(request) for request in states])
    assert policy.scores(states, 0.0) == [policy.score(request, 0.0) for request in states]
    fresh = [request for request in states if request.preemptions < 3] or states
    assert policy.score(policy.select(states, 0.0), 0.0) == max(policy.scores(fresh, 0.0))


def test_random_is_fair_and_seeded() -> None:
    states = [state(f"r{n}") for n in range(4)]

    def draw(seed: int) -> list[str]:
        policy = bidkv.StaticRandomStrategy(seed=seed).victim
        return [policy.select(states, 0.0).request_id for _ in range(4_000)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    counts = Counter(draw(3))
    assert len(counts) == 4
    assert all(abs(count - 1_000) < 140 for count in counts.values())  # 5 standard deviations


@pytest.mark.parametrize(
    "name", [cls.victim_class.name for cls in BUILT_IN if cls.victim_class.name != "random"]
)
def test_ties_go_to_the_last_admitted(name: str) -> None:
    states = [state(f"r{n}", private_blocks=5, private_tokens=80, true_output_tokens=60) for n in range(5)]
    assert victim(name, *states) == "r4"


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.name)
def test_a_victim_is_one_of_the_candidates_and_nothing_is_changed(cls: type[Strategy]) -> None:
    states = [
        state(f"r{n}", 50 * n + 1, n, 99, private_blocks=n, private_tokens=n, true_output_tokens=99)
        for n in range(6)
    ]
    before = [repr(s) for s in states]
    assert cls().victim.select(states, 1.0) in states
    assert [repr(s) for s in states] == before
    assert cls().victim.select(states[:1], 1.0) is states[0]


def test_the_requester_is_no_candidate_in_the_middle() -> None:
    states = [state("a"), state("b"), state("c")]
    lifo, lcf = PreemptEvictStrategy().victim, bidkv.LcfStrategy().victim
    assert [s.request_id for s in eligible_victims(states, 1, lifo)] == ["a", "c"]
    assert [s.request_id for s in eligible_victims(states, 2, lifo)] == ["a", "b", "c"]
    assert [s.request_id for s in eligible_victims(states, 2, lcf)] == ["a", "b"]
    assert [s.request_id for s in eligible_victims(states[:1], 0, lcf)] == ["a"]
    assert [s.request_id for s in eligible_victims(states, None, lcf)] == ["a", "b", "c"]


def test_select_victims_until_enough_is_freed() -> None:
    states = [state("a", 100), state("b", 300), state("c", 200)]
    largest = bidkv.LargestFirstStrategy()
    assert [s.request_id for s in largest.select_victims(states, 301)] == ["b", "c"]
    assert largest.select_victims(states, 0) == []
    assert len(largest.select_victims(states, 10**6)) == 3
    assert len(states) == 3


def test_the_five_original_strategies_are_pairs() -> None:
    pairs = {
        "preempt-evict": ("fcfs", "lifo"),
        "preempt-evict-sjf": ("sjf", "lifo"),
        "static-random": ("sjf", "random"),
        "largest-first": ("sjf", "largest"),
        "bidkv": ("sjf", "bidkv"),
    }
    registry = create_default_registry()
    for name, (admission, policy) in pairs.items():
        strategy = registry.get(name)
        assert (strategy.name, strategy.admission.name, strategy.victim.name) == (name, admission, policy)
    mixed = registry.pair("fcfs", "bidkv", preemption_weight=1.0)
    assert (mixed.admission.name, mixed.victim.name, mixed.victim.preemption_weight) == ("fcfs", "bidkv", 1.0)


def test_admission_orders() -> None:
    early_long = state("a", 0, output=0, declared=500, arrival=1.0)
    late_short = state("b", 0, output=0, declared=10, arrival=2.0)
    urgent = state("c", 0, output=0, declared=900, arrival=3.0, priority=-1)
    queue = [urgent, late_short, early_long]

    def order(admission: str) -> str:
        key = create_default_registry().pair(admission, "lifo").admission.key
        return "".join(s.request_id for s in sorted(queue, key=key))

    assert order("fcfs") == "cba"  # as they joined the queue
    assert order("sjf") == "bac"
    assert order("priority") == "cab"


def test_unknown_names_list_the_allowed_ones() -> None:
    registry = create_default_registry()
    with pytest.raises(
        UnknownNameError, match="strategy: unknown 'bidvk'; allowed: a-min, .*bidkv, .*cost-aware, "
    ):
        registry.get("bidvk")
    with pytest.raises(UnknownNameError, match="victim: unknown"):
        registry.pair("fcfs", "nope")
    with pytest.raises(UnknownNameError, match="admission: unknown"):
        registry.pair("nope", "lifo")
    with pytest.raises(BidValidationError, match="bad parameters"):
        registry.get("bidkv", weight=1)
    with pytest.raises(BidValidationError, match="completion_weight"):
        registry.get("bidkv", completion_weight=-1)
    with pytest.raises(BidValidationError, match="max_preemptions"):
        registry.get("lcf-guard", max_preemptions=0)


def test_a_subclass_can_be_registered_and_names_are_not_stolen() -> None:
    class Mine(bidkv.LcfStrategy):
        name = "mine"

    class Thief(bidkv.LcfStrategy):
        name = "mine"

    registry = BaselineRegistry()
    registry.register(Mine)
    registry.register(Mine)
    assert registry.list_strategies() == ["mine"]
    assert registry.list_victims() == ["lcf"]
    assert isinstance(registry.get("mine"), Mine)
    with pytest.raises(BidValidationError, match="taken"):
        registry.register(Thief)
    with pytest.raises(BidValidationError, match="cannot register"):
        registry.register(int)  # type: ignore[arg-type]


def test_an_entry_point_adds_a_strategy(tmp_path, monkeypatch) -> None:
    (tmp_path / "plug.py").write_text(
        "from bidkv import LcfStrategy\nclass Plugged(LcfStrategy):\n    name = 'plugged'\n"
    )
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bidkv.strategies]\nplugged = plug:Plugged\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "plugged" in create_default_registry().list_strategies()


@pytest.mark.parametrize(
    "wing", [bidkv.admission, bidkv.victim, bidkv.retention], ids=lambda wing: wing.__name__
)
def test_a_rule_is_in_the_file_of_its_name(wing: ModuleType) -> None:
    for cls in wing.RULES:
        assert cls.__module__ == f"{wing.__name__}.{cls.name.replace('-', '_')}"


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: cls.name)
def test_every_strategy_has_its_conf_and_its_source(cls: type[Strategy]) -> None:
    path = CONF / f"{cls.name}.yaml"
    conf = yaml.safe_load(path.read_text())
    assert path.read_text().startswith("# ")
    assert {k: conf[k] for k in ("name", "admission", "victim")} == {
        "name": cls.name,
        "admission": cls.admission_class.name,
        "victim": cls.victim_class.name,
    }
    cls(conf.get("admission_params"), conf.get("retention_params"), **conf["params"])
    assert conf.get("retention", "lru") == cls.retention_class.name
    assert cls.victim_class.source and cls.admission_class.source
    assert cls.admission_class.oracle == cls.admission_class.name.endswith("_oracle")
    assert cls.victim_class.oracle == cls.victim_class.name.endswith("_oracle")


def test_every_conf_names_a_registered_strategy() -> None:
    named = {
        path.stem for path in CONF.glob("*.yaml") if not path.stem.startswith("stock-")
    }  # an engine's own knobs
    named -= {"as-served"}  # whatever a server does
    assert named == set(create_default_registry().list_strategies())


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_declares_the_parameters_of_its_rules_with_their_defaults(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    rules = [config["admission"], config["victim"], config.get("retention", "lru")]
    pair = create_default_registry().pair(*rules)
    for key, policy in (
        ("params", pair.victim),
        ("admission_params", pair.admission),
        ("retention_params", pair.retention),
    ):
        # The seed is the run's, and an oracle does not start from a guess.
        parameters = inspect.signature(type(policy)).parameters.values()
        own = {
            p.name: p.default for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD and p.name != "seed"
        }
        if policy.oracle:
            own.pop("prior", None)
        assert config.get(key, {}) == own, key
