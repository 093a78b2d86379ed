"""The extension points of pluq: one function, a sentence or two each. The parameter names are the contract.

A plugin implements a hook by a method of the same name marked `@hook`; it takes the parameters that it needs and leaves the
others out. Every hook may be `def` or `async def`, except those marked sync. `KINDS` says what happens with the answers:

DECIDE   asked in the order of the profile's list; the first verdict ends; None is no opinion
FIRST    asked in order; the first answer that is not None is taken
FOLD     each gets the last answer as the parameter named in FOLDED and may return another one
COLLECT  all are asked; the answers that are not None are a list
EACH     all are asked, in order; they change what they are given
OBSERVE  all are told; what they return or raise is only logged

A hook lands together with a plugin that uses it; PROVISIONAL ones may still change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from pluq.hookspecs.context import (
    Delivery,
    Envelope,
    Login,
    Notes,
    Parameters,
    Recipient,
    Session,
    Tls,
    TlsOffer,
    Transaction,
)
from pluq.hookspecs.message import HeaderField, Message
from pluq.hookspecs.plugin import PROJECT, Context, DnsRecord, NoSettings, Plugin, hook
from pluq.hookspecs.results import AuthResult
from pluq.hookspecs.verdicts import (
    PLUGIN_FAILED,
    Accept,
    Defer,
    Discard,
    Disconnect,
    Later,
    Phase,
    Reject,
    Verdict,
    clean_text,
    reply_line,
)
from pluq.mail.bounce import Draft

__all__ = [
    "FOLDED",
    "HOOKS",
    "KINDS",
    "PLUGIN_FAILED",
    "PROJECT",
    "PROVISIONAL",
    "Accept",
    "AuthResult",
    "Context",
    "Defer",
    "Delivery",
    "Discard",
    "Disconnect",
    "DnsRecord",
    "Draft",
    "Envelope",
    "HeaderField",
    "Kind",
    "Later",
    "Login",
    "Message",
    "NoSettings",
    "Notes",
    "Parameters",
    "Phase",
    "Plugin",
    "Recipient",
    "Reject",
    "Session",
    "Tls",
    "TlsOffer",
    "Transaction",
    "Verdict",
    "clean_text",
    "hook",
    "reply_line",
]


# What a layer above hands on: pluq.smtpd.connection.Connection, pluq.remote.connection.Connection in remote_*.
Connection = Any


class Kind(Enum):
    """What the core does with the answers of a hook."""

    DECIDE = "decide"
    FIRST = "first"
    FOLD = "fold"
    COLLECT = "collect"
    EACH = "each"
    OBSERVE = "observe"


# -- life


def check() -> Sequence[str]:  # type: ignore[empty-body]
    """Return a sentence for each thing that is wrong with the settings. Sync; `pluq check` and every reload ask."""


def start() -> None:
    """The role runs, privileges are dropped: open pools, load tables, import what is heavy."""


def stop() -> None:
    """The last session of this plan has ended: close what `start` opened."""


# -- the SMTP session


def smtp_preamble(session: Session, connection: Connection) -> None:
    """A client connected and the stream is still raw: start TLS at once, read a PROXY header. See pluq.smtpd.connection."""


def smtp_connect(session: Session, connection: Connection) -> Verdict | None:
    """A client connected; nothing was sent. A verdict takes the place of the banner. `connection.has_input`: it talks already."""


def smtp_helo(session: Session, name: bytes, extended: bool) -> Verdict | None:
    """HELO or EHLO (`extended`). A refusal is sticky: it stands until a later greeting is accepted."""


def smtp_capabilities(session: Session) -> Sequence[bytes] | None:
    """Return keywords for the EHLO reply, each without its CRLF (b"SIZE 1000"). Sync."""


def smtp_verbs() -> Mapping[bytes, Callable[..., Any]]:  # type: ignore[empty-body]
    """Return the verbs that the plugin owns, upper case, with their handlers. Sync, asked once when the plan is compiled.

    A handler is called as `await handler(session, argument, connection)` and returns the reply: bytes with CRLF, or a verdict.
    """


def smtp_command(session: Session, verb: bytes, argument: bytes) -> Verdict | None:
    """Any command, known or not, before it is carried out; `verb` is upper case."""


def smtp_auth(session: Session, login: Login) -> Verdict | None:
    """A client proved who it is; `session.login` is not yet set. A refusal takes the place of the success reply."""


def smtp_login_as(session: Session, connection: Connection, user: bytes) -> bool | None:
    """Make the session that of a user who has proved nothing, for `pluq explain --user` alone; return whether it could be done."""


def smtp_mail(session: Session, transaction: Transaction) -> Verdict | None:
    """MAIL, after its syntax was found good."""


def smtp_rcpt(session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
    """RCPT, before the core's own checks; `recipient.allowed` says what rcpthosts will answer."""


