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
    """The TLS layer of a session: version and cipher in OpenSSL's words, the client's certificate subject if it was verified.

    `proof`: on a connection to another host, how a plugin has proved that it is the right one ("sts", "dane"), "" where it has not.
    `certificate` is ours (PEM), the one that this client was shown; empty where it is not known.
    """

    version: str
    cipher: str
    server_name: str | None = None
    client_subject: str | None = None
    client_email: str | None = None
    proof: str = ""
    certificate: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TlsOffer:
    """How a POP3 session is encrypted: with `context`, an ssl.SSLContext, at once (`implicit`) or by STLS; `required` before a login."""

    context: Any
    implicit: bool = False
    required: bool = False


@dataclass(slots=True)
class Login:
    """Who logged in, and by which mechanism."""

    user: bytes
    mechanism: str


@dataclass(slots=True)
class Session:
    """One SMTP connection.

    `environment` is what tcpserver and its rules gave this connection (RELAYCLIENT, DATABYTES...); a plugin may write it, and
    programs that the session starts see it. Addresses are text without brackets; `remote_host` and `remote_info` are what the
    environment said, else "unknown" and None. `greeting` is the name that we go by in this session, None for the usual.
    `hides_client`: our Received field shall say neither name nor address of the client. `arguments` are those of the command line,
    where this session is a program (`qmail-smtpd checkpassword /bin/true`).

    `preface`: lines that go out in front of the reply to the command that is being judged, written by plugins as they stand,
    without line ends (`250-first line`). `is_helo_vouched`: a plugin answers for the HELO name, so others let it pass.
    `bad_recipients` counts the recipients of this session that plugins refused because mail to them is a guess.
    """

    profile: str = "stock"
    remote_ip: str = "unknown"
    remote_port: int = 0
    remote_host: str = "unknown"
    remote_info: str | None = None
    local_ip: str = ""
    local_port: int = 0
    local_host: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    helo: bytes | None = None
    extended: bool = False
    tls: Tls | None = None
    login: Login | None = None
    greeting: bytes | None = None
    hides_client: bool = False
    arguments: tuple[str, ...] = ()
    preface: list[bytes] = field(default_factory=list)
    is_helo_vouched: bool = False
    bad_recipients: int = 0
    results: list[AuthResult] = field(default_factory=list)
    notes: Notes = field(default_factory=dict)

    @property
    def relay_suffix(self) -> bytes | None:
        """What RELAYCLIENT appends to recipients; None: this client may not relay."""
        value = self.environment.get("RELAYCLIENT")
        return None if value is None else value.encode("utf-8", "surrogateescape")

    @property
    def may_relay(self) -> bool:
        return "RELAYCLIENT" in self.environment


@dataclass(slots=True)
class Recipient:
    """One RCPT. `address` is without brackets and quoting; `allowed`: the core would take it (rcpthosts, or RELAYCLIENT).

    A plugin may write `address` in smtp_rcpt: the message goes to the new one. `is_vouched`: a plugin answers for this recipient, so
    that others let it pass their lists.
    """

    address: bytes
    allowed: bool = True
    is_vouched: bool = False
    parameters: Parameters = field(default_factory=dict)
    notes: Notes = field(default_factory=dict)


@dataclass(slots=True)
class Transaction:
    """One message being received. A plugin may write `sender` in smtp_mail and later, and `recipients` in message_edit.

    `parameters` are those of MAIL, names in upper case. `received_fields` stand directly below our own Received field,
    in order (Received-SPF, for example). `queue_environment` is for the program that QMAILQUEUE names; None unsets a variable.
    `is_sender_vouched`: a plugin answers for the sender, so that others let it pass. `is_utf8`: a plugin has taken MAIL as SMTPUTF8, and
    our Received field says so.
    """

    sender: bytes
    parameters: Parameters = field(default_factory=dict)
    recipients: list[Recipient] = field(default_factory=list)
    results: list[AuthResult] = field(default_factory=list)
    received_fields: list[bytes] = field(default_factory=list)
    queue_environment: dict[str, str | None] = field(default_factory=dict)
    is_sender_vouched: bool = False
    is_utf8: bool = False
    notes: Notes = field(default_factory=dict)
    _dns: Budget | None = field(default=None, repr=False, compare=False)

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
    """One attempt. `sender` and `recipients` may be written by the *_envelope hooks; `host` is the domain being routed."""

    channel: str
    message_number: int
    sender: bytes
    recipients: list[bytes]
    host: bytes = b""
    message: Message | None = None
    notes: Notes = field(default_factory=dict)
