"""Requests that arrive together are answered together, and those that ask a language model have a bound of time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")

#: Takes the questions of one key, when their turn has come; returns what a thread has to do for their answers.
Prepare = Callable[[Any, Sequence[Q]], Callable[[], Sequence[A]]]


class Overloaded(Exception):
    """More is waiting than may wait."""


class Batcher(Generic[Q, A]):
    """One thread, and a queue before it: what has come while the thread worked is its next batch.

    No question waits for others to come, so a lone one is answered at once.

    Args:
        prepare: called in the event loop when a batch's turn has come, so that it sees all that was
            acknowledged until then; what it returns is called in the thread.
        most: questions of a batch, at most.
        waiting: questions that may wait.
        measure: told the size of each batch.
    """

    def __init__(self, prepare: Prepare[Q, A], *, most: int, waiting: int, measure: Callable[[int], None]) -> None:
        self._prepare, self._most, self._waiting, self._measure = prepare, most, waiting, measure
        self._queue: deque[tuple[Hashable, Q, asyncio.Future[A]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="systems")
        self._task: asyncio.Task[None] | None = None

    async def ask(self, key: Hashable, question: Q) -> A:
        """Return the answer to a question; those of one key are answered together.

        Raises:
            Overloaded: if too many are waiting.
        """
        if len(self._queue) >= self._waiting:
            raise Overloaded
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._queue.append((key, question, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def run(self, work: Callable[[], T]) -> T:
        """Do other work in the same thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next():
            self._measure(len(batch))
            try:
                work = self._prepare(batch[0][0], [question for _, question, _ in batch])
                answers = await loop.run_in_executor(self._thread, work)
            except Exception as error:
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), answer in zip(batch, answers, strict=True):
                if not future.done():  # nobody waits for it any more
                    future.set_result(answer)

    def _next(self) -> list[tuple[Hashable, Q, asyncio.Future[A]]]:
        """Take the oldest question and those of its key."""
        batch: list[tuple[Hashable, Q, asyncio.Future[A]]] = []
        rest: deque[tuple[Hashable, Q, asyncio.Future[A]]] = deque()
        while self._queue:
            entry = self._queue.popleft()
            if entry[2].done():
                continue
            fits = not batch or entry[0] == batch[0][0]
            (batch if fits and len(batch) < self._most else rest).append(entry)
        self._queue = rest
        return batch


class Bounded:
    """Work that may take long: so much of it at once, each with a bound of time.

    Args:
        workers: threads.
        seconds: bound of one piece of work; its thread stays taken until it ends.
    """

    def __init__(self, workers: int, seconds: float) -> None:
        self._pool: Executor = ThreadPoolExecutor(workers, thread_name_prefix="models")
        self._workers, self._seconds = workers, seconds
        self._busy: set[Future[Any]] = set()

    async def run(self, work: Callable[[], T]) -> T:
        """Return what the work returns.

        Raises:
            Overloaded: if every thread is taken.
            TimeoutError: if it takes too long.
        """
        self._busy = {f for f in self._busy if not f.done()}
        if len(self._busy) >= self._workers:
            raise Overloaded
        future = self._pool.submit(work)
        self._busy.add(future)
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), self._seconds)

    @property
    def idle(self) -> bool:
        """Is no thread at work?"""
        return all(f.done() for f in self._busy)

    def close(self) -> None:
        """Start no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
