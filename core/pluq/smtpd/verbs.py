"""What each SMTP verb does, as in qmail-smtpd; and how a message goes to the queue.

A verb is a function of the session and its argument. It gives its replies and returns None, or returns a coroutine where
something has to be waited for. Where the profile has plugins, the verb checks what qmail checks first and leaves the rest to `ask`.

Source: qmail-smtpd.c.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from pluq.errors import TemporaryFailure
from pluq.hookspecs.context import Recipient, Session, Transaction
from pluq.mail.address import MAX_ADDRESS, parse_path
from pluq.mail.received import server_received
from pluq.queue.refusal import QueueRefusal
from pluq.smtpd import replies
from pluq.smtpd.incoming import Incoming

if TYPE_CHECKING:
    from pluq.queue.submit import Submission, Submitter
    from pluq.smtpd.session import SmtpSession

Pending = Coroutine[Any, Any, None] | None

# RFC 5321 asks for 100; lists send some thousand. Each costs about 300 bytes.
MAX_RECIPIENTS = 100_000

# No mail but a browser or a TLS client that was led here: nothing of what follows may be run as commands.
_NOT_SMTP = re.compile(rb"[A-Z]+ \S+ HTTP/[0-9]|\x16\x03")


def run(smtp: SmtpSession, verb: bytes, argument: bytes, line: bytes) -> Pending:
    """Carry out a command of the core; return what is left to wait for."""
    handler = VERBS.get(verb)
    if handler is not None:
        return handler(smtp, argument)
    smtp.reply(replies.UNIMPLEMENTED)
    if _NOT_SMTP.match(line):
        smtp.end("refused")
    return None


def quit_(smtp: SmtpSession, argument: bytes) -> Pending:
    smtp.reply(b"221 %s\r\n" % smtp.name)
    smtp.end("quit")
    return None


def noop(smtp: SmtpSession, argument: bytes) -> Pending:
    smtp.reply(replies.OK)
    return None


def help_(smtp: SmtpSession, argument: bytes) -> Pending:
    smtp.reply(replies.HELP)
    return None


def vrfy(smtp: SmtpSession, argument: bytes) -> Pending:
    smtp.reply(replies.VRFY)
    return None


def helo(smtp: SmtpSession, argument: bytes) -> Pending:
    return greeted(smtp, argument, extended=False)


def ehlo(smtp: SmtpSession, argument: bytes) -> Pending:
    return greeted(smtp, argument, extended=True)


def greeted(smtp: SmtpSession, name: bytes, extended: bool) -> Pending:
    if smtp.service.has_hooks:
        from pluq.smtpd import ask

        return ask.helo(smtp, name, extended)
    set_helo(smtp, name, extended)
    smtp.reply(smtp.service.ehlo if extended else smtp.service.helo)
    return None


def set_helo(smtp: SmtpSession, name: bytes, extended: bool) -> None:
    """Take the client's greeting; a transaction is over."""
    session = smtp.session
    session.helo, session.extended = name, extended
    own_name = session.remote_host.encode("utf-8", "surrogateescape")
    smtp.fake_helo = None if name.lower() == own_name.lower() else name
    smtp.transaction = None


def rset(smtp: SmtpSession, argument: bytes) -> Pending:
    smtp.reply(replies.FLUSHED)
    return smtp.reset_transaction()


def usable_address(smtp: SmtpSession, argument: bytes) -> tuple[bytes, bytes] | None:
    """Return the address in an argument and what follows it; None where it was refused."""
    address, rest = parse_path(argument)
    if address[-1:] == b"]":
        try:
            address = smtp.service.policy.localise(address)
        except OSError:
            smtp.refuse(replies.NO_ADDRESSES)
            smtp.end("lost")
            return None
    # A CR in an envelope would reach other servers, and some take it for the end of a line.
    if len(address) > MAX_ADDRESS or 0x0D in address:
        smtp.refuse(replies.SYNTAX, recipient=argument)
        return None
    return address, rest


