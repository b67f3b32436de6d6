"""What stands for the tokens that a model would have sampled."""

from __future__ import annotations

FIRST_TOKEN_ID = 3


class OwnTokens:
    """Every request repeats one token id of its own, so that no two share generated blocks by chance."""

    def __init__(self, vocabulary: int):
        self._vocabulary = vocabulary - FIRST_TOKEN_ID
        self._token_ids: dict[str, int] = {}
        self._added = 0

    def add(self, request_id: str) -> None:
        self._token_ids[request_id] = FIRST_TOKEN_ID + self._added % self._vocabulary
        self._added += 1

    def remove(self, request_id: str) -> None:
        del self._token_ids[request_id]

    def of(self, request_id: str) -> int:
        return self._token_ids[request_id]