def smtp_rcpt_allowed(session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
    """RCPT, after rcpthosts, RELAYCLIENT or a plugin let it in: whether there is such a recipient, and whether one more is too many."""


def smtp_data(session: Session, transaction: Transaction) -> Verdict | None:
    """DATA, before 354."""


def message_verify(session: Session, transaction: Transaction, message: Message) -> Sequence[AuthResult] | None:
    """Look at the frozen original and return AuthResult values; they are kept in `transaction.results`."""


def message_decide(session: Session, transaction: Transaction, message: Message) -> Verdict | None:
    """Take or refuse the message; `transaction.results` is complete."""


def message_edit(session: Session, transaction: Transaction, message: Message) -> Verdict | None:
    """Change the message or its envelope, seeing what earlier plugins changed; may refuse it too."""


def message_sign(session: Session, transaction: Transaction, message: Message) -> None:
    """Put signatures on top. Nothing changes the message after this."""


def queue_submit(session: Session, transaction: Transaction, message: Message) -> Verdict | int | None:
    """Take the message in the place of the queue: return a queue number (the "qp" of the reply) or a verdict."""


def queue_fields(environment: Mapping[str, str]) -> Sequence[bytes] | None:
    """A message is about to be queued, by whomever: return fields for below our Received line. Sync; see pluq.queue.plugins."""


def queue_envelope(envelope: Envelope) -> None:
    """A message is about to be queued, by whomever: change `envelope`. Sync; see pluq.queue.plugins."""


def queue_open(environment: Mapping[str, str]) -> Any:
    """Begin a message in the place of the core: return what takes it (pluq.queue.submit.SyncSubmission), None for the usual way. Sync.

    A profile asks it for its own messages; `[queue]` for all that this host queues. `environment` is that of the connection or program.
    """


def transaction_end(session: Session, transaction: Transaction, outcome: str) -> None:
    """A transaction ended, exactly once: "queued", "discarded", "rejected", "reset" or "lost"."""


def smtp_disconnect(session: Session, reason: str) -> None:
    """The session ended, exactly once: "quit", "lost", "timeout", "refused" or "shutdown"."""


# -- POP3


def pop3_tls(session: Session) -> TlsOffer | None:
    """A client connected to a POP3 profile: return how it may encrypt. A plugin without this hook makes no sense in such a profile."""


# -- the scheduler


def send_bounce(draft: Draft) -> Verdict | None:
    """A message failed and a bounce is about to be made. Change `draft`; Discard sends none; Defer tries again later. Sync."""


# -- remote delivery


def remote_envelope(delivery: Delivery) -> None:
    """Change `delivery.sender` or `delivery.recipients` before anything is looked up."""


def remote_route(delivery: Delivery) -> Any:
    """Return a route (pluq.remote.route.Route) for `delivery.host`, in the place of smtproutes and MX."""


def remote_addresses(delivery: Delivery, host: bytes, addresses: list[str]) -> list[str] | None:
    """Return the addresses to try for one host; `addresses` are those found so far (IPv4 only from the core)."""


def remote_source(delivery: Delivery, address: str) -> tuple[str, bytes | None] | None:
    """Return the local address to connect from, and the name to greet with (None: the usual)."""


def remote_transport(delivery: Delivery, route: Any, candidate: Any, source: str | None) -> Any:
    """Deliver to one address by another protocol than SMTP: return the records (pluq.remote.report); None, and SMTP is spoken.

    `candidate` is a pluq.remote.route.Candidate with the preference of its MX record, `source` what remote_source said. After None
    nothing may have been accepted. A failure tries the delivery again later, so what the peer may have accepted needs records.
    """


def remote_policy(delivery: Delivery, host: bytes, address: str) -> Verdict | None:
    """A host is about to be tried. Defer skips it, Reject gives the delivery up."""


def remote_session(delivery: Delivery, connection: Connection) -> Verdict | None:
    """The peer answered EHLO: start TLS, log in. Defer tries the next host, Reject gives the delivery up."""


def remote_mail(delivery: Delivery, connection: Connection) -> Verdict | None:
    """The message is about to be sent on this connection, which may have carried others: whether this host will do for it.

    Reject gives the delivery up, Defer tries it again later; the connection stays good for other messages.
    """


def remote_params(delivery: Delivery, connection: Connection) -> Sequence[bytes] | None:
    """Return parameters of MAIL, as b"SIZE=1000"."""


def remote_message(delivery: Delivery, message: Message) -> None:
    """Change what is sent on this attempt: signatures, mostly."""


def remote_outcome(delivery: Delivery, outcome: str, text: bytes) -> tuple[str, bytes] | None:
    """See the outcome ("K", "Z", "D") of an attempt and its report; return another pair to change it."""


def remote_explain(delivery: Delivery, host: bytes) -> Sequence[str]:  # type: ignore[empty-body]
    """Return sentences on what will be done with a host that mail goes to, for `pluq explain`. Sync."""


# -- local delivery


def local_envelope(delivery: Delivery) -> None:
    """Change `delivery.sender` or `delivery.recipients` before the user is looked up."""


def local_deliver(delivery: Delivery, instruction: bytes, environment: Mapping[str, str]) -> Verdict | None:
    """Carry out one delivery instruction in the place of the core: Accept when it is done, durably.

    The code of a Reject is the exit code of qmail-local, if it is less than 128, else that is 100.
    """


def forward_envelope(delivery: Delivery, environment: Mapping[str, str]) -> Verdict | None:
    """A message is sent on by a user: change `delivery.sender` or `delivery.recipients`, or refuse. Sync; runs as that user.

    `delivery.channel` is "forward" (a .qmail line, forward, condredirect, dot-forward, fastforward) or "inject" (qmail-inject);
    `environment` is what qmail-local has set, or that of the program.
    """


# -- all roles


def observe(event: Mapping[str, Any]) -> None:
    """One event; `event["event"]` says which. Never slow the caller down.

    "verdict": plugin, hook, verdict, shadow. "plugin_error": plugin, hook, error. Both have in `given` what the hook was given. In `[remote]` also
    "remote_delivery": delivery, outcome ("K", "Z" or "D", as qmail-remote reports it), text. Local deliveries and what the queue does are in the log.
    """


KINDS: Mapping[str, Kind] = {
    "check": Kind.COLLECT,
    "start": Kind.EACH,
    "stop": Kind.OBSERVE,
    "smtp_preamble": Kind.EACH,
    "smtp_connect": Kind.DECIDE,
    "smtp_helo": Kind.DECIDE,
    "smtp_capabilities": Kind.COLLECT,
    "smtp_verbs": Kind.COLLECT,
    "smtp_command": Kind.DECIDE,
    "smtp_auth": Kind.DECIDE,
    "smtp_login_as": Kind.FIRST,
    "smtp_mail": Kind.DECIDE,
    "smtp_rcpt": Kind.DECIDE,
    "smtp_rcpt_allowed": Kind.DECIDE,
    "smtp_data": Kind.DECIDE,
    "message_verify": Kind.COLLECT,
    "message_decide": Kind.DECIDE,
    "message_edit": Kind.DECIDE,
    "message_sign": Kind.EACH,
    "queue_submit": Kind.FIRST,
    "queue_fields": Kind.COLLECT,
    "queue_envelope": Kind.EACH,
    "queue_open": Kind.FIRST,
    "transaction_end": Kind.OBSERVE,
    "smtp_disconnect": Kind.OBSERVE,
    "pop3_tls": Kind.FIRST,
    "send_bounce": Kind.DECIDE,
    "remote_envelope": Kind.EACH,
    "remote_route": Kind.FIRST,
    "remote_addresses": Kind.FOLD,
    "remote_source": Kind.FIRST,
    "remote_policy": Kind.DECIDE,
    "remote_transport": Kind.FIRST,
    "remote_session": Kind.DECIDE,
    "remote_mail": Kind.DECIDE,
    "remote_params": Kind.COLLECT,
    "remote_message": Kind.EACH,
    "remote_outcome": Kind.FOLD,
    "remote_explain": Kind.COLLECT,
    "local_envelope": Kind.EACH,
    "local_deliver": Kind.DECIDE,
    "forward_envelope": Kind.DECIDE,
    "observe": Kind.OBSERVE,
}

# The parameters that the last answer replaces, for hooks that fold. A tuple answer fills several.
FOLDED: Mapping[str, tuple[str, ...]] = {"remote_addresses": ("addresses",), "remote_outcome": ("outcome", "text")}

# Hooks that must be plain functions: the core asks them where it cannot wait.
SYNC = frozenset(
    {
        "check",
        "forward_envelope",
        "observe",
        "queue_envelope",
        "queue_fields",
        "queue_open",
        "remote_explain",
        "send_bounce",
        "smtp_capabilities",
        "smtp_verbs",
    }
)

PROVISIONAL = frozenset(
    {"remote_route", "remote_transport", "remote_outcome", "local_deliver", "local_envelope", "observe"}
)

HOOKS: Mapping[str, Callable[..., Any]] = {name: globals()[name] for name in KINDS}
