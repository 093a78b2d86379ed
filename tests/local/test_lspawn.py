"""A running qmail-lspawn: what the scheduler hears, and what becomes of the workers."""

import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from pluq.wire.spawn import ReportDecoder, encode_command


@pytest.fixture
def joe(stack):
    """A user who is this process's own, in a stack of one user."""
    open(stack.home.control("singleuser"), "wb").close()
    return stack.user("joe")


def mail_of(place):
    return sorted(os.listdir(place / "Maildir/new"))


def test_mail_arrives_and_is_reported(stack, joe):
    stack.start()
    assert stack.limit > 255
    assert stack.deliver(b"joe@host.example") == b"Kdid 1+0+0\n"
    (name,) = mail_of(joe)
    assert (joe / "Maildir/new" / name).read_bytes() == (
        b"Return-Path: <s@src.example>\nDelivered-To: joe@host.example\nSubject: hi\n\nhello\n"
    )


def test_a_burst_is_delivered_whole(stack, joe):
    stack.start()
    for number in range(300):
        stack.order(number, b"JOE@host.example")
    assert [stack.report(number) for number in range(300)] == [b"Kdid 1+0+0\n"] * 300
    assert len(mail_of(joe)) == 300
    assert os.listdir(joe / "Maildir/tmp") == []
    assert len(stack.children()) == 1


def test_a_report_that_cannot_be_written_ends_the_connection(stack, joe, monkeypatch):
    ours, write = os.getpid(), os.write

    def failing(descriptor, data):
        if os.getppid() == ours and b"did" in data:  # in qmail-lspawn, not in its workers
            raise OSError(errno.ENOMEM, "no memory")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", failing)
    stack.start()
    with pytest.raises((AssertionError, ConnectionResetError), match=r"hung up|reset"):
        stack.deliver(b"joe@host.example")
    stack.sock.close()
    stack.connect()
    assert stack.limit > 255


def test_a_large_message_arrives(stack, joe):
    stack.start()
    data = b"Subject: big\n\n" + os.urandom(3_000_000)
    assert stack.deliver(b"joe@host.example", data=data) == b"Kdid 1+0+0\n"
    (name,) = mail_of(joe)
    assert (joe / "Maildir/new" / name).read_bytes().endswith(data)


def test_a_failure_in_a_burst_is_its_own(stack, joe):
    (joe / ".qmail-bad").write_bytes(b"./None/\n")
    (joe / ".qmail-good").write_bytes(b"./Maildir/\n")
    stack.start()
    for number in range(20):
        stack.order(number, b"joe-%b@host.example" % (b"bad" if number % 5 == 0 else b"good"))
    for number in range(20):
        bad = b"ZUnable to chdir to maildir. (#4.2.1)\n"
        assert stack.report(number) == (bad if number % 5 == 0 else b"Kdid 1+0+0\n")
    assert len(mail_of(joe)) == 16


def test_programs_speak_in_the_report(stack, joe):
    (joe / ".qmail-p").write_bytes(b"|echo out; echo err >&2; exit $(cat)\n")
    stack.start()
    assert stack.deliver(b"joe-p@h", data=b"0") == b"Kout\nerr\ndid 0+0+1\n"
    assert stack.deliver(b"joe-p@h", data=b"111") == b"Zout\nerr\n"
    assert stack.deliver(b"joe-p@h", data=b"100") == b"Dout\nerr\n"


def test_a_program_that_takes_its_time_holds_nobody_up(stack, joe):
    (joe / ".qmail-slow").write_bytes(b"|while ! test -e go; do sleep 0.01; done\n")
    stack.start()
    stack.order(1, b"joe-slow@h")
    assert stack.deliver(b"joe@h") == b"Kdid 1+0+0\n"
    (joe / "go").write_bytes(b"")
    assert stack.report(1) == b"Kdid 0+0+1\n"


def test_programs_start_in_their_own_home(stack, joe):
    ann = stack.user("ann")
    for place in (joe, ann):
        (place / ".qmail").write_bytes(b"|pwd\n")
    stack.start()
    for number in range(20):
        stack.order(number, b"joe@h" if number % 2 else b"ann@h")
    for number in range(20):
        assert stack.report(number) == b"K%b\ndid 0+0+1\n" % os.fsencode(joe if number % 2 else ann)


