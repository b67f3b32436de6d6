"""`engine=endpoint`: a real server that is up, driven over HTTP, and as it was afterwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from server_process import Server

import ray_jobs.run  # noqa: F401  registers the schema
from bidkv.adapters.shared.events import read_events
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.no_effect import refuse_no_effect
from ray_jobs.drive.servers import resolve_servers
from ray_jobs.engines.endpoint import Backend
from ray_jobs.engines.openai.ask import asked
from ray_jobs.engines.openai.switch import Switch
from ray_jobs.workload.trace import Trace, TraceRequest
from tracking.cli import CONF, one_line
from tracking.result import RunResult

pytestmark = pytest.mark.engine
SMALL = (
    "engine=endpoint", "engine.vocab_size=2048", "workload=chat_users", "workload.num_requests=24",
    "workload.warmup_requests=4", "workload.max_prompt_tokens=100", "workload.length_scale=0.5",
    "workload.arrivals.users=12", "workload.fit=truncate",
)  # fmt: skip


def job(server: Server | None, *words: str) -> BenchConfig:
    """As the command composes and checks it."""
    url = [f"engine.url={server.url}"] if server else []
    typed = [*SMALL, *url, *words]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        made = OmegaConf.to_object(compose("config", typed))
    refuse_no_effect([(made, typed)])
    return made


def drive(made: BenchConfig, folder: Path, requests: list[TraceRequest], run_id: str = "r") -> RunResult:
    """One run of these requests, without Ray."""

    async def run() -> RunResult:
        backend = Backend(asked(made.engine), folder)
        await backend.start()
        try:
            return await backend.run(Trace("own", 0, tuple(requests)), made, run_id)
        finally:
            await backend.stop()

    return asyncio.run(run())


def requests(count: int, prompt: int, output: int, every_s: float = 0.0) -> list[TraceRequest]:
    ids = np.random.default_rng(5).integers(3, 2048, (count, prompt), dtype=np.int32)
    return [TraceRequest(f"q-{i}", i * every_s, ids[i], output, output) for i in range(count)]


def test_a_sweep_switches_the_strategy_between_runs_and_leaves_the_server_as_it_was(
    server: Server, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    own = [f"tracking.uri={store}", f"tracking.artifact_root={tmp_path}/a", f"tracking.spool={tmp_path}/s"]
    own += [f"{key}={tmp_path}/f" for key in ("figures", "hydra.sweep.dir")]
    words = [f"engine.url={server.url}", f"engine.control_file={server.control}", "strategy=stock,lcf-guard"]
    before = server.control.read_bytes() if server.control.exists() else None
    done = subprocess.run(
        [sys.executable, "-m", "ray_jobs.run", *own, *SMALL, *words], cwd=ROOT, capture_output=True, text=True, timeout=600
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "serves tiny, context 512 tokens, 24 blocks of 32 tokens" in done.stdout
    client = MlflowClient(store)
    (experiment,) = client.search_experiments(filter_string="name = 'bidkv'")
    runs = [run.data for run in client.search_runs([experiment.experiment_id], "tags.`bidkv.kind` = 'run'")]
    assert {run.tags["strategy"] for run in runs} == {"stock", "lcf-guard"}
    for run in runs:
        assert run.metrics["completion_rate"] == 1 and run.metrics["goodput_req_s"] >= 0
        assert run.metrics["send_lag_max_s"] >= 0 and run.metrics["preemptions"] >= 0, "of /metrics"
        assert run.metrics["pool_fits"] > 1, "of /metrics"
        assert not {"preempted_share", "hol_blocked_s", "executed_tax"} & run.metrics.keys(), "nobody knows"
        assert "other_clients" not in run.tags and "prompt_counts" not in run.tags
    decided = [event["strategy"] for event in read_events(server.events) if event["type"] == "run_start"]
    assert decided[-4:].count("bidkv") == 2 and {"stock", "lcf-guard"} < set(decided[-4:])
    assert (server.control.read_bytes() if server.control.exists() else None) == before
    info = [key for key, value in server.scrape().items() if key.startswith("bidkv_strategy_info") and value]
    assert len(info) == 1 and 'strategy="bidkv"' in info[0] and 'admission="fcfs"' in info[0]


def test_what_the_server_counts_otherwise_and_whom_else_it_serves_is_said(
    server: Server, tmp_path: Path
) -> None:
    made = job(server, "strategy=as-served", "engine.api=chat")
    ours = threading.Event()

    def stranger() -> None:
        while not ours.wait(0.2):
            server.post([9, 9, 9], 2)

    with ThreadPoolExecutor(1) as other:
        other.submit(stranger)
        try:
            result = drive(made, tmp_path, requests(6, 20, 8, every_s=0.2))
        finally:
            ours.set()
    assert list(result.requests["status"]) == ["ok"] * 6
    assert set(result.requests["prompt_tokens"]) == {21}, "the chat template has one of its own"
    assert result.remarks["prompt_counts"] == "the server counts 126 prompt tokens where the trace has 120"
    assert "requests of other clients" in result.remarks["other_clients"]


def test_no_run_finds_prompts_of_an_earlier_one_in_the_prefix_cache(server: Server, tmp_path: Path) -> None:
    made, twins = job(server, "strategy=as-served"), requests(2, 96, 2, every_s=0.5)
    twins[1] = TraceRequest("twin", 0.5, twins[0].prompt_token_ids, 2, 2)
    for run_id in ("one", "two"):
        drive(made, tmp_path, twins, run_id)
    records = [event for event in read_events(server.events) if event["type"] == "request"]
    cached = [event["cached"] for event in records if event["id"].startswith(("cmpl-q-0", "cmpl-twin"))]
    assert cached[-4:] == [0, 64, 0, 64], "within a run prompts share what they share in the trace"


def test_what_a_client_gives_up_is_a_timeout_and_ends_on_the_server(server: Server, tmp_path: Path) -> None:
    """A machine may be so busy that some are answered before it hears of it; but of forty at once three fit."""
    made, before = (
        job(server, "strategy=as-served", "run.request_timeout_s=1.0"),
        len(read_events(server.events)),
    )
    sent = [
        TraceRequest(f"given-up-{i}", 0.0, r.prompt_token_ids, 300, 300)
        for i, r in enumerate(requests(40, 200, 300))
    ]
    table = drive(made, tmp_path, sent, "given-up").requests
    timeouts = table[table["status"] == "timeout"]
    assert len(timeouts) > 20 and (timeouts["output_tokens"] < 300).all()
    server.post([5, 6, 7], 1)  # behind whatever was left of them
    records = [event for event in read_events(server.events)[before:] if event["type"] == "request"]
    ended = [
        r for r in records if r["id"].startswith(tuple(f"cmpl-{name}-" for name in timeouts["request_id"]))
    ]
    unbegun = [record for record in ended if record["output"] == 0]
    assert len(unbegun) > 10 and {record["reason"] for record in unbegun} == {"abort"}
    assert sum(record["output"] for record in ended) < 300 * len(ended) / 2, "they were computed all the same"


def test_a_server_that_is_gone_in_mid_run_fails_the_run(server: Server, tmp_path: Path) -> None:
    made = job(server, "strategy=as-served")

    async def run() -> RunResult:
        async with Tunnel(server.url) as tunnel:
            engine = asked(made.engine)
            engine.url = tunnel.url
            backend = Backend(engine, tmp_path)
            await backend.start()
            asyncio.get_running_loop().call_later(0.6, tunnel.cut)
            try:
                return await backend.run(Trace("own", 0, tuple(requests(20, 20, 20, 0.1))), made, "r")
            finally:
                await backend.stop()

    with pytest.raises(RuntimeError, match="does not answer any more"):
        asyncio.run(run())


class Tunnel:
    """Passes connections on to a server until it is cut: a server that dies, without one dying."""

    def __init__(self, url: str):
        self._port = int(url.rpartition(":")[2])
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Tunnel:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
    except ConnectionError:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["engine.url=http://127.0.0.1:9"], "engine.url='http://127.0.0.1:9': no server answers there"),
        (["engine.url={url}/v1"], "without the path /v1"),
        (["engine.url=http://me:secret@127.0.0.1:9"], "without a password"),
        (["engine.model=gpt-5"], "engine.model='gpt-5': must be one of tiny"),
        (["engine.vocab_size=32000"], "engine.vocab_size=32000: must be at most the model's"),
        (["engine.pass_env=[NO_SUCH_VARIABLE]"], "engine.pass_env='NO_SUCH_VARIABLE': must be a variable that is set"),
        (["strategy=lcf"], "strategy='lcf': must be stock or as-served for a server that is taken as it is"),
        (["strategy=stock"], "must be as-served for a server that runs 'bidkv'"),
        (["strategy=lcf", "engine.control_file=/no/such/c.json"], "control file /no/such/c.json: its folder"),
        (["strategy=stock-seqs-16"], "the server at {url} is up and keeps its settings"),
        (["strategy=as-served", "engine.num_blocks=900"], "engine.num_blocks=900: would change nothing"),
        (["strategy=as-served", "workload.declared.kind=slack"], "workload.declared.kind=slack: would change nothing"),
        (["strategy=as-served", "engine.api=telepathy"], "engine.api='telepathy': must be one of completions, chat"),
    ],
)  # fmt: skip
def test_what_a_server_lacks_is_one_line(server: Server, words: list[str], line: str) -> None:
    words = [word.format(url=server.url) for word in words]
    with pytest.raises(Exception) as caught:
        resolve_servers([job(None if any("url=" in word for word in words) else server, *words)], print)
    assert line.format(url=server.url) in one_line(caught.value) and "\n" not in one_line(caught.value)


def test_a_trace_longer_than_the_servers_context_is_refused_before_anything_is_sent(server: Server) -> None:
    from ray_jobs.drive.plan import plan_blocks

    made = job(server, "strategy=as-served", "workload.fit=error", "workload.length_scale=3")
    with pytest.raises(ValueError, match="engine.max_model_len=512"):
        plan_blocks(resolve_servers([made], print))


@pytest.mark.parametrize("content", [None, b'{"kill_switch": true}', b"half a thi"])
def test_the_control_file_is_put_back_byte_for_byte(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "control.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ZeroDivisionError), Switch(str(path)) as switch:
        switch.write({"strategy": "lcf", "until": 5.0})
        assert json.loads(path.read_bytes())["until"] == 5.0
        raise ZeroDivisionError
    assert (path.read_bytes() if path.exists() else None) == content
    assert [p.name for p in tmp_path.iterdir()] == ([] if content is None else ["control.json"])
