"""Several real engines on one node, an actor of Ray Serve's each, behind one of Ray Serve's own routers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.routers.served import SERVED
from ray_jobs.engines.serve.kv_replica import KvReplica
from ray_jobs.engines.serve.prefix_tree import PrefixTree
from ray_jobs.engines.serve.replica import Asked, Replica, Said, one_of
from ray_jobs.engines.shared.live import RealTime, Sent, unrecorded_result
from ray_jobs.engines.shared.load import Relayed
from ray_jobs.engines.shared.output import LOG_NAME, SCRATCH_VARIABLE
from ray_jobs.engines.shared.replicas import read_results
from ray_jobs.workload.trace import TraceRequest
from tracking.result import RunResult
from tracking.store.lease import Lease

if TYPE_CHECKING:
    from ray_jobs.engines.serve.kv_tracker import KvTracker

UNLIMITED = 65_536  # requests at a replica: they wait in the engine's queue, whose order is what is compared


class Backend(RealTime):
    """The places of all its engines are its own: Ray Serve's actors ask for none, and run on its node."""

    def __init__(self, config: EngineConfig, folder: Path):
        super().__init__(config, folder)
        self._name = folder.name  # of the application and its deployment
        self._tree: PrefixTree | None = None
        self._tracker: KvTracker | None = None
        self._served_by: dict[str, int] = {}  # the replica of each request of the run

    async def start(self) -> dict[str, Any]:
        self._handle = await asyncio.to_thread(self._deploy)
        variables = {name: os.environ[name] for name in self.config.pass_env if name in os.environ}
        try:
            if self.config.router.rule.hears:
                self._tracker = self._tracked()
            self._stream = self._handle.options(stream=True)
            said = await self._all("start", variables, self._devices())
            if self.config.router.name == "prefix-affinity":
                self._tree = PrefixTree(self._name)
            self._tenants = [each.tenant for each in said]
            if self._tracker is not None:
                await self._tracker.know(self.config.replicas, self.config.start_timeout_s)
            await self._warm_up()
        except BaseException as cause:
            try:
                await self.stop()
            except Exception as later:  # what went wrong first is what is said
                raise cause from later
            raise
        return (
            said[0].value
            | {"ray_serve": ray.__version__}
            | (self._tracker.environment if self._tracker else {})
        )

    async def begin(self, settings: AdapterSettings) -> None:
        self._own = [settings.of_rank(f"replica{number}") for number in range(self.config.replicas)]
        self._served_by.clear()
        await self._all("begin", self._own)
        if self._tree is not None:
            await self._tree.clear(self._tenants)

    async def settle(self) -> None:
        await self._all("settle")

    async def end(self) -> None:
        await self._all("end")

    async def stop(self) -> None:
        # One that is gone must not keep the others.
        await self._handle.broadcast("stop").results_async(return_exceptions=True)
        if self._tree is not None:
            self._tree.end()
        if self._tracker is not None:
            self._tracker.end()
        await asyncio.to_thread(serve.delete, self._name)

    async def generate(self, request: TraceRequest) -> AsyncIterator[Relayed]:
        tracker = self._tracker
        response = self._stream.generate.remote(Asked(request), **(tracker.asked(request) if tracker else {}))
        try:
            self._served_by[request.request_id] = await anext(response)
            waits = tracker is not None
            async for relayed in response:
                if waits:
                    await tracker.first_token(response.request_id)
                    waits = False
                yield relayed
        except BaseException:
            response.cancel()
            raise
        finally:
            if tracker is not None:
                await tracker.done(response.request_id)

    def _tracked(self) -> KvTracker:
        # It needs Ray Serve LLM's and Dynamo's packages.
        from ray_jobs.engines.serve.kv_tracker import KvTracker

        # The router works in this event loop, as in Ray Serve LLM's ingress: its tracker is not safe in threads.
        tracker = KvTracker(self._name, self.config.router.make(self.config.replicas, 0, 0).weight)
        self._handle._init(_run_router_in_separate_loop=False)
        return tracker

    async def _all(self, method: str, *arguments: Any) -> list[Said]:
        """What every replica says to it, in order. Raises RuntimeError with what went wrong at one, or that one is gone."""
        said = await self._handle.broadcast(method, *arguments).results_async(return_exceptions=True)
        for each in said:
            if isinstance(each, BaseException):
                cause = getattr(each, "cause", None) or each
                raise RuntimeError(f"{type(cause).__name__}: {cause}") from None
        said.sort(key=lambda each: each.number)
        if [each.number for each in said] != list(range(self.config.replicas)):
            raise RuntimeError(
                f"{self.config.replicas - len(said)} of {self.config.replicas} replicas are gone"
            )
        return said

    def _deploy(self) -> DeploymentHandle:
        """Ray Serve may run already, with applications of others; it stays when this one's is deleted, as is its way."""
        serve.start(proxy_location="Disabled")  # no server for HTTP where it does not run yet
        return serve.run(self._application(), name=self._name, route_prefix=None)

    def _application(self) -> Any:
        config, router = self.config, SERVED[self.config.router.name]
        environment: dict[str, Any] = {"env_vars": self._variables()}
        if config.python:
            environment["py_executable"] = config.python
        deployment = serve.deployment(
            KvReplica if config.router.rule.hears else Replica,
            name=self._name,
            num_replicas=config.replicas,
            max_ongoing_requests=UNLIMITED,
            ray_actor_options={
                "num_cpus": 0,
                "label_selector": {"ray.io/node-id": ray.get_runtime_context().get_node_id()},
                "runtime_env": environment,
            },
            request_router_config=RequestRouterConfig(
                request_router_class=router.path,
                request_router_kwargs=router.arguments(config.router.params),
                request_routing_stats_period_s=1.0,  # a replica's are the same all the time once its engine is up
            ),
            graceful_shutdown_wait_loop_s=0.1,
            health_check_timeout_s=config.start_timeout_s,  # an engine that starts answers nothing
            logging_config={"log_level": "ERROR", "enable_access_log": False},
        )
        return deployment.bind(one_of(config), self.folder, self.folder / LOG_NAME, Lease.mine())

    def _variables(self) -> dict[str, str]:
        """The engines' own; and where this process works, so that they are found and ended with it."""
        mine = ("TMPDIR", SCRATCH_VARIABLE)
        variables = {name: os.environ[name] for name in mine if name in os.environ} | self.config.env
        if self.config.num_gpus:
            variables["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] = "1"  # Ray would hide them all
        return variables

    def _devices(self) -> list[str]:
        if not self.config.num_gpus:
            return []
        return [str(device) for device in ray.get_runtime_context().get_accelerator_ids()["GPU"]]

    def _result(self, settings: AdapterSettings, sent: Sent) -> RunResult:
        if not self.config.adapter:
            return unrecorded_result(sent)
        return read_results(self._own, sent, self._served_by)
