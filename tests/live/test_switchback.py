"""`bidkv-switchback` on the adapter's real session, control file and records; time and traffic are simulated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.events import JsonLines
from bidkv.adapters.shared.session import Session
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.job import StrategyConfig
from ray_jobs.live.answer import Answer
from ray_jobs.live.config import SwitchbackConfig
from ray_jobs.live.experiment import Experiment
from ray_jobs.live.lease import Lease
from ray_jobs.live.plan import plan_blocks
from ray_jobs.live.records import Records
from ray_jobs.live.scrapes import Scrapes
from ray_jobs.switchback import check_files, idle_keys
from tracking.cli import CONF, one_line
from tracking.evidence.config import GuardrailsConfig
from tracking.evidence.switchback import switchback_test
from tracking.typed import refuse_idle, typed_keys

ROOT = Path(__file__).parents[2]
FACTS = {"num_blocks": 10, "block_size": 16, "max_num_seqs": 4, "prefix_caching": False}
RATE = 2.0


class World:
    """A server's session, the clock, and traffic whose E2E the strategy makes `effect` times as long."""

    def __init__(
        self,
        folder: Path,
        effect: float = 1.0,
        listens: bool = True,
        clock: Callable[[], float] | None = None,
    ):
        self.now, self.effect, self.served = 1e6, effect, 0
        self.events, self.control = folder / "events.jsonl", folder / "control.json"
        source = ControlFile(self.control) if listens else None
        self.session = Session(source, facts=lambda: FACTS, changed=lambda: None, clock=clock or self.clock)
        self.session.open(AdapterSettings("stock", run_id="serve", events_path=str(self.events)))
        self.random = np.random.default_rng(3)
        self.under_way: list[tuple[float, float]] = []  # finish and arrival
        self.decided: list[tuple[float, bool]] = []
        self.during: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 1 / RATE
            self.session.poll()
            killed = self.session.settings.kill_switch
            self.decided.append((self.now, not killed))
            e2e = float(np.exp(0.3 * self.random.standard_normal())) * (1.0 if killed else self.effect)
            heappush(self.under_way, (self.now + e2e, self.now))
            while self.under_way[0][0] <= self.now:
                self._answer(*heappop(self.under_way))
        self.during()

    def _answer(self, finish: float, arrival: float) -> None:
        self.served += 1
        self.session.left(
            {
                "id": f"r-{self.served}", "prompt": 20, "output": 10, "max_tokens": 10, "preemptions": 0, "recomputed": 0,
                "preempted_s": 0.0, "cached_resume": 0, "restored_resume": 0, "arrival_t": arrival,
                "finish_t": finish, "reason": "length",
            }
        )  # fmt: skip

    def experiment(self, seed: int = 5, pairs: int = 12, journal: Path | None = None, **keys: Any) -> Answer:
        config = SwitchbackConfig(
            StrategyConfig("lcf", "fcfs", "lcf"),
            str(self.control),
            str(self.events),
            **{"hours": pairs * 2 * 120 / 3600, "block_s": 120.0, "washout_s": 20.0} | keys,
        )
        records, self.said = Records(self.events, self.clock), []
        lease = Lease(self.control, config.strategy, seed, config.lease_s, self.clock)
        self.journal = journal or self.events.with_name("journal.jsonl")
        made = Experiment(
            config, plan_blocks(config.pairs, config.block_s, seed), records, [records], lease,
            JsonLines(self.journal), self.said.append, self.clock, self.sleep,
        )  # fmt: skip
        return made.run(seed)

    @property
    def stock_for_good(self) -> bool:
        """Whether the engine decides, now and a day later."""
        self.session.poll()
        now = self.session.settings.kill_switch
        self.now += 86_400
        self.session.poll()
        return now and self.session.settings.kill_switch


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def rules(*rules: dict[str, Any]) -> GuardrailsConfig:
    from tracking.evidence.config import GuardrailRule

    return GuardrailsConfig([GuardrailRule(**rule) for rule in rules])


