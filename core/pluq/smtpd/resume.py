"""Going on with a step that was begun outside of any task and now waits for something."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any


@types.coroutine
def finish_step(coroutine: Coroutine[Any, Any, None], waiting: Any) -> Generator[Any, Any, None]:
    """Wait for what the step waits for, and so on to its end. Made for a task: cancelling that cancels the step."""
    while True:
        try:
            sent = yield waiting
        except BaseException as error:
            resume: Callable[[], Any] = partial(coroutine.throw, error)
        else:
            resume = partial(coroutine.send, sent)
        try:
            waiting = resume()
        except StopIteration:
            return


async def wait_readable(loop: asyncio.AbstractEventLoop, fd: int, seconds: float) -> bool:
    """Wait until a descriptor can be read; False when that took too long. A file can always be read."""
    ready: asyncio.Future[bool] = loop.create_future()

    def tell(answer: bool) -> None:
        if not ready.done():
            ready.set_result(answer)

    try:
        loop.add_reader(fd, tell, True)
    except PermissionError:  # epoll takes no files
        return True
    timer = loop.call_later(max(0.0, seconds), tell, False)
    try:
        return await ready
    finally:
        timer.cancel()
        loop.remove_reader(fd)
