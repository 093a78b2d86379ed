"""Where a session asks its plugins, and what their verdicts do to it."""

import asyncio
from typing import Any

import pytest

from pluq.errors import ClientGone, TemporaryFailure
from pluq.hookspecs import Accept, AuthResult, Defer, Discard, Disconnect, Later, Login, Phase, Reject
from pluq.plan import Plan
from pluq.smtpd import replies
from pluq.testing.smtp_session import MemoryQueue, Talk

ENVELOPE = b"MAIL FROM:<a@b>\r\nRCPT TO:<x@example.org>\r\n"
MESSAGE = b"DATA\r\nSubject: hi\r\n\r\nbody\r\n.\r\n"
HOOKS = (
    "smtp_connect", "smtp_helo", "smtp_command", "smtp_mail", "smtp_rcpt", "smtp_data", "message_verify", "message_decide",
    "message_edit", "message_sign", "queue_submit", "transaction_end", "smtp_disconnect",
)  # fmt: skip


class Calls:
    """Hooks that note their calls and answer what they were told to."""

    def __init__(self, answers: dict[str, Any] | None = None, waits: bool = False) -> None:
        self.answers = answers or {}
        self.waits = waits
        self.seen: list[str] = []
        self.given: dict[str, dict[str, Any]] = {}

    def hook(self, name: str) -> Any:
        async def call(**given: Any) -> Any:
            self.seen.append(name if name != "transaction_end" else f"{name} {given['outcome']}")
            self.given[name] = given
            if self.waits:
                await asyncio.sleep(0)
            answer = self.answers.get(name, [] if name == "message_verify" else None)
            if isinstance(answer, Exception):
                raise answer
            return answer(**given) if callable(answer) else answer

        return call

    def plan(self, *names: str, **more: Any) -> Plan:
        return Plan({name: self.hook(name) for name in names or HOOKS}, **more)


def talk_with(answers: dict[str, Any], *names: str, **more: Any) -> Talk:
    return Talk(plan=Calls(answers).plan(*(names or tuple(answers))), **more)


async def test_each_hook_is_asked_once_in_the_order_of_the_session():
    calls = Calls()
    talk = Talk(plan=calls.plan(*(name for name in HOOKS if name != "smtp_command")))
    talk.send(b"EHLO c\r\n" + ENVELOPE + MESSAGE + b"QUIT\r\n")
    await talk.settled()
    assert calls.seen == [
        "smtp_connect", "smtp_helo", "smtp_mail", "smtp_rcpt", "smtp_data", "message_verify", "message_decide", "message_edit",
        "message_sign", "queue_submit", "transaction_end queued", "smtp_disconnect",
    ]  # fmt: skip
    assert calls.given["smtp_disconnect"]["reason"] == "quit"


@pytest.mark.parametrize("waits", [False, True])
async def test_plugins_without_an_opinion_are_invisible(waits):
    stream = b"EHLO c\r\nHELO d\r\nRSET\r\n" + ENVELOPE + MESSAGE + b"NOOP\r\nXYZ\r\n" + ENVELOPE + b"QUIT\r\n"
    # A profile that verifies adds Authentication-Results, also when it has none.
    plan = Calls(waits=waits).plan(*(name for name in HOOKS if name != "message_verify"))
    plain, hooked = Talk(), Talk(plan=plan)
    for talk in (plain, hooked):
        await talk.settled()
        talk.send(stream)
        await talk.settled()
    assert hooked.said.split(b" qp ")[0][:-10] == plain.said.split(b" qp ")[0][:-10]
    assert hooked.said.split(b" qp ")[1] == plain.said.split(b" qp ")[1]
    assert hooked.queue.messages[0].text == plain.queue.messages[0].text


@pytest.mark.parametrize("verdict", [Reject(554, "5.7.1", "no"), Defer(450, "4.7.1", "no")])
@pytest.mark.parametrize(
    ("hook", "line"),
    [("smtp_helo", "HELO x"), ("smtp_mail", "MAIL FROM:<a@b>"), ("smtp_command", "NOOP"), ("smtp_command", "XYZ")],
)
def test_a_refusal_takes_the_place_of_the_reply(hook, line, verdict):
    talk = talk_with({hook: verdict})
    assert talk.say(line) == f"{verdict.code} no (#{verdict.enhanced})"


