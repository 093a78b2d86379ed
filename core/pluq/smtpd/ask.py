"""Where the plugins are asked: the steps of a session whose profile has any.

Each step asks its hook, shows the verdict, and goes on with the session's own code where nobody objected. A session without
plugins never comes here.

A verdict shown later belongs to a phase, and stands for every command of it: one given at connect for the whole session, one
given at HELO until TLS starts, one given within a transaction until that ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pluq.errors import ClientGone, TemporaryFailure
from pluq.hookspecs.message import MAX_HEADER_BYTES
from pluq.hookspecs.verdicts import (
    MAX_REPLY_LINE,
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
from pluq.mail.address import parse_parameters
from pluq.plan.chain import VERDICTS, refuse_others, told
from pluq.queue.refusal import QueueRefusal
from pluq.smtpd import replies, verbs
from pluq.smtpd.connection import Connection
from pluq.smtpd.incoming import Incoming
from pluq.smtpd.results import mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from pluq.hookspecs.context import Login, Recipient, Transaction
    from pluq.hookspecs.message import Message
    from pluq.smtpd.session import SmtpSession

# How long a verdict for later stands.
SESSION, GREETING, TRANSACTION = range(3)

# Behind so much header nobody looks: who reads Authentication-Results must not find one there that we did not write.
HEADER_TOO_LONG = Reject(552, "5.3.4", "sorry, that message has a header that is too long")

# So much is copied to the queue before other sessions have a turn.
TURN_BYTES = 1 << 20


def passes(
    smtp: SmtpSession,
    verdict: Verdict | None,
    lasting: int = TRANSACTION,
    reason: str = "plugin",
    recipient: bytes = b"",
) -> bool:
    """Show a verdict; return True where the command goes on."""
    if verdict is None or isinstance(verdict, Accept):
        return True
    if isinstance(verdict, Later):
        smtp.later[verdict.phase] = (verdict.verdict, lasting)
        return True
    if isinstance(verdict, Discard):
        smtp.is_discarding = True
        return True
    if isinstance(verdict, Disconnect):
        if verdict.reply is not None:
            smtp.refuse(reply_line(verdict.reply), reason, recipient)
        smtp.end("quit" if verdict.is_quit else "refused")
    else:
        smtp.refuse(reply_line(verdict), reason, recipient)
    return False


async def asked(smtp: SmtpSession, chain: Any, **given: Any) -> Verdict | None:
    """Return what the plugins say; lines that they want in front of the reply go out first."""
    verdict: Verdict | None = await chain(session=smtp.session, **given)
    preface = smtp.session.preface
    if preface:
        smtp.reply(b"".join(clean_text(line)[:MAX_REPLY_LINE] + b"\r\n" for line in preface))
        preface.clear()
    return verdict


def stands(verdict: Verdict | None) -> bytes | None:
    """Return the reply of a refusal that stands beyond the command it was given for."""
    return reply_line(verdict) if isinstance(verdict, Reject | Defer) and not verdict.once else None


async def judge(smtp: SmtpSession, phase: Phase, chain: Any, **given: Any) -> Verdict | None:
    """Return the verdict that waits for this phase, else what the plugins say."""
    waiting = smtp.later.get(phase)
    if waiting is not None:
        return waiting[0]
    return None if chain is None else await asked(smtp, chain, **given)


async def connect(smtp: SmtpSession) -> None:
    """A client connected: the stream may belong to a plugin first, then the plugins are asked, then comes the banner."""
    plan, connection = smtp.service.plan, Connection(smtp)
    smtp.first_environment = dict(smtp.session.environment)
    if plan.smtp_preamble is not None:
        await plan.smtp_preamble(session=smtp.session, connection=connection)
        if smtp.ended is not None:
            return
    verdict = None
    if plan.smtp_connect is not None:
        verdict = await asked(smtp, plan.smtp_connect, connection=connection)
        smtp.first_environment = dict(smtp.session.environment)
        smtp.first_info = smtp.session.remote_info
    smtp.barred = stands(verdict)
    if passes(smtp, verdict, SESSION):
        smtp.greet()


async def command(smtp: SmtpSession, verb: bytes, argument: bytes, line: bytes) -> None:
    """Any command: refused, or a plugin's, or the core's."""
    if smtp.barred is not None and verb != b"QUIT":
        smtp.refuse(smtp.barred, "plugin")
        return
    plan = smtp.service.plan
    if plan.smtp_command is not None:
        verdict = await asked(smtp, plan.smtp_command, verb=verb, argument=argument)
        if not passes(smtp, verdict):
            return
    handler = plan.verbs.get(verb)
    if handler is not None:
        await run_verb(smtp, handler, argument, verb.decode("ascii", "replace").lower())
        return
    pending = verbs.run(smtp, verb, argument, line)
    if pending is not None:
        await pending


async def run_verb(smtp: SmtpSession, handler: Callable[..., Any], argument: bytes, verb: str) -> None:
    """Let a plugin carry out its verb, and show its answer: reply bytes, a verdict, or None if it has replied itself.

    Figures tell a refusal by the verb: "auth" is a login that failed.
    """
    try:
        answer = await handler(smtp.session, argument, Connection(smtp))
        if answer is not None:
            refuse_others(answer, (*VERDICTS, bytes))
    except ClientGone:
        raise
    except Exception as error:
        smtp.log(f"a plugin's verb {verb.upper()} failed: {told(error, getattr(handler, '__name__', ''))}")
        answer = PLUGIN_FAILED
    if not isinstance(answer, bytes):
        passes(smtp, answer, reason=verb)
        return
    if not answer.endswith(b"\r\n"):
        answer += b"\r\n"
    if answer[:1] in (b"4", b"5"):
        smtp.refuse(answer, verb)
    else:
        smtp.reply(answer)


async def logged_in(smtp: SmtpSession, login: Login) -> bool:
    """Ask the plugins about a login that was proved; False where one objects."""
    chain = smtp.service.plan.smtp_auth
    return chain is None or passes(smtp, await asked(smtp, chain, login=login), GREETING)


async def helo(smtp: SmtpSession, name: bytes, extended: bool) -> None:
    """HELO or EHLO. A refusal stands until a later greeting is accepted."""
    pending = smtp.reset_transaction()
    if pending is not None:
        await pending
    plan = smtp.service.plan
    smtp.session.is_helo_vouched = False
    verdict = await judge(smtp, Phase.HELO, plan.smtp_helo, name=name, extended=extended)
    smtp.refusal = stands(verdict)
    if not passes(smtp, verdict, GREETING):
        return
    verbs.set_helo(smtp, name, extended)
    smtp.reply(ehlo_reply(smtp) if extended else b"250 %s\r\n" % smtp.name)


def ehlo_reply(smtp: SmtpSession) -> bytes:
    """Return the EHLO reply with the keywords of the plugins behind ours."""
    capabilities = smtp.service.plan.smtp_capabilities
    try:
        keywords = capabilities(session=smtp.session) if capabilities is not None else []
    except TemporaryFailure:
        return reply_line(PLUGIN_FAILED)
    lines = [smtp.name, b"PIPELINING", b"8BITMIME", *(clean_text(keyword) for keyword in keywords)]
    return b"".join(b"250-%s\r\n" % line for line in lines[:-1]) + b"250 %s\r\n" % lines[-1]


async def mail(smtp: SmtpSession, transaction: Transaction, rest: bytes) -> None:
    pending = smtp.reset_transaction()
    if pending is not None:
        await pending
    if smtp.refusal is not None:
        smtp.refuse(smtp.refusal, "plugin")
        return
    transaction.parameters = parse_parameters(rest)
    verdict = await judge(smtp, Phase.MAIL, smtp.service.plan.smtp_mail, transaction=transaction)
    if passes(smtp, verdict):
        verbs.begin_transaction(smtp, transaction)
    else:
        await transaction_end(smtp, transaction, "rejected")


async def rcpt(smtp: SmtpSession, transaction: Transaction, recipient: Recipient, rest: bytes) -> None:
    recipient.parameters = parse_parameters(rest)
    verdict = await judge(smtp, Phase.RCPT, smtp.service.plan.smtp_rcpt, transaction=transaction, recipient=recipient)
    if isinstance(verdict, Accept) and verdict.relay:
        recipient.allowed = True
    if not passes(smtp, verdict, recipient=recipient.address):
        return
    chain = smtp.service.plan.smtp_rcpt_allowed
    if chain is not None and recipient.allowed:
        verdict = await asked(smtp, chain, transaction=transaction, recipient=recipient)
        if not passes(smtp, verdict, recipient=recipient.address):
            return
    verbs.add_recipient(smtp, transaction, recipient)


async def data(smtp: SmtpSession, transaction: Transaction) -> None:
    plan = smtp.service.plan
    verdict = await judge(smtp, Phase.DATA, plan.smtp_data, transaction=transaction)
    if not passes(smtp, verdict):
        return
    has_results = bool(smtp.session.results or transaction.results)
    if plan.reads_message or has_results or smtp.is_discarding or Phase.MESSAGE in smtp.later:
        smtp.transaction = None
        limit = smtp.service.policy.size_limit(smtp.session.environment)
        smtp.incoming = Incoming(transaction, limit, None)
        smtp.reply(replies.GO_AHEAD)
    else:
        await verbs.open_queue(smtp, transaction)


async def message(smtp: SmtpSession, incoming: Incoming) -> str:
    """Show the message to the plugins, then queue it; return how the transaction ended."""
    transaction, view = incoming.transaction, incoming.message()
    try:
        verdict = await decide(smtp, transaction, view)
        if not passes(smtp, verdict):
            return "rejected"
        if smtp.is_discarding:
            verbs.queued(smtp, 0)
            return "discarded"
        return await submit(smtp, transaction, view)
    except TemporaryFailure:
        smtp.refuse(reply_line(PLUGIN_FAILED), "plugin")
    except QueueRefusal as refusal:
        smtp.refuse(verbs.refused(refusal), "queue")
    except OSError as error:
        smtp.log(f"unable to queue: {error}")
        smtp.refuse(replies.QUEUE_FAILURE)
    return "rejected"


async def decide(smtp: SmtpSession, transaction: Transaction, view: Message) -> Verdict | None:
    """Ask all stages in order; return the first verdict that is not an Accept."""
    plan = smtp.service.plan
    given = {"session": smtp.session, "transaction": transaction, "message": view}
    marks = plan.verifies or bool(smtp.session.results or transaction.results)
    if marks and view.header_size >= MAX_HEADER_BYTES:
        return HEADER_TOO_LONG
    if plan.message_verify is not None:
        transaction.results.extend(await plan.message_verify(**given))
    verdict = await judge(smtp, Phase.MESSAGE, plan.message_decide, transaction=transaction, message=view)
    if verdict is not None and not isinstance(verdict, Accept):
        return verdict
    results = [*smtp.session.results, *transaction.results]
    if results or plan.verifies:
        mark(view, plan.authserv_id, results)
    if plan.message_edit is not None:
        verdict = await plan.message_edit(**given)
        if verdict is not None and not isinstance(verdict, Accept):
            return verdict
    if plan.message_sign is not None:
        await plan.message_sign(**given)
    return None


async def submit(smtp: SmtpSession, transaction: Transaction, view: Message) -> str:
    """Give the message to a plugin that takes it in the place of the queue, or to the queue."""
    chain = smtp.service.plan.queue_submit
    if chain is not None:
        answer = await chain(session=smtp.session, transaction=transaction, message=view)
        if isinstance(answer, int):
            verbs.queued(smtp, answer)
            return "queued"
        if answer is not None and not passes(smtp, answer):
            return "rejected"
    submission = await verbs.submitter(smtp, transaction).open()
    try:
        submission.write(verbs.head(smtp, transaction))
        turn = 0
        for chunk in view.chunks():
            submission.write(chunk)
            turn += len(chunk)
            if turn >= TURN_BYTES:
                turn = 0
                await smtp.driver.breathe()
    except BaseException:
        submission.abort()
        raise
    return await verbs.commit(smtp, submission, transaction)


async def transaction_end(smtp: SmtpSession, transaction: Transaction, outcome: str) -> None:
    """Tell the plugins, after the reply went out; forget what stood for this transaction only."""
    smtp.is_discarding = False
    for phase in [phase for phase, (_, lasting) in smtp.later.items() if lasting == TRANSACTION]:
        del smtp.later[phase]
    chain = smtp.service.plan.transaction_end
    if chain is not None:
        smtp.flush()
        await chain(session=smtp.session, transaction=transaction, outcome=outcome)


async def farewell(smtp: SmtpSession, transaction: Transaction | None, reason: str) -> None:
    """The session ended: tell the plugins of the transaction that was lost with it, and of the end, once."""
    if transaction is not None:
        await transaction_end(smtp, transaction, "lost")
    chain = smtp.service.plan.smtp_disconnect
    if chain is not None:
        await chain(session=smtp.session, reason=reason)
