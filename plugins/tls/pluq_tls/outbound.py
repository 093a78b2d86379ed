"""TLS to other hosts: when, and how sure we want to be.

    no STARTTLS offered            deliver in clear, unless TLS is required for that host
    STARTTLS offered               use it, whoever answers: encryption without proof beats none
    control/tlshosts/HOST.pem      TLS or nothing, and the certificate must be signed by one in that file and bear HOST
    control/tlshosts/exhaustivelist   hosts without such a file get no TLS at all
    control/notlshosts/HOST        no TLS for that host

HOST is the name of the mail exchanger that we are connected to, lower case. Every failure is temporary: a host that cannot do what is
required is tried again later, and never gets the mail in clear.

Source: the TLS patch of qmail; RFC 3207, RFC 7435.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any

from pluq import Context, Defer, Delivery, Verdict
from pluq.errors import ConfigError, ProtocolError
from pluq_tls.contexts import VERSIONS, is_host_name, is_missing, load_certificate

if TYPE_CHECKING:
    from pluq_tls import Settings

READY = 220


def is_address(host: str) -> bool:
    """Return whether a host is known by its address alone."""
    return ":" in host or host.replace(".", "").isdigit()


class Outbound:
    """The client side of the plugin: one for the role that delivers to other hosts."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings = settings
        self.control = context.home.control
        self.home = context.home.path
        self.read_file = context.read_file
        self.log = context.log
        self.opportunistic = self.make_context()

    def make_context(self, authorities: str | None = None) -> ssl.SSLContext:
        """Return a client context; with `authorities` (a file) the peer must prove its name. Raises ConfigError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = VERSIONS[self.settings.minimum]
        if authorities is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            try:
                context.load_verify_locations(cafile=authorities)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(authorities, f"no usable certificates: {error}") from error
        if self.settings.client_ciphers:
            context.set_ciphers(self.settings.client_ciphers)
        own = os.path.join(self.home, self.settings.client_certificate)
        if not is_missing(own, self.read_file):
            load_certificate(context, own, "", self.read_file)
        return context

    async def secure(self, delivery: Delivery, connection: Any) -> Verdict | None:
        """Start TLS where it is wanted; return a Defer where it is required and cannot be had."""
        host = connection.host.decode("ascii", "replace").lower()
        authorities = self.authorities_of(host)
        required = authorities is not None or self.settings.required
        if connection.tls is not None or (authorities is None and self.is_excepted(host)):
            return None
        if b"STARTTLS" not in connection.capabilities:
            return self.refusal(host, authorities, "no TLS offered") if required else None
        reply = await connection.command(b"STARTTLS")
        if reply.code != READY:
            return self.refusal(host, authorities, "STARTTLS rejected") if required else None
        return await self.handshake(host, authorities, connection)

    async def handshake(self, host: str, authorities: str | None, connection: Any) -> Verdict | None:
        try:
            context = self.opportunistic if authorities is None else self.make_context(authorities)
            await connection.start_tls(context, host if authorities is not None else None)
        except (OSError, ConfigError, ProtocolError) as error:
            self.note_failure(host)
            if authorities is not None:
                return Defer(451, None, f"TLS unable to verify server with control/tlshosts/{host}.pem: {error}")
            return Defer(451, None, f"TLS connect failed: {error}; connecting to {connection.address}.")
        return None

    def refusal(self, host: str, authorities: str | None, what: str) -> Defer:
        reason = f"control/tlshosts/{host}.pem exists" if authorities is not None else "TLS is required"
        return Defer(451, None, f"{what} while {reason}")

    def intention(self, host: str) -> str:
        """Return a sentence on what `secure` will want of a host."""
        authorities = self.authorities_of(host)
        if authorities is not None:
            return f"TLS or nothing, with a certificate for {host} by one of {authorities}"
        if self.is_excepted(host):
            listed = os.path.exists(self.control(f"notlshosts/{host}"))
            return f"no TLS: {self.control(f'notlshosts/{host}' if listed else 'tlshosts/exhaustivelist')} is there"
        if self.settings.required:
            return "TLS or nothing, whoever answers: tls.required"
        return "TLS if it is offered, whoever answers"

    def authorities_of(self, host: str) -> str | None:
        """Return the file of authorities that a host must be proved by, None where there is none."""
        path = self.control(f"tlshosts/{host}.pem")
        return path if is_host_name(host) and os.path.exists(path) else None

    def is_excepted(self, host: str) -> bool:
        """Return whether a host gets no TLS: it is listed, or only listed ones do. A route to an address has no name to list."""
        if is_address(host):
            return False
        if os.path.exists(self.control("tlshosts/exhaustivelist")):
            return True
        return is_host_name(host) and os.path.exists(self.control(f"notlshosts/{host}"))

    def note_failure(self, host: str) -> None:
        """Remember that TLS with a host is broken, where the site wants its mail delivered in clear then."""
        if not self.settings.no_tls_after_failure or not is_host_name(host):
            return
        path = self.control(f"notlshosts/{host}")
        try:
            with open(path, "x"):
                self.log(f"tls: {host} gets no TLS from now on: {path}")
        except OSError as error:
            self.log(f"tls: {path}: {os.strerror(error.errno or 0)}")
