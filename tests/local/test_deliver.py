"""One delivery from the .qmail file to the mailbox, in this process."""

import os
import signal

import pytest

from pluq.config import Home
from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.local import dotqmail
from pluq.local.deliver import Preparer, Surroundings, deliver, only_maildir, prepare
from pluq.local.dotqmail import DotQmail
from pluq.local.order import Order
from pluq.local.output import Captured, Output, Programs
from pluq.plan import EMPTY
from pluq.store.maildir import READ_BYTES


@pytest.fixture
def home(tmp_path):
    place = tmp_path / "joe"
    for name in ("tmp", "new", "cur"):
        (place / "Maildir" / name).mkdir(parents=True)
    os.chmod(place, 0o755)
    return place


@pytest.fixture
def run(home, message, tmp_path):
    """Delivers a message by a .qmail-ext file; returns the report and what programs wrote."""

    def deliver_it(text=None, data=b"Subject: hi\n\nhello\n", ext=b"ext", dash=b"-", **changes):
        if text is not None:
            (home / ".qmail-ext").write_bytes(text)
        order = Order(b"joe", os.fsencode(home), b"joe-ext", dash, ext, b"host.example", b"s@src.example", b"./Mailbox")
        output = Output()
        folder = os.open(home, os.O_PATH)
        around = Surroundings(
            Home(f"{tmp_path}/qmail"),
            changes.pop("environment", {"PATH": "/usr/bin:/bin"}),
            Captured(Programs(), folder, output),
            EMPTY,
            0.0,
        )
        here = os.getcwd()
        try:
            return deliver(order._replace(**changes), message(data), around)
        finally:
            os.chdir(here)
            os.close(folder)
            deliver_it.output = output.finish()

    return deliver_it


def test_one_message_goes_everywhere_the_file_says(run, home):
    assert run(b"./Mailbox\n./Maildir/\n|cat\n") == b"did 2+0+1\n"
    assert run.output == b"Subject: hi\n\nhello\n"
    head = b"Return-Path: <s@src.example>\nDelivered-To: joe-ext@host.example\n"
    (name,) = os.listdir(home / "Maildir/new")
    assert (home / "Maildir/new" / name).read_bytes() == head + b"Subject: hi\n\nhello\n"
    assert head + b"Subject: hi\n\nhello\n\n" in (home / "Mailbox").read_bytes()


def test_each_program_reads_the_message_from_its_start(run):
    run(b"|head -c 3\n|head -c 3\n")
    assert run.output == b"SubSub"


@pytest.mark.parametrize("code", [100, 64, 65, 70, 76, 77, 78, 112])
def test_hard_errors_of_a_program(run, code):
    with pytest.raises(PermanentFailure) as caught:
        run(b"|exit %d\n./Mailbox\n" % code)
    assert caught.value.text == ""


@pytest.mark.parametrize("code", [1, 2, 71, 74, 75, 98, 101, 111, 113, 127, 255])
def test_every_other_error_of_a_program_is_soft(run, home, code):
    with pytest.raises(TemporaryFailure) as caught:
        run(b"|exit %d\n./Mailbox\n" % code)
    assert caught.value.text == ""
    assert not (home / "Mailbox").exists()


def test_99_ends_the_instructions(run, home):
    assert run(b"./Mailbox\n|exit 99\n./Maildir/\n") == b"did 1+0+1\n"
    assert os.listdir(home / "Maildir/new") == []


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_program_crashed(run, signum):
    with pytest.raises(TemporaryFailure, match="Aack, child crashed"):
        run(b"|kill -%d $$\n" % signum)


def test_a_program_dies_of_a_broken_pipe_as_programs_do(run):
    with pytest.raises(TemporaryFailure, match="crashed"):
        run(b"|kill -PIPE $$\n")


def test_more_output_than_a_report_takes_is_read_and_dropped(run):
    run(b"|head -c 1000000 /dev/zero | tr '\\0' x\n")
    assert run.output == b"x" * 3001


def test_what_a_background_process_says_still_belongs_to_the_report(run, home):
    assert run(b"|(while ! test -e go; do sleep 0.01; done; echo late) &\n|touch go\n") == b"did 0+0+2\n"
    assert run.output == b"late\n"


