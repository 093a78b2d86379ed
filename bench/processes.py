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


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the CPU time of these trees so far, user and system, with that of ended children."""
    ticks = 0
    for root in roots:
        for pid in tree(root):
            fields = stat_fields(pid)
            ticks += sum(map(int, fields[11:15])) if fields else 0
    return ticks / TICK


def cpu_by_process(roots: Iterable[int]) -> dict[str, float]:
    """Return the CPU time of each living process of these trees, by name and number."""
    found = {}
    for root in roots:
        for pid in tree(root):
            fields = stat_fields(pid)
            if fields:
                with open(f"/proc/{pid}/comm") as file:
                    found[f"{file.read().strip()} {pid}"] = sum(map(int, fields[11:13])) / TICK
    return found


def pss_bytes(roots: Iterable[int]) -> int:
    """Return the memory of these trees: the proportional set size of every process."""
    total = 0
    for root in roots:
        for pid in tree(root):
            try:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
            except (FileNotFoundError, ProcessLookupError):
                continue
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