def test_a_strategy_that_helps_is_found_by_turns_as_planned_and_stock_has_the_last_word(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, effect=0.8)
    found = world.experiment(guardrails=rules({"metric": "completion_rate", "min_ratio": 0.99}))
    assert (found.verdict, found.pairs, found.halted) == ("better", 12, None)
    assert found.ratio.low < 0.8 * 1.02 and found.ratio.high < 0.9
    plan, *notes = [json.loads(line) for line in world.journal.read_text().splitlines()]
    assert plan["seed"] == 5 and sum(plan["order"]) == 12
    assert all(sum(plan["order"][i : i + 2]) == 1 for i in range(0, 24, 2)), "one of each in every pair"
    blocks = [note for note in notes if note["type"] == "block"]
    for block in blocks:
        inside = {on for t, on in world.decided if block["t"] + 1 < t < block["t"] + 119}
        assert inside == {block["strategy"]}
    assert notes[-1]["type"] == "answer" and world.stock_for_good


def test_nothing_is_called_where_nothing_differs(world: World) -> None:
    assert world.experiment().verdict in ("no difference shown", "equivalent")


def test_the_order_is_the_seeds(tmp_path: Path) -> None:
    orders = {tuple(block.strategy for block in plan_blocks(20, 60.0, seed)) for seed in range(50)}
    assert len(orders) == 50 and plan_blocks(20, 60.0, 3) == plan_blocks(20, 60.0, 3)


@pytest.mark.parametrize(
    ("effect", "keys", "words"),
    [
        (8.0, {}, "times that of the slowest of"),
        (float("inf"), {}, "nobody's answer ended in 60 s"),
        (1.5, {"guardrails": rules({"metric": "e2e_mean_s", "max_ratio": 1.1})}, "guardrail e2e_mean_s <= 1.1x"),
    ],
)  # fmt: skip
def test_harm_ends_it_at_once_and_for_good(
    tmp_path: Path, effect: float, keys: dict[str, Any], words: str
) -> None:
    world = World(tmp_path, effect)
    found = world.experiment(**keys)
    assert found.verdict == "no verdict" and words in found.halted
    assert world.stock_for_good
    last = max(t for t, on in world.decided if on)
    assert world.now - 86_400 - last <= 5.0 + 120.0, "no more blocks after it"


def test_a_strategy_that_raises_ends_it(world: World) -> None:
    world.during = lambda: (
        world.session.log.strategy_error(ZeroDivisionError("no victim today"))
        if not world.session.settings.kill_switch
        else None
    )
    assert "the strategy raised ZeroDivisionError" in world.experiment().halted
    assert world.stock_for_good


def test_a_control_file_that_nobody_reads_ends_it(tmp_path: Path) -> None:
    world = World(tmp_path, listens=False)
    world.session.log.kill_switch(world.session.settings)
    assert "is that its --bidkv-control?" in (world.experiment().halted or "")


def test_somebody_else_who_gives_it_a_strategy_ends_it(world: World) -> None:
    world.during = lambda: world.now > 1e6 + 300 and world.control.write_text('{"strategy": "bidkv"}')
    assert world.experiment().halted == "somebody else wrote the control file"
    assert world.stock_for_good


@pytest.mark.parametrize("strategy", [False, True])
def test_an_operators_kill_switch_is_not_taken_back(tmp_path: Path, strategy: bool) -> None:
    """In whatever block it comes."""
    world, pressed = World(tmp_path), []

    def during() -> None:
        if world.now > 1e6 + 300 and world.session.settings.kill_switch == (not strategy) and not pressed:
            world.control.write_text('{"kill_switch": true}')
            pressed.append(world.now)

    world.during = during
    assert world.experiment().halted == "somebody else wrote the control file"
    assert not any(on for t, on in world.decided if t > pressed[0] + 1)
    assert world.stock_for_good


