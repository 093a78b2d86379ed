"""Programs of a site: what they get, what is taken from them, and that none outstays its time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pluq.children import OUTPUT_BYTES, Ended, is_function, run, run_now

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


async def both(script: str, folder: Path, seconds: float = 20, **options: Any) -> Ended:
    """Run a script in both ways; they must agree."""
    given: dict[str, Any] = {"environment": ENVIRONMENT, "folder": str(folder), "seconds": seconds, **options}
    argv = ["/bin/sh", "-c", script]
    waited, blocked = await run(argv, **given), run_now(argv, **given)
    assert waited == blocked
    return waited


async def test_what_a_program_says_and_how_it_ends(tmp_path: Path) -> None:
    assert await both("echo out; echo reason >&4; exit 7", tmp_path, outputs=(1, 4)) == Ended(
        7, {1: b"out\n", 4: b"reason\n"}
    )
    assert (await both("kill -9 $$", tmp_path)).code == -9


async def test_it_starts_in_its_folder_and_reads_nothing_of_ours(tmp_path: Path) -> None:
    here = os.getcwd()
    said = (await both("pwd; cat; echo $((1 + 1)); env | grep -c HOME", tmp_path)).said[1]
    assert said == os.fsencode(f"{tmp_path}\n2\n0\n")
    assert os.getcwd() == here


async def test_a_file_of_ours_can_be_its_input(tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(b"hello\n")
    with open(tmp_path / "message", "rb") as file:
        ended = await run(["/bin/cat"], environment=ENVIRONMENT, folder="/", seconds=20, inputs={0: file.fileno()})
    assert ended.said[1] == b"hello\n"


@pytest.mark.parametrize("script", ["sleep 60", "sleep 60 & sleep 60", "trap '' TERM; while :; do :; done", "yes"])
async def test_a_program_that_takes_too_long_is_killed_with_all_that_it_started(script: str, tmp_path: Path) -> None:
    began = time.monotonic()
    assert (await both(f"{script} # {tmp_path}", tmp_path, seconds=0.3)).is_late
    assert time.monotonic() - began < 50


async def test_output_without_end_is_not_kept(tmp_path: Path) -> None:
    ended = await both("head -c 1000000 /dev/zero; echo done >&4", tmp_path, outputs=(1, 4))
    assert len(ended.said[1]) == OUTPUT_BYTES
    assert ended.said[4] == b"done\n"


async def test_what_goes_on_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    assert (await both("sleep 50 & echo now", tmp_path, seconds=60)).said[1] == b"now\n"
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("path", ["none", ".", "plain"])
async def test_what_cannot_be_run_is_an_error(path: str, tmp_path: Path, open_files: Callable[[], set[str]]) -> None:
    (tmp_path / "plain").write_text("x")
    given: dict[str, Any] = {"environment": ENVIRONMENT, "folder": str(tmp_path), "seconds": 5}
    before = open_files()
    with pytest.raises(OSError, match="o"):
        await run([path], **given)
    with pytest.raises(OSError, match="o"):
        run_now([path], **given)
    assert open_files() == before


async def test_a_script_without_its_first_line_runs_in_the_shell(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo shell\n")
    script.chmod(0o755)
    assert run_now(["./script"], environment=ENVIRONMENT, folder=str(tmp_path), seconds=9).said[1] == b"shell\n"


async def test_a_client_that_goes_away_takes_its_program_along(tmp_path: Path) -> None:
    task = asyncio.ensure_future(
        run(["/bin/sh", "-c", "echo $$ > pid; sleep 60"], environment=ENVIRONMENT, folder=str(tmp_path), seconds=60)
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith("\n"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_an_old_shell_would_run_is_known() -> None:
    assert is_function(b"() { :;}; touch /tmp/x")
    assert not is_function(b"joe()@example.org")
