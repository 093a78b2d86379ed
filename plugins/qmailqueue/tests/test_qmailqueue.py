"""qmailqueue: what a queue program and filters may say, and that nothing is lost when they say nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.config import Home
from pluq.errors import ProtocolError
from pluq.queue.records import encode_envelope
from pluq.queue.refusal import QueueRefusal, Receipt
from pluq.queue.submit import submit_sync
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk
from pluq_qmailqueue import QmailQueue
from pluq_qmailqueue.exits import error_fds, refused
from pluq_qmailqueue.filters import parse_envelope, parse_filter
from pluq_qmailqueue.submission import FilteredSubmission, Route

MESSAGE = b"Subject: t\n\nhi\n"
SAVE = "cat > message; cat <&1 > envelope"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    (tmp_path / "control/me").write_text("mx.example.org\n")
    return Home(str(tmp_path))


def script(home: Home, text: str, name: str = "qq") -> str:
    path = Path(home.path, name)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def queue(
    home: Home, program: str = "", message: bytes = MESSAGE, recipients: Sequence[bytes] = (b"j@b",), **more: Any
) -> Receipt:
    """Queue one message through the plugin."""
    environment = {
        "PATH": "/usr/bin:/bin",
        **({"QMAILQUEUE": program} if program else {}),
        **more.pop("environment", {}),
    }
    submission = make_plugin(QmailQueue, home=home, **more).queue_open(environment)
    assert submission is not None
    submission.write(message)
    return submission.commit(b"s@a", recipients)


def verdict(home: Home, text: str, **more: Any) -> str:
    with pytest.raises(QueueRefusal) as caught:
        queue(home, script(home, text), **more)
    return caught.value.verdict


def test_a_program_gets_message_and_envelope_and_its_number_is_the_receipt(home: Home) -> None:
    receipt = queue(home, script(home, f"{SAVE}; echo $$ > pid"))
    assert Path(home.path, "message").read_bytes() == MESSAGE
    assert Path(home.path, "envelope").read_bytes() == encode_envelope(b"s@a", [b"j@b"])
    assert receipt.qp == int(Path(home.path, "pid").read_text())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 31", "Dmail server permanently rejected message (#5.3.0)"),
        ("exit 32", "Dqq permanent problem (#5.3.0)"),
        ("exit 58", "Zqq trouble creating child (#4.3.0)"),
        ("exit 88", "Zunable to exec qq (#4.3.0)"),
        ("exit 99", "Zqq temporary problem (#4.3.0)"),
        ("exit 123", "Zqq crashed (#4.3.0)"),
        ("kill -9 $$", "Zqq crashed (#4.3.0)"),
        ("echo -n Dno >&4; exit 82", "Dno"),
        ("echo -n Zlater >&6; exit 88", "Zlater"),
        ("echo -n Xodd >&6; exit 82", "Xodd"),
        ("echo -n Dx >&4; exit 82", "Zunable to exec qq (#4.3.0)"),
        ("echo -n Dno >&4; exit 71", "Zmail server temporarily rejected message (#4.3.0)"),
        ("printf 'Done\\r\\n250 ok' >&4; exit 82", "Done??250 ok"),
        ("head -c 100000 /dev/zero | tr '\\0' x >&4; exit 82", "x" * 255),
        ("exit 0", "Zqq read error (#4.3.0)"),
        ("cat > /dev/null; exit 0", "Zqq read error (#4.3.0)"),
    ],
)
def test_what_a_program_says_by_its_exit_and_its_reason(home: Home, text: str, said: str) -> None:
    assert verdict(home, text) == said


def test_the_descriptor_for_reasons_can_be_named(home: Home) -> None:
    program = "echo -n Dspam >&2; exit 88"
    assert verdict(home, program, environment={"ERROR_FD": "2"}) == "Dspam"
    assert error_fds({}) == error_fds({"ERROR_FD": "-1"}) == error_fds({"ERROR_FD": "4"}) == (4, 6)
    assert error_fds({"ERROR_FD": "1"}) == (4, 6)


def test_the_code_of_one_signer_is_no_other_programs(home: Home) -> None:
    assert refused(32, {}, "bin/qmail-dkim").verdict == "DPrivate key file does not exist (#5.3.5)"
    assert refused(32, {}, "bin/simscan").verdict == "Dqq permanent problem (#5.3.0)"


def test_a_missing_program_and_a_slow_one_are_for_later(home: Home) -> None:
    with pytest.raises(QueueRefusal) as caught:
        queue(home, "bin/none")
    assert caught.value.verdict == "Zunable to exec qq (#4.3.0)"
    began = time.monotonic()
    assert verdict(home, "sleep 60", seconds=0.3) == "Zqq timeout (#4.3.0)"
    assert time.monotonic() - began < 50


def test_a_program_that_wraps_the_next_one_works_as_ever(home: Home) -> None:
    """As qmail-scanner and simscan do: keep the message, look at it, hand both descriptors on."""
    inner = script(home, SAVE, "inner")
    outer = script(home, f"cat > kept; exec {inner} < kept", "outer")
    queue(home, outer)
    assert Path(home.path, "message").read_bytes() == MESSAGE


def test_a_large_message_arrives_whole(home: Home) -> None:
    body = os.urandom(3_000_000)
    queue(home, script(home, SAVE), message=body, recipients=[b"u%d@example.org" % number for number in range(5000)])
    assert Path(home.path, "message").read_bytes() == body
    assert Path(home.path, "envelope").read_bytes().count(b"\0T") == 5000


def test_a_message_that_is_given_up_starts_nothing(home: Home) -> None:
    submission = make_plugin(QmailQueue, home=home).queue_open({"QMAILQUEUE": script(home, "touch started")})
    assert submission is not None
    submission.write(MESSAGE)
    submission.abort()
    assert not Path(home.path, "started").exists()


def test_without_a_program_or_a_filter_messages_go_the_usual_way(home: Home) -> None:
    assert make_plugin(QmailQueue, home=home).queue_open({"PATH": "/bin"}) is None


def test_messages_can_be_dropped(home: Home) -> None:
    assert queue(home, script(home, "touch started"), environment={"NULLQUEUE": ""}).qp
    assert not Path(home.path, "started").exists()


# -- filters


@pytest.mark.parametrize(
    ("line", "argv", "domain", "variables"),
    [
        ("bin/check -x 'a b'", ("bin/check", "-x", "a b"), None, ()),
        ("example.org:bin/check", ("bin/check",), "example.org", ()),
        ("*:bin/check:A=1,B=2", ("bin/check",), None, (("A", "1"), ("B", "2"))),
    ],
)
def test_lines_of_filters(line: str, argv: tuple[str, ...], domain: str | None, variables: Any) -> None:
    found = parse_filter(line)
    assert (found.argv, found.domain, found.variables) == (argv, domain, variables)


def test_a_filter_for_a_domain_runs_for_its_messages_alone() -> None:
    one = parse_filter("Example.org:x")
    assert one.fits([b"a@b", b"c@EXAMPLE.org"])
    assert not one.fits([b"a@b", b"c@sub.example.org"])


@given(st.binary(max_size=80))
def test_no_bytes_break_the_envelope_reader(data: bytes) -> None:
    try:
        sender, recipients = parse_envelope(data)
    except ProtocolError:
        return
    assert b"\0" not in sender + b"".join(recipients)


def test_filters_change_message_and_envelope_in_turn(home: Home) -> None:
    first = script(home, "sed 's/hi/ho/'", "first")
    second = script(
        home, "sed 's/ho/hu/'; printf 'Fx@y\\0Tz@w\\0\\0' >&4; echo $NUMRCPTS $QMAILHOST $X > seen", "second"
    )
    queue(home, script(home, SAVE), filters=(first, f"*:{second}:X=1", f"other.example:{first}"))
    assert Path(home.path, "message").read_bytes() == MESSAGE.replace(b"hi", b"hu")
    assert Path(home.path, "envelope").read_bytes() == encode_envelope(b"x@y", [b"z@w"])
    assert Path(home.path, "seen").read_text() == "1 a 1\n"


def test_a_filter_that_writes_nothing_changes_nothing(home: Home) -> None:
    queue(home, script(home, SAVE), filters=(script(home, "cat > /dev/null", "filter"),))
    assert Path(home.path, "message").read_bytes() == MESSAGE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 31", "Dmail server permanently rejected message (#5.3.0)"),
        ("exit 100", "Dmail server permanently rejected message (#5.3.0)"),
        ("exit 111", "Zmail server temporarily rejected message (#4.3.0)"),
        ("exit 1", "Zmail server temporarily rejected message (#4.3.0)"),
        ("kill -9 $$", "Zmail server temporarily rejected message (#4.3.0)"),
        ("echo -n Dvirus >&6; exit 82", "Dvirus"),
        ("printf nonsense >&4", "Zqq internal bug (#4.3.0)"),
        ("sleep 60", "Zqq timeout (#4.3.0)"),
    ],
)
def test_a_filter_that_refuses_keeps_the_message_out(home: Home, text: str, said: str) -> None:
    filters = (script(home, text, "filter"),)
    assert verdict(home, "touch started", filters=filters, seconds=1.0) == said
    assert not Path(home.path, "started").exists()


def test_a_filter_may_drop_a_message_or_choose_another_program(home: Home) -> None:
    program = script(home, "touch started")
    assert queue(home, program, filters=(script(home, "exit 99", "drop"),)).qp
    assert not Path(home.path, "started").exists()
    other = script(home, SAVE, "other")
    queue(home, program, filters=(script(home, f"printf '{other}\\0' >&5", "choose"),))
    assert Path(home.path, "message").exists()


def test_after_filters_without_a_program_messages_go_the_usual_way(home: Home) -> None:
    given: list[bytes] = []

    class Usual:
        def write(self, chunk: bytes) -> None:
            given.append(chunk)

        def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
            given.append(sender)
            return Receipt(7)

        def abort(self) -> None:
            given.append(b"given up")

    route = Route(home.path, "", [parse_filter(script(home, "sed s/hi/ho/", "f"))], {"PATH": "/usr/bin:/bin"}, 9, Usual)
    submission = FilteredSubmission(route)
    submission.write(MESSAGE)
    assert submission.commit(b"s@a", [b"j@b"]) == Receipt(7)
    assert given == [MESSAGE.replace(b"hi", b"ho"), b"s@a"]


# -- who asks it


async def test_a_session_waits_for_the_program_and_says_its_reason(home: Home) -> None:
    plan = plan_of(make_plugin(QmailQueue, home=home))
    program = script(home, f'{SAVE}; test "$TCPREMOTEIP" = 192.0.2.9 || {{ echo -n "Dnot you" >&4; exit 82; }}')
    for address, reply in (("192.0.2.9", "250 ok "), ("192.0.2.1", "554 not you")):
        talk = Talk(plan=plan, environment={"QMAILQUEUE": program, "TCPREMOTEIP": address, "PATH": "/usr/bin:/bin"})
        for line in ("MAIL FROM:<a@b>", "RCPT TO:<j@example.org>", "DATA"):
            await talk.ask(line)
        assert (await talk.ask("Subject: t\r\n\r\nhi\r\n.")).startswith(reply)
        assert not talk.queue.messages
    assert Path(home.path, "message").read_bytes().endswith(MESSAGE)


def test_whoever_queues_asks_the_plugins_of_the_queue(home: Home) -> None:
    Path(home.control("pluq.toml")).write_text('[queue]\nplugins = ["qmailqueue"]\n')
    program = script(home, "echo -n Dno >&4; exit 82")
    with pytest.raises(QueueRefusal) as caught:
        submit_sync(home, MESSAGE, b"", [b"j@b"], {"QMAILQUEUE": program, "PATH": "/usr/bin:/bin"})
    assert caught.value.verdict == "Dno"


def test_check_names_what_cannot_be_run(home: Home) -> None:
    faults = make_plugin(QmailQueue, home=home, program="bin/none", filters=("'", "bin/other")).check()
    assert [fault.partition(":")[0] for fault in faults] == ["filters", "bin/none", "bin/other"]


class TestConformance(Conformance):
    plugin = QmailQueue
