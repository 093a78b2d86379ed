"""How much memory a role takes: what the kernel says of it and of the processes that it started.

Roles are forked from one process and share most of their memory, so their resident sizes add up to far more than there is. The
proportional size (PSS) divides each page by those who share it. Only the process's own user and root may ask for it: the supervisor
does.

Source: proc(5), smaps_rollup.
"""

from __future__ import annotations

MOST_CHILDREN = 10_000


def family(pid: int) -> list[int]:
    """Return a process and all that it started, and theirs, as far as /proc shows them."""
    found, waiting = [pid], [pid]
    while waiting and len(found) < MOST_CHILDREN:
        one = waiting.pop()
        try:
            with open(f"/proc/{one}/task/{one}/children", "rb") as file:
                children = [int(word) for word in file.read().split()]
        except (OSError, ValueError):
            continue
        found += children
        waiting += children
    return found


def resident(pid: int) -> int:
    """Return the resident bytes of one process, 0 where that is hidden."""
    return _field(f"/proc/{pid}/status", b"VmRSS")


def proportional(pid: int) -> int:
    """Return the proportional bytes of one process, 0 where that is hidden."""
    return _field(f"/proc/{pid}/smaps_rollup", b"Pss")


def _field(path: str, name: bytes) -> int:
    try:
        with open(path, "rb") as file:
            for line in file:
                key, _, rest = line.partition(b":")
                if key == name:
                    return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return 0
    return 0
