"""The adapter's own parts: settings, layout checks, admission order, exact lengths, what an oracle sees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bidkv.adapters.sglang import layout, plugin
from bidkv.adapters.sglang.configure import CONTROL_VARIABLE, STRATEGY_VARIABLE
from bidkv.adapters.shared.control import ControlFile, write_control
from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidValidationError


@pytest.fixture
def driver(tiny_model: Path) -> Any:
    from driver import Driver

    return Driver(tiny_model, 1024)


def arrive(adapter: Any, driver: Any, reqs: list[Any]) -> None:
    for req in reqs:
        adapter._add_request_to_queue(lambda s, r, _: s.waiting_queue.append(r), driver.scheduler, req)


def queue_order(driver: Any) -> list[str]:
    from sglang.srt.managers.schedule_policy import SchedulePolicy

    policy = SchedulePolicy("fcfs", driver.tree, False, False, False)
    policy.calc_priority(driver.scheduler.waiting_queue)
    return [req.rid for req in driver.scheduler.waiting_queue]


class Flags:
    """SGLang's arguments, but for some."""

    def __init__(self, args: Any, **changed: Any):
        self.__dict__.update(changed, _args=args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._args, name)


def classes() -> dict[str, type]:
    from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
    from sglang.srt.managers.schedule_policy import PrefillAdder, SchedulePolicy
    from sglang.srt.managers.scheduler import Scheduler
    from sglang.srt.managers.scheduler_components.request_receiver import SchedulerRequestReceiver

    names = (
        layout.SCHEDULER,
        layout.BATCH,
        layout.REQUEST,
        layout.POLICY,
        layout.ADDER,
        layout.RECEIVER,
    )
    found = (Scheduler, ScheduleBatch, Req, SchedulePolicy, PrefillAdder, SchedulerRequestReceiver)
    return dict(zip(names, found, strict=True))


def test_sjf_puts_the_shortest_declared_job_first(driver: Any, hooked: Callable[..., Any]) -> None:
    adapter = hooked(driver.scheduler, strategy="bidkv_radix")
    sizes = {"long": (40, 60), "short": (10, 20), "middle": (10, 70), "tie": (40, 40)}
    arrive(
        adapter,
        driver,
        [driver.request(n, range(3, 3 + p), {"max_tokens": m}) for n, (p, m) in sizes.items()],
    )
    assert queue_order(driver) == ["short", "middle", "tie", "long"]


def test_a_retracted_request_waits_in_front_unless_the_order_is_the_engines(
    driver: Any, hooked: Callable[..., Any]
) -> None:
    def after_retraction(**settings: Any) -> list[str]:
        driver.scheduler.waiting_queue = []
        adapter = hooked(driver.scheduler, **settings)
        reqs = [
            driver.request(n, range(3, 3 + size), {"max_tokens": 50}) for n, size in (("a", 5), ("b", 90))
        ]
        arrive(adapter, driver, reqs)
        adapter._accounts["b"].evicted(1.0)
        return queue_order(driver)

    assert after_retraction(strategy="bidkv_radix") == ["b", "a"]
    assert after_retraction(strategy="sglang_default") == ["a", "b"]


def test_the_true_length_ends_the_output_and_is_no_part_of_admission(
    driver: Any, hooked: Callable[..., Any]
) -> None:
    adapter = hooked(driver.scheduler, strategy="bidkv_radix")
    req = driver.request("r", [5, 6, 7], {"max_tokens": 200, "true_output_tokens": 3})
    free = driver.request("free", [5, 6, 7])
    for each in (req, free):
        each.eos_token_ids = {2}
    arrive(adapter, driver, [req, free])
    assert req.sampling_params.max_new_tokens == 256 and not req.sampling_params.ignore_eos
    assert adapter._accounts["r"].state.max_tokens == 200
    for token in (9, 2):  # an end-of-sequence token in between does not count
        req.output_ids.append(token)
        req.update_finish_state()
        assert not req.finished()
    assert req.next_output_finishes_by_length() and not free.next_output_finishes_by_length()
    req.output_ids.append(11)
    req.update_finish_state()
    assert req.finished_reason.to_json() == {"type": "length", "length": 3}
    free.output_ids.append(2)
    free.update_finish_state()
    assert free.finished_reason.to_json()["type"] == "stop"


