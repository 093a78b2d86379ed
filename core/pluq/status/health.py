"""Is this stack well? One answer, and for each part of it what was looked at and why it is so.

A monitor asks /health: 200 when everything is well, else 503, with the same JSON either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pluq.config.watching import Status
from pluq.status.snapshot import Snapshot

CENSUS_SECONDS = 120.0
"""An older census tells nothing, unless the queue takes so long to count."""
DAY = 86400


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_well: bool
    text: str


def checks(snapshot: Snapshot, settings: Status, lifetime: int) -> list[Check]:
    """Return all checks. `lifetime` is queuelifetime, in seconds."""
    return [
        _roles(snapshot),
        *_disk(snapshot, settings),
        _queue(snapshot, settings, lifetime),
        *_certificates(snapshot, settings),
    ]


def report(found: Sequence[Check]) -> dict[str, Any]:
    """Return what /health answers."""
    return {
        "status": "ok" if all(check.is_well for check in found) else "failing",
        "checks": [{"name": check.name, "ok": check.is_well, "text": check.text} for check in found],
    }


def _roles(snapshot: Snapshot) -> Check:
    down = [role.name for role in snapshot.roles if not role.is_up]
    if down:
        return Check("roles", False, f"down: {', '.join(down)}")
    if not snapshot.roles:
        return Check("roles", False, "no role was started")
    return Check("roles", True, f"all {len(snapshot.roles)} run")


def _disk(snapshot: Snapshot, settings: Status) -> Iterator[Check]:
    disk = snapshot.disk
    if disk is None:
        yield Check("disk", False, "the file system of the queue cannot be asked")
        return
    for name, what, free, least in (
        ("disk", "space", disk.free_space, settings.disk_free),
        ("inodes", "inodes", disk.free_inodes, settings.inodes_free),
    ):
        is_well = free * 100 >= least
        yield Check(name, is_well, f"{free:.0%} of the {what} is free" + ("" if is_well else f", less than {least}%"))


def _queue(snapshot: Snapshot, settings: Status, lifetime: int) -> Check:
    census = snapshot.census
    if not census:
        return Check("queue", False, "nobody has counted the queue yet")
    if snapshot.census_age > max(CENSUS_SECONDS, 20 * census["seconds"]):
        return Check("queue", False, f"nobody has counted the queue for {span(snapshot.census_age)}")
    oldest, todo = census["oldest"].get("all", 0.0), census["oldest"].get("todo", 0.0)
    if todo > settings.todo_age:
        return Check("queue", False, f"a message has waited {span(todo)} for the scheduler to look at it")
    most = settings.queue_age or lifetime + DAY
    if oldest > most:
        return Check("queue", False, f"the oldest message is {span(oldest)} old, more than {span(most)}")
    total = sum(census["states"].values())
    return Check("queue", True, f"{total:,} messages, the oldest {span(oldest)} old" if total else "empty")


def _certificates(snapshot: Snapshot, settings: Status) -> Iterator[Check]:
    seen = set()
    for labels, expires in snapshot.totals.of("pluq_certificate_expires_seconds"):
        left = expires - snapshot.now
        if labels["file"] in seen:
            continue
        seen.add(labels["file"])
        words = f"{labels['file']} has expired" if left <= 0 else f"{labels['file']} expires in {span(left)}"
        yield Check("certificate", left > settings.certificate_days * DAY, words)


UNITS = (("d", DAY), ("h", 3600), ("min", 60), ("s", 1))


def span(seconds: float) -> str:
    """Return a time as people say it, in its two largest units: 3 d 4 h."""
    left = max(0, int(seconds))
    words = []
    for unit, size in UNITS:
        if left >= size:
            words.append(f"{left // size} {unit}")
            left %= size
    return " ".join(words[:2]) or "0 s"
