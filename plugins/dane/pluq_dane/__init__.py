"""dane: hosts whose keys stand in signed DNS get mail only if they prove that they have them.

For each host that mail goes to, the TLSA records are looked up. If they are signed, and the MX record that named the host is, TLS is required:

    usable records (usage 3 or 2)    the host's certificate must match one; else the next host is tried, then the message waits
    none of them usable              TLS with anybody, but never without
    not signed, or no records        nothing: other plugins (mtasts, tls) decide

There is no way back to clear text. Signed means that the name servers which this machine asks say so (the AD bit), so they must validate
DNSSEC and nobody may come between: a resolver on this machine. `trusted_resolver` says that this is so; without it nothing is done.

lookup   which records count        records   what they prove

Source: RFC 7672, 7671, 6698.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pluq import Defer, Delivery, Plugin, Verdict, hook, setting
from pluq.errors import ProtocolError, TemporaryFailure

if TYPE_CHECKING:
    from pluq_dane.lookup import Binding

READY = 220
NOT_TRUSTED = "dane.trusted_resolver is false: nothing is proved until the resolver validates DNSSEC and that says so"


@dataclass(frozen=True)
class Settings:
    trusted_resolver: bool = setting(
        False, help="The name servers of this host validate DNSSEC, and nobody can come between them and us."
    )
    ignored_hosts: tuple[str, ...] = setting((), help="Hosts whose TLSA records are not looked at.")


class Dane(Plugin[Settings]):
    """Prove other hosts by their TLSA records in signed DNS (RFC 7672)."""

    name = "dane"
    before = ("mtasts", "tls")  # which would have begun TLS in their own way
    budget = 90.0

    @hook
    def check(self) -> Sequence[str]:
        return [] if self.settings.trusted_resolver else [NOT_TRUSTED]

    @hook
    def start(self) -> None:
        self.tls = make_context()
        if not self.settings.trusted_resolver:
            self.log(NOT_TRUSTED)

    @hook
    async def remote_session(self, delivery: Delivery, connection: Any) -> Verdict | None:
        host = name_of(connection)
        if not self.settings.trusted_resolver or host in self.settings.ignored_hosts or is_address(host):
            return None
        if connection.route.tls is not None:  # TLS from the first byte, as the administrator wants it
            return None
        from pluq_dane.lookup import find_binding

        try:
            binding = await find_binding(connection.route, connection.host, self.context.resolver())
        except TemporaryFailure as failure:
            return refusal(host, f"they cannot be looked up: {failure}")
        return None if binding is None else await self.secure(host, binding, connection)

    async def secure(self, host: str, binding: Binding, connection: Any) -> Verdict | None:
        """Start TLS and see whether the host is the one that the records mean."""
        from pluq_dane.records import proves, usable

        if b"STARTTLS" not in connection.capabilities:
            return refusal(host, "it offers no TLS")
        reply = await connection.command(b"STARTTLS")
        if reply.code != READY:
            return refusal(host, "it rejected STARTTLS")
        try:
            await connection.start_tls(self.tls, binding.base)
        except (OSError, ProtocolError) as error:
            return refusal(host, f"TLS failed: {error}")
        records = usable(binding.records)
        if records and not proves(records, connection.certificates, binding.names):
            return refusal(host, "its certificate matches none of them")
        if records:
            connection.tls.proof = "dane"
        return None

    @hook
    def remote_explain(self, delivery: Delivery, host: bytes) -> Sequence[str]:
        name = host.decode("ascii", "replace").lower().removesuffix(".")
        if not self.settings.trusted_resolver or name in self.settings.ignored_hosts or is_address(name):
            return []
        return [f"if {name} has signed TLSA records: TLS or nothing, and its certificate must match them"]


def refusal(host: str, why: str) -> Defer:
    return Defer(451, "4.7.5", f"{host} has to prove itself by TLSA records: {why}")


def name_of(connection: Any) -> str:
    name: str = connection.host.decode("ascii", "replace")
    return name.lower().removesuffix(".")


def is_address(host: str) -> bool:
    """Return whether a host is known by its address alone."""
    return ":" in host or host.strip("[]").replace(".", "").isdigit()


def make_context() -> ssl.SSLContext:
    """Return a context that looks at no name and no authority: the records decide."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
