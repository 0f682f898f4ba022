"""Dynamic batching: what several clients ask at a time is computed in one run.

One thread computes. While it does, requests wait; when it is free, it takes all that wait, up to
the largest batch, in the order they came. So batches grow with the load by themselves. A delay
makes the first request of a batch wait for others besides.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings

__all__ = ["Batcher"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Waiting:
    images: Floats
    answer: asyncio.Future[Floats]
    since: float


class Batcher:
    """Computes what is submitted, in batches; an asynchronous context, within which it works.

    A request is never divided between two waits: one with more images than a batch holds is
    computed alone, in several runs.

    Args:
        compute: [n, ...] to [n, ...], called in a thread, one call at a time.
        largest: images in a run, at most; 1 computes every image alone.
        delay_s: how long the first request of a batch waits for others, at most.
        seen: told of every run: how many images, and its seconds.

    Raises:
        InvalidSettings: the batch or the delay is not allowed.
    """

    def __init__(
        self,
        compute: Callable[[Floats], Floats],
        *,
        largest: int = 32,
        delay_s: float = 0.0,
        seen: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:
        if largest < 1:
            raise InvalidSettings(f"a batch of {largest} images; it must hold at least 1")
        if not 0 <= delay_s <= 10:
            raise InvalidSettings(f"a delay of {delay_s:g} s; it must be between 0 and 10 s")
        self._compute = compute
        self._largest = largest
        self._delay_s = delay_s
        self._seen = seen
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parti-model")
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.cancel()
        await asyncio.wait([self._worker])
        for waiting in self._waiting:
            waiting.answer.cancel()
        self._waiting.clear()
        self._thread.shutdown()

    async def submit(self, images: Floats) -> Floats:
        """Compute images, perhaps together with others'.

        Cancelling takes them from the queue, if their run has not begun.

        Args:
            images: [n, ...], n at least 1, of the same shape and type as all others.

        Returns:
            What `compute` gives for them.

        Raises:
            Exception: what `compute` raises for the batch that they were in.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(images, loop.create_future(), loop.time())
        self._waiting.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._gather()
            batch = self._take()
            if not batch:
                continue
            try:
                answers = await loop.run_in_executor(
                    self._thread, self._run, [waiting.images for waiting in batch]
                )
            except Exception as error:  # noqa: BLE001 - theirs, who asked; the next may do better
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    async def _gather(self) -> None:
        """Wait until there is something to compute, and the time to compute it has come."""
        loop = asyncio.get_running_loop()
        while True:
            while self._waiting and self._waiting[0].answer.done():
                self._waiting.popleft()
            left = None
            if self._waiting:
                left = self._waiting[0].since + self._delay_s - loop.time()
                enough = sum(len(w.images) for w in self._waiting) >= self._largest
                if enough or left <= 0:
                    return
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        images = 0
        while self._waiting:
            first = self._waiting[0]
            if first.answer.done():
                self._waiting.popleft()
            elif batch and images + len(first.images) > self._largest:
                break
            else:
                batch.append(self._waiting.popleft())
                images += len(first.images)
        return batch

    def _run(self, parts: list[Floats]) -> list[Floats]:
        images = parts[0] if len(parts) == 1 else np.concatenate(parts)
        computed = []
        for start in range(0, len(images), self._largest):
            piece = images[start : start + self._largest]
            began = time.perf_counter()
            computed.append(self._compute(piece))
            self._seen(len(piece), time.perf_counter() - began)
        answer = computed[0] if len(computed) == 1 else np.concatenate(computed)
        ends = np.cumsum([len(part) for part in parts])
        return np.split(answer, ends[:-1])
