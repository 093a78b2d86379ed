"""Faults at the border to the kernel: a process is killed at its n-th system call, or the call fails, by strace's injection.

`when` counts the calls of one name by each thread from the moment of attaching. The log tells exactly when something was injected.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# What changes files, makes processes, or tells somebody something; a question mark where not every machine has the call.
CHANGING = (
    *("openat", "?open", "?creat"),
    *("write", "pwrite64", "writev", "?pwritev", "ftruncate", "?sendfile", "?splice", "?copy_file_range"),
    *("fsync", "fdatasync", "syncfs"),
    *("?link", "linkat", "?rename", "renameat", "renameat2", "?unlink", "unlinkat"),
    *("?mkdir", "mkdirat", "utimensat", "fchmod", "fchown"),
)
STARTING = ("?fork", "?vfork", "clone", "?clone3")
TELLING = ("sendto", "sendmsg", "recvmsg", "setresuid", "exit_group")
KILLING = CHANGING + STARTING + TELLING
FAILING = CHANGING + STARTING

LINE = re.compile(r"^(\d+) +(\d+\.\d+) (.*)$")
ATTACH_SECONDS = 10.0


class Trace:
    """A running strace and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: str) -> None:
        self._process = process
        self.log = log
        self._lock = threading.Lock()

    def lines(self) -> list[tuple[int, float, str]]:
        """Return thread, time and text of each call."""
        found = [LINE.match(line) for line in Path(self.log).read_text(errors="replace").splitlines()]
        return [(int(match[1]), float(match[2]), match[3]) for match in found if match]

    def hits(self) -> list[float]:
        """Return when something was injected."""
        return [at for _, at, text in self.lines() if "INJECTED" in text or "killed by SIGKILL" in text]

    def calls(self) -> list[tuple[str, int]]:
        """Return each call that was made as its name and its number among those of this name, of the thread that made most."""
        counts: Counter[tuple[int, str]] = Counter()
        for thread, _, text in self.lines():
            if "(" in text and not text.startswith(("<", "+", "-")):
                counts[thread, text.partition("(")[0]] += 1
        most: dict[str, int] = {}
        for (_, name), count in counts.items():
            most[name] = max(most.get(name, 0), count)
        return [(name, number) for name, count in most.items() for number in range(1, count + 1)]

    def detach(self) -> None:
        """Let the processes go on by themselves."""
        with self._lock:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(ATTACH_SECONDS)
            except subprocess.TimeoutExpired:  # it waits for a process that a dead disk holds
                self._process.kill()
                self._process.wait()

    def detach_when_hit(self) -> None:
        """Wait for the first injection and detach: a process that takes the place of a killed one must not be killed as well."""
        while self._process.poll() is None and not self.hits():
            time.sleep(0.01)
        self.detach()


@contextmanager
def tracing(pid: int, calls: Sequence[str], inject: str | None, log: str) -> Iterator[Trace]:
    """Trace these calls of a process and of those that it starts; `inject` is a call and what to do, as strace writes it."""
    options = ["-e", f"trace={','.join(calls)}", *(["-e", f"inject={inject}"] if inject else [])]
    command = ["strace", "-f", "-qq", "-ttt", "-s", "0", "-o", log, "-p", str(pid), *options]
    Path(log).write_bytes(b"")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    trace = Trace(process, log)
    try:
        wait_attached(pid, process)
        if inject:
            threading.Thread(target=trace.detach_when_hit, daemon=True).start()
        yield trace
    finally:
        trace.detach()


def wait_attached(pid: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until all threads are under trace, or one has died of it."""
    deadline = time.monotonic() + ATTACH_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            states = [
                Path(f"/proc/{pid}/task/{thread}/status").read_text() for thread in os.listdir(f"/proc/{pid}/task")
            ]
        except (FileNotFoundError, ProcessLookupError):
            return
        if states and all("TracerPid:\t0\n" not in state for state in states):
            return
        time.sleep(0.005)
