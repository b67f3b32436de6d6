"""A waiting queue in the order of an admission policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from vllm.v1.core.sched.request_queue import RequestQueue
from vllm.v1.request import Request, RequestStatus

from bidkv.adapters.shared.waiting import WaitingLine
from bidkv.strategies.base import AdmissionPolicy


class AdmissionQueue(RequestQueue):
    """Smallest `key(request)` first. Preempted requests wait in front, the last preempted first, unless
    `policy.preempted_first` says no.

    `key` is asked once per insertion and must return a tuple of floats. Ties go to the earlier
    arrival, then to the smaller id. `fits` and `may_pass` say whom `policy.backfill` lets pass, and when. A
    request that vLLM only skipped goes back to its place.
    """

    def __init__(
        self,
        key: Callable[[Request], tuple[float, ...]],
        requests: Iterable[Request] = (),
        policy: AdmissionPolicy | None = None,
        fits: Callable[[Request], bool] = lambda request: True,
        may_pass: Callable[[], bool] = lambda: True,
    ):
        self._preempted_first = policy is None or policy.preempted_first
        self._line: WaitingLine[Request] = WaitingLine(
            key,
            fits,
            policy.backfill if policy else 0,
            policy.max_overtaken if policy else None,
            may_pass,
        )
        for request in reversed(list(requests)):
            self.prepend_request(request)

    def resort(self) -> None:
        """Asks for every key again."""
        self._line.resort()

    def add_request(self, request: Request) -> None:
        self._line.join(request.request_id, request.arrival_time, request)

    def pop_request(self) -> Request:
        return self._line.take()

    def peek_request(self) -> Request:
        return self._line.first()

    def prepend_request(self, request: Request) -> None:
        if self._preempted_first and request.status == RequestStatus.PREEMPTED:
            self._line.join_in_front(request.request_id, request)
        else:
            self.add_request(request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.prepend_request(request)

    def remove_request(self, request: Request) -> None:
        if request not in self:
            raise ValueError(f"request {request.request_id} is not in the queue")
        self._line.leave([request.request_id])

    def remove_requests(self, requests: Iterable[Request]) -> None:
        self._line.leave([request.request_id for request in requests])

    def __contains__(self, request: object) -> bool:
        return isinstance(request, Request) and request.request_id in self._line

    def __bool__(self) -> bool:
        return len(self._line) > 0

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._line)