def test_only_oracles_see_the_true_length(driver: Any, hooked: Callable[..., Any]) -> None:
    for strategy, expected in (("bidkv_radix", None), ("srpt_oracle", 3)):
        driver.scheduler.waiting_queue = []
        adapter = hooked(driver.scheduler, strategy=strategy)
        arrive(
            adapter, driver, [driver.request("r", [5, 6, 7], {"max_tokens": 200, "true_output_tokens": 3})]
        )
        assert adapter._accounts["r"].state.true_output_tokens == expected


def test_the_control_file_installs_settings_and_turns_the_kill_switch(driver: Any, tmp_path: Path) -> None:
    from bidkv.adapters.sglang.adapter import SGLangAdapter

    control = tmp_path / "control.json"
    first = AdapterSettings(strategy="lcf", run_id="one", events_path=str(tmp_path / "one"))
    write_control(control, first)
    source = ControlFile(control, trusted=True)
    adapter = SGLangAdapter(source.update(None), source)
    step = lambda: adapter.get_next_batch_to_run(lambda scheduler: "plan", driver.scheduler)  # noqa: E731
    assert step() == "plan"
    write_control(control, {"kill_switch": True})
    step()
    write_control(control, {"strategy": "no such"})
    step()
    write_control(
        control, AdapterSettings(strategy="bidkv_radix", run_id="two", events_path=str(tmp_path / "two"))
    )
    step()
    adapter.close()
    types = [event["type"] for event in read_events(tmp_path / "one")]
    assert types == ["run_start", "kill_switch", "control_error", "run_end"]
    start = read_events(tmp_path / "two")[0]
    assert start["run_id"] == "two" and start["victim"] == "bidkv_radix" and start["engine"] == "sglang"
    assert start["num_blocks"] == 1024 and start["block_size"] == 1 and start["prefix_caching"]


