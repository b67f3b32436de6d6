"""What is still to come of an output: what clairvoyant victims share."""

from __future__ import annotations

from bidkv.errors import BidValidationError
from bidkv.request import RequestState


def remaining_tokens(policy: str, request: RequestState) -> int:
    """Output tokens still to come, from the true length that only oracle policies may see."""
    if request.true_output_tokens is None:
        raise BidValidationError(
            f"{policy}: true_output_tokens of request {request.request_id!r} is not known"
        )
    return request.true_output_tokens - request.output_tokens
