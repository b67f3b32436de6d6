"""A short run of the fuzz on SGLang's real scheduler; `make fuzz-sglang` is a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = 4  # of each; the first seeds that have retractions, passers and a switch of strategy


@pytest.mark.parametrize("engine", [0, 3, 4, 5, 8])
def test_random_loads(tiny_model: Path, tmp_path: Path, engine: int) -> None:
    from fuzz_cases import Fuzz

    with Fuzz(tiny_model, engine, tmp_path) as fuzz:
        for seed in range(CASES):
            fuzz.case(seed)
        assert fuzz.runs == 2 * CASES and fuzz.equal > 0 and fuzz.retracted > 0


def test_an_adapter_that_breaks_a_rule_is_found(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracles see something: one that forgets who was overtaken, one that keeps what has left."""
    from fuzz_cases import Fuzz

    from bidkv.adapters.sglang.places import Places

    def found(name: str, broken: object) -> int:
        failures = 0
        with monkeypatch.context() as patch, Fuzz(tiny_model, 0, tmp_path) as fuzz:
            patch.setattr(Places, name, broken)
            for seed in range(12):
                try:
                    fuzz.case(seed)
                except AssertionError:
                    failures += 1
                    fuzz.renew()
                    if failures:
                        break
        return failures

    assert found("leave", lambda self, name: None)
    assert found("kept", property(lambda self: 1))