def test_a_failed_admission_ends_with_its_run(
    driver: Any, hooked: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bidkv.admission.sjf import Sjf

    control = tmp_path / "control.json"
    adapter = hooked(driver.scheduler, strategy="preempt-evict-sjf", events_path=str(tmp_path / "one"))
    adapter._ranks._control = ControlFile(control, trusted=True)
    arrive(adapter, driver, [driver.request(n, range(3, 3 + p)) for n, p in (("long", 40), ("short", 10))])
    with monkeypatch.context() as broken:
        broken.setattr(Sjf, "key", lambda self, request: (float("nan"),))
        assert queue_order(driver) == ["long", "short"]
    assert queue_order(driver) == ["long", "short"], "SGLang's own order until the run ends"
    write_control(
        control, AdapterSettings("preempt-evict-sjf", run_id="two", events_path=str(tmp_path / "two"))
    )
    adapter.get_next_batch_to_run(lambda scheduler: None, driver.scheduler)
    assert queue_order(driver) == ["short", "long"]
    adapter.close()
    assert [read_events(tmp_path / name)[-1]["degraded"] for name in ("one", "two")] == [True, False]


def test_an_unknown_layout_names_everything_that_is_missing() -> None:
    known = classes()
    assert f"{layout.REQUEST}.next_output_finishes_by_length" in layout.check_classes(known, "0.5.23")

    class OldBatch:
        def retract_decode(self) -> None: ...
        def release_req(self, req: Any) -> None: ...

    with pytest.raises(layout.UnknownLayoutError) as error:
        layout.check_classes({**known, layout.BATCH: OldBatch}, "0.4.0")
    text = str(error.value)
    assert "0.4.0" in text and "_get_decode_retraction_order is missing" in text
    assert "release_req does not take self, idx first" in text


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("pp_size", 2, "pp_size > 1"),
        ("enable_dp_attention", True, "--enable-dp-attention"),
        ("attn_cp_size", 2, "attn_cp_size > 1"),
        ("enable_pdmux", True, "--enable-pdmux"),
        ("enable_hisparse", True, "--enable-hisparse"),
    ],
)
def test_engines_that_cannot_be_followed_are_refused(driver: Any, flag: str, value: Any, said: str) -> None:
    scheduler = driver.scheduler
    layout.check_scheduler(scheduler)
    scheduler.server_args = Flags(scheduler.server_args, **{flag: value})
    with pytest.raises(layout.UnknownLayoutError, match=said) as error:
        layout.check_scheduler(scheduler)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("owner", "change", "said"),
    [
        ("scheduler", {"spec_algorithm": SimpleNamespace(is_none=lambda: False)}, "speculative decoding"),
        ("scheduler", {"disaggregation_mode": SimpleNamespace(value="prefill")}, "disaggregation"),
        ("scheduler", {"dllm_config": object()}, "diffusion models"),
        ("tree", {"supports_swa": lambda: True}, "sliding-window layers"),
        ("tree", {"supports_mamba": lambda: True}, "state-space layers"),
    ],
)
def test_memory_that_cannot_be_followed_is_refused(
    driver: Any, monkeypatch: pytest.MonkeyPatch, owner: str, change: dict[str, Any], said: str
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(driver.scheduler if owner == "scheduler" else driver.tree, name, value)
    with pytest.raises(layout.UnknownLayoutError, match=said):
        layout.check_scheduler(driver.scheduler)


@pytest.mark.parametrize(
    ("flag", "value", "strategy", "said"),
    [
        ("schedule_policy", "lpm", "backfill", "--schedule-policy lpm has no effect.*leave it out"),
        ("enable_priority_scheduling", True, "backfill", "--enable-priority-scheduling has no effect"),
        ("retraction_policy", "priority", "sglang_default", "--retraction-policy priority has no effect"),
        ("schedule_policy", "lpm", "sglang_default", None),
        ("enable_priority_scheduling", True, "sglang_default", None),
    ],
)
def test_a_flag_that_would_have_no_effect_is_an_error(
    driver: Any, hooked: Callable[..., Any], flag: str, value: Any, strategy: str, said: str | None
) -> None:
    driver.scheduler.server_args = Flags(driver.scheduler.server_args, **{flag: value})
    hooked(
        driver.scheduler, strategy=strategy, kill_switch=True
    )  # SGLang decides, and the flag has its effect
    if said is None:
        hooked(driver.scheduler, strategy=strategy)
        return
    with pytest.raises(BidValidationError, match=said):
        hooked(driver.scheduler, strategy=strategy)


def test_the_plugin_is_inert_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry

    monkeypatch.delenv(CONTROL_VARIABLE, raising=False)
    monkeypatch.delenv(STRATEGY_VARIABLE, raising=False)
    plugin.register()
    assert not HookRegistry._hooks


def test_a_plugin_that_cannot_work_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control = tmp_path / "control.json"
    monkeypatch.setenv(CONTROL_VARIABLE, str(control))
    for written, words in (
        (None, "no control file at .*control.json"),
        ("nonsense", "unknown 'nonsense'; allowed: .*bidkv_radix"),
    ):
        if written:
            control.write_text(json.dumps({"strategy": written}))
        with pytest.raises(SystemExit) as ended:
            plugin.register()
        (line,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2 and re.search(words, line)
    control.write_text(json.dumps({"strategy": "lcf"}))
    monkeypatch.setattr(layout, "HOOKED", {f"{layout.BATCH}.gone": ("self",)})
    with pytest.raises(SystemExit, match="layout of sglang .*gone is missing"):
        plugin.register()