def test_programs_get_a_clean_environment(stack, joe):
    (joe / ".qmail").write_bytes(b"|env\n")
    stack.start({"SECRET": "of the stack", "TZ": "UTC0"})
    report = stack.deliver(b"joe@h")
    assert b"SECRET" not in report
    assert b"TZ=UTC0\n" in report
    assert b"PLUQ_HOME=%b\n" % os.fsencode(stack.home.path) in report
    assert b"PATH=%b:" % os.fsencode(stack.home.bin) in report


def test_a_worker_that_dies_defers_what_it_had(stack, joe, until):
    # The programs outlive their worker, as under qmail-local; they end with the folder.
    (joe / ".qmail-wait").write_bytes(b"|touch started; while test -e started; do sleep 0.01; done\n")
    stack.start()
    for number in range(3):
        stack.order(number, b"joe-wait@h")

    until((joe / "started").exists)
    (worker,) = stack.children()
    os.kill(worker, signal.SIGKILL)
    for number in range(3):
        assert stack.report(number) == b"Zqmail-local crashed.\n"
    assert stack.deliver(b"joe@h") == b"Kdid 1+0+0\n"


def test_term_drains_and_ends_programs_that_go_on(stack, joe, until):
    (joe / ".qmail-wait").write_bytes(b"|echo $$ > pid; exec sleep 1000\n")
    stack.start()
    stack.order(1, b"joe-wait@h")
    until(lambda: (joe / "pid").exists() and (joe / "pid").read_bytes().endswith(b"\n"))
    program = int((joe / "pid").read_bytes())
    assert stack.stop() == 0
    until(lambda: not os.path.exists(f"/proc/{program}"))


def test_term_lets_short_deliveries_finish(stack, joe):
    (joe / ".qmail-short").write_bytes(b"|sleep 0.2; touch done\n")
    stack.start()
    stack.order(1, b"joe-short@h")
    assert stack.deliver(b"joe@h") == b"Kdid 1+0+0\n"
    os.kill(stack.pid, signal.SIGTERM)
    assert stack.report(1) == b"Kdid 0+0+1\n"
    assert (joe / "done").exists()


def test_hup_reads_the_default_delivery_and_the_users_again(stack, joe, until):
    stack.start(default=None)
    with open(stack.home.control("defaultdelivery"), "wb") as file:
        file.write(b"|echo new default\n")
    assert stack.deliver(b"joe@h").startswith(b"K")  # ./Mailbox
    os.kill(stack.pid, signal.SIGHUP)
    until(lambda: stack.deliver(b"joe@h") == b"Knew default\ndid 0+0+1\n")


def test_a_new_users_file_counts_at_once(stack, joe):
    stack.start()
    assert stack.deliver(b"ann@h").startswith(b"D")  # the home's alias folder has no such address
    stack.user("ann")
    stack.own()
    stack.assign()
    assert stack.deliver(b"ann@h") == b"Kdid 1+0+0\n"


def test_a_broken_users_file_defers_everything(stack, joe):
    stack.start()
    assert stack.deliver(b"joe@h").startswith(b"K")
    with open(f"{stack.home.users}/cdb", "wb") as file:
        file.write(b"garbage")
    assert stack.deliver(b"joe@h") == b"ZTrouble reading users/cdb in qmail-lspawn.\n"


def test_a_scheduler_may_hang_up_and_come_back(stack, joe):
    (joe / ".qmail-slow").write_bytes(b"|while ! test -e go; do sleep 0.01; done; touch done\n")
    stack.start()
    stack.order(1, b"joe-slow@h")
    stack.sock.close()
    stack.connect()
    (joe / "go").write_bytes(b"")
    assert stack.deliver(b"joe@h") == b"Kdid 1+0+0\n"