def test_a_value_that_an_old_shell_would_run_reaches_no_program(run, home):
    with pytest.raises(PermanentFailure):
        run(b"|touch it-ran\n", sender=b"() { :;}; touch it-ran")
    assert not (home / "it-ran").exists()


@pytest.mark.parametrize(
    "sender", [b"`touch x`@y", b"$(touch x)@y", b"|touch x@y", b"-oQ/tmp@y", b"a;touch x@y", b"-froot@x"]
)
def test_addresses_are_values_not_commands(run, home, sender):
    run(b'|printf "%s\\n" "$SENDER"\n', sender=sender)
    assert run.output == sender + b"\n"
    assert not (home / "x").exists()


def test_programs_start_in_the_home_and_see_no_other_environment(run, home):
    run(b"|pwd; env | cut -d= -f1 | sort | tr '\\n' ' '\n")
    where, _, names = run.output.partition(b"\n")
    assert where == os.fsencode(home)
    for name in (b"SENDER", b"NEWSENDER", b"RECIPIENT", b"USER", b"HOME", b"HOST4", b"EXT4", b"DTLINE", b"UFLINE"):
        assert name in names.split()
    assert b"PYTEST_CURRENT_TEST" not in names.split()


@pytest.mark.parametrize(("mode", "why"), [(0o757, "home directory is writable"), (0o1755, "Home directory is sticky")])
def test_a_home_in_the_wrong_state_puts_mail_off(run, home, mode, why):
    os.chmod(home, mode)
    with pytest.raises(TemporaryFailure, match=why):
        run(b"./Mailbox\n")


def test_a_writable_file_puts_mail_off(run, home):
    (home / ".qmail-ext").write_bytes(b"./Mailbox\n")
    os.chmod(home / ".qmail-ext", 0o646)
    with pytest.raises(TemporaryFailure, match=r"\.qmail file is writable"):
        run()


def test_a_fifo_or_folder_by_that_name_is_as_if_it_were_not_there(run, home):
    os.mkfifo(home / ".qmail-ext")
    (home / ".qmail-default").write_bytes(b"./Mailbox\n")
    assert run() == b"did 1+0+0\n"
    os.unlink(home / ".qmail-ext")
    os.mkdir(home / ".qmail-ext")
    assert run() == b"did 1+0+0\n"


def test_a_link_to_another_file_is_read_with_the_rights_of_this_process(run, home):
    (home / "real").write_bytes(b"./Mailbox\n")
    os.symlink("real", home / ".qmail-ext")
    assert run() == b"did 1+0+0\n"


def test_a_huge_file_is_not_read_into_memory(run, home):
    with open(home / ".qmail-ext", "wb") as file:
        file.truncate(dotqmail.FILE_BYTES + 1)
    with pytest.raises(TemporaryFailure, match="Out of memory"):
        run()


def test_nobody_by_that_name(run):
    with pytest.raises(PermanentFailure, match="no mailbox here by that name"):
        run()


def test_without_a_dash_the_default_delivery_is_followed(run, home):
    assert run(dash=b"", ext=b"") == b"did 1+0+0\n"
    assert (home / "Mailbox").exists()


@pytest.mark.parametrize("ext", [b"../../etc/passwd", b"..", b"a/../../b", b"x" * 300, b"a/b"])
def test_an_extension_does_not_leave_the_home(run, home, ext):
    with pytest.raises(PermanentFailure, match="no mailbox here"):
        run(ext=ext)


@pytest.mark.parametrize("size", [0, READ_BYTES - 30, READ_BYTES - 5, 3 * READ_BYTES])
def test_a_loop_is_found_wherever_in_the_header_it_stands(run, size):
    filler = b"X: " + b"y" * size + b"\n"
    with pytest.raises(PermanentFailure, match="looping"):
        run(b"./Mailbox\n", data=filler + b"Delivered-To: joe-ext@host.example\n\nbody\n")


