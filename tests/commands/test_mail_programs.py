"""qmail-inject, sendmail and the programs for .qmail files, run as programs, with a queue that writes down what it gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
QUEUE = """#!/bin/sh
cat > "$QUEUED/message"
cat <&1 > "$QUEUED/envelope"
exit ${QUEUE_EXIT:-0}
"""
pytestmark = pytest.mark.skipif(not (BIN / "qmail-inject").exists(), reason="pluq's programs are not installed here")


class Programs:
    """A qmail home, and a way to run its programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        (self.home / "control").mkdir(parents=True)
        (self.home / "bin").symlink_to(BIN)
        self.control("me", "me.example")
        queue = folder / "queue"
        queue.write_text(QUEUE)
        queue.chmod(0o755)
        self.environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "PLUQ_HOME": str(self.home),
            "QMAILQUEUE": str(queue),
            "QUEUED": str(folder),
            "USER": "joe",
            "TZ": "UTC0",
        }

    def control(self, name, text):
        (self.home / "control" / name).write_text(text + "\n")

    def run(self, *argv, stdin=b"Subject: x\n\nbody\n", **environment):
        message = self.folder / "stdin"
        message.write_bytes(stdin)
        with message.open("rb") as file:
            return subprocess.run(
                argv,
                executable=BIN / argv[0],
                stdin=file,
                capture_output=True,
                env=self.environment | environment,
                cwd=self.folder,
                timeout=60,
                check=False,
            )

    @property
    def message(self):
        return (self.folder / "message").read_bytes()

    @property
    def envelope(self):
        return (self.folder / "envelope").read_bytes()


@pytest.fixture
def programs(tmp_path):
    return Programs(tmp_path)


def test_a_message_is_completed_and_queued(programs):
    done = programs.run("qmail-inject", "-H", "carl@x.y", stdin=b"To: ann\n\nlast line")
    assert (done.returncode, done.stderr) == (0, b"")
    assert programs.envelope == b"Fjoe@me.example\0Tcarl@x.y\0Tann@me.example\0\0"
    assert programs.message.endswith(b"From: joe@me.example\nTo: ann@me.example\n\nlast line\n")


def test_n_shows_the_message_and_queues_nothing(programs):
    done = programs.run("qmail-inject", "-n", "-fa b@c.d", stdin=b"To: ann\nnothing\n")
    assert done.stdout.startswith(b'Return-Path: <"a b"@c.d>\nDate: ')
    assert done.stdout.endswith(b"To: ann@me.example\n\nnothing\n")
    assert not (programs.folder / "message").exists()


@pytest.mark.parametrize(("code", "exit_code"), [("31", 100), ("53", 111), ("91", 111), ("12", 100)])
def test_the_queues_refusal_is_the_programs(programs, code, exit_code):
    assert programs.run("qmail-inject", "ann", QUEUE_EXIT=code).returncode == exit_code
    assert programs.run("forward", "ann", QUEUE_EXIT=code, NEWSENDER="", DTLINE="").returncode == exit_code


def test_an_unreadable_field_ends_it(programs):
    done = programs.run("qmail-inject", stdin=b'From: "open\n\n')
    assert (done.returncode, done.stderr) == (100, b'qmail-inject: fatal: unable to parse this line:\nFrom: "open\n')
    assert not (programs.folder / "envelope").exists()


def test_an_unreadable_argument_is_named(programs):
    done = programs.run("qmail-inject", "a@(b")
    assert (done.returncode, done.stderr) == (100, b"qmail-inject: fatal: unable to parse address: a@(b\n")


def test_dates_are_local_where_the_site_wants_it(programs):
    programs.control("pluq.toml", "[core]\nlocal_dates = true")
    assert b" -0330\n" in programs.run("qmail-inject", "-n", TZ="XXX3:30").stdout


def test_brackets_mean_the_null_sender_where_the_site_is_not_stock(programs):
    assert programs.run("qmail-inject", "-f<>", "ann").returncode == 0
    assert programs.envelope.startswith(b"F<>@me.example\0")
    programs.control("pluq.toml", "[core]")
    assert programs.run("qmail-inject", "-f<>", "ann").returncode == 0
    assert programs.envelope.startswith(b"F\0T")


def test_a_mistake_in_the_configuration_is_told_with_its_line(programs):
    programs.control("pluq.toml", "[core]\nlocal_dates = = true")
    done = programs.run("qmail-inject", "-n")
    assert done.returncode == 111
    assert b"pluq.toml:2" in done.stderr


def test_sendmail_takes_what_other_mail_systems_take(programs):
    done = programs.run("sendmail", "-oi", "-oem", "-t", "-F", "Joe Doe", "-fboss@z.example", "ann@x.y")
    assert (done.returncode, done.stderr) == (0, b"")
    assert programs.envelope == b"Fboss@z.example\0Tann@x.y\0\0"
    assert b"From: boss@z.example\n" in programs.message


def test_sendmail_runs_whatever_stands_in_the_home(programs):
    (programs.home / "bin").unlink()
    (programs.home / "bin").mkdir()
    other = programs.home / "bin" / "qmail-inject"
    other.write_text('#!/bin/sh\necho "$0" "$@"; pwd\n')
    other.chmod(0o755)
    done = programs.run("sendmail", "-t", "ann")
    assert done.stdout.decode().split() == [str(other), "-H", "--", "ann", str(programs.home)]


def test_sendmail_says_what_it_cannot_run(programs):
    (programs.home / "bin").unlink()
    done = programs.run("sendmail", "ann")
    assert (done.returncode, done.stderr) == (111, b"sendmail: fatal: unable to run qmail-inject\n")
    done = programs.run("sendmail", "ann", PLUQ_HOME="/nonexistent")
    assert done.stderr == b"sendmail: fatal: unable to switch to qmail home directory\n"