def mail(smtp: SmtpSession, argument: bytes) -> Pending:
    path = usable_address(smtp, argument)
    if path is None:
        return None
    transaction = Transaction(path[0])
    if smtp.service.has_hooks:
        from pluq.smtpd import ask

        return ask.mail(smtp, transaction, path[1])
    begin_transaction(smtp, transaction)
    return None


def begin_transaction(smtp: SmtpSession, transaction: Transaction) -> None:
    """Take the sender: a new transaction stands in the place of any former one."""
    smtp.transaction = transaction
    is_judged = transaction.is_sender_judged
    smtp.is_bad_sender = not is_judged and smtp.service.policy.is_bad_sender(transaction.sender)
    smtp.reply(replies.OK)


def rcpt(smtp: SmtpSession, argument: bytes) -> Pending:
    transaction = smtp.transaction
    if transaction is None:
        smtp.reply(replies.WANT_MAIL)
        return None
    path = usable_address(smtp, argument)
    if path is None:
        return None
    if smtp.is_bad_sender:
        smtp.refuse(replies.BAD_SENDER, recipient=path[0])
        return None
    if len(transaction.recipients) >= MAX_RECIPIENTS:
        smtp.refuse(replies.TOO_MANY_RECIPIENTS, recipient=path[0])
        return None
    address, rest = path
    recipient = Recipient(address, smtp.session.may_relay or smtp.service.policy.rcpthosts.allows(address))
    if smtp.service.has_hooks:
        from pluq.smtpd import ask

        return ask.rcpt(smtp, transaction, recipient, rest)
    add_recipient(smtp, transaction, recipient)
    return None


def add_recipient(smtp: SmtpSession, transaction: Transaction, recipient: Recipient) -> None:
    """Take the recipient if it is allowed, else say why not."""
    if not recipient.allowed:
        smtp.refuse(replies.NO_GATEWAY, recipient=recipient.address)
        return
    suffix = smtp.session.relay_suffix
    if suffix:
        recipient.address += suffix
    transaction.recipients.append(recipient)
    smtp.junk -= 1
    smtp.reply(replies.OK)


def data(smtp: SmtpSession, argument: bytes) -> Pending:
    transaction = smtp.transaction
    if transaction is None:
        smtp.reply(replies.WANT_MAIL)
        return None
    if not transaction.recipients:
        smtp.reply(replies.WANT_RCPT)
        return None
    if smtp.service.has_hooks:
        from pluq.smtpd import ask

        return ask.data(smtp, transaction)
    return open_queue(smtp, transaction)


# -- the message


async def open_queue(smtp: SmtpSession, transaction: Transaction) -> None:
    """Open the queue and ask for the message."""
    smtp.transaction = None
    try:
        submission = await submitter(smtp, transaction).open()
    except (OSError, QueueRefusal, TemporaryFailure) as error:
        smtp.log(f"unable to open the queue: {error}")
        smtp.refuse(replies.QUEUE_FAILURE)
        if smtp.service.has_hooks:
            await transaction_ended(smtp, transaction, "rejected")
        return
    submission.write(head(smtp, transaction))
    limit = smtp.service.policy.size_limit(smtp.session.environment)
    smtp.incoming = Incoming(transaction, limit, submission)
    smtp.reply(replies.GO_AHEAD)


def submitter(smtp: SmtpSession, transaction: Transaction) -> Submitter:
    """Return the way to the queue for this message."""
    environment = smtp.session.environment
    if transaction.queue_environment:
        merged = {**environment, **transaction.queue_environment}
        environment = {name: value for name, value in merged.items() if value is not None}
    chain = smtp.service.plan.queue_open
    begun = None if chain is None else chain(environment=environment)
    if begun is not None:
        from pluq.queue.submit import PluginSubmitter

        return PluginSubmitter(begun)
    return smtp.service.submitter(environment)


