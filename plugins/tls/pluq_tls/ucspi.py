"""UCSPI-TLS: the listener encrypts, and this process never sees a key.

    UCSPITLS                             offer STARTTLS; "!..." requires it before MAIL; "-" does not offer it
    SSLCTLFD SSLREADFD SSLWRITEFD        descriptors that the listener left open (sslserver -n, s6-ucspitlsd)

`Y` on the control descriptor makes the listener do the handshake with the client. It answers there with variables, NAME=VALUE each ended by a
NUL, an empty one at the end; from then on the client is read and written through the other two. The listener closes them where the
handshake fails.

Source: the UCSPI-TLS specification of Scott Gifford; sslserver of ucspi-ssl, s6-ucspitlsd of s6-networking.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pluq.hookspecs import Tls

NAMES = ("SSLCTLFD", "SSLREADFD", "SSLWRITEFD")
# A client certificate may be among the variables.
MAX_ANSWER = 1 << 20
HANDSHAKE_SECONDS = 60.0


@dataclass(frozen=True)
class Listener:
    """The descriptors of a listener that can encrypt."""

    control: int
    reads: int
    writes: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Listener | None:
        """Return the listener that a process's variables name, None where there is none. Programs that are started do not get it."""
        numbers = [environment.get(name, "") for name in NAMES]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            return None
        found = cls(*(int(number) for number in numbers))
        try:
            for fd in (found.control, found.reads, found.writes):
                os.set_inheritable(fd, False)
        except (OSError, OverflowError):
            return None
        return found

    async def begin(self) -> tuple[int, int, Tls]:
        """Have the client's connection encrypted. Raises OSError where that fails."""
        os.write(self.control, b"Y")
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                answer = await self._answer()
        except TimeoutError as error:
            raise ConnectionAbortedError("the listener does not answer") from error
        finally:
            os.close(self.control)
        return self.reads, self.writes, describe(parse_variables(answer))

    async def _answer(self) -> bytes:
        answer = b""
        while not ends(answer):
            await readable(self.control)
            piece = os.read(self.control, 4096)
            if not piece or len(answer) > MAX_ANSWER:
                raise ConnectionAbortedError("the listener did not encrypt")
            answer += piece
        return answer


def ends(answer: bytes) -> bool:
    """Return whether all variables are there: the last one is empty."""
    return answer == b"\0" or answer.endswith(b"\0\0")


def set_once(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, set_once, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def parse_variables(answer: bytes) -> dict[str, str]:
    """Return the variables of an answer; what is none is left out."""
    pairs = (one.decode("utf-8", "replace").partition("=") for one in answer.split(b"\0"))
    return {name: value for name, equals, value in pairs if name and equals}


def describe(variables: Mapping[str, str]) -> Tls:
    """Return what the listener says of the TLS layer; a listener that says nothing has encrypted all the same."""
    return Tls(
        version=variables.get("SSL_PROTOCOL", ""),
        cipher=variables.get("SSL_CIPHER", "") or "TLS",
        server_name=variables.get("SSL_TLS_SNI_SERVERNAME") or None,
    )
