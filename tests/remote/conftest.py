"""A qmail home for deliveries, and the deliverer in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pluq.config import Home
from pluq.dns import Answer, Resolver
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

    def deliverer(self, pool: Pool | None = None, plan: Plan = EMPTY, resolver: Resolver | None = None) -> Deliverer:
        settings = CurrentSettings(self.home.controls, time.monotonic)
        return Deliverer(settings.get, lambda: resolver or NoDns(), TcpTo(str(self.tcpto)), plan, pool)


@pytest.fixture
def remote_home(tmp_path: Path) -> RemoteHome:
    return RemoteHome(tmp_path)


@pytest.fixture
def job() -> Callable[..., Job]:
    def make(content: bytes = MESSAGE, sender: bytes = b"s@src.example", recipient: bytes = b"r@dst.example") -> Job:
        return Job(1, sender, [recipient], recipient.rpartition(b"@")[2], Letter(content, len(content)))

    return make