@pytest.mark.parametrize(
    "data",
    [
        b"\nDelivered-To: joe-ext@host.example\n",
        b"A: b\n\nDelivered-To: joe-ext@host.example\n",
        b"delivered-to: joe-ext@host.example\n\n",
        b"X-Delivered-To: joe-ext@host.example\n\n",
        b"Delivered-To: joe-ext@host.example",
        b"Delivered-To: joe-ext@host.example \n\n",
        b"A: " + b"y" * READ_BYTES + b"\n\nDelivered-To: joe-ext@host.example\n",
        b"",
    ],
)
def test_what_only_looks_like_a_loop_is_delivered(run, data):
    assert run(b"./Mailbox\n", data=data) == b"did 1+0+0\n"


def test_a_message_that_cannot_be_rewound_is_put_off(home, tmp_path):
    reader, writer = os.pipe()
    order = Order(b"joe", os.fsencode(home), b"joe", b"", b"", b"h", b"s@x", b"./Mailbox")
    with pytest.raises(TemporaryFailure, match="Unable to rewind message"):
        deliver(order, reader, Surroundings(Home(str(tmp_path)), {}))
    os.close(reader)
    os.close(writer)


def test_a_failed_delivery_leaves_no_descriptor_open(run, home, open_files):
    before = len(open_files())
    for _ in range(3):
        with pytest.raises(PermanentFailure):
            run(data=b"Delivered-To: joe-ext@host.example\n\n")
    assert len(open_files()) <= before + 3  # the three messages


@pytest.fixture
def queue_program(tmp_path):
    """A QMAILQUEUE that keeps the message and the envelope."""
    program = tmp_path / "qq"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/queued\ncat <&1 > {tmp_path}/envelope\nexit ${{QQ_EXIT:-0}}\n")
    os.chmod(program, 0o755)
    (tmp_path / "qmail").mkdir()
    return {"QMAILQUEUE": str(program), "PATH": "/usr/bin:/bin"}


def test_all_forwards_are_one_message_without_our_return_path(run, tmp_path, queue_program):
    report = run(b"a@b\n&c@d\n", environment=queue_program)
    assert report.startswith(b"did 0+2+0\nqp ")
    assert (tmp_path / "queued").read_bytes() == b"Delivered-To: joe-ext@host.example\nSubject: hi\n\nhello\n"
    assert (tmp_path / "envelope").read_bytes() == b"Fs@src.example\0Ta@b\0Tc@d\0\0"


@pytest.mark.parametrize(
    ("files", "sender", "expected"),
    [
        ((), b"s@x", b"s@x"),
        (("-owner",), b"s@x", b"joe-ext-owner@host.example"),
        (("-owner", "-owner-default"), b"s@x", b"joe-ext-owner-@host.example-@[]"),
        (("-owner-default",), b"s@x", b"s@x"),
        (("-owner", "-owner-default"), b"", b""),
        (("-owner", "-owner-default"), b"#@[]", b"#@[]"),
    ],
)
def test_a_list_forwards_in_the_name_of_its_owner(run, home, tmp_path, queue_program, files, sender, expected):
    for name in files:
        (home / f".qmail-ext{name}").write_bytes(b"")
    run(b"a@b\n", environment=queue_program, sender=sender)
    assert (tmp_path / "envelope").read_bytes() == b"F" + expected + b"\0Ta@b\0\0"


@pytest.mark.parametrize(
    ("code", "failure", "why"),
    [
        ("31", PermanentFailure, "Unable to forward message: mail server permanently rejected message (#5.3.0)."),
        ("53", TemporaryFailure, "Unable to forward message: qq write error or disk full (#4.3.0)."),
    ],
)
def test_the_queue_may_refuse(run, queue_program, code, failure, why):
    with pytest.raises(failure) as caught:
        run(b"a@b\n", environment={**queue_program, "QQ_EXIT": code})
    assert caught.value.text == why


def test_nothing_is_forwarded_when_another_instruction_fails(run, tmp_path, queue_program):
    with pytest.raises(TemporaryFailure):
        run(b"a@b\n|exit 111\n", environment=queue_program)
    assert not (tmp_path / "queued").exists()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"./Maildir/\n", b"./Maildir/"),
        (b"# hi\n./Maildir/\n\n", b"./Maildir/"),
        (b"./Maildir/\n./Other/\n", None),
        (b"./Mailbox\n", None),
        (b"a@b\n", None),
        (b"\n./Maildir/\n", None),
        (b"# hi\n", None),
    ],
)
def test_only_a_lone_maildir_may_wait_in_a_group(text, path):
    assert only_maildir(DotQmail(text, False, None)) == path


