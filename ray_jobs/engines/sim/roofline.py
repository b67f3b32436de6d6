"""How long a step takes: two rooflines, what the devices say to each other, and overheads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ray_jobs.engines.sim.calibration import Calibration
from ray_jobs.engines.sim.hardware import Hardware
from ray_jobs.engines.sim.shape import ModelShape
from ray_jobs.engines.sim.work import Batch, Work, declared_work

BATCH_COLUMNS = (
    "prefill_tokens", "decode_tokens", "prefill_reqs", "decode_reqs", "context_tokens", "prefill_context",
)  # fmt: skip
"""What the model reads of a step record: it knows a batch by these sums alone."""


class StepTimeModel:
    """Seconds of an engine step from the sums of its batch.

    The projections and feed-forward layers take max(FLOPs / compute, bytes of weights / bandwidth), and
    so does attention with the bytes of the KV cache; the two run one after the other, but a step with a
    prefill is no faster than the launches of its kernels, which no CUDA graph covers. `work` is the model's
    where it is more than what `shape` declares. FLOPs run at the peak of `hardware` whatever the weights' type is.
    """

    def __init__(
        self, shape: ModelShape, hardware: Hardware, calibration: Calibration, work: Work | None = None
    ):
        devices = shape.tensor_parallel
        flops, bandwidth = hardware.flops * devices, hardware.memory_bandwidth * devices
        fit = calibration
        self._work = work = work or declared_work(shape)
        self._compute = flops * fit.compute_efficiency
        self._bandwidth = bandwidth * fit.bandwidth_efficiency
        self._attention_compute = flops * fit.attention_compute_efficiency
        self._attention_bandwidth = hardware.memory_bandwidth * fit.attention_bandwidth_efficiency
        self._link_s = 0.0
        if devices > 1:
            if hardware.link_bandwidth is None:
                raise ValueError(
                    f"engine.sim.hardware.link_bandwidth=None: must be > 0 for a model on {devices} devices"
                )
            # Two ring all-reduces a layer, each moving 2 (n - 1) / n of the activations.
            moved = 4 * work.activation_bytes * (devices - 1) / devices
            self._link_s = moved / (hardware.link_bandwidth * fit.link_efficiency)
        self._step_s, self._request_s = fit.step_overhead_s, fit.request_overhead_s
        self._prefill_s, self._prefill_step_s = fit.prefill_overhead_s, fit.prefill_step_s

    def seconds(self, batch: Mapping[str, Any]) -> float:
        """Of one step; 0 for an empty batch."""
        if not batch["prefill_reqs"] and not batch["decode_reqs"]:
            return 0.0
        return self._seconds(*(batch[name] for name in BATCH_COLUMNS), max)

    def seconds_of(self, steps: pd.DataFrame) -> np.ndarray:
        """Of every step record that scheduled something."""
        return self._seconds(*(steps[name].to_numpy(float) for name in BATCH_COLUMNS), np.maximum)

    def _seconds(
        self,
        prefill: Any,
        decode: Any,
        prefills: Any,
        decodes: Any,
        context: Any,
        prefill_context: Any,
        maximum: Callable[[Any, Any], Any],
    ) -> Any:
        work, tokens, requests = self._work, prefill + decode, prefills + decodes
        layers = maximum(
            (work.flops_per_token * tokens + work.flops_per_sample * requests) / self._compute,
            (work.expert_bytes * (1 - work.missed**tokens) + work.other_bytes) / self._bandwidth,
        )
        batch = Batch(prefill, decode, prefills, decodes, context, prefill_context, maximum)
        attention = self._attention(batch, tokens, requests)
        overhead = self._step_s + self._request_s * requests + self._prefill_s * prefills
        launches = self._prefill_step_s * (prefills > 0)
        return maximum(layers + attention, launches) + self._link_s * tokens + overhead

    def _attention(self, batch: Batch, tokens: Any, requests: Any) -> Any:
        """All kinds of attention, and the states of layers that have those instead of a cache."""
        work = self._work
        flops, read = work.state_flops * tokens, 2 * work.state_bytes * requests
        for kind in work.attention:
            pairs, of_prefills = batch.pairs(kind.window)
            flops = flops + kind.flops_per_pair * pairs
            if kind.prefill_flops_per_pair is not None:
                flops = flops + (kind.prefill_flops_per_pair - kind.flops_per_pair) * of_prefills
            read = read + kind.bytes_per_token * batch.read(kind.window)
        return batch.maximum(flops / self._attention_compute, read / self._attention_bandwidth)
