"""tls: STARTTLS and implicit TLS for clients; opportunistic and required TLS to other hosts.

With a certificate in control/servercert.pem a profile announces STARTTLS; `implicit` starts with TLS (port 465), `required` refuses MAIL
without it. The name that a client asks for may choose another certificate. What was said in clear is forgotten when TLS starts, and
what came with the STARTTLS command is dropped (RFC 3207 section 4.2).

Clients may relay with a certificate: where control/tlsclients lists mail addresses and control/clientca.pem the authorities, a
certificate with such an address sets RELAYCLIENT.

Under a listener that speaks UCSPI-TLS (sslserver, s6-ucspitlsd) that one encrypts, with its own keys; see `ucspi`.

To other hosts TLS is used where they offer it, without looking at their certificate: better than nothing and never a reason not to
deliver. control/tlshosts and control/notlshosts say otherwise for single hosts; see `outbound`.

Source: the TLS patch of qmail; RFC 3207, RFC 8314.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pluq import Delivery, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.config.settings import switch
from pluq.errors import ConfigError
from pluq.hookspecs import Tls as TlsLayer
from pluq.hookspecs import TlsOffer
from pluq.store.control import list_lines, read_lines

if TYPE_CHECKING:
    import ssl

    from pluq_tls.outbound import Outbound
    from pluq_tls.ucspi import Listener

READY = b"220 ready for tls\r\n"
ARGUMENT = b"501 Syntax error (no parameters allowed) (#5.5.4)\r\n"
UNKNOWN = b"502 unimplemented (#5.5.1)\r\n"
BROKEN = b"454 TLS unable to initialize ctx: no usable certificate (#4.3.0)\r\n"
TLS_FIRST = Reject(530, "5.7.0", "must issue STARTTLS first")
NO_CERTIFICATE = Reject(
    553, "5.7.1", "sorry, that domain isn't in my list of allowed rcpthosts; no valid cert for gatewaying"
)

SERVERS = ("smtpd", "pop3d")
# The settings that name a file, by role: it need not be there unless the site says so itself.
SERVER_FILES = ("certificate", "key", "client_authorities", "client_revoked")
FILES = {"smtpd": SERVER_FILES, "pop3d": SERVER_FILES, "remote": ("client_certificate",)}
# Before TLS, where it is required, only these mean anything (RFC 3207 section 4).
BEFORE_TLS = frozenset({b"EHLO", b"HELO", b"NOOP", b"QUIT", b"RSET", b"HELP", b"STARTTLS", b"VRFY"})


def is_set(text: str) -> bool:
    """A variable that is there switches on, whatever it holds."""
    return True


def join_ciphers(data: bytes) -> str:
    """A list of ciphers, one a line, is one OpenSSL list."""
    return ":".join(line.decode("ascii", "replace") for line in list_lines(data))


@dataclass(frozen=True)
class Settings:
    certificate: str = setting(
        "control/servercert.pem", help="Key, certificate and chain (PEM), relative to the qmail home."
    )
    key: str = setting("", help="The private key, where it is not in the file of the certificate.")
    required: bool = setting(
        False, env="FORCE_TLS", help="Refuse mail before TLS; to other hosts, deliver only with TLS."
    )
    implicit: bool = setting(False, env="SMTPS", parse_env=is_set, help="Begin with TLS, as on port 465.")
    disabled: bool = switch(False, env="DISABLETLS", help="Do not offer TLS to this client.")
    minimum: Literal["TLSv1.2", "TLSv1.3"] = setting("TLSv1.2", help="The oldest version that is spoken.")
    ciphers: str = setting(
        "",
        control="tlsserverciphers",
        env="TLSCIPHERS",
        parse_control=join_ciphers,
        help="OpenSSL's list of ciphers up to TLS 1.2.",
    )
    client_authorities: str = setting(
        "control/clientca.pem", help="Who signs the certificates of clients that may relay."
    )
    client_revoked: str = setting("control/clientcrl.pem", help="Revoked certificates of clients.")
    client_certificate: str = setting("control/clientcert.pem", help="Key and certificate shown to other hosts.")
    client_ciphers: str = setting(
        "", control="tlsclientciphers", parse_control=join_ciphers, help="OpenSSL's list of ciphers to other hosts."
    )
    no_tls_after_failure: bool = switch(
        False, control="notlshosts_auto", help="Deliver in clear from the next attempt on to hosts whose TLS is broken."
    )


class Tls(Plugin[Settings]):
    """Encrypt: STARTTLS and implicit TLS in, opportunistic or required TLS out."""

    name = "tls"

    def __init__(self) -> None:
        self.default: ssl.SSLContext | None = None
        self.fault: ConfigError | None = None
        self.by_name: dict[str, ssl.SSLContext | None] = {}
        self.by_ciphers: dict[str, ssl.SSLContext] = {}
        self.client_addresses: frozenset[bytes] = frozenset()
        self.outbound: Outbound | None = None
        self.listener: Listener | None = None

    # -- life

    @hook
    def check(self) -> Sequence[str]:
        """A certificate that cannot be used, or is missing where TLS is required; any file that a setting names."""
        missing = self.missing_files()
        if missing or self.context.role not in SERVERS:
            return missing
        self.load()
        if self.fault is not None:
            return [str(self.fault)]
        if self.default is None and (self.settings.required or self.settings.implicit):
            return [f"{self.path(self.settings.certificate)}: TLS is required and there is no certificate"]
        return []

    @hook
    def start(self) -> None:
        """Read the certificates, or be ready to deliver with TLS."""
        if self.context.role == "remote":
            from pluq_tls.outbound import Outbound

            self.outbound = Outbound(self.settings, self.context)
            return
        if "SSLCTLFD" in os.environ:  # of the process, not of rules: a listener has left descriptors open
            from pluq_tls.ucspi import Listener

            self.listener = Listener.of(os.environ)
            if self.listener is not None:
                return  # the keys are the listener's
        self.load()
        if self.fault is not None:
            self.log(str(self.fault))

    def listener_for(self, session: Session) -> Listener | None:
        """Return who encrypts for this session outside of this process, None where nobody does."""
        return self.listener if session.environment.get("UCSPITLS", "-") != "-" else None

    def is_required(self, session: Session) -> bool:
        by_listener = self.listener is not None and session.environment.get("UCSPITLS", "").startswith("!")
        return by_listener or self.settings_for(session).required

    def missing_files(self) -> list[str]:
        """Return a sentence for each file that the site names in a setting, and that is not there."""
        values = self.resolved.values
        return [
            f"{values[name].source}: tls.{name}: {self.path(values[name].value)}: there is no such file"
            for name in FILES.get(self.context.role, ())
            if self.is_named(name) and self.is_missing(values[name].value)
        ]

    def is_named(self, setting: str) -> bool:
        """Say whether the site names this file itself: the usual place may be empty."""
        value = self.resolved.values[setting]
        return value.source != "default" and bool(value.value)

    def is_missing(self, name: str) -> bool:
        from pluq_tls.contexts import is_missing

        return is_missing(self.path(name), self.context.read_file)

    def load(self) -> None:
        """Read the certificate of the profile. A faulty one is remembered: mail still flows, without TLS, and the log says why."""
        if not self.is_named("certificate") and self.is_missing(self.settings.certificate):
            return
        try:
            self.default = self.default_context(self.settings.ciphers)
        except ConfigError as error:
            self.fault = error

    def default_context(self, ciphers: str) -> ssl.SSLContext:
        key = self.path(self.settings.key) if self.settings.key else ""
        return self.make_context(self.path(self.settings.certificate), key, ciphers)

    def context_of(self, session: Session, default: ssl.SSLContext) -> ssl.SSLContext:
        """Return the context of a session, where its rules name ciphers of their own; a list that cannot be used is told, and the default stands."""
        ciphers = self.settings_for(session).ciphers
        if ciphers == self.settings.ciphers or len(self.by_ciphers) >= MAX_LISTS:
            return self.by_ciphers.get(ciphers, default)
        if ciphers not in self.by_ciphers:
            try:
                self.by_ciphers[ciphers] = self.default_context(ciphers)
            except ConfigError as error:
                self.log(f"$TLSCIPHERS: {error}")
                self.by_ciphers[ciphers] = default
        return self.by_ciphers[ciphers]

    def path(self, name: str) -> str:
        return name if name.startswith("/") else f"{self.context.home.path}/{name}"

    def make_context(self, certificate: str, key: str, ciphers: str) -> ssl.SSLContext:
        from pluq_tls import contexts, expiry

        settings = self.settings
        context = contexts.server_context(certificate, key, settings.minimum, ciphers, self.context.read_file)
        self.client_addresses = frozenset(
            line.lower() for line in read_lines(self.context.home.control("tlsclients")) or []
        )
        if self.client_addresses:
            authorities = self.read_optional(settings.client_authorities)
            if authorities is not None:
                contexts.accept_clients(context, authorities, self.read_optional(settings.client_revoked))
        contexts.choose_by_name(context, self.context_for)
        name = certificate.removeprefix(f"{self.context.home.path}/")
        expiry.note(self.context.profile, name, certificate, self.context.read_file)
        return context

    def read_optional(self, name: str) -> bytes | None:
        path = self.path(name)
        try:
            return self.context.read_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(path, os.strerror(error.errno or 0)) from error

    def context_for(self, name: str) -> ssl.SSLContext | None:
        """Return the context of a name that a client asked for, None where it has none of its own."""
        from pluq_tls.contexts import is_host_name

        if name not in self.by_name and len(self.by_name) < MAX_NAMES and is_host_name(name):
            path = self.context.home.control(f"servercerts/{name}/servercert.pem")
            try:
                self.by_name[name] = (
                    self.make_context(path, "", self.settings.ciphers) if os.path.exists(path) else None
                )
            except ConfigError as error:
                self.log(str(error))
                self.by_name[name] = None
        return self.by_name.get(name)

    # -- clients

    @hook
    async def smtp_preamble(self, session: Session, connection: Any) -> None:
        if not self.settings_for(session).implicit:
            return
        if self.default is None:
            raise ConfigError(self.path(self.settings.certificate), "implicit TLS needs a certificate")
        await self.begin(session, connection, self.default)

    async def begin(self, session: Session, connection: Any, default: ssl.SSLContext) -> None:
        self.take(session, await connection.start_tls(self.context_of(session, default)))

    def take(self, session: Session, tls: TlsLayer) -> None:
        """Take what the handshake says of the client."""
        if tls.server_name:
            session.greeting = tls.server_name.encode("ascii", "replace")
        email = tls.client_email
        if email is not None and email.encode("utf-8", "replace").lower() in self.client_addresses:
            session.environment["RELAYCLIENT"] = ""
            self.log(f"{session.remote_ip} may relay by the certificate of {email}")

    @hook
    def smtp_verbs(self) -> Mapping[bytes, Callable[..., Awaitable[Any]]]:
        return {b"STARTTLS": self.starttls}

    async def starttls(self, session: Session, argument: bytes, connection: Any) -> bytes | None:
        """Carry out STARTTLS."""
        if session.tls is not None or self.settings_for(session).disabled:
            return UNKNOWN
        if argument:
            return ARGUMENT
        listener = self.listener_for(session)
        if listener is not None:
            connection.reply(READY)
            self.take(session, await connection.switch(listener.begin))
            return None
        if self.default is None:
            return BROKEN if self.fault is not None else UNKNOWN
        connection.reply(READY)
        await self.begin(session, connection, self.default)
        return None

    @hook
    def smtp_capabilities(self, session: Session) -> Sequence[bytes]:
        is_possible = self.default is not None or self.listener_for(session) is not None
        offered = is_possible and session.tls is None and not self.settings_for(session).disabled
        return [b"STARTTLS"] if offered else []

    @hook
    def smtp_command(self, session: Session, verb: bytes, argument: bytes) -> Verdict | None:
        if session.tls is None and verb not in BEFORE_TLS and self.is_required(session):
            return TLS_FIRST
        return None

    @hook
    def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        """Say that a certificate would have helped, as the patch does."""
        return NO_CERTIFICATE if session.tls is not None and not recipient.allowed else None

    @hook
    def pop3_tls(self, session: Session) -> TlsOffer | None:
        settings = self.settings_for(session)
        if self.default is None or settings.disabled:
            if settings.implicit or settings.required:
                raise ConfigError(self.path(settings.certificate), "TLS is required and there is no certificate")
            return None
        return TlsOffer(self.context_of(session, self.default), settings.implicit, settings.required)

    # -- other hosts

    @hook
    async def remote_session(self, delivery: Delivery, connection: Any) -> Verdict | None:
        assert self.outbound is not None
        return await self.outbound.secure(delivery, connection)

    @hook
    def remote_explain(self, delivery: Delivery, host: bytes) -> Sequence[str]:
        return [] if self.outbound is None else [self.outbound.intention(host.decode("ascii", "replace").lower())]

    @classmethod
    def cli_commands(cls) -> Mapping[str, Callable[[Sequence[str]], int]]:
        from pluq_tls.selfsigned import self_signed

        return {"self-signed": self_signed}


# Names that clients may make us look for; each costs a look into the folder once.
MAX_NAMES = 10_000
# Lists of ciphers in the rules of a site.
MAX_LISTS = 100
