"""Help for targets: streams cut into pieces, coroutines that wait for nothing, and a resolver that a stranger answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pluq.dns import Budget, Resolver
from pluq.dns.codec import Answer, Status, normal_name
from pluq.errors import ProtocolError

T = TypeVar("T")
_runner = asyncio.Runner()


def pieces(data: bytes) -> Iterable[bytes]:
    """Cut a stream, in a way that depends on its first byte."""
    size = data[0] % 7 + 1 if data else 1
    return (data[start : start + size] for start in range(0, len(data), size))


def decoded(feed: Callable[[bytes], Iterable[T]], data: Iterable[bytes]) -> tuple[list[T], bool]:
    """Return what a decoder made of the pieces, and whether it refused one."""
    found: list[T] = []
    try:
        for piece in data:
            found += feed(piece)
    except ProtocolError:
        return found, True
    return found, False


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return _runner.run(work)


class Records(Resolver):
    """A resolver that asks nobody: every name has these records, by type."""

    def __init__(self, records: Mapping[str, Sequence[Any]]) -> None:
        self._records = records

    async def lookup(self, name: bytes | str, rdtype: str, budget: Budget | None = None) -> Answer:
        if budget is not None:
            budget.spend()
        found = tuple(self._records.get(rdtype, ()))
        return Answer(normal_name(name), rdtype, Status.FOUND if found else Status.NO_DATA, found)


class Responses:
    """A client who is asked and has these lines to say; then it gives up."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = iter(lines)

    def reply(self, data: bytes) -> None:
        assert data.endswith(b"\r\n") and data.count(b"\n") == 1

    async def read_line(self) -> bytes:
        return next(self._lines, b"*")
