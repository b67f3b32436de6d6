"""ServeGen: clients of a production service, each with its own rate, burstiness and lengths.

github.com/alibaba/ServeGen, Apache-2.0. `workload.source.path` is a folder of its `data`, such as
`data/reason/deepseek-r1` (73 clients, long outputs) or `data/language/m-small`. A client has two files:
`chunk-<i>-trace.csv`, one line for each ten minutes of a day (begin in s, req/s, coefficient of
variation, Gamma or Weibull, its shape, its scale; no family = no requests), and
`chunk-<i>-dataset.json`, its distributions of token counts for each quarter of the day.

Requests come at the clients' own rates (tens a second in all), from the start of the day or from a
random ten minutes of it (`pick=window`): `workload.arrivals.time_scale=10` sends them at a tenth of
that, with the same bursts. Prompt and output are drawn independently: only their marginals are known.
"""

from __future__ import annotations

import ast
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt, in_order
from ray_jobs.workload.sources.shared.files import source_folder
from ray_jobs.workload.streams import stream
from tracking.errors import require

HAS_TIMES = True
COLUMNS = ("begin", "rate", "cv", "family", "shape", "scale")
FAMILIES = ("Gamma", "Weibull")


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """`workload.num_requests` of them in order of time."""
    count = config.num_requests
    require(
        count is not None, "workload.num_requests", None, "a number for ServeGen, whose clients never end"
    )
    clients = [_Client(file, config) for file in source_folder(config.source.path, "chunk-*-trace.csv")]
    begins = sorted({begin for client in clients for begin in client.windows})
    width = begins[1] - begins[0] if len(begins) > 1 else 600
    first = int(stream(seed, "pick").integers(len(begins))) if config.source.pick != "head" else 0
    found: list[Draft] = []
    for number in range(len(begins)):
        begin = begins[(first + number) % len(begins)]
        for client in clients:
            found += client.requests(begin, number * width, width, seed)
        if len(found) >= count:
            return in_order(found)[:count]
    require(False, "workload.num_requests", count, f"<= {len(found)}, the requests of one day")
    return found


@dataclass(frozen=True)
class _Window:
    rate: float
    family: str
    shape: float

    def times(self, width_s: float, random: np.random.Generator) -> np.ndarray:
        """Arrivals in [0, width_s), which begins somewhere between two arrivals."""
        times = np.cumsum([self._gaps(1, random)[0] * random.random()])
        while times[-1] < width_s:
            more = self._gaps(math.ceil(self.rate * width_s), random)
            times = np.append(times, times[-1] + np.cumsum(more))
        return times[times < width_s]

    def _gaps(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Seconds between arrivals with mean 1 / rate; the recorded scale only repeats the rate."""
        if self.family == "Gamma":
            return random.standard_gamma(self.shape, count) / self.shape / self.rate
        return random.weibull(self.shape, count) / math.gamma(1 + 1 / self.shape) / self.rate


class _Client:
    def __init__(self, file: Path, config: WorkloadConfig):
        self._kind, self._where = config.name, f"workload.source.path={config.source.path!r}: {file.name}"
        self._name = file.name.removesuffix("-trace.csv")
        self.windows: dict[int, _Window | None] = {}
        table = pd.read_csv(file, names=COLUMNS, keep_default_na=False)
        for row in table.itertuples():
            silent = row.family == ""
            if not silent and not (row.family in FAMILIES and row.rate > 0 and row.shape > 0):
                raise ValueError(f"{self._where}: line {row.Index + 1} is no window of ServeGen's")
            self.windows[int(row.begin)] = None if silent else _Window(row.rate, row.family, row.shape)
        if any(self.windows.values()):
            self._lengths = self._read_lengths(file.with_name(f"{self._name}-dataset.json"))

    def requests(self, begin: int, start_s: float, width_s: float, seed: int) -> list[Draft]:
        """Those of the ten minutes from `begin` on, which are to start at `start_s`."""
        window = self.windows.get(begin)
        quarter = max((q for q in self._lengths if q <= begin), default=None) if window else None
        if quarter is None:
            return []
        random = stream(seed, "servegen", self._name, begin)
        times = window.times(width_s, random)
        prompts, outputs = (
            np.maximum(1, random.choice(values, len(times), p=shares))
            for values, shares in self._lengths[quarter]
        )
        return [
            Draft(
                self._kind,
                SegmentPrompt((("request", self._name, begin, number),), (int(prompt),)),
                int(output),
                recorded_s=start_s + float(t),
            )
            for number, (t, prompt, output) in enumerate(zip(times, prompts, outputs, strict=True))
        ]

    def _read_lengths(self, file: Path) -> dict[int, list[tuple[np.ndarray, np.ndarray]]]:
        """Prompt and output tokens with their probabilities, by the quarter of the day they begin."""
        lengths = {}
        try:
            for begin, fields in json.loads(file.read_text(encoding="utf-8")).items():
                pair = [_distribution(fields[name]) for name in ("input_tokens", "output_tokens")]
                if all(len(values) for values, _ in pair):
                    lengths[int(begin)] = pair
        except (OSError, KeyError, TypeError, ValueError, SyntaxError) as error:
            raise ValueError(f"{self._where}: {file.name}: {type(error).__name__}: {error}") from error
        return lengths


def _distribution(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Token counts and their probabilities from a dictionary written out as text."""
    shares = ast.literal_eval(text)
    values = np.array(list(shares), dtype=int)
    weights = np.array(list(shares.values()), dtype=float)
    if (weights < 0).any() or (len(weights) and not weights.sum() > 0):
        raise ValueError("probabilities must be >= 0 and not all 0")
    return values, weights / weights.sum() if len(weights) else weights
