"""Faults at random moments while mail flows: roles and whole stacks killed, the power cut, the disk full."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.torture.disks import MIB, Disk, new_disk
from tests.torture.ledger import Row
from tests.torture.system import System, new_system

CLIENTS = 6
EVERYTHING = "everything"
VICTIMS = ("queue", "send", "lspawn", "rspawn", "smtpd", "worker", "worker", EVERYTHING)
SMALL_DISK = 24 * MIB
FEW_INODES = 4096
SEED = 7
# How long the control waits for what it will not find.
CONTROL_SECONDS = 5.0
SMALL = (100, 1000, 4000)


def kill_at_random(folder: str | None, kills: int, messages: int) -> Row:
    """kill -9 of a role, a worker, or of everything at once, at random moments, until so many kills and messages have been."""
    began = time.monotonic()
    dice = random.Random(SEED)
    done = 0
    with new_system(folder) as system:
        with system.load(CLIENTS, messages) as load:
            while done < kills or not load.done:
                time.sleep(dice.uniform(0.02, 0.25))
                done += kill_one(system, dice.choice(VICTIMS))
                if load.done and done >= kills:
                    break
                if time.monotonic() > began + max(60, messages / 2):
                    break
        row = system.finish("kill at random")
    row.notes.insert(0, f"{done} kills")
    row.seconds = round(time.monotonic() - began, 1)
    return row


def kill_one(system: System, victim: str) -> bool:
    """Kill somebody; False if there was nobody."""
    if victim == EVERYTHING:
        system.stack.kill()
        system.ledger.fault()
        system.stack.start()
        return True
    pids = system.stack.worker_pids() if victim == "worker" else [system.stack.role_pids().get(victim, 0)]
    for pid in [pid for pid in pids if pid][:1]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        system.ledger.fault()
        return True
    return False


def cut_power(kind: str, cuts: int) -> Row:
    """Queue and Maildir lie on a filesystem that loses its power at random moments under load."""
    dice = random.Random(SEED)

    def loaded(system: System, disk: Disk) -> None:
        with system.load(CLIENTS):
            time.sleep(dice.uniform(0.05, 1.0))
            disk.cut()
            system.ledger.fault()
            system.stack.kill()

    return cut_and_mount(f"power cut, {kind}", kind, cuts, loaded)


def cut_power_at_success(kind: str, cuts: int) -> Row:
    """The power goes the moment 250 has come: of what stock qmail accepted, this is what it loses."""
    return cut_and_mount(f"power cut at 250, {kind}", kind, cuts, at_success)


def cut_power_without_sync(cuts: int) -> Row:
    """The control: without the sync of the journal the same must find losses, or it would find none anywhere."""
    row = cut_and_mount("power cut, control", "ext4", cuts, at_success, {"TORTURE_NO_SYNC": "1"})
    row.is_control = True
    row.notes = [
        "without the sync of the journal the losses are as they must be" if row.good else "FAILED: the harness is blind"
    ]
    return row


def at_success(system: System, disk: Disk) -> None:
    client = system.client()
    client.send_surely()
    disk.cut()
    system.ledger.fault()
    system.stack.kill()
    client.close()


def cut_and_mount(
    run: str,
    kind: str,
    cuts: int,
    until_the_cut: Callable[[System, Disk], None],
    environment: Mapping[str, str] | None = None,
) -> Row:
    """Cut, mount again, start again; at the end everything accepted must be there."""
    began = time.monotonic()
    with new_disk(kind) as disk, new_system(disk.path, start=False) as system:
        system.stack.start(environment)
        if environment:
            system.patience = CONTROL_SECONDS
        for _ in range(cuts):
            until_the_cut(system, disk)
            system.ledger.fault()  # until the last process was killed, mail went out that nobody could note any more
            disk.unmount()
            disk.mount()
            system.box.forget()
            system.box.take_out()  # what is there now has survived; left there, it would fill the disk
            system.stack.start(environment)
        row = system.finish(run)
    row.notes.insert(0, f"{cuts} cuts")
    row.seconds = round(time.monotonic() - began, 1)
    return row


def read_only(times: int, seconds: float) -> Row:
    """The filesystem goes read-only under load. An administrator stops the stack, mounts it anew and starts again."""
    refused: list[int] = []

    def for_a_while(system: System, disk: Disk) -> None:
        with system.load(CLIENTS):
            time.sleep(seconds / 2)
            disk.make_read_only()
            system.ledger.fault()
            before = len(system.ledger.accepted)
            time.sleep(seconds)
            refused.append(len(system.ledger.accepted) - before)
            assert system.stack.runs, "the stack ended"
            system.stack.stop()

    row = cut_and_mount("read-only remount", "ext4", times, for_a_while)
    row.notes[0] = f"{times} times {seconds:.0f} s; accepted meanwhile {refused}"
    return row


def no_space(times: int, seconds: float) -> Row:
    """The disk is full for a while."""
    return full("disk full", Disk.fill, times, seconds)


def no_inodes(times: int, seconds: float) -> Row:
    """The disk has no inodes for a while."""
    return full("inodes full", Disk.take_inodes, times, seconds)


def full(run: str, fill: Callable[[Disk], str], times: int, seconds: float) -> Row:
    """The disk has no room for a while, again and again. Small enough to be filled in a moment."""
    began = time.monotonic()
    worst = 0.0
    refused: list[int] = []
    options = ("-N", str(FEW_INODES), "-m", "0")
    with new_disk("ext4", SMALL_DISK, options) as disk, new_system(disk.path) as system:
        system.sizes = SMALL
        for _ in range(times):
            with system.load(CLIENTS):
                time.sleep(min(seconds / 2, 1.0))
                filler = fill(disk)
                before = len(system.ledger.accepted)
                system.ledger.fault()
                time.sleep(seconds)
                refused.append(len(system.ledger.accepted) - before)
                shutil.rmtree(filler, ignore_errors=True) if os.path.isdir(filler) else Path(filler).unlink(
                    missing_ok=True
                )
                system.box.take_out()
                system.ledger.fault()
            worst = max(worst, system.recover([]))
            system.box.take_out()
        row = system.finish(run)
    row.recovery = round(max(worst, row.recovery), 2)
    row.notes.insert(0, f"{times} times {seconds:.0f} s; accepted meanwhile {refused}")
    row.seconds = round(time.monotonic() - began, 1)
    return row
