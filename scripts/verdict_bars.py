"""The bars of the verdicts by Monte Carlo: how often nothing is called something, and something is found.

    python scripts/verdict_bars.py [--sweeps 2000] [--trace FILE.csv ...]

Null sweeps have 27 cells of one strategy and a baseline that are equal, their pairs differing by noise alone:
normal, Student's t with 3 degrees of freedom, exponential (skewed either way), and bursty (each pair the mean
over a run of requests whose noise comes in bursts). `--trace` adds windows of a recorded file: the noise of a
pair is then the mean of a smoothed length along its window. Printed are the share of sweeps with any verdict,
and the share of intervals that cover what is true. tests/tracking/test_verdict_bars.py has a short version.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from ray_jobs.workload.windows import rows_of
from tracking.evidence.config import GuardrailRule
from tracking.evidence.guardrails import Guarded, check_all
from tracking.evidence.neighbours import chained
from tracking.evidence.outcomes import Pairing
from tracking.evidence.statistics import as_family, holm, paired_test, verdict

STATES = ("held", "unsure", "broken")
CELLS, MARGIN, NOISE = 27, 0.005, 0.02
LARGE_NOISE = 0.2  # beside which the margin is nothing
Noise = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def bursty(random: np.random.Generator, shape: tuple[int, int], requests: int = 200) -> np.ndarray:
    """Means over runs of requests whose noise is log-normal and correlated from one request to the next."""
    state, total = random.standard_normal(shape), np.zeros(shape)
    for _ in range(requests):
        state = 0.95 * state + np.sqrt(1 - 0.95**2) * random.standard_normal(shape)
        total += np.exp(1.2 * state)
    return total / requests - np.exp(1.2**2 / 2)


NOISES: dict[str, Noise] = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "t3": lambda random, shape: random.standard_t(3, shape) / np.sqrt(3),
    "exponential": lambda random, shape: random.standard_exponential(shape) - 1,
    "exponential, left": lambda random, shape: 1 - random.standard_exponential(shape),
    "bursty": bursty,
}


def null_sweeps(
    draw: Noise,
    pairs: int,
    sweeps: int,
    random: np.random.Generator,
    groups: list[int] | None = None,
    size: float = NOISE,
    apart: float = 0.0,
) -> tuple[float, float, float]:
    """Shares of sweeps with a verdict, of intervals of a sweep, and of single comparisons that cover equal.

    `size` is the noise's; cells have it times a log-normal factor of width `apart`.
    """
    called, covered, alone = 0, 0, 0
    for _ in range(sweeps):
        each = size * np.exp(apart * random.standard_normal((CELLS, 1)))
        noise = np.exp(each * draw(random, (CELLS, pairs)))
        tests, words = judged(noise, groups)
        called += bool({"better", "worse"} & set(words))
        covered += sum(not test.excludes_equal for test in tests)
        alone += not paired_test(np.ones(pairs), noise[0], groups=groups).excludes_equal
    return called / sweeps, covered / sweeps / CELLS, alone / sweeps


def judged(ratios: np.ndarray, groups: list[int] | None = None) -> tuple[list, list[str]]:
    """The tests and words of a sweep; `ratios` has a row a cell and a column a pair. As `compare` does it."""
    ones = np.ones(ratios.shape[1])
    tests = as_family([paired_test(ones, row, matters=MARGIN, groups=groups, skew=0.0) for row in ratios])
    corrected = holm([test.p_value for test in tests])
    return tests, [verdict(test, p, "lower") for test, p in zip(tests, corrected, strict=True)]


def power(
    pairs: int,
    cells: int,
    sweeps: int,
    random: np.random.Generator,
    effect: float = 0.05,
    apart: float = 0.0,
) -> float:
    """The share of sweeps in which the one strategy that is worse by `effect` is found among `cells`.

    Cells have noise of 2 % times a log-normal factor of width `apart`.
    """
    found = 0
    for _ in range(sweeps):
        each = NOISE * np.exp(apart * random.standard_normal((cells, 1)))
        noise = np.exp(each * random.standard_normal((cells, pairs)))
        noise[0] *= 1 + effect
        found += judged(noise)[1][0] == "worse"
    return found / sweeps


def file_noise(path: Path, count: int) -> tuple[Noise, list[int], int]:
    """Noise of as many windows of `count` requests as a file of Azure's holds, its groups, and their number.

    What a request adds to a pair is its length, smoothed over 50 neighbours as a queue does; each cell begins
    elsewhere in the file and weighs prompt and output anew. Stretches of a window's length change sign at
    random: windows that cover a whole file would else always add up to its mean.
    """
    table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=(1, 2))
    kernel = np.ones(50) / 50
    smooth = np.array([np.convolve(np.log1p(column), kernel, "same") for column in table.T])
    smooth = (smooth - smooth.mean(axis=1, keepdims=True)) / smooth.std(axis=1, keepdims=True)
    rows = sorted((rows_of(s, count, len(table)) for s in range(len(table) // count)), key=lambda r: r.begin)

    def draw(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        shift = random.integers(len(table), size=shape[0])  # the file goes round: each cell begins elsewhere
        weights = random.standard_normal((shape[0], 2))
        flipped = np.sign(random.standard_normal((shape[0], len(table) // count + 2)))
        cells = []
        for cell in range(shape[0]):
            series = np.roll(weights[cell] @ smooth, shift[cell])
            stretches = np.repeat(flipped[cell], count)[shift[cell] % count :][: len(series)]
            series = series * stretches
            cells.append([series[r.begin : r.end].mean() * np.sqrt(count / 100) for r in rows])
        return np.array(cells)

    return draw, chained([(r.begin, r.end) for r in rows]), len(rows)


def correlated_file(random: np.random.Generator, rows: int, length: float) -> np.ndarray:
    """Errors along a file, correlated over `length` requests, with mean 0 and variance 1."""
    keep = np.exp(-1 / length)
    steps = random.standard_normal(rows) * np.sqrt(1 - keep**2)
    steps[0] = random.standard_normal()
    return lfilter([1.0], [1.0, -keep], steps)


def tail_states(
    ratio: float, blocks: int, requests: int, cells: int, sweeps: int, random: np.random.Generator
) -> tuple[dict[str, float], float]:
    """Shares of the states of a p99 guardrail of 10 %, and how often the interval covers `ratio`.

    Requests wait in bursts that both strategies share; then each strategy adds 20 % of its own to each request.
    """
    rule = GuardrailRule(metric="e2e_p99_s", max_ratio=1.10)
    counts, covered, seeds = dict.fromkeys(STATES, 0), 0, [str(number) for number in range(blocks)]
    for _ in range(sweeps):
        cases = []
        for _ in range(cells):
            steps = random.standard_normal((blocks, requests))
            waited = lfilter([np.sqrt(1 - 0.95**2)], [1, -0.95], steps, axis=1)
            shared = 0.8 * waited + 0.4 * random.standard_normal((blocks, requests))
            base, other = (
                np.quantile(np.exp(shared + 0.2 * random.standard_normal(shared.shape)), 0.99, axis=1)
                for _ in range(2)
            )
            found = Pairing(seeds, base.tolist(), (ratio * other).tolist())
            test = paired_test(found.baseline, found.strategy, by_ratio=True)
            cases.append(Guarded("other", found, test, requests=requests))
        for check in check_all(rule, cases):
            counts[check.status] += 1
            covered += check.ratio.low <= ratio <= check.ratio.high
    total = sweeps * cells
    return {state: count / total for state, count in counts.items()}, covered / total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweeps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--trace", type=Path, nargs="*", default=[], help="CSV files of Azure's traces")
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    print(
        f"{given.sweeps} null sweeps of {CELLS} cells, seed {given.seed}: any verdict | covers (sweep) | covers (alone)"
    )
    for pairs in (6, 8, 12, 16):
        for name, draw in NOISES.items():
            called, covered, alone = null_sweeps(draw, pairs, given.sweeps, random)
            print(f"{pairs:3} pairs, {name:18} {called:6.1%} | {covered:6.1%} | {alone:6.1%}", flush=True)
    for pairs in (6, 8, 12):
        for name, draw in NOISES.items():
            shares = [
                null_sweeps(draw, pairs, given.sweeps, random, size=LARGE_NOISE, apart=apart)[0]
                for apart in (0.0, 0.5)
            ]
            print(
                f"{pairs:3} pairs, {name:18} noise of 20 %, any verdict: {shares[0]:6.1%}, if it differs from cell to "
                f"cell {shares[1]:6.1%}", flush=True,
            )  # fmt: skip
    for path in given.trace:
        for count in (2000, 1000, 500):
            draw, of, pairs = file_noise(path, count)
            called, covered, alone = null_sweeps(draw, pairs, given.sweeps, random, of)
            print(
                f"{path.name}, {pairs} windows of {count}: {called:6.1%} | {covered:6.1%} | {alone:6.1%}",
                flush=True,
            )
    for length in (50, 2000):
        covered = {True: 0, False: 0}
        for _ in range(given.sweeps):
            series = correlated_file(random, 19366, length)
            rows = sorted((rows_of(s, 2000, 19366) for s in range(9)), key=lambda r: r.begin)
            means = np.exp(0.1 * np.array([series[r.begin : r.end].mean() for r in rows]))
            for grouped in covered:
                of = chained([(r.begin, r.end) for r in rows]) if grouped else None
                covered[grouped] += not paired_test(np.ones(9), means, groups=of).excludes_equal
        print(
            f"nine windows of 2,000, errors correlated over {length}: covers {covered[True] / given.sweeps:.1%} as "
            f"blocks of neighbours, {covered[False] / given.sweeps:.1%} if each stood alone"
        )
    for cells in (1, 27):
        for blocks, requests in ((8, 260), (12, 500), (12, 1000), (12, 2000)):
            for ratio in (1.0, 1.25):
                sweeps = max(1, given.sweeps // 5 // cells)
                states, covered = tail_states(ratio, blocks, requests, cells, sweeps, random)
                text = ", ".join(f"{state} {share:.0%}" for state, share in states.items())
                print(
                    f"p99 guardrail of 10 %, {blocks} x {requests}, {cells} cells, p99 {ratio:g} times: {text}; covers "
                    f"{covered:.1%}", flush=True,
                )  # fmt: skip
    for pairs, cells in ((8, 1), (8, 4), (8, 8), (8, 12), (8, 27), (10, 27), (12, 27)):
        print(
            f"power for 5 % at 2 % noise, {pairs} pairs, {cells} cells: {power(pairs, cells, given.sweeps, random):.1%}, "
            f"if it differs from cell to cell {power(pairs, cells, given.sweeps, random, apart=0.5):.1%}"
        )


if __name__ == "__main__":
    main()
