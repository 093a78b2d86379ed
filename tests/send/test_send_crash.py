"""kill -9 at every change to a file: the next start loses no recipient, and delivers or bounces each at least once."""

from __future__ import annotations

import os
import signal
import sys
import traceback

import pytest
from tests.kills import Kill

JOE = b"joe@here.example"
NEVER = b"never@here.example"
LATER = b"later@there.example"
STEPS_MAX = 400


class Journal:
    """What the outside world saw, kept across crashes."""

    def __init__(self, path):
        self.path = path
        self.write = os.write
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what):
        self.write(self.fd, what + b"\n")

    @property
    def entries(self):
        with open(self.path, "rb") as file:
            return file.read().split(b"\n")[:-1]


def answers(journal, rig, later=b"Zlater\n"):
    def answer(recipient):
        if recipient == NEVER:
            return b"Dno such user\n"
        if recipient == LATER and rig.clock.now < rig.birth + 400:
            return later
        journal.note(b"delivered " + recipient)
        return b"Kok"

    return answer


def live(rig, journal, kill=None):
    """Start a scheduler and let it work until nothing is left to do; `kill` ends it before."""
    real = rig.injector.inject

    def inject(source, queued):
        journal.note(b"bounced " + source.bounce.recipient)
        real(source, queued)

    rig.injector.inject = inject
    rig.restart()
    if kill is not None:
        kill.install()
    rig.local.answer = rig.remote.answer = answers(journal, rig)
    rig.scheduler.scan.want()
    rig.turns()
    rig.sleep(500)


def in_child(work):
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("recipients", [(JOE,), (JOE, NEVER, LATER)])
def test_a_crash_at_any_point_loses_nothing(make_rig, tmp_path, fast, recipients):
    rig = make_rig(fast=fast)
    rig.birth = rig.clock.now
    for countdown in range(1, STEPS_MAX):
        journal = Journal(str(tmp_path / f"journal{countdown}"))
        number = rig.queue(*recipients)

        kill = Kill(countdown)
        ended = in_child(lambda journal=journal, kill=kill: live(rig, journal, kill))
        assert ended in (0, -signal.SIGKILL)
        rig.clock.now += 5000  # later than the first life can have got
        assert in_child(lambda journal=journal: live(rig, journal)) == 0
        rig.clock.now -= 5000

        for recipient in set(recipients) - {NEVER}:
            assert b"delivered " + recipient in journal.entries, f"killed before change {countdown}"
        assert (b"bounced sender@there.example" in journal.entries) is (NEVER in recipients)
        assert rig.files(number) <= {"mess", "intd"}, "a crash at the end may leave S2 or S3, which is cleaned up later"
        for kind in rig.files(number):
            os.unlink(getattr(rig.layout, kind)(number))
        os.close(journal.fd)
        if ended == 0:
            assert countdown > 5, "there were changes to be killed at"
            return
    pytest.fail("it never ran through")
