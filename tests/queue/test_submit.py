"""Submitting through programs, and which way is chosen."""

import asyncio
import os
import sys

import pytest

from pluq.queue.lease_client import LeaseSubmitter
from pluq.queue.program import QueueProgram
from pluq.queue.refusal import QueueRefusal
from pluq.queue.submit import ProgramSubmitter, choose_submitter, open_submission, queue_program, submit_sync

MESSAGE = b"Subject: x\n\nbody\n"


@pytest.fixture
def program(tmp_path, home):
    """Make a queue program of a shell script; return the environment that names it."""

    def make(script):
        path = tmp_path / "queue-program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return {"QMAILQUEUE": str(path), "PATH": os.environ["PATH"], "OUT": str(tmp_path)}

    return make


async def submit(home, environment, message=MESSAGE, recipients=(b"c@d", b"e@f")):
    submission = await ProgramSubmitter(home, environment).open()
    submission.write(message)
    return await submission.commit(b"a@b", list(recipients))


async def test_a_program_gets_message_and_envelope(home, tmp_path, program):
    environment = program('cat >"$OUT/message"; cat <&1 >"$OUT/envelope"; pwd >"$OUT/cwd"; echo $$ >"$OUT/pid"')
    message = os.urandom(300_000)
    receipt = await submit(home, environment, message)
    assert (tmp_path / "message").read_bytes() == message
    assert (tmp_path / "envelope").read_bytes() == b"Fa@b\0Tc@d\0Te@f\0\0"
    assert (tmp_path / "cwd").read_text().strip() == home.path
    assert int((tmp_path / "pid").read_text()) == receipt.qp


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("cat >/dev/null; cat <&1 >/dev/null; exit 31", "Dmail server permanently rejected message (#5.3.0)"),
        ("cat >/dev/null; exit 53", "Zqq write error or disk full (#4.3.0)"),
        ("cat >/dev/null; cat <&1 >/dev/null; echo -n 'Dnot you (#5.7.1)' >&6; exit 82", "Dnot you (#5.7.1)"),
        ("echo -n Zlater >&6; exit 82", "Zlater"),
        ("echo Dx >&6; exit 31", "Dmail server permanently rejected message (#5.3.0)"),
        ("kill -9 $$", "Zqq crashed (#4.3.0)"),
        ("exec 0<&- 1<&-; exit 0", "Zqq read error (#4.3.0)"),
    ],
)
async def test_its_exit_code_becomes_a_verdict(home, program, script, verdict):
    environment = program(script)
    submission = await ProgramSubmitter(home, environment).open()
    submission.write(MESSAGE * 20_000)
    with pytest.raises(QueueRefusal) as refused:
        await submission.commit(b"a", [b"b"])
    assert refused.value.verdict == verdict


async def test_a_program_that_is_not_there_is_a_temporary_refusal(home):
    with pytest.raises(QueueRefusal) as refused:
        await submit(home, {"QMAILQUEUE": "/does/not/exist"})
    assert refused.value.verdict == "Zunable to exec qq (#4.3.0)"


async def test_a_message_given_up_never_has_an_envelope(home, tmp_path, program, eventually):
    environment = program('cat >/dev/null; cat <&1 >"$OUT/envelope"; echo done >"$OUT/end"')
    submission = await ProgramSubmitter(home, environment).open()
    submission.write(MESSAGE)
    submission.abort()
    await asyncio.to_thread(eventually, (tmp_path / "end").exists, "the program's end")
    assert (tmp_path / "envelope").read_bytes() == b""


def test_descriptors_that_are_low_do_not_get_mixed_up(home, tmp_path, program, in_child):
    environment = program('cat >"$OUT/message"; cat <&1 >"$OUT/envelope"; echo -n "Dwell (#5.0.0)" >&6; exit 82')

    def with_nothing_open():
        os.closerange(0, 3)
        running = QueueProgram(home.path, environment["QMAILQUEUE"], environment)
        running.write(MESSAGE)
        try:
            running.commit(b"a", [b"b"])
        except QueueRefusal as error:
            return 7 if error.verdict == "Dwell (#5.0.0)" else 8
        return 9

    assert in_child(with_nothing_open) == 7
    assert (tmp_path / "message").read_bytes() == MESSAGE
    assert (tmp_path / "envelope").read_bytes() == b"Fa\0Tb\0\0"


def test_without_a_daemon_qmail_queue_of_the_home_is_used(home, look):
    assert queue_program(home, {}) == f"{home.bin}/qmail-queue"
    os.makedirs(home.bin, exist_ok=True)
    script = f"#!{sys.executable}\nfrom pluq.commands.qmail_queue import main\nraise SystemExit(main())\n"
    fd = os.open(f"{home.bin}/qmail-queue", os.O_WRONLY | os.O_CREAT, 0o755)
    os.write(fd, script.encode())
    os.close(fd)
    receipt = submit_sync(home, MESSAGE, b"a@b", [b"c@d"], environment={"PLUQ_HOME": home.path})
    [envelope] = look().envelopes.values()
    assert envelope.pid == receipt.qp


async def test_the_daemon_is_chosen_where_it_runs_and_qmailqueue_before_it(home, daemon, look):
    environment = {"PLUQ_HOME": home.path}
    assert isinstance(choose_submitter(home, environment), ProgramSubmitter)
    daemon()
    chosen = choose_submitter(home, environment)
    assert isinstance(chosen, LeaseSubmitter)
    assert choose_submitter(home, environment, chosen) is chosen
    assert isinstance(choose_submitter(home, {"QMAILQUEUE": "/bin/false"}, chosen), ProgramSubmitter)
    chosen.close()
    submission = open_submission(home, {"QMAILQUEUE": "/bin/false"})
    with pytest.raises(QueueRefusal):
        submission.commit(b"a", [b"b"])
