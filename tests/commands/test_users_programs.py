"""qmail-newu and qmail-pw2u, where their files are folders: each says what stock qmail says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(home: Path, program: str, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes]:
    code = f"import sys; from pluq.commands.{program} import main; sys.exit(main())"
    environment = {**os.environ, "PLUQ_HOME": str(home)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)
    return done.returncode, done.stderr


def test_an_assign_file_that_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "users/assign").mkdir(parents=True)
    assert run(tmp_path, "qmail_newu") == (111, b"qmail-newu: fatal: unable to read users/assign\n")


@pytest.mark.parametrize(
    ("name", "what"),
    [("append", b"input"), ("subusers", b"input"), ("include", b"controls"), ("mailnames", b"controls")],
)
def test_each_file_of_pw2u_has_its_own_complaint(tmp_path: Path, name: str, what: bytes) -> None:
    (tmp_path / "users" / name).mkdir(parents=True)
    said = run(tmp_path, "qmail_pw2u", "-H", stdin=b"alias:x:1:1::/a:/bin/true\n")
    assert said == (111, b"qmail-pw2u: fatal: unable to read " + what + b"\n")
