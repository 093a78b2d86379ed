"""HTTP for the status role: three pages, read only, on one socket.

    /            the page for people          /metrics     figures for Prometheus
    /health      200 or 503, and why, as JSON

HTTP itself is h11's business. A request has REQUEST_SECONDS for everything, from its first byte to the last byte of the answer; its head may
have HEAD_BYTES; so many clients are served at once; each connection has one request. A page on another site cannot read ours with
the help of a browser here ("DNS rebinding"): the Host that was asked for must be an address, localhost, or a name that the site
has listed. Unix sockets are reached by proxies only, so any Host will do there.

Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pluq import log
from pluq.errors import ConfigError
from pluq.metrics.text import CONTENT_TYPE, exposition
from pluq.status import health, page
from pluq.status.history import History
from pluq.status.snapshot import Snapshot, take

if TYPE_CHECKING:
    import h11

    from pluq.config import Home
    from pluq.config.watching import Status
    from pluq.metrics import Board

REQUEST_SECONDS = 10.0
HEAD_BYTES = 16384
CLIENTS = 32
READ_BYTES = 4096
DEFAULT_LIFETIME = 604800
"""queuelifetime where control/ says nothing: qmail-send(8)."""
SAMPLE_SECONDS = 10.0
FRESH_SECONDS = 1.0
"""Who asks more often gets the same answer."""

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": page.POLICY,
    "Connection": "close",
}


@dataclass(frozen=True)
class Answer:
    """What a request gets."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS)

    @classmethod
    def text(cls, status: int, words: str) -> Answer:
        return cls(status, "text/plain; charset=utf-8", f"{words}\n".encode())


class Site:
    """What the pages are made of."""

    def __init__(self, home: Home, board: Board, settings: Status, clock: Callable[[], float] = time.time) -> None:
        from importlib.metadata import PackageNotFoundError, version

        self._home = home
        self._board = board
        self._settings = settings
        self._clock = clock
        try:
            self._version = version("pluq")
        except PackageNotFoundError:
            self._version = "unknown"
        self._began = clock()
        self._last: Snapshot | None = None
        self.history = History()
        self._pages: Mapping[str, Callable[[], Answer]] = {
            "/": self._page,
            "/metrics": self._metrics,
            "/health": self._health,
        }

    def answer(self, method: str, target: str, host: str | None) -> Answer:
        """Return the answer to a request. `host` is what the client asked for, None where that does not matter."""
        if host is not None and not is_ours(host, self._settings.hosts):
            return Answer.text(421, f"{host!r} is not the name of this page; [status] hosts in pluq.toml lists more")
        path = target.partition("?")[0]
        made = self._pages.get(path)
        if made is None:
            return Answer.text(404, f"nothing here; there are {', '.join(self._pages)}")
        if method not in ("GET", "HEAD"):
            return Answer(
                405, "text/plain; charset=utf-8", b"this page is read only\n", {**HEADERS, "Allow": "GET, HEAD"}
            )
        try:
            return made()
        except (
            Exception
        ) as error:  # a fault of ours, or a page of a role that somebody has taken over: the others go on
            log.say("status", f"{path}: {type(error).__name__}: {error}")
            return Answer.text(500, "this page could not be made; the log says why")

    def snapshot(self) -> Snapshot:
        now = self._clock()
        if self._last is None or not 0 <= now - self._last.now < FRESH_SECONDS:
            self._last = take(self._board, self._home, self._version, now)
        return self._last

    def sample(self) -> None:
        """Note the figures for the charts."""
        snapshot = self.snapshot()
        self.history.add(snapshot.now, snapshot.totals)

    def _checks(self, snapshot: Snapshot) -> list[health.Check]:
        try:
            lifetime = self._home.controls.number("queuelifetime", DEFAULT_LIFETIME)
        except ConfigError:
            lifetime = DEFAULT_LIFETIME
        return health.checks(snapshot, self._settings, lifetime)

    def _page(self) -> Answer:
        self.sample()
        snapshot = self.snapshot()
        try:
            name = (self._home.controls.me() or b"pluq").decode("utf-8", "replace")
        except ConfigError:
            name = "pluq"
        made = page.render(name, snapshot, self._checks(snapshot), self.history, self._began)
        return Answer(200, "text/html; charset=utf-8", made.encode("utf-8", "replace"))

    def _metrics(self) -> Answer:
        return Answer(200, CONTENT_TYPE, exposition(self.snapshot().totals).encode("utf-8", "replace"))

    def _health(self) -> Answer:
        found = health.report(self._checks(self.snapshot()))
        body = json.dumps(found, indent=1).encode() + b"\n"
        return Answer(200 if found["status"] == "ok" else 503, "application/json", body)


