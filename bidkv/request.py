"""What a policy may see: requests, the KV pool they share, and how requests ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RequestState:
    """One running or waiting request, as a real server knows it at decision time.

    Token counts are in tokens, times in seconds on one clock per run. `max_tokens` is what
    the client declared; the length the output will really have is `true_output_tokens`,
    which adapters fill in only for policies marked `oracle`. A request that is a turn of a
    conversation says so in `session` and `turn`, if its client does.
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
    session: str | None = None
    turn: int | None = None  # in its session, from 0
    # Its first tokens that host memory holds too: after a preemption they are loaded back, not computed again
    # (unless the device still has them). None = no host memory.
    host_tokens: int | None = None
    # Of one that waits: its first tokens that the prefix cache has. Only where its policy asks (`sees_cache`).
    cached_tokens: int | None = None

    @property
    def completion(self) -> float:
        """Share of the declared output generated so far, in [0, 1]; 0 if nothing is declared."""
        if self.max_tokens <= 0:
            return 0.0
        return min(1.0, self.output_tokens / self.max_tokens)


@dataclass(slots=True)
class PoolState:
    """The KV pool and the pace of the engine. One object per run, which the adapter keeps current.

    The defaults are what holds before an engine has said anything: an 8B model on one large GPU.
    """

    capacity_tokens: int = 400_000
    free_tokens: int = 400_000  # when a policy is asked to admit; cached prefixes nobody uses count
    needed_tokens: int = 0  # of the free ones, what the request in question would take
    max_running: int = 256
    running: int = 256  # requests, when a policy is asked whether a prompt may have a step of its own
    seconds_per_step: float = 0.03  # smoothed over the steps that did something
    now: float = 0.0  # seconds on the clock of arrivals, when a policy is asked to admit
    step: int = 0  # counts the engine's steps: what a policy reckoned in one need not be reckoned again in it
    shortfall_tokens: int = 0  # what the allocation that failed still needs; 0 outside a choice of victims
    prefix_caching: bool = False
    host_memory: bool = False  # what leaves the device may be loaded back from elsewhere
    compute_s_per_token: float = (
        5e-5  # of computing a prompt again; smoothed over steps that were mostly prompts
    )
    load_s_per_token: float | None = (
        None  # of loading it from host memory; None = none, or nothing loaded yet
    )


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """A request whose output is complete, for policies that learn."""

    request_id: str
    prompt_tokens: int
    output_tokens: int
    max_tokens: int = 0
    preemptions: int = 0
    recomputed_tokens: int = 0  # computed again after preemptions
    preempted_seconds: float = 0.0  # waited after preemptions
    restored_tokens: int = 0  # found again in the prefix cache or in host memory after preemptions
    arrival: float = 0.0
    finished: float = 0.0