@pytest.mark.parametrize(
    ("command", "report"),
    [
        ((9999, b"0/1", b"", b"joe@h"), b"ZInternal error: delnum too big. (#4.3.5)\n"),
        ((5, b"0/x", b"", b"joe@h"), b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        ((5, b"../../control/me", b"", b"joe@h"), b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        ((5, b"0/99", b"", b"joe@h"), b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
        ((5, b"0", b"", b"joe@h"), b"ZSorry, message has wrong type. (#4.3.5)\n"),
        ((5, b"0/1", b"", b"joe"), b"DSorry, address must include host name. (#5.1.3)\n"),
        ((5, b"0/1", b"", b"@h"), b"K"),
    ],
)
def test_orders_that_cannot_be_carried_out(stack, joe, command, report):
    stack.start()
    stack.queue()
    stack.sock.sendall(encode_command(*command, 2))
    assert stack.report(command[0]) == report


def test_a_number_in_use_is_refused(stack, joe):
    (joe / ".qmail-slow").write_bytes(b"|while ! test -e go; do sleep 0.01; done\n")
    stack.start()
    stack.order(1, b"joe-slow@h")
    stack.order(1, b"joe-slow@h")
    assert stack.report(1) == b"ZInternal error: delnum in use. (#4.3.5)\n"
    stack.order(1, b"joe-slow@h")
    assert stack.report(1) == b"ZInternal error: delnum in use. (#4.3.5)\n"
    (joe / "go").write_bytes(b"")
    assert stack.report(1) == b"Kdid 0+0+1\n"


def test_an_order_of_a_hundred_thousand_bytes_is_deferred_not_kept(stack, joe):
    stack.start()
    stack.order(3, b"joe@h", sender=b"x" * 300_000)
    assert stack.report(3) == b"Zqmail-spawn out of memory. (#4.3.0)\n"
    assert stack.deliver(b"joe@h") == b"Kdid 1+0+0\n"


def test_qmaillocal_takes_the_place_of_our_own_code(stack, joe):
    program = stack.folder / "mylocal"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\ncat\npwd\nexit 111\n')
    os.chmod(program, 0o755)
    stack.start({"QMAILLOCAL": str(program)})
    report = stack.deliver(b"joe-x@host.example", sender=b"a@b", data=b"body\n")
    home = os.fsencode(joe)
    expected = b"Z--|joe|%b|joe-x|-|x|host.example|a@b|./Maildir/|body\n%b\n"
    assert report == expected % (home, os.fsencode(stack.home.path))


def test_a_program_of_the_site_by_the_name_of_qmail_local_is_run(stack, joe):
    (stack.folder / "qmail/bin/qmail-local").write_text("#!/bin/sh\necho mine; exit 0\n")
    os.chmod(f"{stack.home.bin}/qmail-local", 0o755)
    stack.start()
    assert stack.deliver(b"joe@h") == b"Kmine\n"


@pytest.mark.parametrize(
    ("program", "report"),
    [("/no/such/program", b"DUnable to run qmail-local.\n"), ("/etc/passwd", b"DUnable to run qmail-local.\n")],
)
def test_a_program_that_cannot_be_run_is_said_so(stack, joe, program, report):
    stack.start({"QMAILLOCAL": program})
    assert stack.deliver(b"joe@h") == report


def test_the_program_speaks_one_byte_numbers_and_ends_with_its_input(stack, joe):
    stack.own()
    stack.assign()
    orders = b"".join(encode_command(n, stack.queue(), b"s@x", b"joe@h", 1) for n in range(3))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pluq.commands.qmail_lspawn import main; sys.exit(main())",
            "./Maildir/",
        ],
        input=orders,
        stdout=subprocess.PIPE,
        env={**os.environ, "PLUQ_HOME": stack.home.path},
        timeout=60,
        check=True,
    )
    assert done.stdout[:1] == bytes([120])
    assert sorted(ReportDecoder(1).feed(done.stdout[1:])) == [(n, b"Kdid 1+0+0\n") for n in range(3)]
    assert len(mail_of(joe)) == 3


def test_a_scheduler_that_does_not_read_is_not_waited_for(stack, joe):
    """Its reports pile up within bounds, and others are served meanwhile."""
    stack.start()
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deaf.connect(stack.address)
    bad = encode_command(5, b"0/x", b"", b"joe@h", 2)
    deaf.setblocking(False)
    try:
        for _ in range(2000):
            deaf.sendall(bad * 1000)
    except BlockingIOError:
        pass
    assert stack.deliver(b"joe@h") == b"Kdid 1+0+0\n"
    deaf.close()


def test_a_number_may_be_used_again_as_soon_as_it_was_reported(stack, joe):
    """A scheduler with everything in use does nothing else, for thousands of deliveries."""
    stack.start()
    numbers = range(50)
    for number in numbers:
        stack.order(number, b"joe@host.example")
    for _ in range(40):
        for number in numbers:
            assert stack.report(number) == b"Kdid 1+0+0\n"
            stack.order(number, b"joe@host.example")
