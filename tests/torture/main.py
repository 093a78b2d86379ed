"""Break the stack in every way and count what is lost: tests/torture/run [short|long] [--only WORD] [--json FILE]

short takes about two minutes, long half an hour. Some runs need root, loop devices, strace or libfaketime; they are skipped with a
reason where these are missing. Exit code 1 if anything was lost, corrupt, or delivered twice without a reason; but a control, which leaves out
what makes messages safe, must show losses.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tests.torture import clock, disks, each_call, each_step, plugins, programs, rates, resources, under_load
from tests.torture.ledger import Row

Run = Callable[[], Row]
COLUMNS = (
    "accepted",
    "delivered",
    "lost",
    "corrupt",
    "explained",
    "unexplained",
    "unasked",
    "faults",
    "recovery",
    "seconds",
)
ALL = 1 << 30
NOTES_SHOWN = 6


@dataclass(frozen=True)
class Entry:
    """One run: why it cannot be made here, how it is made shortly and at length."""

    name: str
    why_not: Callable[[], str | None]
    short: Run
    long: Run


def needs_strace() -> str | None:
    if os.geteuid() != 0:
        return "needs root"
    return None if shutil.which("strace") else "needs strace"


def needs_strace_and(kind: str) -> Callable[[], str | None]:
    return lambda: needs_strace() or disks.why_not(kind)


def nothing() -> None:
    return None


ENTRIES = (
    Entry("kill at each call", needs_strace, lambda: each_call.kill(None, 3), lambda: each_call.kill(None, ALL)),
    Entry("fail each call", needs_strace, lambda: each_call.fail(None, 4), lambda: each_call.fail(None, ALL)),
    Entry(
        "kill at random",
        nothing,
        lambda: under_load.kill_at_random(None, 30, 200),
        lambda: under_load.kill_at_random(None, 500, 5000),
    ),
    Entry(
        "power cut, ext4",
        lambda: disks.why_not("ext4"),
        lambda: under_load.cut_power("ext4", 6),
        lambda: under_load.cut_power("ext4", 200),
    ),
    Entry(
        "power cut, xfs",
        lambda: disks.why_not("xfs"),
        lambda: under_load.cut_power("xfs", 3),
        lambda: under_load.cut_power("xfs", 100),
    ),
    Entry(
        "power cut at each step, ext4",
        needs_strace_and("ext4"),
        lambda: each_step.cut("ext4", 1),
        lambda: each_step.cut("ext4", ALL),
    ),
    Entry(
        "power cut at each step, xfs",
        needs_strace_and("xfs"),
        lambda: each_step.cut("xfs", 1),
        lambda: each_step.cut("xfs", ALL),
    ),
    Entry(
        "power cut at 250, ext4",
        lambda: disks.why_not("ext4"),
        lambda: under_load.cut_power_at_success("ext4", 6),
        lambda: under_load.cut_power_at_success("ext4", 100),
    ),
    Entry(
        "power cut at 250, xfs",
        lambda: disks.why_not("xfs"),
        lambda: under_load.cut_power_at_success("xfs", 3),
        lambda: under_load.cut_power_at_success("xfs", 50),
    ),
    Entry(
        "power cut, control",
        lambda: disks.why_not("ext4"),
        lambda: under_load.cut_power_without_sync(6),
        lambda: under_load.cut_power_without_sync(20),
    ),
    Entry(
        "power cut at exit 0, qmail-queue",
        lambda: disks.why_not("ext4"),
        lambda: programs.cut_power("ext4", 3),
        lambda: programs.cut_power("ext4", 50),
    ),
    Entry(
        "power cut at exit 0, stock qmail-queue",
        programs.why_no_stock,
        lambda: programs.cut_power_of_stock("ext4", 3),
        lambda: programs.cut_power_of_stock("ext4", 50),
    ),
    Entry(
        "power cut at exit 0, stock qmail-queue, xfs",
        programs.why_no_stock,
        lambda: programs.cut_power_of_stock("xfs", 2),
        lambda: programs.cut_power_of_stock("xfs", 50),
    ),
    Entry(
        "disk full",
        lambda: disks.why_not("ext4"),
        lambda: under_load.no_space(1, 2.0),
        lambda: under_load.no_space(5, 10.0),
    ),
    Entry(
        "inodes full",
        lambda: disks.why_not("ext4"),
        lambda: under_load.no_inodes(1, 2.0),
        lambda: under_load.no_inodes(5, 10.0),
    ),
    Entry(
        "read-only remount",
        lambda: disks.why_not("ext4"),
        lambda: under_load.read_only(1, 1.0),
        lambda: under_load.read_only(10, 3.0),
    ),
    Entry("clock jumps", clock.why_not, lambda: clock.jump(None, 1.0), lambda: clock.jump(None, 5.0)),
    Entry("a week of a dead next hop", clock.why_not, lambda: clock.week(None), lambda: clock.week(None)),
    Entry(
        "a bad plugin", nothing, lambda: plugins.bad_plugin(None, 1, False), lambda: plugins.bad_plugin(None, 10, True)
    ),
    Entry(
        "normal mail under attack",
        nothing,
        lambda: rates.under_attack(None, 2, 0.4, 0.05),  # a short look, perhaps on a busy machine, is a coarse one
        lambda: rates.under_attack(None, 8, 2.0, 0.8),
    ),
    Entry("idle connections", nothing, lambda: resources.idle(None, 2000), lambda: resources.idle(None, 10_000)),
    Entry("connection storm", nothing, lambda: resources.storm(None, 2000), lambda: resources.storm(None, 20_000)),
    Entry(
        "many recipients", nothing, lambda: resources.recipients(None, 5000), lambda: resources.recipients(None, 50_000)
    ),
    Entry(
        "header lines",
        nothing,
        lambda: resources.header_lines(None, 100_000),
        lambda: resources.header_lines(None, 1_000_000),
    ),
    Entry("large message", nothing, lambda: resources.large(None, 50), lambda: resources.large(None, 1000)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", nargs="?", choices=("short", "long"), default="short")
    parser.add_argument("--only", metavar="WORD", help="runs whose name contains it")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    began = time.monotonic()
    rows = [
        row for entry in ENTRIES if not options.only or options.only in entry.name if (row := make(entry, options.form))
    ]
    print(table(rows))
    print(f"{options.form} form, {time.monotonic() - began:.0f} s")
    for row in rows:
        if not row.good:
            print(f"NOT GOOD: {row.run}", *row.notes[-NOTES_SHOWN:], sep="\n    ")
    if options.json:
        with open(options.json, "w") as file:
            figures = {"form": options.form, "machine": machine(), "runs": [row.as_json() for row in rows]}
            json.dump(figures, file, indent=1)
            file.write("\n")
    return 0 if rows and all(row.good for row in rows) else 1


def make(entry: Entry, form: str) -> Row | None:
    """Make one run; what goes wrong with it is its result."""
    reason = entry.why_not()
    if reason is not None:
        print(f"{entry.name}: skipped, {reason}", flush=True)
        return None
    try:
        row = entry.short() if form == "short" else entry.long()
    except Exception:
        row = Row(entry.name, notes=[f"FAILED: {traceback.format_exc()}"])
    print(f"{entry.name}: {'good' if row.good else 'NOT GOOD'}, {row.seconds:.0f} s", flush=True)
    for note in row.notes[:NOTES_SHOWN]:
        print(f"    {note}", flush=True)
    return row


def table(rows: list[Row]) -> str:
    """Return the figures as a Markdown table."""
    lines = [f"| run | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        figures = row.as_json()
        lines.append(f"| {row.run} | {' | '.join(str(figures[column]) for column in COLUMNS)} |")
    return "\n".join(lines)


def machine() -> str:
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
