from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pluq.pop3 import login
from pluq.pop3.login import check_password, verdict


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def test_the_program_reads_the_login_on_descriptor_3(tmp_path: Path) -> None:
    target = tmp_path / "got"
    assert check_password([*shell('cat <&3 >"$1"'), "sh", str(target)], b"joe\0secret\0<1.2@h>\0") is None
    assert target.read_bytes() == b"joe\0secret\0<1.2@h>\0"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exit 1", login.REFUSED),
        ("exit 111", login.REFUSED),
        ("kill -9 $$", login.CRASHED),
        ("exit 0", None),
    ],
)
def test_the_end_of_the_program_decides(script: str, text: bytes | None) -> None:
    assert check_password(shell(script), b"\0\0\0") == text


def test_a_program_that_cannot_start_refuses(tmp_path: Path) -> None:
    assert check_password([str(tmp_path / "none")], b"") == login.REFUSED


def test_a_script_without_a_first_line_runs_in_the_shell(tmp_path: Path) -> None:
    script = tmp_path / "check"
    script.write_text('test "$1" = yes\n')
    script.chmod(0o755)
    assert check_password([str(script), "yes"], b"") is None
    assert check_password([str(script), "no"], b"") == login.REFUSED


def test_what_does_not_fit_the_pipe_is_refused() -> None:
    assert check_password(shell("exit 0"), b"x" * 10_000_000) == login.UNWRITABLE


def test_no_descriptor_is_left_open(open_files: Callable[[], set[str]]) -> None:
    before = open_files()
    check_password(shell("exit 0"), b"")
    check_password(["/nonexistent/program"], b"")
    assert open_files() == before


def test_a_wait_status_is_read_as_qmail_reads_it() -> None:
    assert verdict(0) is None
    assert verdict(9) == login.CRASHED
    assert verdict(1 << 8) == login.REFUSED