def is_ours(host: str, names: tuple[str, ...]) -> bool:
    """Say whether a Host field means us: an address, localhost, or one of the names. No name that a stranger's DNS could point here."""
    name, bracket, port = host.rpartition(":")
    if not bracket or not port.isdigit():
        name = host
    if name.lower() in ("localhost", *(one.lower() for one in names)):
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True


# -- one connection


class Client:
    """One connection: one request, one answer."""

    def __init__(
        self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, checks_host: bool
    ) -> None:
        import h11

        self._site = site
        self._reader = reader
        self._writer = writer
        self._checks_host = checks_host
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)

    async def serve(self) -> None:
        """Answer, and close. A client that is gone, or slow, or speaks no HTTP is nobody's failure."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._converse()
        except (TimeoutError, OSError):
            self._writer.transport.abort()
            return
        self._writer.close()

    async def _converse(self) -> None:
        import h11

        try:
            request = await self._request()
        except h11.RemoteProtocolError as error:
            await self._send(Answer.text(error.error_status_hint, "bad request"), is_head=False)
            return
        if request is None:
            return
        method, target = request.method.decode("ascii"), request.target.decode("ascii", "replace")
        answer = self._site.answer(method, target, self._host(request))
        await self._send(answer, is_head=method == "HEAD")

    async def _request(self) -> h11.Request | None:
        """Return the head of the request, None when the client has gone. Raises h11.RemoteProtocolError."""
        import h11

        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            data = await self._reader.read(READ_BYTES)
            self._http.receive_data(data)
            if not data and self._http.their_state is not h11.IDLE:
                return None

    def _host(self, request: h11.Request) -> str | None:
        """Return what the client asked for; None where that does not matter."""
        if not self._checks_host:
            return None
        return next((value.decode("latin-1") for name, value in request.headers if name == b"host"), "")

    async def _send(self, answer: Answer, is_head: bool) -> None:
        import h11

        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), **answer.headers}
        response = h11.Response(status_code=answer.status, headers=list(headers.items()))
        pieces = [self._http.send(response)]
        if not is_head:
            pieces.append(self._http.send(h11.Data(data=answer.body)))
        self._writer.write(b"".join(piece for piece in pieces if piece))
        await self._writer.drain()
        if self._writer.can_write_eof():
            self._writer.write_eof()


# -- the role


class Server:
    """The listening socket and its clients."""

    def __init__(self, site: Site, sock: socket.socket) -> None:
        self._site = site
        self._sock = sock
        self._checks_host = sock.family != socket.AF_UNIX
        self._clients = 0

    async def serve(self) -> None:
        """Serve until TERM."""
        loop = asyncio.get_running_loop()
        leave = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave.set)
        server = await asyncio.start_server(self._came, sock=self._sock, limit=HEAD_BYTES)
        sampler = loop.create_task(self._sample())
        await leave.wait()
        sampler.cancel()
        server.close()

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= CLIENTS:
            writer.transport.abort()
            return
        self._clients += 1
        try:
            await Client(self._site, reader, writer, self._checks_host).serve()
        finally:
            self._clients -= 1

    async def _sample(self) -> None:
        while True:
            self._site.sample()
            await asyncio.sleep(SAMPLE_SECONDS)


def run(home: Home, board: Board, settings: Status, sock: socket.socket) -> int:
    """Serve until TERM."""
    asyncio.run(Server(Site(home, board, settings), sock).serve())
    return 0
