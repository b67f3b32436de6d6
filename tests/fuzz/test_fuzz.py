"""A short run of `make fuzz`; mutants show that its oracles bite, stock against itself that they bite nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

from vllm.v1.core.sched.request_queue import FCFSRequestQueue  # noqa: E402

from fuzz.cases import make_case  # noqa: E402
from fuzz.check import STOCK_PAIR, Verdict, check, strategies, warm_up  # noqa: E402
from fuzz.leak import leftovers  # noqa: E402
from ray_jobs.engines.shared.tiny_model import make_tiny_llama  # noqa: E402

CASES = 200
PAIRS = 40
REQUESTS = 2_000  # over all strategies; `make fuzz` gives 20,000 to each


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = make_tiny_llama(tmp_path_factory.mktemp("tiny"))
    warm_up(model, tmp_path_factory.mktemp("warm"))
    return model


@pytest.fixture(scope="module")
def verdicts(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    scratch = tmp_path_factory.mktemp("cases")
    return [check(make_case(seed, strategies()), model, scratch) for seed in range(CASES)]


def test_random_cases_hold(verdicts: list[Verdict]) -> None:
    found = [failure for verdict in verdicts for failure in verdict.failures]
    assert not found, "\n".join(f"--seed {f.case.seed}: {f.oracle}: {f.text} [{f.case}]" for f in found)


def test_most_cases_run_and_many_are_short_of_memory(verdicts: list[Verdict]) -> None:
    assert sum(v.skipped is None for v in verdicts) >= 0.9 * CASES
    assert sum(v.refused for v in verdicts) >= 0.1 * CASES
    assert sum(v.preemptions > 0 for v in verdicts) >= 0.1 * CASES


def test_stock_beside_itself_shows_nothing(model: Path, tmp_path: Path) -> None:
    for seed in range(PAIRS):
        assert not check(make_case(seed, strategies(), STOCK_PAIR), model, tmp_path).failures, seed


class Reversed:
    """Serves the last in line first."""

    def schedule(self: Any, *args: Any, **kwargs: Any) -> Any:
        assert isinstance(self.waiting, FCFSRequestQueue)
        self.waiting.reverse()
        return super().schedule(*args, **kwargs)


class Keeping:
    """Keeps every request."""

    def add_request(self: Any, request: Any) -> None:
        self._bidkv_hoard = [*getattr(self, "_bidkv_hoard", ()), request]
        super().add_request(request)


class Miscounting:
    """Counts a request twice."""

    def add_request(self: Any, request: Any) -> None:
        self._bidkv_session.log.counters["arrivals"] += 1
        super().add_request(request)


class Dawdling:
    """Schedules something in every fifth step only."""

    def schedule(self: Any, *args: Any, **kwargs: Any) -> Any:
        budget, self.max_num_scheduled_tokens = self.max_num_scheduled_tokens, 0
        calls = self._calls = getattr(self, "_calls", 0) + 1
        if calls % 5 == 0:
            self.max_num_scheduled_tokens = budget
        try:
            return super().schedule(*args, **kwargs)
        finally:
            self.max_num_scheduled_tokens = budget


class Forgetful:
    """Loses the last token of an answer."""

    def update_from_output(self: Any, scheduler_output: Any, model_runner_output: Any) -> Any:
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        for of_client in outputs.values():
            for item in of_client.outputs:
                if item.finish_reason is not None:
                    item.new_token_ids = item.new_token_ids[:-1]
        return outputs


class Leaving:
    """Leaves the priority policy behind."""

    def _preempt_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> None:
        super()._preempt_request(request, *args, **kwargs)
        request.priority = 7


@pytest.mark.parametrize(
    "mutant, caught",
    [
        (Reversed, {"same_schedule", "overtaking"}),
        (Keeping, {"nothing_left"}),
        (Miscounting, {"counters"}),
        (Dawdling, {"same_schedule", "progress"}),
        (Forgetful, {"outputs"}),
        (Leaving, {"seen_on_the_way"}),
    ],
)
def test_mutants_are_caught(mutant: type, caught: set[str], model: Path, tmp_path: Path) -> None:
    found: set[str] = set()
    for seed in range(60):
        case = make_case(seed, strategies(), "stock")
        if case.has("switch"):
            continue
        found |= {failure.oracle for failure in check(case, model, tmp_path, mutant).failures}
        if caught <= found:
            return
    assert caught <= found


def test_nothing_of_a_request_stays(model: Path) -> None:
    each = REQUESTS // len(strategies())
    left = {name: leftovers(name, each, model) for name in strategies()}
    assert not {name: problems for name, problems in left.items() if problems}
