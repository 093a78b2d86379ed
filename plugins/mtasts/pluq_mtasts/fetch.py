"""Fetching a policy: GET https://mta-sts.DOMAIN/.well-known/mta-sts.txt.

The certificate must be good for that name. A redirect is not followed, nothing but 200 with text/plain is taken, the whole answer has
at most MAX_ANSWER octets and SECONDS to arrive. The address is looked up with our own resolver (absolute names); http.client reads the answer
when all of it is there.

Source: RFC 8461 section 3.3.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO

from pluq.dns import NoRecords, Resolver
from pluq.errors import ProtocolError, TemporaryFailure
from pluq_mtasts.policy import MAX_POLICY, Policy, parse_policy

PATH = "/.well-known/mta-sts.txt"
SECONDS = 60.0
MAX_ANSWER = MAX_POLICY + 32768

_AGENT = "pluq"


class Fetcher:
    """Fetches policies. `context` returns what verifies names and certificates; reading the system's authorities takes 20 ms."""

    def __init__(self, context: Callable[[], ssl.SSLContext], port: int = 443, seconds: float = SECONDS) -> None:
        self.context = context
        self.port = port
        self.seconds = seconds

    async def fetch(self, domain: str, resolver: Resolver) -> tuple[Policy, bytes]:
        """Return a domain's policy and its octets. Raises ProtocolError or TemporaryFailure with what went wrong."""
        host = f"mta-sts.{domain}"
        try:
            async with asyncio.timeout(self.seconds):
                address = await self.address(host, resolver)
                answer = await self.ask(host, address)
        except TimeoutError:
            raise TemporaryFailure(f"https://{host}{PATH}: no answer in time") from None
        except (OSError, EOFError, ValueError) as error:
            raise TemporaryFailure(f"https://{host}{PATH}: {error}") from error
        body = read_answer(answer)
        return parse_policy(body), body

    async def address(self, host: str, resolver: Resolver) -> str:
        """Return an address of a host, IPv4 if it has one. Raises TemporaryFailure, NoRecords."""
        try:
            return (await resolver.a(host))[0]
        except NoRecords:
            try:
                return (await resolver.aaaa(host))[0]
            except NoRecords:
                raise TemporaryFailure(f"{host} has no address") from None

    async def ask(self, host: str, address: str) -> bytes:
        """Return the whole answer. Raises OSError (ssl.SSLError among them), ProtocolError for one that is too long."""
        reader, writer = await asyncio.open_connection(address, self.port, ssl=self.context(), server_hostname=host)
        try:
            lines = (
                f"GET {PATH} HTTP/1.1",
                f"Host: {host}",
                f"User-Agent: {_AGENT}",
                "Accept: text/plain",
                "Connection: close",
            )
            writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))
            answer = b""
            while piece := await reader.read(MAX_ANSWER):
                answer += piece
                if len(answer) > MAX_ANSWER:
                    raise ProtocolError(f"https://{host}{PATH}: the answer is too long")
            return answer
        finally:
            writer.transport.abort()


class _Heard:
    """Octets that arrived, in the form in which http.client reads."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, *_: Any) -> BinaryIO:
        return BytesIO(self.data)


def read_answer(data: bytes) -> bytes:
    """Return the body of an HTTP answer that is what the RFC wants. Raises ProtocolError."""
    try:
        response = http.client.HTTPResponse(_Heard(data), method="GET")  # type: ignore[arg-type]  # all it wants is makefile
        response.begin()
        kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        body = response.read()
    except (http.client.HTTPException, OSError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not an HTTP answer: {type(error).__name__}") from error
    if response.status != 200:
        raise ProtocolError(f"HTTP answered {response.status}")
    if kind != "text/plain":
        raise ProtocolError("the policy is not text/plain")
    return body
