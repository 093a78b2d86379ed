"""What is so now: the figures of all processes, the roles and their memory, the disk, what the census found.

The role may know little: it looks into shared memory, asks the kernel about processes (/proc, as far as that is shown to it) and about the
file system of the queue, and opens no folder of the queue.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pluq.metrics.board import SUPERVISOR
from pluq.metrics.memory import family, resident
from pluq.metrics.text import Sample, Totals

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.metrics import Board

CENSUS_TRIES = 5
OURS = ("pluq_build_", "pluq_disk_", "pluq_queue_")
"""What the names of figures begin with that are made here."""


@dataclass(frozen=True)
class RoleState:
    """One role. `pss` (shared pages divided) and `rss` in bytes, of the role and its children; 0 where the kernel does not show them."""

    name: str
    pid: int
    starts: int
    is_up: bool
    processes: int = 0
    pss: int = 0
    rss: int = 0


@dataclass(frozen=True)
class Disk:
    """The file system of the queue."""

    free_bytes: int
    free_space: float
    free_inodes: float


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment. `now` in seconds since the epoch; `census` is empty before the first count."""

    now: float
    version: str
    totals: Totals
    roles: tuple[RoleState, ...]
    disk: Disk | None
    census: Mapping[str, Any] = field(default_factory=dict)

    @property
    def census_age(self) -> float:
        return self.now - float(self.census.get("time", -math.inf))


def take(board: Board, home: Home, version: str, now: float) -> Snapshot:
    """Look at everything."""
    samples = [Sample(name, labels, value) for role, name, labels, value in board.read() if may_tell(role, name)]
    seen = Totals(samples)
    roles = tuple(sorted(role_states(seen), key=lambda role: role.name))
    disk = disk_state(home.queue)
    census = read_census(board)
    made = [*samples, *derived(now, version, roles, disk, census)]
    return Snapshot(now, version, Totals(made), roles, disk, census)


def may_tell(role: str, name: str) -> bool:
    """Say whether a process may count this: what the supervisor and this role say themselves, nobody else may."""
    if name.startswith("pluq_role_"):
        return role == SUPERVISOR
    return not name.startswith(OURS)


def read_census(board: Board) -> Mapping[str, Any]:
    for _try in range(CENSUS_TRIES):
        data = board.census.read()
        if data is not None:
            try:
                found = json.loads(data or b"{}")
            except ValueError:
                continue
            return found if isinstance(found, dict) else {}
    return {}


# -- roles


def role_states(totals: Totals) -> Iterator[RoleState]:
    """Yield the roles that the supervisor runs."""
    for labels, value in totals.of("pluq_role_pid"):
        name, pid = labels["role"], int(value)
        starts = int(totals.total("pluq_role_starts_total", role=name))
        if pid <= 0:
            yield RoleState(name, 0, starts, is_up=False)
            continue
        everybody = family(pid)
        yield RoleState(
            name,
            pid,
            starts,
            process_state(pid) not in ("Z", "X", "gone"),
            len(everybody),
            int(totals.total("pluq_role_memory_bytes", role=name, kind="pss")),
            sum(resident(one) for one in everybody),
        )


def process_state(pid: int) -> str:
    """Return the kernel's letter for a process, "gone", or "?" where /proc hides those of other users."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read(4096).rpartition(b")")[2].split()[0].decode("ascii")
    except (FileNotFoundError, ProcessLookupError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return "gone"
        except PermissionError:
            return "?"
        return "?"
    except (OSError, IndexError):
        return "?"


# -- the disk


def disk_state(path: str) -> Disk | None:
    """Return the state of a file system; None where it cannot be asked. One without inodes has all of them free."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    space = found.f_bavail / found.f_blocks if found.f_blocks else 1.0
    inodes = found.f_favail / found.f_files if found.f_files else 1.0
    return Disk(found.f_bavail * found.f_frsize, space, inodes)


# -- as figures


def derived(
    now: float, version: str, roles: tuple[RoleState, ...], disk: Disk | None, census: Mapping[str, Any]
) -> Iterator[Sample]:
    """Yield what no process counts, as figures."""
    yield Sample("pluq_build_info", {"version": version}, 1)
    for role in roles:
        yield Sample("pluq_role_up", {"role": role.name}, float(role.is_up))
        if role.rss:
            yield Sample("pluq_role_memory_bytes", {"role": role.name, "kind": "rss"}, role.rss)
            yield Sample("pluq_role_processes", {"role": role.name}, role.processes)
    if disk is not None:
        yield Sample("pluq_disk_free_bytes", {}, disk.free_bytes)
        yield Sample("pluq_disk_free_ratio", {"what": "space"}, disk.free_space)
        yield Sample("pluq_disk_free_ratio", {"what": "inodes"}, disk.free_inodes)
    if census:
        for state, count in census["states"].items():
            yield Sample("pluq_queue_messages", {"state": state}, count)
        for age, count in census["ages"].items():
            yield Sample("pluq_queue_messages_by_age", {"age": age}, count)
        for channel, count in census["recipients"].items():
            yield Sample("pluq_queue_recipients", {"channel": channel}, count)
        for state in ("all", "todo"):
            yield Sample("pluq_queue_oldest_seconds", {"state": state}, census["oldest"].get(state, 0.0))
        yield Sample("pluq_queue_counted_seconds", {}, max(0.0, now - census["time"]))