def test_newaliases_belongs_to_fastforward(programs):
    link = programs.folder / "newaliases"
    link.symlink_to(BIN / "sendmail")
    done = subprocess.run([link], capture_output=True, env=programs.environment, check=False)
    assert (done.returncode, done.stderr) == (100, b"sendmail: fatal: please use fastforward/newaliases instead\n")


def test_a_redirected_message_is_the_whole_message(programs):
    done = programs.run("condredirect", "new@y", "cat", SENDER="s@x", DTLINE="Delivered-To: j@h\n")
    assert done.returncode == 99
    assert done.stderr.startswith(b"condredirect: qp ")
    assert programs.message == b"Delivered-To: j@h\nSubject: x\n\nbody\n"
    assert programs.envelope == b"Fs@x\0Tnew@y\0\0"


@pytest.mark.parametrize(
    ("program", "answers"),
    [
        ("except", {"0": 100, "1": 0, "100": 0, "111": 111}),
        ("bouncesaying", {"0": 100, "1": 0, "100": 0, "111": 111}),
        ("condredirect", {"1": 0, "100": 0, "111": 111}),
    ],
)
def test_a_programs_exit_code_is_an_answer(programs, program, answers):
    first = [] if program == "except" else ["text"]
    for code, answer in answers.items():
        assert programs.run(program, *first, "/bin/sh", "-c", f"exit {code}").returncode == answer
    assert programs.run(program, *first, "/bin/sh", "-c", "kill -9 $$").returncode == 111
    # one that is not there says no, as one that exits 100 does
    assert programs.run(program, *first, "/nonexistent").returncode == answers["100"]


def test_a_script_without_an_interpreter_line_is_a_shell_script(programs):
    script = programs.folder / "script"
    script.write_text("exit 3\n")
    script.chmod(0o755)
    assert programs.run("except", str(script)).returncode == 0
    assert programs.run("tcp-env", str(script), PROTO="TCP").returncode == 3


def test_an_empty_name_is_a_program_that_is_not_there(programs):
    assert programs.run("condredirect", "new@y", "").returncode == 0
    assert programs.run("tcp-env", "", PROTO="TCP").returncode == 111
    done = programs.run("predate", "")
    assert (done.returncode, done.stderr) == (111, b"predate: fatal: unable to run : file does not exist\n")


def test_preline_passes_a_long_message_and_notices_a_reader_that_left(programs):
    lines = {"UFLINE": "From s\n", "RPLINE": "Return-Path: <s>\n", "DTLINE": "Delivered-To: d\n"}
    body = b"x\n" * 100_000
    done = programs.run("preline", "-d", "cat", stdin=body, **lines)
    assert done.stdout == b"From s\nReturn-Path: <s>\n" + body
    done = programs.run("preline", "true", stdin=body, **lines)
    assert (done.returncode, done.stderr) == (111, b"preline: fatal: unable to copy input: broken pipe\n")


def test_children_die_of_a_broken_pipe_as_they_expect_to(programs):
    done = programs.run("except", "/bin/sh", "-c", "kill -PIPE $$")
    assert (done.returncode, done.stderr) == (111, b"except: fatal: child crashed\n")


def test_datemail_has_a_local_date(programs):
    done = programs.run("datemail", "-t", stdin=b"To: ann\n\nx\n", TZ="XXX-2")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b" +0200\nTo: ann" in programs.message


def test_mailsubj_makes_the_header(programs):
    assert programs.run("mailsubj", "a subject", "ann", "bob", stdin=b"text\n").returncode == 0
    assert b"Subject: a subject\nTo: bob@me.example, ann@me.example" not in programs.message
    assert b"Subject: a subject\nTo: ann@me.example, bob@me.example\n\ntext\n" in programs.message


def test_a_receipt_goes_to_the_sender_once(programs):
    wish = b"Notice-Requested-Upon-Delivery-To: joe@h, ann@h\nMessage-ID: <1>\n\n"
    assert programs.run("qreceipt", "joe@h", stdin=wish, SENDER="a b@c").returncode == 0
    assert programs.envelope == b"F\0Ta b@c\0\0"
    assert b'To: <"a b"@c>\n' in programs.message
    assert programs.message.endswith(b"address: joe@h. Thanks for asking.\nYour Message-ID: <1>\n")


def test_an_unreadable_wish_for_a_receipt_is_an_error(programs):
    done = programs.run("qreceipt", "joe@h", stdin=b"Notice-Requested-Upon-Delivery-To: (x\n\n", SENDER="s@x")
    assert done.returncode == 100
    assert done.stderr == b"qreceipt: fatal: unable to parse this: Notice-Requested-Upon-Delivery-To: (x\n"


@pytest.mark.parametrize("reader", ["elq", "pinq", "qail"])
def test_mail_readers_start_after_the_mail_is_moved(programs, reader):
    done = programs.run(reader)
    assert (done.returncode, done.stderr) == (111, b"maildir2mbox: fatal: MAIL not set\n")


@pytest.mark.parametrize(
    "name",
    [
        "forward",
        "condredirect",
        "bouncesaying",
        "except",
        "preline",
        "qbiff",
        "qreceipt",
        "predate",
        "maildirmake",
        "sendmail",
    ],
)
def test_every_small_program_explains_itself(programs, name):
    done = programs.run(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(name.encode())


def test_injection_stays_within_its_cpu_time(programs):
    import resource

    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(3):
        before = used()
        assert programs.run("sendmail", "ann@x.y").returncode == 0
        times.append(used() - before)
    assert min(times) < 0.15 * float(os.environ.get("PLUQ_TEST_SLOWNESS", "1"))
