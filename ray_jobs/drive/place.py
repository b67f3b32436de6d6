"""Where engines can run: what each node holds, and a placement group for every engine."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from ray_jobs.engines.config import EngineConfig
from tracking.errors import require

ACCELERATOR = "accelerator_type:"
LOOK_S = 2.0  # how often a wait for a place looks again


class NoPlaceError(RuntimeError):
    """No node that could hold the engine is left."""


@dataclass(frozen=True)
class Place:
    """A reserved place on one node; its resources are the engine's until `leave`."""

    group: PlacementGroup
    node: str

    def leave(self) -> None:
        remove_placement_group(self.group)


def needs(engine: EngineConfig) -> dict[str, float]:
    """What an engine takes of one node, by Ray's names; several real ones, all together."""
    several = engine.replicas if engine.runs_for_real else 1
    wanted = {"GPU": engine.num_gpus * several, "CPU": engine.num_cpus * several}
    return {name: amount for name, amount in wanted.items() if amount}


def engines_on(node: dict[str, Any], engine: EngineConfig) -> float:
    """How many of these engines a node of `ray.nodes()` holds at once, were nothing else on it."""
    have = node["Resources"]
    return min((have.get(name, 0) // amount for name, amount in needs(engine).items()), default=math.inf)


def suitable_nodes(engine: EngineConfig) -> dict[str, int]:
    """Live nodes that can hold the engine, and how many each holds."""
    held = {node["NodeID"]: int(engines_on(node, engine)) for node in ray.nodes() if node["Alive"]}
    return {node: count for node, count in held.items() if count}


def cluster_text() -> str:
    """The live nodes' GPUs and CPUs, for people."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    texts = [f"{have.get('GPU', 0):g} GPUs and {have.get('CPU', 0):g} CPUs" for have in nodes]
    if len(nodes) == 1:
        return f"this host has {texts[0]}"
    return f"the {len(nodes)} nodes have " + "; ".join(sorted(set(texts)))


def device_kind(node: str) -> str:
    """The node's accelerator as Ray names it ("H100"), "CPU" without one: runs of a block share it."""
    for known in ray.nodes():
        if known["NodeID"] == node:
            names = sorted(n for n in known["Resources"] if n.startswith(ACCELERATOR))
            return ", ".join(n.removeprefix(ACCELERATOR) for n in names) or "CPU"
    return "unknown"


async def take_place(
    engine: EngineConfig, suits: Callable[[str], bool], waiting: Callable[[str], None]
) -> Place:
    """Waits, without a deadline, for a place on a node that `suits`; `waiting` is told when it lasts.

    Places on other nodes are held while it looks on, so that Ray cannot offer them again. Raises
    NoPlaceError when no live node that could hold the engine suits.
    """
    held: list[Place] = []
    try:
        while True:
            group = placement_group([needs(engine)])
            try:
                place = Place(group, await _node_of(group, engine, suits, waiting))
            except BaseException:
                remove_placement_group(group)
                raise
            if suits(place.node):
                return place
            held.append(place)
    finally:
        for place in held:
            place.leave()


async def _node_of(
    group: PlacementGroup,
    engine: EngineConfig,
    suits: Callable[[str], bool],
    waiting: Callable[[str], None],
) -> str:
    ready = asyncio.wrap_future(group.ready().future())
    while True:
        done, _ = await asyncio.wait([ready], timeout=LOOK_S)
        if done:
            ready.result()
            return _node(group)
        if not any(suits(node) for node in suitable_nodes(engine)):
            raise NoPlaceError(f"no live node can hold this engine any more: {cluster_text()}")
        waiting("waiting for a place: " + ", ".join(f"{v:g} {k}" for k, v in needs(engine).items()))


def _node(group: PlacementGroup) -> str:
    table = ray.util.placement_group_table(group)
    return next(iter(table["bundles_to_node_id"].values()))


def check_fits(engine: EngineConfig, places: int, cluster: str) -> None:
    """Raises ValueError if no node can hold the engine; several real ones are all on one."""
    together = f", for engine.replicas={engine.replicas} together" if engine.replicas > 1 else ""
    if engine.num_gpus and not places:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(have.get("GPU") for have in nodes):
            who = "this host has" if len(nodes) == 1 else f"the {len(nodes)} nodes have"
            raise ValueError(f"engine.num_gpus={engine.num_gpus:g}: {who} 0 GPUs; try engine=vllm_sim")
        require(
            False, "engine.num_gpus", engine.num_gpus,
            f"what one node has (with engine.num_cpus={engine.num_cpus:g}){together}: {cluster}",
        )  # fmt: skip
    require(places > 0, "engine.num_cpus", engine.num_cpus, f"what one node has{together}: {cluster}")