def test_a_refusal_of_helo_stands_until_a_better_greeting():
    answers = {"smtp_helo": lambda name, **given: Reject(550, "5.7.1", "no") if name == b"bad" else None}
    talk = talk_with(answers)
    assert talk.say("EHLO bad") == "550 no (#5.7.1)"
    assert talk.say("MAIL FROM:<a@b>") == "550 no (#5.7.1)"
    assert talk.say("HELO bad") == "550 no (#5.7.1)"
    assert talk.say("HELO good") == "250 mx.example.org"
    assert talk.say("MAIL FROM:<a@b>") == "250 ok"


def test_a_refusal_at_connect_takes_the_place_of_the_banner_and_of_all_that_follows():
    talk = talk_with({"smtp_connect": Reject(554, "5.7.1", "no")})
    assert talk.said == b"554 no (#5.7.1)\r\n"
    assert talk.say("EHLO x") == "554 no (#5.7.1)"
    assert talk.say("MAIL FROM:<a@b>") == "554 no (#5.7.1)"
    assert talk.say("QUIT") == "221 mx.example.org"


@pytest.mark.parametrize(("reply", "said"), [(None, b""), (Defer(421, "4.7.0", "bye"), b"421 bye (#4.7.0)\r\n")])
def test_disconnect_says_its_reply_or_nothing(reply, said):
    talk = talk_with({"smtp_connect": Disconnect(reply)})
    assert talk.said == said
    assert talk.is_closed
    assert talk.smtp.ended == "refused"


def test_a_verdict_for_later_is_shown_to_every_command_of_its_phase():
    talk = talk_with({"smtp_connect": Later(Phase.RCPT, Defer(451, None, "not now"))})
    assert talk.send(ENVELOPE) == b"250 ok\r\n451 not now\r\n"
    assert talk.say("RCPT TO:<y@example.org>") == "451 not now"
    talk.say("RSET")
    assert talk.send(ENVELOPE) == b"250 ok\r\n451 not now\r\n"


def test_a_verdict_for_later_given_at_mail_ends_with_the_transaction():
    answers = {
        "smtp_mail": lambda transaction, **given: Later(Phase.RCPT, Reject(text="no")) if transaction.sender else None
    }
    talk = talk_with(answers)
    assert talk.send(ENVELOPE).endswith(b"554 no (#5.7.1)\r\n")
    talk.say("RSET")
    assert talk.say("MAIL FROM:<>") == "250 ok"
    assert talk.say("RCPT TO:<x@example.org>") == "250 ok"


def test_relaying_needs_the_word_relay():
    talk = talk_with({"smtp_rcpt": Accept()})
    talk.say("MAIL FROM:<a@b>")
    assert talk.say("RCPT TO:<x@far.example>").startswith("553 ")
    talk = talk_with({"smtp_rcpt": Accept(relay=True)})
    talk.say("MAIL FROM:<a@b>")
    assert talk.say("RCPT TO:<x@far.example>") == "250 ok"


def test_a_hook_sees_what_the_core_will_say_and_may_rewrite_the_recipient():
    seen = []

    def rewrite(recipient, **given):
        seen.append((recipient.address, recipient.allowed, recipient.parameters))
        recipient.address = b"new@example.org"

    talk = talk_with({"smtp_rcpt": rewrite})
    talk.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<x@example.org> NOTIFY=NEVER\r\nRCPT TO:<x@far>\r\n" + MESSAGE)
    assert seen == [(b"x@example.org", True, {b"NOTIFY": b"NEVER"}), (b"x@far", False, {})]
    assert talk.queue.messages[0].recipients == [b"new@example.org"]


def test_parameters_of_mail_are_on_the_transaction():
    calls = Calls()
    talk = Talk(plan=calls.plan("smtp_mail"))
    talk.say("MAIL FROM:<a@b> size=10 SMTPUTF8")
    assert calls.given["smtp_mail"]["transaction"].parameters == {b"SIZE": b"10", b"SMTPUTF8": None}


def test_keywords_of_plugins_stand_behind_ours():
    plan = Plan({"smtp_capabilities": lambda session: [b"SIZE 0", b"X-BAD\r\nINJECTED"]})
    talk = Talk(plan=plan)
    assert talk.send(b"EHLO c\r\n") == (
        b"250-mx.example.org\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 0\r\n250 X-BAD??INJECTED\r\n"
    )


@pytest.mark.parametrize("hook", ["message_decide", "message_edit", "queue_submit"])
def test_a_message_may_be_refused_after_it_came(hook):
    calls = Calls({hook: Reject(554, "5.6.0", "spam")})
    talk = Talk(plan=calls.plan(hook, "transaction_end"))
    assert talk.send(ENVELOPE + MESSAGE).endswith(b"354 go ahead\r\n554 spam (#5.6.0)\r\n")
    assert talk.queue.messages == []
    assert calls.seen == [hook, "transaction_end rejected"]