def head(smtp: SmtpSession, transaction: Transaction) -> bytes:
    """Return the fields that go on top of a message now."""
    session = smtp.session
    info = session.remote_info
    received = server_received(
        remote_host=session.remote_host.encode("utf-8", "surrogateescape"),
        remote_ip=session.remote_ip.encode("utf-8", "surrogateescape"),
        remote_info=None if info is None else info.encode("utf-8", "surrogateescape"),
        helo=smtp.fake_helo,
        local=session.local_host.encode("utf-8", "surrogateescape"),
        when=int(time.time()),
        protocol=protocol_word(session, transaction.is_utf8),
        local_dates=smtp.service.policy.local_dates,
        hidden=session.hides_client,
    )
    return b"".join([received, *transaction.received_fields]) if transaction.received_fields else received


def protocol_word(session: Session, is_utf8: bool) -> bytes:
    """Return what stands behind "with" in our Received field: SMTP as qmail has it, after TLS or a login ESMTPSA and the like.

    For SMTPUTF8 it is UTF8SMTP, UTF8SMTPSA and the like (RFC 6531 section 4.3).
    """
    if session.tls is None and session.login is None and not is_utf8:
        return b"SMTP"
    word = b"UTF8SMTP" if is_utf8 else b"ESMTP"
    word += (b"S" if session.tls else b"") + (b"A" if session.login else b"")
    if session.tls is None:
        return word
    authenticated = b", authenticated" if session.login else b""
    return b"%s (%s encrypted%s)" % (word, session.tls.cipher.encode("ascii", "replace"), authenticated)


async def finish(smtp: SmtpSession, incoming: Incoming) -> None:
    """The message is here: queue it, or say why not."""
    transaction = incoming.transaction
    complaint = complaint_about(incoming)
    if complaint is not None:
        incoming.give_up()
        smtp.refuse(complaint, "" if incoming.failure is None else "queue")
        outcome = "rejected"
    elif incoming.submission is None:
        from pluq.smtpd import ask

        try:
            outcome = await ask.message(smtp, incoming)
        finally:
            incoming.close()
    else:
        outcome = await commit(smtp, incoming.submission, transaction)
    smtp.incoming = None
    if smtp.service.has_hooks:
        await transaction_ended(smtp, transaction, outcome)


def complaint_about(incoming: Incoming) -> bytes | None:
    """Return the reply to a message that cannot be queued as it is, None for a good one."""
    if incoming.body.is_looping:
        return replies.TOO_MANY_HOPS
    if incoming.is_too_large:
        return replies.TOO_LARGE
    return None if incoming.failure is None else refused(incoming.failure)


async def commit(smtp: SmtpSession, submission: Submission, transaction: Transaction) -> str:
    """Make the message durable and answer; return how the transaction ended."""
    smtp.committing = True
    try:
        receipt = await submission.commit(
            transaction.sender, [recipient.address for recipient in transaction.recipients]
        )
    except QueueRefusal as refusal:
        smtp.refuse(refused(refusal), "queue")
        return "rejected"
    finally:
        smtp.committing = False
    queued(smtp, receipt.qp)
    return "queued"


def queued(smtp: SmtpSession, qp: int) -> None:
    """Say that the message is safe."""
    smtp.junk = 0
    smtp.reply(replies.accepted(int(time.time()), qp))
    if smtp.service.watch is not None:
        smtp.service.watch.accepted(smtp, qp)


def refused(refusal: QueueRefusal) -> bytes:
    return replies.refused(refusal.verdict.encode("utf-8", "surrogateescape"))


async def transaction_ended(smtp: SmtpSession, transaction: Transaction, outcome: str) -> None:
    from pluq.smtpd import ask

    await ask.transaction_end(smtp, transaction, outcome)


VERBS: Mapping[bytes, Callable[[SmtpSession, bytes], Pending]] = {
    b"RCPT": rcpt,
    b"MAIL": mail,
    b"DATA": data,
    b"QUIT": quit_,
    b"HELO": helo,
    b"EHLO": ehlo,
    b"RSET": rset,
    b"HELP": help_,
    b"NOOP": noop,
    b"VRFY": vrfy,
}
