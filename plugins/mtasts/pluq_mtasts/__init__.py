"""mtasts: mail to domains with an MTA-STS policy goes to the right host, encrypted, or stays here.

For each domain the TXT record _mta-sts.DOMAIN is looked up; a policy that it announces is fetched by HTTPS and kept for its max_age:

    enforce   only to exchangers that the policy names, with TLS and a certificate that is good for their name
    testing   as if there were no policy; the log says where it would have failed
    none      no policy

A host that fails is not used; when none is left the message is tried again later. What is known is not given up because the record
vanishes or the policy cannot be fetched: that is how an attack would look. A host that the plugin dane has proved needs no other proof,
and a route that the administrator wrote is not looked at.

policy    what strangers publish    fetch     HTTPS
policies  which one holds           cache     what is known
commands  check

Source: RFC 8461.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pluq import Defer, Delivery, Plugin, Verdict, hook, setting
from pluq.errors import ConfigError, ProtocolError
from pluq.hookspecs.plugin import Command

if TYPE_CHECKING:
    from pluq_mtasts.policies import Policies
    from pluq_mtasts.policy import Policy

READY = 220
NO_AUTHORITIES = (
    "mtasts: this system has no certificate authorities (Debian: ca-certificates), so no host could prove its name"
)


@dataclass(frozen=True)
class Settings:
    authorities: str = setting("", help="A file of certificate authorities to believe, in the place of the system's.")
    ignored_domains: tuple[str, ...] = setting((), help="Domains whose policies are not followed.")


class MtaSts(Plugin[Settings]):
    """Follow the MTA-STS policies of the domains that mail goes to (RFC 8461)."""

    name = "mtasts"
    before = ("tls",)  # which would have begun TLS without a look at the certificate
    after = ("dane",)
    budget = 90.0
    clock: Callable[[], float] = staticmethod(time.time)
    policies: Policies

    @classmethod
    def cli_commands(cls) -> Mapping[str, Command]:
        from pluq_mtasts.commands import check

        return {"check": check}

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """What proves web servers and exchangers: made when the first policy needs it."""
        return make_context(self.authorities_path())

    @hook
    def check(self) -> Sequence[str]:
        make_context(self.authorities_path())
        faults = [] if self.settings.authorities or has_authorities() else [NO_AUTHORITIES]
        parent = self.context.home.state(self.context.role)
        return faults if os.path.isdir(parent) else [*faults, f"{parent}: not there: run `pluq init`"]

    @hook
    def start(self) -> None:
        from pluq_mtasts.cache import Cache
        from pluq_mtasts.fetch import Fetcher
        from pluq_mtasts.policies import Policies

        cache, fetcher = Cache(self.state_folder()), Fetcher(lambda: self.trust)
        self.policies = Policies(cache, fetcher, self.context.resolver(), lambda: self.clock(), self.log)

    @hook
    async def remote_session(self, delivery: Delivery, connection: Any) -> Verdict | None:
        if connection.route.relay or (connection.tls is not None and connection.tls.proof):
            return None
        domain = delivery.host.decode("ascii", "replace").lower().removesuffix(".")
        policy = None if domain in self.settings.ignored_domains else await self.policies.find(domain)
        if policy is None or policy.mode == "none":
            return None
        fault = self.fault(policy, connection)
        if policy.mode == "testing":
            if fault is not None:
                self.log(f"{domain}: would have failed, were its policy not testing: {fault}")
            return None
        return self.refusal(domain, fault) if fault is not None else await self.secure(domain, connection)

    def fault(self, policy: Policy, connection: Any) -> str | None:
        """Return what of a connection contradicts a policy, as far as can be seen before TLS."""
        host = connection.host.decode("ascii", "replace")
        if not policy.covers(host):
            return f"{host} is not one of its exchangers"
        if connection.tls is not None:
            return f"TLS with {host} was begun without a look at its certificate"
        return None if b"STARTTLS" in connection.capabilities else f"{host} offers no TLS"

    async def secure(self, domain: str, connection: Any) -> Verdict | None:
        """Start TLS with a proof of the exchanger's name."""
        host = connection.host.decode("ascii", "replace").lower().removesuffix(".")
        reply = await connection.command(b"STARTTLS")
        if reply.code != READY:
            return self.refusal(domain, f"{host} rejected STARTTLS")
        try:
            await connection.start_tls(self.trust, host)
        except (OSError, ProtocolError) as error:
            return self.refusal(domain, f"TLS with {host} failed: {error}")
        connection.tls.proof = "sts"
        return None

    def refusal(self, domain: str, fault: str) -> Defer:
        return Defer(451, "4.7.5", f"the MTA-STS policy of {domain} forbids delivery: {fault}")

    @hook
    def remote_explain(self, delivery: Delivery, host: bytes) -> Sequence[str]:
        domain = delivery.host.decode("ascii", "replace").lower().removesuffix(".")
        known = self.policies.known(domain)
        if known is None or known.policy.mode != "enforce" or domain in self.settings.ignored_domains:
            return []
        name = host.decode("ascii", "replace")
        if known.policy.covers(name):
            return [f"TLS or nothing, with a certificate for {name}: MTA-STS policy of {domain}"]
        return [f"never: the MTA-STS policy of {domain} does not name {name}"]

    def authorities_path(self) -> str:
        name = self.settings.authorities
        return name if name.startswith("/") or not name else f"{self.context.home.path}/{name}"


def has_authorities() -> bool:
    """Return whether OpenSSL finds certificate authorities where it looks for them."""
    places = ssl.get_default_verify_paths()
    return bool(places.cafile) or bool(places.capath and os.listdir(places.capath))


def make_context(authorities: str) -> ssl.SSLContext:
    """Return a context that believes a file of authorities, "" the system's, and wants the peer's name proved. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=authorities or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(authorities, f"no usable certificates: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    return context
