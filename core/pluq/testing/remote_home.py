"""Remote deliveries in this process: a home with what they read, a deliverer, and jobs for it.

home = RemoteHome(tmp_path)
with SmtpPeer() as peer:
    home.relay_to(peer)
    records = await home.deliverer(plan=plan_of(plugin)).deliver(make_job())
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pluq.config import Home
from pluq.dns import Answer
from pluq.plan import EMPTY, Plan
from pluq.remote.deliver import Deliverer, Job
from pluq.remote.letter import Letter
from pluq.remote.pool import Pool
from pluq.remote.settings import CurrentSettings
from pluq.remote.tcpto import FILE_BYTES, TcpTo
from pluq.testing.smtp_peer import SmtpPeer

MESSAGE = b"Subject: x\n\n.body\n"
WIRE = b"Subject: x\r\n\r\n..body\r\n.\r\n"


class NoDns:
    """A resolver for deliveries that have to do without."""

    async def lookup(self, name: bytes | str, rdtype: str) -> Answer:
        raise AssertionError(f"nobody should ask for {name!r} {rdtype} here")


class RemoteHome:
    """A home with the control files of remote delivery and a queue with room for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = Home(str(path))
        for name in ("control", "queue/lock", "queue/mess/8"):
            (path / name).mkdir(parents=True)
        self.tcpto = path / "queue/lock/tcpto"
        self.tcpto.write_bytes(bytes(FILE_BYTES))
        self.control("me", "me.example.org\n")

    def control(self, name: str, text: str) -> None:
        (self.path / "control" / name).write_text(text)

    def relay_to(self, peer: SmtpPeer) -> None:
        self.control("smtproutes", f":{peer.host}:{peer.port}\n")

    def message(self, number: int, content: bytes = MESSAGE) -> None:
        file = self.path / f"queue/mess/8/{number}"
        file.write_bytes(content)
        os.chown(file, self.home.ids().uid["qmailq"], -1)

    def deliverer(self, pool: Pool | None = None, plan: Plan = EMPTY, resolver: Any = None) -> Deliverer:
        settings = CurrentSettings(self.home.controls, time.monotonic)
        return Deliverer(settings.get, lambda: resolver or NoDns(), TcpTo(str(self.tcpto)), plan, pool)


def make_job(content: bytes = MESSAGE, sender: bytes = b"s@src.example", recipient: bytes = b"r@dst.example") -> Job:
    """Return a delivery of one message to one recipient."""
    return Job(1, sender, [recipient], recipient.rpartition(b"@")[2], Letter(content, len(content)))
