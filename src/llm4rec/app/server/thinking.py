"""Turns of agents that ask a language model: each in a thread, so many at once, each with a bound of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal

from llm4rec.agents.turn import Turn
from llm4rec.app.server.batching import Bounded, Overloaded
from llm4rec.core import LLM4RecError
from llm4rec.llm.store import TRANSIENT

#: Why the rule agent answers in place of one with a language model; see :func:`standing_in` for the last two.
Reason = Literal["slow", "busy", "failed", "bound", "unusable"]


class GaveUp(Exception):
    """A turn that will not be ended: somebody else has to answer."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


class Thinking:
    """Turns in threads of their own, away from the systems'.

    Args:
        workers: turns at once.
        seconds: for a whole turn; its thread stays taken until the turn ends.
    """

    def __init__(self, workers: int, seconds: float) -> None:
        self._bounded = Bounded(workers, seconds)

    async def steps(self, begin: Callable[[], Iterator[Turn]]) -> AsyncIterator[Turn]:
        """Yield a turn as it grows.

        Raises:
            GaveUp: if all threads are taken, the time is up, or the language model cannot be asked at all.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Turn | None]()

        def work() -> None:
            for step in begin():
                loop.call_soon_threadsafe(queue.put_nowait, step)

        task = asyncio.create_task(self._bounded.run(work))
        task.add_done_callback(lambda _: queue.put_nowait(None))
        while (step := await queue.get()) is not None:
            yield step
        try:
            await task
        except Overloaded:
            raise GaveUp("busy") from None
        except TimeoutError:
            raise GaveUp("slow") from None
        except LLM4RecError:
            raise GaveUp("failed") from None

    @property
    def idle(self) -> bool:
        """Is no thread at work?"""
        return self._bounded.idle

    def close(self) -> None:
        """Begin no more turns."""
        self._bounded.close()


def standing_in(turn: Turn, asked: str) -> Reason | None:
    """Return why a finished turn's answer is the rule agent's, None if it is the one of the agent that was asked.

    ``bound``: a bound of the turn was reached with nothing found; ``unusable``: the model's answer could not be used, or its
    critic did not pass it; ``failed``: the model could not be reached.
    """
    if turn.by == asked:
        return None
    if turn.ended != "answered":
        return "bound"
    return "failed" if any(f.rpartition(":")[2] in TRANSIENT for f in turn.failures) else "unusable"
