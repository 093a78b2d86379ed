"""What hooks are given: the session, the transaction, a recipient, a delivery.

Each lives as long as its name says. A plugin keeps its own state in `notes`, under its own name; nothing else on these objects
belongs to a plugin unless its docstring says that it may be written.

Session      one connection; survives STARTTLS, which resets what RFC 3207 says (helo, auth, transaction) and drops notes
Transaction  from MAIL to the end of the message
Recipient    one RCPT
Envelope     one message on its way into the queue
Delivery     one attempt to deliver one message to one recipient (or several, where the site groups them)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pluq.hookspecs.message import Message
from pluq.hookspecs.results import AuthResult

if TYPE_CHECKING:
    from pluq.dns import Budget  # not at run time: a session without plugins looks nothing up

Notes = dict[str, Any]
Parameters = dict[bytes, bytes | None]


@dataclass(slots=True)
class Tls:
    """The TLS layer of a session."""

    version: str
    """In OpenSSL's words: "TLSv1.3"."""
    cipher: str
    server_name: str | None = None
    """The name that the client asked for (SNI)."""
    client_subject: str | None = None
    """The subject of the client's certificate, if it was verified."""
    client_email: str | None = None
    proof: str = ""
    """On a connection to another host: how a plugin has proved that it is the right one ("sts", "dane"), "" where it has not."""
    certificate: bytes = field(default=b"", repr=False)
    """Ours (PEM), the one that this client was shown; empty where it is not known."""


@dataclass(frozen=True, slots=True)
class TlsOffer:
    """How a POP3 session is encrypted: with `context`, an ssl.SSLContext, at once (`implicit`) or by STLS; `required` before a login."""

    context: Any
    implicit: bool = False
    required: bool = False


@dataclass(slots=True)
class Login:
    """Who logged in."""

    user: bytes
    mechanism: str
    """ "PLAIN", "SCRAM-SHA-256"..."""


@dataclass(slots=True)
class Session:
    """One SMTP connection. A plugin may write `environment`, `greeting`, `hides_client`, `preface`, `notes`, and what it vouches for."""

    profile: str = "stock"
    remote_ip: str = "unknown"
    """The client's address, without brackets."""
    remote_port: int = 0
    remote_host: str = "unknown"
    """The client's name, where tcpserver or a plugin looked it up."""
    remote_info: str | None = None
    """What an ident server, or the login, says that the client's user is."""
    local_ip: str = ""
    local_port: int = 0
    local_host: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    """What tcpserver and its rules gave this connection (RELAYCLIENT, DATABYTES...). Programs that the session starts see it."""
    helo: bytes | None = None
    """The name that the client greeted with, None before it has."""
    extended: bool = False
    """The greeting was EHLO."""
    tls: Tls | None = None
    """None while nothing is encrypted."""
    login: Login | None = None
    """None while nobody has logged in."""
    greeting: bytes | None = None
    """The name that we go by in this session, None for the usual."""
    hides_client: bool = False
    """Our Received field shall say neither name nor address of the client."""
    arguments: tuple[str, ...] = ()
    """Those of the command line, where this session is a program (`qmail-smtpd checkpassword /bin/true`)."""
    preface: list[bytes] = field(default_factory=list)
    """Lines that go out in front of the reply to the command that is being judged, as they stand, without line ends (`250-first`)."""
    is_helo_vouched: bool = False
    """A plugin answers for the HELO name, so others let it pass."""
    bad_recipients: int = 0
    """How many recipients of this session plugins refused because mail to them is a guess."""
    results: list[AuthResult] = field(default_factory=list)
    """Results that hold for all messages of this session."""
    notes: Notes = field(default_factory=dict)
    """A plugin's own, under its name: `session.notes[self.name]`."""

    @property
    def relay_suffix(self) -> bytes | None:
        """What RELAYCLIENT appends to recipients; None: this client may not relay."""
        value = self.environment.get("RELAYCLIENT")
        return None if value is None else value.encode("utf-8", "surrogateescape")

    @property
    def may_relay(self) -> bool:
        """The client may send anywhere: RELAYCLIENT is set, by tcp.smtp or by a login."""
        return "RELAYCLIENT" in self.environment


