"""What a policy may see of a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RequestState:
    """One running or waiting request, as a real server knows it at decision time.

    Token counts are in tokens, times in seconds on one clock per run. `max_tokens` is what
    the client declared; the length the output will really have is `true_output_tokens`,
    which adapters fill in only for policies marked `oracle`.
    """

    request_id: str
    computed_tokens: int  # tokens whose KV is in the cache now
    prompt_tokens: int
    output_tokens: int = 0  # generated so far
    max_tokens: int = 0  # declared by the client; 0 = not declared
    private_tokens: int | None = None  # KV tokens no other request shares; None = not known
    private_blocks: int | None = None  # KV blocks with one owner; None = not known
    total_blocks: int | None = None  # KV blocks held, shared ones included
    arrival: float = 0.0
    priority: int = 0  # larger = less important, as in vLLM
    deadline: float | None = None
    preemptions: int = 0
    true_output_tokens: int | None = None  # oracle policies only

    @property
    def completion(self) -> float:
        """Share of the declared output generated so far, in [0, 1]; 0 if nothing is declared."""
        if self.max_tokens <= 0:
            return 0.0
        return min(1.0, self.output_tokens / self.max_tokens)
