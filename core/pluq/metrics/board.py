"""The pages of all processes of a stack.

The supervisor makes one piece of shared memory for each role before it forks. A role keeps its own and gives up the others, so
that it can neither read nor forge their figures; the status role keeps all.

    0            the process that has each page, 0 for a page that nobody ever had       8 bytes each
    HEAD_BYTES   the pages

A role of several processes has a page for each; so has one that a HUP replaced and that serves its last sessions beside its successor. A
page whose process is dead goes on with the next one. A process that was forked by a role (a delivery as some user) must not write its
parent's page: it is not `page()` of that process.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping

from pluq.metrics.memory import family, proportional
from pluq.metrics.page import PAGE_BYTES, Page, read, series

PROCESSES = 256
"""Pages of one role; memory is taken by those that are used."""
WORKERS = 64
"""Processes that a role has at once, at most; a page further on is for its successors."""
HEAD_BYTES = 4096
SUPERVISOR = "supervisor"
CENSUS = "census"
"""The role that counts the queue and writes what it found into the board's blob."""
STATUS = "status"
"""The role that reads."""
ROLES = ("keys", "queue", "lspawn", "rspawn", "send", "smtpd", "qmtpd", "pop3d", "logins", CENSUS)
BLOB_BYTES = 512 * 1024
_HEAD = 16


class Blob:
    """A text that one process replaces now and then, and others read whole: a number that is odd while it is written, a length, the text."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, BLOB_BYTES)

    def write(self, data: bytes) -> bool:
        """Replace the text; False, and nothing changes, when it is too long."""
        if len(data) > BLOB_BYTES - _HEAD:
            return False
        head = memoryview(self._memory)[:_HEAD].cast("Q")
        head[0] |= 1
        head[1] = len(data)
        self._memory[_HEAD : _HEAD + len(data)] = data
        head[0] += 1
        return True

    def read(self) -> bytes | None:
        """Return the text, None while it is being written: ask again. Empty before the first one."""
        head = memoryview(self._memory)[:_HEAD].cast("Q")
        before = head[0]
        data = self._memory[_HEAD : _HEAD + min(head[1], BLOB_BYTES - _HEAD)]
        return data if before == head[0] and not before & 1 else None


class Board:
    """The shared memory of a stack."""

    def __init__(self) -> None:
        self._memory = {name: mmap.mmap(-1, HEAD_BYTES + PAGE_BYTES * PROCESSES) for name in (*ROLES, SUPERVISOR)}
        self._supervisor = claim(self._memory[SUPERVISOR], 0)
        self.census = Blob()
        """What the census found in the queue."""

    def tell(self, role: str, pid: int | None) -> None:
        """Note that a role was started (its process number), has ended (0), or is not wanted any more. For the supervisor."""
        if self._supervisor is None:
            return
        self._supervisor.put(series("pluq_role_pid", role=role), math.nan if pid is None else pid)
        if pid:
            self._supervisor.add(series("pluq_role_starts_total", role=role))

    def weigh(self, pids: Mapping[str, int]) -> None:
        """Note the memory of the roles. For the supervisor, who may ask."""
        if self._supervisor is None:
            return
        for role, pid in pids.items():
            size = sum(proportional(one) for one in family(pid))
            self._supervisor.put(series("pluq_role_memory_bytes", role=role, kind="pss"), size or math.nan)

    def enter(self, role: str) -> None:
        """Be this role from now on: its memory is kept, what belongs to the others is given up."""
        global _mine
        self._supervisor = None
        if role == STATUS:
            return
        _mine = self._memory.get(role)
        self._memory = {}
        if role != CENSUS:
            del self.census
        take(0)

    def read(self) -> Iterator[tuple[str, str, Mapping[str, str], float]]:
        """Yield role, name, labels and value of every series of every process."""
        for role, memory in self._memory.items():
            whole = memoryview(memory)
            for index, owner in enumerate(whole[: 8 * PROCESSES].cast("Q")):
                if owner:
                    start = HEAD_BYTES + index * PAGE_BYTES
                    for name, labels, value in read(whole[start : start + PAGE_BYTES]):
                        yield role, name, labels, value


_mine: mmap.mmap | None = None
_page: Page | None = None
_owner = 0


def take(index: int) -> None:
    """Begin to write page number `index` of this role: each of its processes has its own. Nothing happens where nobody counts."""
    if _mine is not None:
        adopt(claim(_mine, index))


def adopt(mine: Page | None) -> None:
    """Let this page be that of this process; None: it counts no more."""
    global _page, _owner
    _page, _owner = mine, os.getpid()


def claim(memory: mmap.mmap, index: int) -> Page | None:
    """Return a page that no living process has, the first of those for this index; None where there is none."""
    owners = memoryview(memory)[: 8 * PROCESSES].cast("Q")
    for place in range(index, PROCESSES, WORKERS):
        if owners[place] == os.getpid() or not is_alive(owners[place]):
            owners[place] = os.getpid()
            return Page(memory, HEAD_BYTES + place * PAGE_BYTES)
    return None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid != 0


def page() -> Page | None:
    """Return the page of this process, None where nobody wants figures."""
    return _page if _owner == os.getpid() else None


def within(board: Board, role: str, run: Callable[[], object]) -> object:
    """Run a role with its page."""
    board.enter(role)
    return run()