@dataclass(slots=True)
class Recipient:
    """One RCPT."""

    address: bytes
    """Without brackets and quoting. A plugin may write it in smtp_rcpt: the message goes to the new one."""
    allowed: bool = True
    """The core would take it (rcpthosts, or RELAYCLIENT)."""
    is_vouched: bool = False
    """A plugin answers for this recipient, so others let it pass their lists."""
    parameters: Parameters = field(default_factory=dict)
    """Those of RCPT, names in upper case."""
    notes: Notes = field(default_factory=dict)

    @property
    def local(self) -> bytes:
        """What stands before the last @, as it was given."""
        return local_of(self.address)

    @property
    def domain(self) -> bytes:
        """What follows the last @, in lower case; empty without one."""
        return domain_of(self.address)


@dataclass(slots=True)
class Transaction:
    """One message being received."""

    sender: bytes
    """The envelope sender, without brackets; empty for a bounce. A plugin may write it in smtp_mail and later."""
    parameters: Parameters = field(default_factory=dict)
    """Those of MAIL, names in upper case: {b"SIZE": b"1000"}."""
    recipients: list[Recipient] = field(default_factory=list)
    """Those that were taken so far. A plugin may change the list in message_edit."""
    results: list[AuthResult] = field(default_factory=list)
    """What plugins found out about this message, for others to read and for Authentication-Results."""
    received_fields: list[bytes] = field(default_factory=list)
    """Fields that stand directly below our own Received field, in order (Received-SPF, for example)."""
    queue_environment: dict[str, str | None] = field(default_factory=dict)
    """Variables for the program that QMAILQUEUE names; None unsets one."""
    is_sender_vouched: bool = False
    """A plugin answers for the sender, so others let it pass."""
    is_sender_judged: bool = False
    """A plugin reads badmailfrom in its own way, so the core does not look at it."""
    is_utf8: bool = False
    """A plugin has taken MAIL as SMTPUTF8, and our Received field says so."""
    notes: Notes = field(default_factory=dict)
    _dns: Budget | None = field(default=None, repr=False, compare=False)

    @property
    def sender_local(self) -> bytes:
        """What stands before the last @ of the sender, as it was given."""
        return local_of(self.sender)

    @property
    def sender_domain(self) -> bytes:
        """What follows the last @ of the sender, in lower case; empty for a bounce."""
        return domain_of(self.sender)

    @property
    def dns_budget(self) -> Budget:
        """What all plugins together may look up for this message: hand it to the resolver with what strangers chose."""
        if self._dns is None:
            from pluq.dns import Budget

            self._dns = Budget.of_message()
        return self._dns


@dataclass(slots=True)
class Envelope:
    """Sender and recipients of a message on its way into the queue; both may be written."""

    sender: bytes
    recipients: list[bytes]


@dataclass(slots=True)
class Delivery:
    """One attempt to deliver. The *_envelope hooks may write `sender` and `recipients`."""

    channel: str
    """ "local", "remote", "forward" or "inject"."""
    message_number: int
    """The message's name in the queue, as the log has it."""
    sender: bytes
    recipients: list[bytes]
    host: bytes = b""
    """The domain being routed."""
    message: Message | None = None
    """None where a hook may not look at it."""
    notes: Notes = field(default_factory=dict)


def local_of(address: bytes) -> bytes:
    """Return what stands before the last @, all of it where there is none."""
    local, at, rest = address.rpartition(b"@")
    return local if at else rest


def domain_of(address: bytes) -> bytes:
    """Return what follows the last @, in lower case, empty where there is none."""
    _, at, domain = address.rpartition(b"@")
    return domain.lower() if at else b""
