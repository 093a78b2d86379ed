"""qmtp: deliver by QMTP, where the administrator or the receiving host says so.

control/qmtproutes has lines `domain:relay` or `domain:relay:port`, looked up as those of smtproutes, which they overrule; the port
is 209. Such mail goes by QMTP or not at all.

A host may say in DNS that it takes QMTP (MXPS): by an MX preference of 12801, 12817, 12833 and so on to 13041. Then QMTP is tried first,
and SMTP if that host does not answer there; once the whole message was sent nothing is tried again. Where a plugin wants to see each
session (tls, auth) MXPS is left alone, because QMTP knows neither encryption nor logins.

Source: https://cr.yp.to/proto/qmtp.txt, https://cr.yp.to/proto/mxps.txt; the control file is indimail-mta's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pluq import Delivery, Plugin, hook, setting

if TYPE_CHECKING:
    from pluq.remote.route import Candidate, Route, Routes

PORT = 209
MXPS_FIRST, MXPS_LAST, MXPS_STEP = 12800, 13055, 16
MXPS_QMTP = 1


def never(text: str) -> bool:
    """A variable that is there switches off, whatever it holds."""
    return False


@dataclass(frozen=True)
class Settings:
    routes: tuple[str, ...] = setting((), control="qmtproutes", help="Lines DOMAIN:RELAY or DOMAIN:RELAY:PORT.")
    mxps: bool = setting(
        True, env="DISABLE_MXPS", parse_env=never, help="Try QMTP at hosts whose MX preference says so."
    )
    timeout_connect: float = setting(60.0, unit="seconds", control="timeoutconnect", help="For a connection.")
    timeout: float = setting(1200.0, unit="seconds", control="timeoutremote", help="For each wait after that.")


def says_qmtp(preference: int) -> bool:
    """Return whether an MX preference says that the host takes QMTP."""
    return MXPS_FIRST <= preference <= MXPS_LAST and (preference - MXPS_FIRST) % MXPS_STEP == MXPS_QMTP


def read_routes(lines: tuple[str, ...]) -> Routes:
    """Return the routes in these lines; without a port in the line it is QMTP's."""
    from pluq.remote.route import Routes

    return Routes([with_port(line.encode("utf-8", "surrogateescape")) for line in lines])


def with_port(line: bytes) -> bytes:
    """Return a line of qmtproutes with its port."""
    domain, colon, relay = line.partition(b":")
    has_port = b":" in relay.rpartition(b"]")[2]
    return line if not relay or has_port else b"%b%b%b:%d" % (domain, colon, relay, PORT)


class Qmtp(Plugin[Settings]):
    """Deliver by QMTP to hosts that take it."""

    name = "qmtp"
    # Longer than a delivery may take: the waits have their own limits, and a transfer must not be cut where nobody knows its fate.
    budget = 86400.0

    def __init__(self) -> None:
        self.routes: Routes | None = None
        self.is_mxps = True

    @hook
    def start(self) -> None:
        self.routes = read_routes(self.settings.routes)
        # Deliveries have no environment of their own: it is that of qmail-remote, or of `pluq serve`.
        self.is_mxps = self.resolved.overlay(os.environ)[0].mxps

    @hook
    def remote_route(self, delivery: Delivery) -> Route | None:
        assert self.routes is not None
        route = self.routes.route(delivery.host)
        return replace(route, protocol=self.name) if route.relay else None

    @hook
    async def remote_transport(
        self, delivery: Delivery, route: Route, candidate: Candidate, source: str | None
    ) -> list[bytes] | None:
        is_route = route.protocol == self.name
        if not is_route and (route.relay or not self.is_mxps or not says_qmtp(candidate.preference)):
            return None
        from pluq_qmtp.client import send

        limits = self.settings.timeout_connect, self.settings.timeout
        return await send(delivery, candidate.address, route.port if is_route else PORT, source, *limits)
