"""What a tree of processes costs, read from /proc: CPU of the living and of the children that they waited for, and memory.

CPU comes in ticks of 10 ms, so a run must last a second or more. PSS counts each shared page once over all who share it: the sum
over a tree is what the tree adds to the machine.

Source: proc(5).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

TICK = os.sysconf("SC_CLK_TCK")


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may hold anything. Empty when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(root: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat_fields(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, []))
    return found


@dataclass(frozen=True)
class Usage:
    """The CPU time of one process so far with that of the children that it waited for.

    `is_inherited`: when it ends, its parent's time will include it. It does not where the parent lets the kernel forget children.
    """

    name: str
    seconds: float
    is_inherited: bool


def cpu_usage(roots: Iterable[int]) -> dict[int, Usage]:
    """Return the usage of every living process of these trees, by number."""
    found = {}
    for root in roots:
        for pid in tree(root):
            fields = stat_fields(pid)
            if fields:
                seconds = sum(map(int, fields[11:15])) / TICK
                found[pid] = Usage(
                    read_text(f"/proc/{pid}/comm").strip(), seconds, not ignores_children(int(fields[1]))
                )
    return found


def cpu_between(before: dict[int, Usage], after: dict[int, Usage]) -> dict[str, float]:
    """Return the CPU seconds between two looks, by program. What ended meanwhile is in its parent's figure, if anywhere."""
    used: dict[str, float] = {}
    for usage in after.values():
        used[usage.name] = used.get(usage.name, 0.0) + usage.seconds
    for pid, usage in before.items():
        if pid in after or usage.is_inherited:
            used[usage.name] = used.get(usage.name, 0.0) - usage.seconds
    return used


def ignores_children(pid: int) -> bool:
    """Say whether a process ignores SIGCHLD: its ended children are then forgotten, with their CPU time."""
    ignored = [line.split()[1] for line in read_text(f"/proc/{pid}/status").splitlines() if line.startswith("SigIgn:")]
    return bool(ignored) and bool(int(ignored[0], 16) >> (signal.SIGCHLD - 1) & 1)


def read_text(path: str) -> str:
    """Return a file of /proc, nothing when the process has gone."""
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def read_bytes(path: str) -> bytes:
    """Return a log, nothing where it is not there yet."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def peak_bytes(pid: int) -> tuple[str, int]:
    """Return a process's name and the most memory that it ever had at a time, shared pages included."""
    lines = read_text(f"/proc/{pid}/status").splitlines()
    peak = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return read_text(f"/proc/{pid}/comm").strip(), peak


def pss_bytes(roots: Iterable[int]) -> int:
    """Return the memory of these trees: the proportional set size of every process."""
    total = 0
    for root in roots:
        for pid in tree(root):
            lines = read_text(f"/proc/{pid}/smaps_rollup").splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def end(root: int, seconds: float = 20.0) -> None:
    """End a tree that we started: TERM to its root, KILL to each process that is left after a while."""
    members = tree(root)
    send(root, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in members) and time.monotonic() < deadline:
        reap(root)
        time.sleep(0.02)
    for pid in members:
        if alive(pid):
            send(pid, signal.SIGKILL)
    reap(root)


def reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def alive(pid: int) -> bool:
    fields = stat_fields(pid)
    return bool(fields) and fields[0] != "Z"


def send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return