def test_a_failure_to_look_at_a_message_is_temporary():
    talk = talk_with({"message_verify": TemporaryFailure("plugin x failed")})
    assert talk.send(ENVELOPE + MESSAGE).endswith(b"451 temporary local problem, try again later (#4.3.0)\r\n")
    assert talk.queue.messages == []


@pytest.mark.parametrize("hook", ["smtp_mail", "smtp_rcpt", "smtp_data", "message_decide"])
def test_a_discarded_message_is_answered_with_success_and_not_queued(hook):
    calls = Calls({hook: Discard()})
    talk = Talk(plan=calls.plan(hook, "transaction_end"))
    assert b"250 ok " in talk.send(ENVELOPE + MESSAGE)
    assert talk.queue.messages == []
    assert calls.seen[-1] == "transaction_end discarded"
    calls.answers.clear()
    talk.send(ENVELOPE + MESSAGE)
    assert len(talk.queue.messages) == 1


def test_results_and_edits_reach_the_queue():
    def edit(message, transaction, **given):
        assert transaction.results[0].method == "spf"
        message.prepend(b"X-Edited: yes")

    def mail(transaction, **given):
        transaction.received_fields.append(b"Received-SPF: pass\n")

    talk = talk_with({"smtp_mail": mail, "message_verify": [AuthResult("spf", "pass")], "message_edit": edit})
    talk.send(ENVELOPE + MESSAGE)
    message = talk.queue.messages[0].message
    assert message.startswith(b"Received: from unknown (192.0.2.7)\n")
    assert b"\nReceived-SPF: pass\n" in message
    assert b"X-Edited: yes\n" in message
    assert message.endswith(b"Subject: hi\n\nbody\n")


@pytest.mark.parametrize("size", [10, 200_000])
def test_hooks_see_small_and_large_messages_alike(size):
    seen = []
    talk = talk_with({"message_decide": lambda message, **given: seen.append(message.as_bytes())})
    body = b"Subject: hi\r\n\r\n" + b"x" * size + b"\r\n"
    talk.send(ENVELOPE + b"DATA\r\n" + body + b".\r\n")
    assert seen == [body.replace(b"\r\n", b"\n")]
    assert talk.queue.messages[0].text == body.replace(b"\r\n", b"\n")


def test_a_plugin_may_take_the_message_in_the_place_of_the_queue():
    talk = talk_with({"queue_submit": 4711})
    assert talk.send(ENVELOPE + MESSAGE).endswith(b" qp 4711\r\n")
    assert talk.queue.messages == []


def test_the_queue_programs_environment_may_be_added_to():
    def mail(transaction, **given):
        transaction.queue_environment["SPFRESULT"] = "pass"

    talk = talk_with({"smtp_mail": mail}, environment={"QMAILQUEUE": "x"})
    talk.send(ENVELOPE + MESSAGE)
    assert talk.queue.messages[0].environment == {"QMAILQUEUE": "x", "SPFRESULT": "pass"}


@pytest.mark.parametrize(
    ("stream", "outcomes"),
    [
        (ENVELOPE + MESSAGE, ["queued"]),
        (ENVELOPE + b"RSET\r\n", ["reset"]),
        (ENVELOPE + b"HELO x\r\n", ["reset"]),
        (ENVELOPE + ENVELOPE + b"QUIT\r\n", ["reset", "lost"]),
        (ENVELOPE + b"DATA\r\nhalf", ["lost"]),
        (ENVELOPE + b"DATA\r\nbare\nnewline", ["lost"]),
        (b"QUIT\r\n", []),
    ],
)
async def test_every_transaction_ends_exactly_once(stream, outcomes):
    calls = Calls()
    talk = Talk(plan=calls.plan("transaction_end"))
    talk.send(stream)
    talk.hang_up()
    await talk.settled()
    assert calls.seen == [f"transaction_end {outcome}" for outcome in outcomes]


def test_a_verb_of_a_plugin_answers_for_itself():
    async def verb(session, argument, connection):
        return b"250 you said " + argument + b"\r\n"

    talk = Talk(plan=Plan(verbs={b"XTALK": verb, b"XNO": refuse, b"XFAIL": fail}))
    assert talk.say("xtalk   hello") == "250 you said hello"
    assert talk.say("XNO") == "504 no such mechanism (#5.5.4)"
    assert talk.say("XFAIL") == "451 temporary local problem, try again later (#4.3.0)"
    assert talk.say("NOOP") == "250 ok"


