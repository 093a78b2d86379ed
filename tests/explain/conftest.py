"""A home in a folder of the test's own, and `pluq explain` on it, in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pluq.commands import explain
from pluq.config import Home, current_ids, qmail_ids
from pluq.supervisor import hier


class Site:
    """The domain example.org at mail.example.org, with the user joe. `split`: with all the qmail users, as root."""

    def __init__(self, folder: Path, split: bool) -> None:
        self.folder = folder
        self.home = Home(str(folder / "home"))
        ids = qmail_ids() if split else current_ids()
        hier.make_home(self.home, ids)
        if not split:
            hier.mark_single_user(self.home, ids)
        hier.make_site(self.home, ids, hier.Site("mail.example.org", ("mail.example.org", "example.org"), "./Maildir/"))
        self.uid, self.gid = (5, 60) if split else (os.getuid(), os.getgid())
        self.joe = folder / "joe"
        for name in ("", "Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
            (self.joe / name).mkdir(mode=0o755)
            if split:
                os.chown(self.joe / name, self.uid, self.gid)
        self.file("joe/.qmail", "./Maildir/\n")
        user = f"games:{self.uid}:{self.gid}:{self.joe}"
        self.file("home/users/assign", f"=joe:{user}:::\n+joe-:{user}:-::\n.\n")
        self.newu()

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
        return path

    def control(self, name: str, text: str) -> None:
        self.file(f"home/control/{name}", text)

    def newu(self) -> None:
        run = "import sys; from pluq.commands.qmail_newu import main; sys.exit(main())"
        subprocess.run([sys.executable, "-c", run], env={**os.environ, "PLUQ_HOME": self.home.path}, check=True)


class Explained:
    """One answer: the exit code, and the steps as "what [by]"."""

    def __init__(self, code: int, answer: dict[str, Any], error: str) -> None:
        self.code = code
        self.answer = answer
        self.error = error
        self.steps = [f"{step['what']} [{step['by']}]" for step in answer.get("steps", ())]
        self.last = self.steps[-1] if self.steps else ""

    def by(self, what: str) -> str:
        """Return what made the first decision that begins so."""
        found = [step["by"] for step in self.answer["steps"] if step["what"].startswith(what)]
        assert found, f"{what!r} is not in\n" + "\n".join(self.steps)
        return str(found[0])


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("PLUQ_HOME", f"{folder}/home")
    return Site(folder, split=False)


@pytest.fixture
def split_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    if qmail_ids().single:
        pytest.skip("needs root and the qmail users")
    monkeypatch.setenv("PLUQ_HOME", f"{folder}/home")
    return Site(folder, split=True)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str) -> Explained:
        monkeypatch.setattr(sys, "argv", ["pluq explain", "--json", *words])
        try:
            code = explain.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, error = capsys.readouterr()
        return Explained(code, json.loads(out) if out else {}, error)

    return run
