"""The mail services of this host and who supervises them: daemontools, runit or systemd.

A service is a folder named qmail-* or pluq* in the scan directory of svscan or runsvdir, or a systemd unit of such a name. The
scheduler is the service that queues and delivers (qmail-send, or pluq, which does everything); all others take mail in.

    action   daemontools, runit              systemd
    up       u to supervise/control          systemctl start
    down     d                               systemctl stop
    term     t                               systemctl restart
    hup      h                               systemctl kill --signal=HUP
    alarm    a                               systemctl kill --signal=ALRM
    pause    p                               systemctl kill --signal=STOP, to all its processes
    cont     c                               systemctl kill --signal=CONT, to all its processes
    status   svstat, sv status               systemctl status

The letters are written here and not by svc or sv: sv leaves out an "up" where the status file still says up, so that right after
a "down" that runsv has not read yet the service would stay down.

Source: supervise(8) of daemontools, runsv(8), systemctl(1).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pluq.errors import ConfigError

SCAN_FOLDERS = ("/service", "/etc/service", "/var/service")
PREFIXES = ("qmail-", "pluq")
SCHEDULERS = ("qmail-send", "pluq")
SYSTEMD_RUNS = "/run/systemd/system"

LETTERS = {"up": b"u", "down": b"d", "term": b"t", "hup": b"h", "alarm": b"a", "pause": b"p", "cont": b"c"}
STATUS = {"daemontools": ("svstat",), "runit": ("sv", "status")}
SYSTEMD = {
    "up": ("systemctl", "start"),
    "down": ("systemctl", "stop"),
    "term": ("systemctl", "restart"),
    # The main process alone: a signal to all would end deliveries.
    "hup": ("systemctl", "kill", "--kill-who=main", "--signal=HUP"),
    "alarm": ("systemctl", "kill", "--kill-who=main", "--signal=ALRM"),
    "pause": ("systemctl", "kill", "--signal=STOP"),
    "cont": ("systemctl", "kill", "--signal=CONT"),
    "status": ("systemctl", "status", "--no-pager", "--lines=0"),
}


@dataclass(frozen=True)
class Services:
    """The services in the order in which they start: the scheduler first. `targets` are what the manager calls them."""

    manager: str
    targets: Mapping[str, str]

    @property
    def scheduler(self) -> str | None:
        return next((name for name in SCHEDULERS if name in self.targets), None)

    @property
    def others(self) -> list[str]:
        """The services that take mail in."""
        return [name for name in self.targets if name != self.scheduler]

    def tell(self, action: str, name: str) -> bool:
        """Have the manager do `action` with a service; False if it could not."""
        target = self.targets[name]
        if self.manager == "systemd":
            return run([*SYSTEMD[action], target])
        return write_letter(f"{target}/supervise/control", LETTERS[action])

    def is_supervised(self, name: str) -> bool:
        """Say whether the manager looks after the service at present."""
        if self.manager == "systemd":
            return True
        return has_reader(f"{self.targets[name]}/supervise/ok")

    def status(self, name: str) -> None:
        """Have the manager print the state of a service and of its log."""
        command = STATUS.get(self.manager, SYSTEMD["status"])
        log = f"{self.targets[name]}/log"
        for target in (self.targets[name], *([log] if os.path.isdir(log) else [])):
            run([*command, target])


def run(argv: list[str]) -> bool:
    """Run a program of the manager on our own descriptors; False if it failed."""
    try:
        return subprocess.run(argv, check=False).returncode == 0
    except OSError:
        return False


def has_reader(fifo: str) -> bool:
    """Say whether a process has the FIFO open for reading: supervise and runsv keep supervise/ok so."""
    return write_letter(fifo, b"")


def write_letter(fifo: str, letter: bytes) -> bool:
    """Write to a FIFO that a supervisor reads; False if nobody does."""
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.write(descriptor, letter) == len(letter)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def find_services(environment: Mapping[str, str]) -> Services:
    """Return the services of this host. PLUQ_SERVICES names another scan directory. Raises ConfigError if there are none."""
    given = environment.get("PLUQ_SERVICES")
    for folder in (given,) if given else SCAN_FOLDERS:
        names = in_order(_service_names(folder))
        if names:
            return Services(
                "runit" if is_runit(folder, names) else "daemontools", {name: f"{folder}/{name}" for name in names}
            )
    units = [] if given or not os.path.isdir(SYSTEMD_RUNS) else _systemd_units()
    if not units:
        raise ConfigError(given or ", ".join(SCAN_FOLDERS), "no service qmail-* or pluq* there, nor a systemd unit")
    return Services("systemd", {name: f"{name}.service" for name in in_order(units)})


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names that are ours, the scheduler first, then by name."""
    ours = [name for name in names if name.startswith(PREFIXES)]
    return sorted(ours, key=lambda name: (name not in SCHEDULERS, name))


def _service_names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if os.path.exists(f"{folder}/{name}/run")]
    except OSError:
        return []


def is_runit(folder: str, names: list[str]) -> bool:
    """Say whether runsv supervises them: it keeps a file supervise/stat, which supervise does not; else, which one is installed."""
    if any(os.path.exists(f"{folder}/{name}/supervise/stat") for name in names):
        return True
    if any(os.path.exists(f"{folder}/{name}/supervise/status") for name in names):
        return False
    from shutil import which

    return which("svc") is None


def _systemd_units() -> list[str]:
    listing = ["systemctl", "list-unit-files", "--no-legend", "--plain", "--type=service", *(f"{p}*" for p in PREFIXES)]
    try:
        text = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    return [line.split()[0].removesuffix(".service") for line in text.splitlines() if line.strip()]
