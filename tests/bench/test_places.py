"""Where engines go: real Ray nodes in processes on this machine."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ray_jobs.drive.cluster import engines_that_fit
from ray_jobs.drive.config import BenchConfig, ClusterConfig
from ray_jobs.drive.handle import EngineHandle, StartFailed
from ray_jobs.drive.kinds import DeviceKinds
from ray_jobs.drive.place import NoPlaceError, take_place
from ray_jobs.drive.pool import STARTS_TRIED, EnginePool
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import StrategyConfig
from ray_jobs.workload.config import SourceConfig, WorkloadConfig

ENGINE = EngineConfig(kind="vllm", model="x", num_cpus=1)
STRATEGY = StrategyConfig(name="lcf", admission="fcfs", victim="lcf")
WORKLOAD = WorkloadConfig(name="any", rate=1.0, source=SourceConfig(kind="sharegpt", path="any.json"))


@pytest.fixture(scope="module")
def two_nodes():
    """Two nodes of one CPU each; gives the second one's id."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False)
    yield second.node_id
    ray.shutdown()
    cluster.shutdown()


def test_an_engine_fits_on_a_node_not_on_a_sum_of_nodes(two_nodes):
    assert engines_that_fit([BenchConfig(STRATEGY, WORKLOAD, ENGINE)]) == 2
    assert (
        engines_that_fit([BenchConfig(STRATEGY, WORKLOAD, ENGINE, cluster=ClusterConfig(max_actors=1))]) == 1
    )
    with pytest.raises(ValueError, match="engine.num_cpus=2: must be what one node has: the 2 nodes have"):
        engines_that_fit([BenchConfig(STRATEGY, WORKLOAD, replace(ENGINE, num_cpus=2))])
    with pytest.raises(ValueError, match="^engine.num_gpus=1: the 2 nodes have 0 GPUs; try engine=vllm_sim$"):
        engines_that_fit([BenchConfig(STRATEGY, WORKLOAD, replace(ENGINE, num_gpus=1))])
    with pytest.raises(
        ValueError, match="what one node has, for engine.replicas=2 together: the 2 nodes have"
    ):
        engines_that_fit([BenchConfig(STRATEGY, WORKLOAD, replace(ENGINE, replicas=2))])


def test_a_wait_for_a_place_is_said_and_ends_when_there_is_one(two_nodes):
    said = []

    async def scenario():
        places = [await take_place(ENGINE, lambda node: True, said.append) for _ in range(2)]
        assert not said and len({place.node for place in places}) == 2
        waits = asyncio.create_task(take_place(ENGINE, lambda node: True, said.append))
        while not said:
            await asyncio.sleep(0.1)
        places[0].leave()
        found = await asyncio.wait_for(waits, 60)
        assert found.node == places[0].node
        found.leave()
        places[1].leave()
        with pytest.raises(NoPlaceError):
            await take_place(replace(ENGINE, num_cpus=2), lambda node: True, said.append)

    asyncio.run(scenario())
    assert said[0] == "waiting for a place: 1 CPU"


def test_a_node_on_which_an_engine_does_not_start_is_left_out(two_nodes, monkeypatch):
    tried = []

    async def start(self):
        tried.append(self.place.node)
        if self.place.node == two_nodes:
            self.place.leave()
            raise StartFailed("no driver", b"")

    monkeypatch.setattr(EngineHandle, "start", start)
    said = []

    async def scenario():
        pool, kinds = EnginePool(), DeviceKinds()
        for _ in range(3):
            engine = await pool.start(ENGINE, "cell", kinds, said.append)
            assert engine.place.node != two_nodes
            engine.place.leave()
        assert not pool.hopeless(ENGINE)
        assert tried.count(two_nodes) <= STARTS_TRIED == 2
        kinds.reuse("another cell", "H100")
        with pytest.raises(NoPlaceError):
            await pool.start(ENGINE, "another cell", kinds, said.append)

    asyncio.run(scenario())


def test_a_cell_stays_on_the_kind_of_device_on_which_it_began():
    kinds = DeviceKinds()
    kinds.take("a", "H100")
    assert kinds.suits("a", "H100") and not kinds.suits("a", "A100") and kinds.suits("b", "A100")
    kinds.failed("a")
    assert kinds.suits("a", "A100")  # nothing came up there: another kind may do
    kinds.take("a", "A100")
    kinds.take("a", "A100")
    kinds.started("a")
    kinds.failed("a")
    assert not kinds.suits("a", "H100")


def test_the_ranks_of_an_engine_are_vllms_own_processes(two_nodes, tmp_path):
    """In a placement group vLLM would take Ray for them, and wait for GPUs that its own engine holds."""

    @ray.remote(num_cpus=1)
    def executor() -> str:
        from vllm.engine.arg_utils import AsyncEngineArgs

        from ray_jobs.engines.vllm import Backend

        engine = EngineConfig(kind="vllm", model="tiny-llama", tensor_parallel_size=2, num_gpus=2)
        arguments = AsyncEngineArgs(**Backend(engine, tmp_path)._engine_args())
        return arguments.create_engine_config().parallel_config.distributed_executor_backend

    place = asyncio.run(take_place(ENGINE, lambda node: True, str))
    try:
        within = PlacementGroupSchedulingStrategy(place.group)
        assert ray.get(executor.options(scheduling_strategy=within).remote()) == "mp"
    finally:
        place.leave()
