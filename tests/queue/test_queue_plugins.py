"""Plugins of the queue: every way in passes them once, and trouble with them keeps mail out for now."""

import os
import subprocess
import sys

import pytest

from pluq.plan import EMPTY
from pluq.queue.lease_client import LeaseSubmitter
from pluq.queue.plugins import EditedSubmitter, current_plan
from pluq.queue.refusal import QueueRefusal
from pluq.queue.submit import choose_submitter, open_submission, submit_sync

MESSAGE = b"Subject: x\n\nbody\n"
PLUGIN = """
from dataclasses import dataclass
from pluq import Plugin, hook, setting

@dataclass(frozen=True)
class Settings:
    copy: str = setting("copy@x", control="copyto", help="Who gets a copy.")

class Mark(Plugin[Settings]):
    '''Marks messages.'''
    name = "mark"

    @hook
    def queue_fields(self, environment):
        return [b"X-Mark: " + environment.get("MARK", "none").encode()]

    @hook
    def queue_envelope(self, envelope):
        if envelope.sender == b"bad@x":
            raise ValueError("no")
        envelope.recipients.append(self.settings.copy.encode())
"""


@pytest.fixture
def marked(home):
    os.makedirs(home.plugins, exist_ok=True)
    for path, text in (
        (f"{home.plugins}/mark.py", PLUGIN),
        (home.control("pluq.toml"), '[queue]\nplugins = ["mark"]\n'),
    ):
        with open(path, "w") as file:
            file.write(text)
    return home


def only(look):
    found = look()
    [number] = found.queued
    received, _, rest = found.messages[number].partition(b"\n")
    assert received.startswith(b"Received: (qmail ")
    return rest, list(found.envelopes[number].recipients)


def test_without_the_file_there_is_nothing(home):
    assert current_plan(home) is EMPTY


def test_a_submission_to_the_daemon_is_edited_once(marked, daemon, look):
    daemon()
    submit_sync(marked, MESSAGE, b"a@b", [b"c@d"], {"MARK": "me"})
    assert only(look) == (b"X-Mark: me\n" + MESSAGE, [b"c@d", b"copy@x"])


async def test_a_lease_is_edited_once(marked, daemon, look):
    daemon()
    lease = LeaseSubmitter(marked)
    assert lease.connect()
    submitter = choose_submitter(marked, {"MARK": "me"}, lease)
    assert isinstance(submitter, EditedSubmitter)
    submission = await submitter.open()
    submission.write(MESSAGE)
    await submission.commit(b"a@b", [b"c@d"])
    lease.close()
    assert only(look) == (b"X-Mark: me\n" + MESSAGE, [b"c@d", b"copy@x"])


def qmail_queue(home, envelope=b"Fa@b\0Tc@d\0\0"):
    reader, writer = os.pipe()
    os.write(writer, envelope)
    os.close(writer)
    code = "import sys; from pluq.commands.qmail_queue import main; sys.exit(main())"
    environment = {**os.environ, "PLUQ_HOME": home.path, "MARK": "me"}
    try:
        return subprocess.run(
            [sys.executable, "-c", code],
            input=MESSAGE,
            stdout=reader,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=60,
        )
    finally:
        os.close(reader)


@pytest.mark.parametrize("way", ["direct", "daemon"])
def test_qmail_queue_edits_once(marked, request, look, way):
    if way == "daemon":
        request.getfixturevalue("daemon")()
    assert qmail_queue(marked).returncode == 0
    assert only(look) == (b"X-Mark: me\n" + MESSAGE, [b"c@d", b"copy@x"])


def test_a_changed_file_counts_from_the_next_message(marked):
    first = current_plan(marked)
    assert current_plan(marked) is first
    with open(marked.control("copyto"), "w") as file:
        file.write("other@x\n")
    assert current_plan(marked) is not first
    assert current_plan(marked).plugins[0].settings.copy == "other@x"


@pytest.mark.parametrize("way", ["direct", "daemon"])
def test_trouble_refuses_the_message_for_now(marked, request, look, way):
    if way == "daemon":
        request.getfixturevalue("daemon")()
    done = qmail_queue(marked, b"Fbad@x\0Tc@d\0\0")
    assert done.returncode == 71 and b"ValueError: no" in done.stderr
    with open(marked.control("pluq.toml"), "a") as file:
        file.write("mark.cpy = 1\n")
    done = qmail_queue(marked)
    assert done.returncode == 55 and b"did you mean 'copy'" in done.stderr
    assert look().queued == []


def test_trouble_refuses_a_submission(marked, daemon):
    daemon()
    with pytest.raises(QueueRefusal):
        submit_sync(marked, MESSAGE, b"bad@x", [b"c@d"], {})
    with open(marked.control("pluq.toml"), "w") as file:
        file.write("nonsense\n")
    with pytest.raises(QueueRefusal, match="unable to read configuration"):
        open_submission(marked, {})
