"""Promises of a session that no dialogue file shows: limits, failures, what reaches the queue."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluq.errors import ConfigError, TemporaryFailure
from pluq.queue.refusal import QueueRefusal
from pluq.smtpd import session, verbs
from pluq.smtpd.session import TURN_COMMANDS
from pluq.testing.smtp_session import MemoryQueue, Talk, default_policy

ENVELOPE = b"MAIL FROM:<a@b>\r\nRCPT TO:<x@example.org>\r\nDATA\r\n"
OK3 = b"250 ok\r\n250 ok\r\n354 go ahead\r\n"


def message(talk, body):
    return talk.send(ENVELOPE + body)[len(OK3) :]


def test_the_message_bears_one_received_field_of_ours():
    talk = Talk(environment={}, remote_host="client.example.net")
    talk.say("HELO there")
    message(talk, b"Subject: hi\r\n\r\nbody\r\n.\r\n")
    (queued,) = talk.queue.messages
    first, second, rest = queued.message.split(b"\n", 2)
    assert first == b"Received: from client.example.net (HELO there) (192.0.2.7)"
    assert second.startswith(b"  by mx.example.org with SMTP; ")
    assert rest == queued.text == b"Subject: hi\n\nbody\n"


def test_a_client_that_greets_with_its_own_name_has_no_helo_in_received():
    talk = Talk(remote_host="Client.Example.net")
    talk.say("HELO client.example.NET")
    message(talk, b".\r\n")
    assert b"HELO" not in talk.queue.messages[0].message


def test_replies_to_pipelined_commands_go_out_together():
    talk = Talk()
    sent = []
    talk.driver.send = sent.append
    talk.send(ENVELOPE)
    assert sent == [OK3]


@pytest.mark.parametrize(
    ("code", "text", "reply"),
    [
        (11, None, b"554 envelope address too long for qq (#5.1.3)\r\n"),
        (31, None, b"554 mail server permanently rejected message (#5.3.0)\r\n"),
        (53, None, b"451 qq write error or disk full (#4.3.0)\r\n"),
        (71, None, b"451 mail server temporarily rejected message (#4.3.0)\r\n"),
        (91, None, b"451 qq internal bug (#4.3.0)\r\n"),
        (-9, None, b"451 qq crashed (#4.3.0)\r\n"),
        (82, b"Dgo away, you (#5.7.1)", b"554 go away, you (#5.7.1)\r\n"),
        (82, b"Xodd (#9.9.9)", b"451 odd (#9.9.9)\r\n"),
        (82, b"Dtwo\r\n250 lines", b"554 two??250 lines\r\n"),
    ],
)
def test_a_refusal_of_the_queue_is_told_in_qmails_words(code, text, reply):
    talk = Talk(queue=MemoryQueue(refusal=QueueRefusal(code, text)))
    assert message(talk, b"x\r\n.\r\n") == reply
    assert talk.say("NOOP") == "250 ok"


@pytest.mark.parametrize("error", [QueueRefusal(56), OSError(24, "too many open files"), TemporaryFailure("no")])
def test_a_queue_that_cannot_be_opened_is_said_instead_of_354(error):
    talk = Talk(queue=MemoryQueue(open_error=error))
    assert talk.send(ENVELOPE) == b"250 ok\r\n250 ok\r\n451 qqt failure (#4.3.0)\r\n"
    assert talk.say("DATA") == "503 MAIL first (#5.5.1)"


@pytest.mark.parametrize("error", [QueueRefusal(53), OSError(28, "no space")])
def test_a_queue_that_cannot_be_written_is_told_after_the_message(error):
    talk = Talk(queue=MemoryQueue(write_error=error))
    talk.queue.write_error = None
    talk.send(ENVELOPE)
    talk.queue.write_error = error
    assert talk.send(b"x\r\n" * 1000) == b""
    assert talk.send(b".\r\n") == b"451 qq write error or disk full (#4.3.0)\r\n"
    assert talk.queue.aborted == 1


def test_a_looping_message_is_refused_even_if_it_is_also_too_large():
    talk = Talk(environment={"DATABYTES": "10"})
    reply = message(talk, b"Received: x\r\n" * 100 + b"\r\n.\r\n")
    assert reply == b"554 too many hops, this message is looping (#5.4.6)\r\n"
    assert not talk.queue.messages


def test_a_message_that_does_not_end_leaves_nothing():
    talk = Talk()
    message(talk, b"half a mess")
    talk.hang_up()
    assert talk.smtp.ended == "lost"
    assert talk.queue.aborted == 1
    assert not talk.queue.messages


def test_a_large_message_is_passed_on_as_it_comes():
    talk = Talk()
    talk.send(ENVELOPE)
    for _ in range(64):
        talk.send(b"x" * 65536)
        assert talk.smtp.waiting_bytes <= 5
    assert talk.send(b"\r\n.\r\n").startswith(b"250 ok ")
    assert len(talk.queue.messages[0].text) == 64 * 65536 + 1


@pytest.mark.parametrize("step", [1000, 65536, 1 << 20])
def test_an_endless_line_is_refused_once_and_costs_no_memory(step):
    talk = Talk()
    size = 0
    while size < 3 << 20:
        talk.send(b"A" * step)
        size += step
        assert talk.smtp.waiting_bytes <= session.LINE_BYTES + step
    assert talk.said.count(b"500 line too long (#5.5.2)\r\n") == 1
    assert talk.send(b"\r\nNOOP\r\n") == b"250 ok\r\n"


def test_a_line_of_the_largest_length_is_carried_out():
    talk = Talk()
    assert talk.say("NOOP " + "x" * (session.LINE_BYTES - 6)) == "250 ok"
    assert talk.say("NOOP " + "x" * session.LINE_BYTES) == "500 line too long (#5.5.2)"
    assert talk.say("NOOP") == "250 ok"


@pytest.mark.parametrize("line", ["NOOP", "RSET", "XYZ", "HELO x", "VRFY a", "RCPT TO:<a@b>"])
def test_commands_without_mail_come_to_an_end(line):
    talk = Talk()
    talk.send(f"{line}\r\n".encode() * 10000)
    assert talk.is_closed
    assert talk.said.endswith(b"421 too many commands without mail (#4.7.0)\r\n")
    assert talk.said.count(b"\r\n") == session.MAX_JUNK + 2


def test_ten_thousand_recipients_are_no_junk():
    talk = Talk()
    talk.say("MAIL FROM:<a@b>")
    assert talk.send(b"RCPT TO:<x@example.org>\r\n" * 10000).count(b"250 ok\r\n") == 10000


def test_who_sends_many_commands_at_once_lets_others_have_their_turn():
    talk = Talk()
    turns = []

    async def breathe(seconds=0.0):
        turns.append(seconds)

    talk.driver.breathe = breathe
    talk.send(b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<ann@example.org>\r\n" * 100)
    assert len(turns) == 101 // TURN_COMMANDS
    talk.send(b"DATA\r\n" + b"RCPT TO:<x>\r\n" * 1000 + b".\r\n")
    assert len(turns) == 101 // TURN_COMMANDS, "a message is no command"
    assert set(turns) == {0.0}, "who sends mail is not slowed down"
    talk.send(b"NOOP\r\n" * 200)
    assert turns[-1] > 0, "who sends none is"


def test_recipients_have_a_limit(monkeypatch):
    monkeypatch.setattr(verbs, "MAX_RECIPIENTS", 2)
    talk = Talk()
    talk.say("MAIL FROM:<a@b>")
    said = talk.send(b"RCPT TO:<x@example.org>\r\n" * 3)
    assert said == b"250 ok\r\n250 ok\r\n452 too many recipients (#4.5.3)\r\n"


def test_time_limits_count_silence_and_the_whole_of_a_line(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(session.time, "monotonic", lambda: now)
    talk = Talk(policy=default_policy(timeout=20))
    assert talk.smtp.seconds_left() == 20
    for _ in range(100):  # an octet at a time: never silent, never done
        now += 10
        talk.send(b"N")
    assert talk.smtp.seconds_left() <= 0
    talk.smtp.timed_out()
    assert talk.said.endswith(b"451 timeout (#4.4.2)\r\n")
    assert talk.smtp.ended == "timeout"


def test_a_slow_message_that_keeps_a_pace_is_waited_for(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(session.time, "monotonic", lambda: now)
    talk = Talk(policy=default_policy(timeout=20))
    talk.send(ENVELOPE)
    for _ in range(100):
        now += 10
        talk.send(b"x" * 1500)
    assert talk.smtp.seconds_left() > 0


def test_a_broken_control_file_ends_the_session(monkeypatch):
    policy = default_policy()
    talk = Talk(policy=policy)
    talk.say("MAIL FROM:<a@b>")

    class Broken:
        def allows(self, address):
            raise ConfigError("control/morercpthosts.cdb", "is no cdb file")

    policy.rcpthosts = Broken()
    assert talk.say("RCPT TO:<a@b>") == "421 unable to read controls (#4.3.0)"
    assert talk.is_closed
    assert "control/morercpthosts.cdb" in talk.logged[0]


def test_a_fault_of_ours_is_temporary_and_logged(monkeypatch):
    talk = Talk()

    def fault(smtp, argument):
        raise ZeroDivisionError

    monkeypatch.setitem(verbs.VERBS, b"NOOP", fault)
    assert talk.say("NOOP").startswith("451 ")
    assert talk.is_closed
    assert "ZeroDivisionError" in talk.logged[0]


async def test_commands_wait_for_a_message_that_is_being_committed():
    talk = Talk(queue=MemoryQueue(waits=True))
    assert message(talk, b"x\r\n.\r\nNOOP\r\nQUIT\r\n") == b""
    await talk.settled()
    assert talk.read().endswith(b"qp 1\r\n250 ok\r\n221 mx.example.org\r\n")


async def test_a_message_that_is_being_committed_is_queued_though_the_client_is_gone():
    talk = Talk(queue=MemoryQueue(waits=True))
    message(talk, b"x\r\n.\r\n")
    talk.smtp.lost()
    await talk.settled()
    assert len(talk.queue.messages) == 1
    assert talk.queue.aborted == 0


async def test_what_came_before_the_end_of_input_is_still_answered():
    talk = Talk(queue=MemoryQueue(waits=True))
    message(talk, b"x\r\n.\r\nNOOP\r\n")
    talk.hang_up()
    await talk.settled()
    assert talk.said.endswith(b"qp 1\r\n250 ok\r\n")
    assert talk.smtp.ended == "lost"


def test_a_server_that_stops_ends_idle_sessions_and_waits_for_messages():
    idle, busy = Talk(), Talk()
    busy.send(ENVELOPE + b"x\r\n")
    for talk in (idle, busy):
        talk.smtp.go_down()
    assert idle.said.endswith(b"421 service going down, try again (#4.3.2)\r\n")
    assert not busy.is_closed
    assert busy.send(b".\r\n").endswith(b"qp 1\r\n421 service going down, try again (#4.3.2)\r\n")
    assert busy.smtp.ended == "shutdown"


lines = st.sampled_from(
    [b"HELO x", b"EHLO y", b"MAIL FROM:<a@b>", b"RCPT TO:<x@example.org>", b"RCPT TO:<x@far>", b"DATA", b"RSET", b"NOOP", b".",
     b"", b"Subject: x", b"..", b"\xff\0", b"MAIL", b"QUIT", b"RCPT TO:<\"a\\@b\"@example.org>"]
)  # fmt: skip


@settings(max_examples=200)
@given(script=st.lists(lines, max_size=30), step=st.integers(1, 40))
def test_any_script_in_any_pieces_gives_the_same_replies_and_mail(script, step):
    stream = b"".join(line + b"\r\n" for line in script)
    whole, cut = Talk(), Talk()
    whole.send(stream)
    for begin in range(0, len(stream), step):
        cut.send(stream[begin : begin + step])
    strip = [line.split(b" qp ")[0][:6] for line in whole.said.split(b"\r\n")]
    assert strip == [line.split(b" qp ")[0][:6] for line in cut.said.split(b"\r\n")]
    assert [(one.text, one.recipients) for one in whole.queue.messages] == [
        (one.text, one.recipients) for one in cut.queue.messages
    ]


@settings(max_examples=200)
@given(data=st.binary(max_size=400))
def test_no_bytes_make_a_session_fail(data):
    talk = Talk()
    talk.send(data)
    talk.send(ENVELOPE)
    talk.send(data)
    talk.hang_up()
    assert talk.logged == []
    assert talk.smtp.ended