async def refuse(session, argument, connection):
    return Reject(504, "5.5.4", "no such mechanism")


async def fail(session, argument, connection):
    raise ZeroDivisionError


async def login(session, argument, connection):
    connection.reply(b"334 user\r\n")
    user = await connection.read_line()
    connection.reply(b"334 pass\r\n")
    await connection.read_line()
    session.login = Login(user, "LOGIN")
    session.environment["RELAYCLIENT"] = ""
    return b"235 ok\r\n"


async def test_a_verb_may_talk_in_several_steps():
    talk = Talk(plan=Plan(verbs={b"AUTH": login}))
    assert await talk.ask("AUTH LOGIN") == "334 user"
    assert await talk.ask("joe") == "334 pass"
    assert await talk.ask("secret") == "235 ok"
    talk.say("MAIL FROM:<a@b>")
    assert talk.say("RCPT TO:<x@far.example>") == "250 ok"
    talk.send(MESSAGE)
    assert b" with ESMTPA; " in talk.queue.messages[0].message


def test_a_verb_may_talk_in_several_steps_that_came_at_once():
    talk = Talk(plan=Plan(verbs={b"AUTH": login}))
    assert talk.send(b"AUTH LOGIN\r\njoe\r\nsecret\r\nNOOP\r\n") == b"334 user\r\n334 pass\r\n235 ok\r\n250 ok\r\n"


async def test_a_verb_hears_that_the_client_is_gone():
    gone = []

    async def verb(session, argument, connection):
        try:
            await connection.read_line()
        except ClientGone:
            gone.append(True)
            raise

    talk = Talk(plan=Plan(verbs={b"XWAIT": verb}))
    await talk.ask("XWAIT")
    talk.hang_up()
    await talk.settled()
    assert gone == [True]
    assert talk.smtp.ended == "lost"


async def starttls(session, argument, connection):
    connection.reply(b"220 ready\r\n")
    await connection.start_tls(None)


async def test_tls_forgets_what_was_said_in_the_clear():
    talk = Talk(plan=Plan(verbs={b"STARTTLS": starttls, b"AUTH": login}))
    talk.send(b"EHLO c\r\nAUTH LOGIN\r\njoe\r\nsecret\r\n" + ENVELOPE)
    assert talk.send(b"STARTTLS\r\nRCPT TO:<evil@far.example>\r\nDATA\r\n") == b"220 ready\r\n"
    assert talk.session.tls is not None
    assert (talk.session.helo, talk.session.login, talk.session.may_relay) == (None, None, False)
    assert talk.say("DATA") == "503 MAIL first (#5.5.1)"
    talk.say("EHLO c")
    assert talk.send(ENVELOPE + MESSAGE).count(b"250 ok") == 3
    assert b" with ESMTPS (TLS_AES_256_GCM_SHA384 encrypted); " in talk.queue.messages[0].message


async def prove(session, argument, connection):
    if await connection.log_in(Login(argument, "PLAIN")):
        session.remote_info, session.hides_client = "joe", True
        return b"235 ok\r\n"
    return None


async def test_tls_forgets_the_login_and_all_that_it_brought():
    talk = Talk(plan=Plan(verbs={b"STARTTLS": starttls, b"XAUTH": prove}), remote_info="ident")
    assert talk.say("XAUTH joe") == "235 ok"
    talk.send(b"STARTTLS\r\n")
    assert (talk.session.login, talk.session.remote_info, talk.session.hides_client) == (None, "ident", False)


@pytest.mark.parametrize(
    ("verdict", "reply", "is_in"),
    [
        (None, "235 ok", True),
        (Accept(), "235 ok", True),
        (Reject(554, None, "no"), "554 no", False),
        (Disconnect(), "", False),
        (Later(Phase.MAIL, Defer(451, None, "later")), "235 ok", True),
    ],
)
async def test_plugins_are_asked_about_a_login_before_it_counts(verdict, reply, is_in):
    calls = Calls({"smtp_auth": verdict})
    talk = Talk(plan=calls.plan("smtp_auth", verbs={b"XAUTH": prove}))
    assert talk.say("XAUTH joe") == reply
    assert calls.given["smtp_auth"]["login"] == Login(b"joe", "PLAIN")
    assert (talk.session.login is not None) is is_in
    if isinstance(verdict, Later):
        assert talk.say("MAIL FROM:<a@b>") == "451 later"


