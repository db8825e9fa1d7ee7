"""An event loop in a thread of its own, for one owner.

One loop means one client and one pool of connections, whoever asks from whatever thread, also from
within another event loop.  The thread ends with its owner.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from queue import Empty, SimpleQueue
from typing import Any

#: What hands something over from a job to whoever reads its stream.
Hand = Callable[[Any], None]
#: Seconds for which things are gathered before they are yielded; the end of a job ends the wait.
_GATHER = 0.1
_Queue = SimpleQueue[tuple[Any] | None]  # None: that was all


class Background:
    """A thread that runs an event loop until ``owner`` is no longer used, or the process ends."""

    def __init__(self, owner: object) -> None:
        self.process = os.getpid()  # threads do not survive a fork
        self._loop = asyncio.new_event_loop()
        self._closing: list[Callable[[], Coroutine[Any, Any, None]]] = []
        end = asyncio.Event()
        # The thread must know nothing of the owner, or it would keep it alive.
        thread = threading.Thread(target=_run, args=(self._loop, end, self._closing), name="llm4rec-loop", daemon=True)
        thread.start()
        weakref.finalize(owner, _finish, self._loop, end, thread, self.process)

    def at_end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have something closed in the loop before it ends; ``close`` must not know the owner."""
        self._closing.append(close)

    def stream(self, job: Callable[[Hand], Coroutine[Any, Any, None]]) -> Iterator[list[Any]]:
        """Run a job in the loop and yield what it hands over, as much as there is at a time.

        An error of the job is raised when all has been yielded.  ``KeyboardInterrupt`` and the like
        cancel the job; what it has handed over until then is still yielded.
        """
        given: _Queue = SimpleQueue()
        ended = threading.Event()
        tasks: list[asyncio.Task[None]] = []

        def start() -> None:
            task = self._loop.create_task(job(lambda item: given.put((item,))))
            task.add_done_callback(finish)
            tasks.append(task)

        def finish(_: asyncio.Task[None]) -> None:
            given.put(None)
            ended.set()

        def cancel() -> None:
            tasks[0].cancel()

        self._loop.call_soon_threadsafe(start)
        running = True
        try:
            while running:
                items, running = _drained(given, ended)
                if items:
                    yield items
        except BaseException as stop:
            if running:
                self._loop.call_soon_threadsafe(cancel)
            items = _rest(given, ended, running)
            if items and not isinstance(stop, GeneratorExit):
                yield items
            raise
        if error := tasks[0].exception():
            raise error


def _run(loop: asyncio.AbstractEventLoop, end: asyncio.Event, closing: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    async def live() -> None:
        try:
            await end.wait()
        finally:
            for close in closing:
                await close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(live())


def _finish(loop: asyncio.AbstractEventLoop, end: asyncio.Event, thread: threading.Thread, process: int) -> None:
    if os.getpid() == process and thread.is_alive():
        loop.call_soon_threadsafe(end.set)
        if threading.current_thread() is not thread:
            thread.join(2.0)


def _drained(given: _Queue, ended: threading.Event) -> tuple[list[Any], bool]:
    """Wait for one thing, take what else comes soon, and say whether more is to come.

    Whoever reads works in another thread and takes the interpreter's lock from the loop each time
    that it wakes: one by one, that would cost the loop more than its own work.
    """
    items: list[Any] = []
    ended.wait(_GATHER)  # before anything is taken: an interrupt here loses nothing
    entry = given.get()
    while entry is not None:
        items.append(entry[0])
        try:
            entry = given.get_nowait()
        except Empty:
            return items, True
    return items, False


def _rest(given: _Queue, ended: threading.Event, running: bool) -> list[Any]:
    """Return all that a job still hands over until it has ended."""
    items: list[Any] = []
    while running:
        more, running = _drained(given, ended)
        items += more
    return items