def test_a_server_that_starts_again_as_it_was_ends_it(world: World) -> None:
    """With the very settings of the experiment, so that it has nothing to say at first but its kill switch."""
    strategy = {"strategy": "lcf", "admission": "fcfs", "victim": "lcf", "retention": None, "seed": 5}
    started = AdapterSettings(**strategy, run_id="serve", events_path=str(world.events))
    world.session.open(started)
    again = []

    def during() -> None:
        if world.now > 1e6 + 300 and not again:
            again.append(world.now)
            world.session.close()
            world.session.running = False
            world.session.open(started)

    world.during = during
    assert "it was started again" in world.experiment().halted
    assert world.stock_for_good


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda events: os.truncate(events, 10), "were cut or replaced"),
        (lambda events: (events.unlink(), events.touch()), "were cut or replaced"),
        (lambda events: append(events, b'{"type":"request"}\n'), "a line that is no record"),
        (lambda events: append(events, b"\x80 half a line\n"), "a line that is no record"),
        (lambda events: append(events, b"5\n"), "a line that is no record"),
    ],
)  # fmt: skip
def test_records_that_are_not_the_servers_end_it(
    world: World, harm: Callable[[Path], Any], words: str
) -> None:
    harmed = []

    def during() -> None:
        if world.now > 1e6 + 300 and not harmed:
            harmed.append(harm(world.events))

    world.during = during
    assert words in world.experiment().halted
    assert world.stock_for_good


def append(events: Path, line: bytes) -> None:
    with events.open("ab") as file:
        file.write(line)


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_server_whose_clock_was_set_ends_it(world: World, off: float) -> None:
    """Its requests would lie in other blocks than they were in."""
    world.session.clock = lambda: world.now + off
    found = world.experiment()
    assert f"its clock is {'-' if off < 0 else '+'}3," in found.halted and "it was set" in found.halted
    assert world.stock_for_good


def test_a_server_that_starts_again_shows_in_what_it_counts() -> None:
    sums = [
        f"vllm:generation_tokens_total {count}.0\nbidkv_kill_switch {n}.0\n"
        for n, count in ((1, 500), (0, 900), (0, 20))
    ]
    with metrics_of(sums) as url:
        scrapes = Scrapes(url)
        scrapes.poll()
        assert scrapes.trouble() is None
        scrapes.poll()
        assert "started again" in scrapes.trouble()


@contextmanager
def metrics_of(texts: list[str]) -> Iterator[str]:
    """A server whose `/metrics` says one after the other."""
    left = iter(texts)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(next(left).encode())

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_tool_that_is_held_up_comes_back_to_a_server_on_stock_and_says_so(world: World) -> None:
    held: list[bool] = []

    def during() -> None:
        if not world.session.settings.kill_switch and not held:
            held.append(True)
            world.sleep(60.0)  # the lease is 30
            held.append(world.session.settings.kill_switch)

    world.during = during
    found = world.experiment()
    assert held == [True, True] and "had gone back to stock" in " ".join(world.said)
    assert found.halted is None


def test_a_lost_disk_leaves_stock(world: World) -> None:
    def during() -> None:
        if not world.session.settings.kill_switch:
            world.control.parent.rename(world.control.parent.with_name("gone"))

    world.during = during
    found = world.experiment()
    assert "cannot be" in found.halted and "within the lease" in " ".join(world.said)
    assert not world.session.settings.kill_switch
    world.now += 30.0
    assert world.stock_for_good


def test_a_full_disk_ends_it(world: World) -> None:
    found = world.experiment(journal=Path("/dev/full"))
    assert "the journal cannot be written" in found.halted and world.stock_for_good


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[World]:
    """On the real clock."""
    yield World(tmp_path, clock=time.time)


def command(world: World, *words: str) -> list[str]:
    own = [f"control_file={world.control}", f"events_file={world.events}", f"out={world.events.parent}/out"]
    return [sys.executable, "-m", "ray_jobs.switchback", *own, *words]


