"""The incremental count of shared prefixes against the definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bidkv.adapters.sglang.prefixes import TOKEN, SharedPrefixes, TreePath, common_tokens

# A small alphabet makes prefixes collide; 255 and 256 differ only in the second byte of a token.
tokens = st.lists(st.sampled_from([0, 1, 255, 256, 2**40]), max_size=6)
paths = st.builds(lambda space, ids: TreePath(space, as_bytes(ids)), st.sampled_from(["a", "b"]), tokens)


def as_bytes(ids: list[int]) -> bytes:
    return np.array(ids, TOKEN).tobytes()


def common(a: TreePath, b: TreePath) -> int:
    left, right = np.frombuffer(a.tokens, TOKEN), np.frombuffer(b.tokens, TOKEN)
    count = 0
    while a.namespace == b.namespace and count < min(left.size, right.size) and left[count] == right[count]:
        count += 1
    return count


def assert_exact(index: SharedPrefixes, current: dict[str, TreePath]) -> None:
    for name, path in current.items():
        expected = max((common(path, other) for n, other in current.items() if n != name), default=0)
        assert index.shared(name) == expected


@given(st.lists(st.dictionaries(st.sampled_from("uvwxyz"), paths), max_size=6))
def test_shared_is_the_longest_prefix_with_any_other(stages: list[dict[str, TreePath]]) -> None:
    index = SharedPrefixes()
    for current in stages:
        index.sync(current)
        assert_exact(index, current)


@given(st.dictionaries(st.sampled_from("uvwxyz"), paths, min_size=1), st.randoms(use_true_random=False))
def test_removal_names_everyone_whose_count_changed(current: dict[str, TreePath], random: object) -> None:
    index = SharedPrefixes()
    index.sync(current)
    names = sorted(current)
    random.shuffle(names)
    for name in names:
        before = {n: index.shared(n) for n in current}
        changed = index.remove(name)
        del current[name]
        assert_exact(index, current)
        assert {n for n in current if index.shared(n) != before[n]} <= set(changed)


def test_common_tokens_counts_whole_tokens() -> None:
    assert common_tokens(as_bytes([7, 1, 9]), as_bytes([7, 257, 9])) == 1
    assert common_tokens(as_bytes([7, 1]), as_bytes([7, 1, 9])) == 2
    assert common_tokens(b"", as_bytes([7])) == 0
