"""Virtual time: tests of time limits, tarpits and caches that do not wait.

    @virtual_time
    async def test_each_recipient_waits_a_minute(...):
        began = time.monotonic()
        await talk.ask("RCPT TO:<joe@example.org>")
        assert time.monotonic() - began == 60

Inside, `asyncio.sleep`, time limits, `loop.time`, `time.monotonic` and `time.time` all follow one clock, which stands still while
something can run and jumps to the next timer when nothing can. `advance(seconds)` lets time go by, with all that is due in it.

Real things take real time: the clock waits for work in threads, and for what a `FakeDns` has been asked. For other sockets and for
processes, say how long in real seconds something may come from them: `@virtual_time(patience=0.2)`. A name that was imported from the
module time before, as in `from time import monotonic`, keeps the real clock.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar, overload
from unittest.mock import patch

T = TypeVar("T")
Test = Callable[..., Coroutine[Any, Any, T]]

# How long a real look for input takes while a thread works.
LOOK_SECONDS = 0.02

# Servers of the test that run in threads: each says whether it is at work. Then the clock waits.
holders: list[Callable[[], bool]] = []


async def advance(seconds: float) -> None:
    """Let virtual time go by; what is due meanwhile runs at its moment."""
    await asyncio.sleep(seconds)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps. `patience`: real seconds in which a socket may still have something."""

    def __init__(self, patience: float = 0.0) -> None:
        self.now = time.monotonic()
        self.threads = 0
        super().__init__(_JumpingSelector(self, patience))

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override]  # the base class has overloads for its types of callbacks
        self, executor: Any, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        """Work in a thread holds the clock."""
        future = super().run_in_executor(executor, function, *arguments)
        self.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: asyncio.Future[Any]) -> None:
        self.threads -= 1

    @property
    def is_held(self) -> bool:
        return self.threads > 0 or any(is_at_work() for is_at_work in holders)


class _JumpingSelector(selectors.BaseSelector):
    """A selector that does not wait for the next timer, but tells the loop that it is its time."""

    def __init__(self, loop: VirtualLoop, patience: float) -> None:
        self._loop = loop
        self._patience = patience
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._real.select(self._patience + LOOK_SECONDS if self._loop.threads else None)
        if timeout <= 0:
            return self._real.select(0)
        while True:
            held = self._loop.is_held
            ready = self._real.select(LOOK_SECONDS if held else max(self._patience, LOOK_SECONDS if holders else 0.0))
            if ready or not held:
                break
        if not ready:
            self._loop.now += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def run(work: Awaitable[T], patience: float = 0.0) -> T:
    """Run a coroutine to its end in virtual time."""
    made: list[VirtualLoop] = []

    def make_loop() -> VirtualLoop:
        made.append(VirtualLoop(patience))
        return made[0]

    async def main() -> T:
        return await work

    with asyncio.Runner(loop_factory=make_loop) as runner:
        loop = runner.get_loop()
        shift = time.time() - loop.time()
        with patch("time.monotonic", loop.time), patch("time.time", lambda: loop.time() + shift):
            return runner.run(main())


@overload
def virtual_time(test: Test[T]) -> Callable[..., T]: ...


@overload
def virtual_time(*, patience: float) -> Callable[[Test[T]], Callable[..., T]]: ...


def virtual_time(test: Test[T] | None = None, *, patience: float = 0.0) -> Any:
    """Make an asynchronous test one that runs in virtual time. Fixtures are given to it as ever."""
    if test is None:
        return functools.partial(virtual_time, patience=patience)
    wanted: Test[T] = test

    @functools.wraps(wanted)
    def in_virtual_time(*given: Any, **named: Any) -> T:
        return run(wanted(*given, **named), patience)

    return in_virtual_time
