"""A plugin that raises, hangs, answers nonsense, eats memory or kills its process. Its messages are put off; all other mail flows."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.torture.ledger import Row
from tests.torture.load import Letter, RefusedError, Session
from tests.torture.system import JOE, new_system

PLUGIN = '''
"""Misbehaves as the sender asks."""

import asyncio
import os
import signal
import time

from pluq import Plugin, hook


class Bad(Plugin):
    name = "bad"
    budget = 1.0
    kept = []

    @hook
    async def smtp_mail(self, transaction):
        what = transaction.sender.partition(b"@")[0]
        if what == b"raise":
            raise RuntimeError("broken")
        if what == b"nonsense":
            return 42
        if what == b"hang":
            await asyncio.sleep(3600)
        if what == b"swallow":
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    continue
        if what == b"leak":
            self.kept.append(b"x" * (1 << 24))
        if what == b"block":
            time.sleep(3600)
        if what == b"exit":
            raise SystemExit(3)
        if what == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return None
'''
SITE = '[core]\nmemory_limit = 256\n[profile.mx]\nplugins = ["bad"]\n'
FAULTS = ("raise", "nonsense", "hang", "swallow", "exit", "kill")
# Letters that leak 16 MiB each; the process is looked at every ten seconds.
LEAKED = 20
REPLACED = "has grown to"
REPLACED_SECONDS = 30.0
CLIENTS = 4


def bad_plugin(folder: str | None, rounds: int, blocks: bool) -> Row:
    """Each fault, in turn, while others send. `blocks`: also one that stops the event loop, which takes half a minute to be noticed."""
    began = time.monotonic()
    answers: dict[str, str] = {}
    with new_system(folder, start=False) as system:
        home = system.stack.home
        os.makedirs(home.plugins, exist_ok=True)
        Path(home.plugins, "bad.py").write_text(PLUGIN)
        Path(home.control("pluq.toml")).write_text(SITE)
        system.stack.start({"PLUQ_PROFILE": "mx"})
        with system.load(CLIENTS):
            for _ in range(rounds):
                for fault in FAULTS:
                    answers[fault] = provoke(system.stack.port, fault)
                    system.ledger.fault()
            if blocks:
                answers["block"] = provoke(system.stack.port, "block")
                system.ledger.fault()
        client = system.client(Letter("leak@x.example", (JOE,), (JOE,)))
        for _ in range(LEAKED):
            client.send_surely()
        client.close()
        is_replaced = wait_logged(system.stack.log, REPLACED)
        row = system.finish("a bad plugin")
    row.notes.insert(0, str(answers))
    if not is_replaced:
        row.notes.append("FAILED: a process that had grown to 300 MiB was not replaced")
    if "250" in [answer[:3] for answer in answers.values()]:
        row.notes.append("FAILED: a message of a plugin that failed was accepted")
    row.seconds = round(time.monotonic() - began, 1)
    return row


def wait_logged(log: Path, text: str) -> bool:
    """Return whether the log says it, now or soon."""
    deadline = time.monotonic() + REPLACED_SECONDS
    while text not in log.read_text(errors="replace"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def provoke(port: int, fault: str) -> str:
    """Return what a client hears whose message makes the plugin fail."""
    try:
        session = Session("127.0.0.1", port)
        try:
            session.send(f"{fault}@x.example", [JOE], b"Subject: x\n\nx\n")
        finally:
            session.close()
    except RefusedError as error:
        return str(error.args[0].decode(errors="replace").strip()) or "hung up"
    except OSError as error:
        return type(error).__name__
    return "250"
