"""How fast a server is asked: one gate for all requests, which adapts to what the server says.

- The limit of requests under way follows AIMD (additive increase, multiplicative decrease; Chiu and
  Jain 1989, the rule of TCP): halved when the server says that it is too much, once for all requests
  that were under way then, and raised by one for each full round of answers.
- When the server asks to wait, everybody waits; afterwards the requests leave one after the other.
- The circuit breaker (Nygard, "Release It!", 2007) opens after many failed attempts in a row: nobody
  is asked until a pause is over.  Then one request is sent as a probe, and its fate decides.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque

from llm4rec.llm.wire import Outcome

#: Upper bound, in seconds, of the wait before the first repetition; doubled for each further one.
FIRST_WAIT = 1.0
#: Seconds between two requests of the first round: a few times what the loop needs for one.
_APART = 0.004
#: The requests that waited for the server leave within this share of the wait, and within a second.
_SPREAD, _LONGEST_SPREAD = 0.25, 1.0


class Pace:
    """The gate through which every attempt goes; lives in one event loop.

    Args:
        slots: upper bound of the limit, where it begins.
        patience: failed attempts in a row that open the breaker; at least two for each slot, since
            one lost connection may end all that is under way.
        pause: seconds for which the breaker stays open.
        max_wait: longest wait that the server may ask for; a longer one opens the breaker for so long.
    """

    def __init__(self, slots: int, *, patience: int = 20, pause: float = 30.0, max_wait: float = 60.0) -> None:
        self._slots, self._patience, self._pause, self._max_wait = slots, max(patience, 2 * slots), pause, max_wait
        self._limit = float(slots)
        self._busy = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._not_before = 0.0
        self._spread = 0.0
        self._reduced = -1.0  # when the limit was last halved
        self._slowed = 0  # times in a row that the server said it was too much
        self._to_start = 0  # requests that begin what was idle, and leave one after the other
        self._next_start = 0.0
        self._failed = 0  # attempts in a row without an answer
        self._closed_until: float | None = None
        #: Why nobody is asked, while the gate is closed.
        self.reason = ""

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        if self._closed_until is None:
            return int(self._limit)
        return int(time.monotonic() >= self._closed_until)

    @property
    def closed(self) -> bool:
        """Is nobody asked, because the breaker is open?"""
        return self._closed_until is not None and time.monotonic() < self._closed_until

    async def enter(self) -> bool:
        """Wait for a slot; false where nobody is to be asked.  After true, ``leave`` must follow."""
        if self.closed:
            return False
        if not self._waiting and self._busy < self.limit:
            if self._busy == 0:
                self._to_start = self._slots
            self._busy += 1
        else:
            turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                if not await turn:
                    return False
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled() and turn.result():
                    self._release()
                raise
        try:
            await self._apart()
            while (left := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(left + random.uniform(0, self._spread))
        except asyncio.CancelledError:
            self._release()
            raise
        if self.closed:
            self._release()
            return False
        return True

    async def _apart(self) -> None:
        """Let the first round leave one by one: what leaves together comes back together, and then waits for one loop."""
        if self._to_start <= 0:
            return
        self._to_start -= 1
        now = time.monotonic()
        at = max(now, self._next_start)
        self._next_start = at + _APART
        if at > now:
            await asyncio.sleep(at - now)

    def leave(self, began: float, outcome: Outcome | None) -> None:
        """Give the slot back, and learn from an attempt.

        Args:
            began: monotonic time at which the attempt began.
            outcome: None if it was cancelled.
        """
        if outcome is not None:
            now = time.monotonic()
            if outcome.failure == "rate_limited" or outcome.after is not None:
                self._slow(began, now, outcome)
            elif outcome.failure in ("unreachable", "server_error"):
                self._fail(began, now, outcome)
            else:
                self._slowed = self._failed = 0
                self._closed_until = None
                self._limit = min(float(self._slots), self._limit + 1.0 / self._limit)
        self._release()

    def _slow(self, began: float, now: float, outcome: Outcome) -> None:
        if began >= self._reduced:  # else it was sent before the server was known to be busy
            self._limit = max(1.0, self._limit / 2)
            self._reduced = now
            self._slowed += 1
            self._fail(began, now, outcome)
        after = outcome.after or backoff(self._slowed, self._max_wait)
        if after > self._max_wait:
            self._close(now + after, f"the server asks to wait {after:.0f} s")
            return
        if now + after > self._not_before:
            self._not_before, self._spread = now + after, min(_SPREAD * after, _LONGEST_SPREAD)

    def _fail(self, began: float, now: float, outcome: Outcome) -> None:
        self._failed += 1
        probed = self._closed_until is not None and began >= self._closed_until
        if probed or (self._closed_until is None and self._failed >= self._patience):
            times = f"the last {self._failed} attempts" if self._failed > 1 else "the last attempt"
            self._close(now + self._pause, f"{times} failed ({outcome.failure}: {outcome.detail})")

    def _close(self, until: float, reason: str) -> None:
        self._closed_until, self.reason = until, f"not asked: {reason}"
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(False)

    def _release(self) -> None:
        self._busy -= 1
        while self._waiting and self._busy < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(True)


def backoff(attempt: int, longest: float) -> float:
    """Return the seconds to wait after the nth failed attempt (n = ``attempt``): full jitter (Brooker, AWS 2015)."""
    return random.uniform(0.0, min(longest, FIRST_WAIT * 2.0 ** min(attempt - 1, 30)))
