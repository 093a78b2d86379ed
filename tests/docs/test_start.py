"""docs/start.md, followed to the letter: its `sh` blocks run in order on one home, with other ports, and the mail arrives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pluq.config import qmail_ids
from pluq.testing.stack import BIN, Stack, free_port

PAGE = (Path(__file__).parents[2] / "docs" / "start.md").read_text()
PORTS = (25, 587, 465)
PASSWORD = "a long password"

pytestmark = pytest.mark.integration


class Reader:
    """Somebody who follows the page. The users are there already; joe's account is a line of users/assign."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.ports = {port: free_port() for port in PORTS}
        self.stack: Stack | None = None

    def follow(self, page: str) -> None:
        for heading, block in re.findall(r"^## ([^\n]*)$|^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
            if heading.startswith("4."):
                self.settle()
            if heading.startswith("7."):
                self.start()
            if block:
                self.run(block)

    def settle(self) -> None:
        """Move the ports away from those that only one test can have, and give joe his mailbox."""
        path = self.home / "control/pluq.toml"
        text = path.read_text()
        for port, free in self.ports.items():
            text = re.sub(rf'listen  = \["0.0.0.0:{port}".*', f'listen = ["127.0.0.1:{free}"]', text)
        path.write_text(text)
        self.stack = Stack(self.folder)
        self.stack.listens_itself = True
        self.stack.port = self.ports[25]

    def start(self) -> None:
        assert self.stack is not None
        self.stack.start()

    def run(self, block: str) -> None:
        for port, free in self.ports.items():
            block = block.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        environment = {
            **os.environ,
            "PLUQ_HOME": str(self.home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PLUQ_DNS_SERVER": "127.0.0.1:9",
        }
        answers = f"{PASSWORD}\n{PASSWORD}\n"
        done = subprocess.run(
            ["sh", "-ec", block],
            env=environment,
            input=answers,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}\n{self.told()}"

    def told(self) -> str:
        return self.stack.told() if self.stack is not None and self.stack.log.exists() else "not started"


@pytest.fixture
def reader() -> Iterator[Reader]:
    if qmail_ids().single:
        pytest.skip("needs root and the qmail users")
    if shutil.which("swaks") is None:
        pytest.skip("needs swaks (Debian package swaks)")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        found = Reader(Path(folder))
        yield found
        if found.stack is not None and found.stack.runs:
            found.stack.stop()


def test_a_reader_has_mail_in_the_end(reader):
    pytest.importorskip("spf")
    pytest.importorskip("scramp")
    reader.follow(PAGE)
    assert reader.stack is not None
    reader.stack.wait_mail("from a program")
    reader.stack.wait_empty()
    assert len(reader.stack.subjects()) == 4