def test_preparing_opens_the_home_once(home, message):
    order = Order(b"joe", os.fsencode(home), b"joe", b"", b"", b"h", b"s@x", b"./Maildir/")
    ready = prepare(order, message())
    assert os.path.samestat(os.fstat(ready.folder), os.stat(home))
    os.close(ready.folder)


def test_a_home_without_a_slash_in_front_is_a_mistake_of_the_administrator(message, tmp_path):
    order = Order(b"joe", b"home/joe", b"joe", b"", b"", b"h", b"s@x", b"./Mailbox")
    with pytest.raises(PermanentFailure, match="usage"):
        prepare(order, message())


@pytest.fixture
def preparer():
    made = Preparer()
    yield made
    made.close()


def order_to(home, ext=b"ext", dash=b"-"):
    return Order(b"joe", os.fsencode(home), b"joe-ext", dash, ext, b"h", b"s@x", b"./Maildir/")


def test_deliveries_that_follow_one_another_share_the_home_and_its_instructions(home, message, preparer, monkeypatch):
    (home / ".qmail-ext").write_bytes(b"./Maildir/\n")
    mail, opened = message(), []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *more, **others: opened.append(path) or real(path, *more, **others))
    first = preparer.prepare(order_to(home), mail)
    assert len(opened) == 2
    assert preparer.prepare(order_to(home), mail) == first
    assert len(opened) == 2


def test_each_address_has_its_own_instructions(home, message, preparer):
    (home / ".qmail-ext").write_bytes(b"./A/\n")
    (home / ".qmail-default").write_bytes(b"./B/\n")
    for ext, text in ((b"ext", b"./A/\n"), (b"other", b"./B/\n"), (b"ext", b"./A/\n")):
        assert preparer.prepare(order_to(home, ext), message()).instructions.text == text
    assert preparer.prepare(order_to(home, b"", b""), message()).instructions.text == b"./Maildir/"


def test_each_home_has_its_own_instructions(home, tmp_path, message, preparer):
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    for place, text in ((home, b"./A/\n"), (other, b"./B/\n")):
        (place / ".qmail-ext").write_bytes(text)
    for place, text in ((home, b"./A/\n"), (other, b"./B/\n"), (home, b"./A/\n")):
        ready = preparer.prepare(order_to(place), message())
        assert ready.instructions.text == text
        assert os.path.samestat(os.fstat(ready.folder), os.stat(place))


def test_each_failure_is_found_again(home, message, preparer):
    (home / ".qmail-ext").write_bytes(b"./Maildir/\n")
    preparer.prepare(order_to(home), message())
    for _ in range(2):
        with pytest.raises(PermanentFailure, match="no mailbox"):
            preparer.prepare(order_to(home, b"none"), message())
        with pytest.raises(PermanentFailure, match="usage"):
            preparer.prepare(order_to(""), message())
        with pytest.raises(TemporaryFailure, match="Unable to switch"):
            preparer.prepare(order_to(home / "nowhere"), message())
        with pytest.raises(PermanentFailure, match="looping"):
            preparer.prepare(order_to(home), message(b"Delivered-To: joe-ext@h\n\n"))


def test_a_home_that_was_handed_over_is_opened_anew(home, message, preparer):
    (home / ".qmail-ext").write_bytes(b"|true\n")
    first = preparer.prepare(order_to(home), message())
    preparer.hand_over()
    second = preparer.prepare(order_to(home), message())
    assert first.folder != second.folder
    os.close(first.folder)
    preparer.close()
    with pytest.raises(OSError):
        os.fstat(second.folder)


def test_what_a_long_message_begins_with_is_read_once(home, message, preparer):
    (home / ".qmail-ext").write_bytes(b"./Maildir/\n")
    text = b"A: b\n\n" + b"x" * (2 * READ_BYTES)
    assert preparer.prepare(order_to(home), message(text)).start == text[:READ_BYTES]
    text = b"A: " + b"b" * (2 * READ_BYTES) + b"\n\nx"
    assert preparer.prepare(order_to(home), message(text)).start == text[:READ_BYTES]