def test_a_tool_that_is_killed_leaves_stock_within_its_lease(serving: World) -> None:
    short = ["hours=1", "block_s=30", "washout_s=1", "look_s=0.2", "lease_s=1", "seed=0", "strategy=lcf"]
    tool = subprocess.Popen(command(serving, *short), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.time() + 60
        while serving.session.settings.kill_switch or serving.session.settings.strategy != "lcf":
            assert time.time() < deadline and tool.poll() is None
            serving.session.poll()
            time.sleep(0.02)
        for _ in range(15):  # it is renewed for longer than a lease
            time.sleep(0.1)
            serving.session.poll()
            assert not serving.session.settings.kill_switch
    finally:
        tool.kill()
        tool.wait()
    assert json.loads(serving.control.read_text())["kill_switch"] is False, "it could say nothing any more"
    time.sleep(1.2)
    serving.session.poll()
    assert serving.session.settings.kill_switch


def test_a_tool_that_is_interrupted_says_so_and_leaves_stock(serving: World) -> None:
    short = ["hours=1", "block_s=30", "washout_s=1", "look_s=0.2", "lease_s=9", "seed=0", "strategy=lcf"]
    tool = subprocess.Popen(command(serving, *short), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 60
    while serving.session.settings.strategy != "lcf" or serving.session.settings.kill_switch:
        assert time.time() < deadline and tool.poll() is None
        serving.session.poll()
        time.sleep(0.02)
    tool.send_signal(signal.SIGTERM)
    _, said = tool.communicate(timeout=60)
    assert tool.returncode == 130 and "stock decides" in said
    serving.session.poll()
    assert serving.session.settings.kill_switch


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["strategy=stock"], "strategy='stock': must be one to try"),
        (["strategy=stock-seqs-16"], "strategy.engine={'max_num_seqs': 16}: must be empty"),
        (["events_file=null"], "events_file=None: must be the server's --bidkv-events, or url="),
        (["events_file=/no/such/file"], "events_file='/no/such/file': must be the --bidkv-events"),
        (["control_file=/tmp/c.json"], "control_file: control file /tmp/c.json: its folder may be written"),
        (["hours=0.5"], "hours=0.5: must be at least 1"),
        (["washout_s=300"], "washout_s=300.0: must be from 0 to below block_s=300"),
        (["lease_s=10"], "lease_s=10.0: must be at least three times look_s=5"),
        (["guardrails.rules=[{metric: ttft_p99_s, max_ratio: 1.1}]"], "guardrails.rules.metric='ttft_p99_s'"),
        (["url=http://127.0.0.1:9"], "url='http://127.0.0.1:9': no server answers"),
        (["strategy.kill_switch=true"], "must be one to try"),
        (["block_size=3"], "block_size"),
        (["strategy.params={max_preemptions: -1}"], "max_preemptions"),
        (["strategy.name=x"], "strategy.name=x: would change nothing"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(world: World, words: list[str], line: str) -> None:
    assert line in (refused(world, *words) or "")


def refused(world: World, *words: str) -> str | None:
    """What the command says of it, without a process."""
    typed = [*command(world)[3:], *words]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = OmegaConf.to_object(compose("switchback", typed))
        refuse_idle(typed_keys(typed), idle_keys(config))
        check_files(config)
        if config.url:
            Scrapes(config.url)
    except Exception as error:
        return one_line(error)
    return None


def test_a_mistake_ends_the_command_with_2_and_leaves_nothing(world: World) -> None:
    done = subprocess.run(
        command(world, "url=http://127.0.0.1:9"), cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: url='http://127.0.0.1:9': no server answers")
    assert done.stderr.count("\n") == 1
    assert not world.control.exists() and not (world.events.parent / "out").exists()


def test_p_is_scipys_and_the_interval_has_what_it_does_not_refuse() -> None:
    from scipy.stats import permutation_test

    random = np.random.default_rng(8)
    for pairs in (8, 60):
        ratios = np.exp(0.05 + 0.1 * random.standard_normal(pairs))
        ours = switchback_test(np.ones(pairs), ratios)
        theirs = permutation_test(
            (np.log(ratios),),
            lambda x, axis: x.mean(axis),
            permutation_type="samples",
            n_resamples=40_000,
            rng=1,
        )
        assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.01)
        inside = [
            switchback_test(np.ones(pairs), ratios / edge).p_value
            for edge in (ours.ratio.low, ours.ratio.high)
        ]
        assert all(p == pytest.approx(0.05, abs=0.02) for p in inside)