async def test_an_endless_line_in_the_middle_of_a_verb_is_the_verb_s_to_refuse():
    talk = Talk(plan=Plan(verbs={b"AUTH": login}))
    await talk.ask("AUTH LOGIN")
    assert await talk.ask("x" * 100_000) == "451 temporary local problem, try again later (#4.3.0)"
    assert await talk.ask("NOOP") == "250 ok"


def test_the_preamble_comes_before_the_banner():
    async def preamble(session, connection):
        await connection.start_tls(None)

    talk = Talk(plan=Plan({"smtp_preamble": preamble}))
    assert talk.session.tls is not None
    assert talk.said == b"220 mx.example.org ESMTP\r\n"


async def test_while_a_plugin_thinks_input_is_kept():
    release = asyncio.Event()

    async def slow(**given):
        await release.wait()
        return Reject(text="no")

    talk = Talk(plan=Plan({"smtp_mail": slow}))
    assert talk.send(b"MAIL FROM:<a@b>\r\nNOOP\r\n") == b""
    release.set()
    await talk.settled()
    assert talk.read() == b"554 no (#5.7.1)\r\n250 ok\r\n"


def test_no_state_leaks_between_sessions():
    queue = MemoryQueue()
    plan = Calls({"smtp_helo": lambda name, **given: Reject() if name == b"bad" else None}).plan(
        "smtp_helo", "smtp_mail"
    )
    for number in range(200):
        talk = Talk(plan=plan, queue=queue)
        refused = number % 2
        talk.say("HELO bad" if refused else "HELO good")
        assert talk.say("MAIL FROM:<a@b>").startswith("554" if refused else "250")
        assert not talk.session.notes


def test_no_hook_is_asked_about_a_line_that_is_too_long():
    calls = Calls()
    talk = Talk(plan=calls.plan("smtp_command"))
    talk.send(b"A" * 70000 + b"\r\n")
    assert talk.said.endswith(replies.LINE_TOO_LONG)
    assert calls.seen == []


# -- refusals that are said once, lines in front of a reply, recipients that are let in


async def test_a_refusal_said_once_does_not_stand():
    answers = {"smtp_connect": Reject(554, "5.7.1", "no", once=True), "smtp_helo": Defer(450, None, "later", once=True)}
    talk = talk_with(answers)
    await talk.settled()
    assert talk.read() == b"554 no (#5.7.1)\r\n"
    assert talk.send(b"HELO c\r\nMAIL FROM:<a@b>\r\n") == b"450 later\r\n250 ok\r\n"


async def test_lines_in_front_of_a_reply_go_out_once_and_harmless():
    def speak(session, **_):
        session.preface.extend([b"250-first", b"250-second\r\n250 smuggled"])

    talk = talk_with({"smtp_mail": speak})
    await talk.settled()
    assert talk.send(b"MAIL FROM:<a@b>\r\nNOOP\r\n") == b"250-first\r\n250-second??250 smuggled\r\n250 ok\r\n250 ok\r\n"


async def test_only_recipients_that_are_let_in_are_asked_about_last():
    calls = Calls(
        {
            "smtp_rcpt_allowed": lambda recipient, **_: (
                Reject(550, "5.1.1", "nobody") if b"no" in recipient.address else None
            )
        }
    )
    talk = Talk(plan=calls.plan("smtp_rcpt", "smtp_rcpt_allowed"))
    await talk.settled()
    said = talk.send(
        b"MAIL FROM:<a@b>\r\nRCPT TO:<x@foreign>\r\nRCPT TO:<no@example.org>\r\nRCPT TO:<x@example.org>\r\n"
    )
    assert [line[:3] for line in said.split(b"\r\n")] == [b"250", b"553", b"550", b"250", b""]
    assert calls.seen == ["smtp_rcpt", "smtp_rcpt", "smtp_rcpt_allowed", "smtp_rcpt", "smtp_rcpt_allowed"]


async def test_a_verdict_may_count_as_the_clients_own_quit():
    calls = Calls({"smtp_mail": Disconnect(is_quit=True)})
    talk = Talk(plan=calls.plan("smtp_mail", "smtp_disconnect"))
    talk.send(b"MAIL FROM:<a@b>\r\n")
    await talk.settled()
    assert calls.given["smtp_disconnect"]["reason"] == "quit"


async def test_a_variable_can_be_unset_for_the_queue_program():
    def unset(transaction, **_):
        transaction.queue_environment.update(FOO="1", BAR=None)

    talk = talk_with({"smtp_mail": unset}, environment={"BAR": "x"})
    talk.send(ENVELOPE + MESSAGE)
    await talk.settled()
    assert talk.queue.messages[0].environment == {"FOO": "1"}
