"""What stands between a parked request of simple_server and the future that wakes it (S10)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._request import Request

__all__ = ["Wait"]


class Wait:
    """Stands between a request that parks and the thread that wakes it.

    Two must come before the request goes on: the thread that wakes it, and the one that parks it, when that has let go.
     The last of the two gets the request.  So a future may call while and before add_done_callback() returns, in any
     thread,
    again, and while the loop ends the request (S10.1, S10.3).  No lock is taken here and no code of others is run
    (S10.2): what deques and SimpleQueue do is atomic.
    """

    def __init__(self, request: Request, *, for_client: bool) -> None:
        self._waker: deque[None] = deque([None])
        self._comers: deque[Request | None] = deque([request, None])
        self.for_client = for_client

    def __call__(self, _: object = None) -> None:
        """The done-callback; also for the loop.  Wakes the request, unless it has been woken."""
        if self.take():
            self.wake()

    def take(self) -> bool:
        """Whether the caller is the one to wake it."""
        try:
            self._waker.pop()
        except IndexError:
            return False
        return True

    def wake(self) -> None:
        """Resumes the request, if that has not been done and it is parked."""
        request = self._comers.pop()
        if request is not None:
            request.server.run_queue.put(request)  # no more: a pool thread runs its next step (S7.3, S11.2)

    def let_go(self) -> bool:
        """Whether it is parked now.  If not it has been woken, and the caller still has the request (S3.3)."""
        return self._comers.pop() is None

    @property
    def parked(self) -> bool:
        """Whether it has not been woken since it was let go."""
        return bool(self._waker) and len(self._comers) == 1
