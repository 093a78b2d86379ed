"""How fast the resident deliverer puts mail into Maildirs.

    bench/local_delivery.py [--messages N] [--flight N] [--bytes N] [--users N] [--profile]

Makes a qmail home in a temporary folder of the disk under test (--folder), one queue file of each message, and `--users` assignments with
Maildirs; as root each of them has a uid of its own, else all are the current user's. Then it orders the deliveries over the spawn
protocol, `--flight` at a time, as qmail-send would, and prints deliveries a second and CPU a delivery (all processes, with the kernel's
work for them, without this client's).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time

from pluq.config import Home
from pluq.store.users import compile_assign
from pluq.wire.spawn import ReportDecoder, encode_command

FIRST_UID = 61000


def make_home(folder: str, users: int) -> Home:
    """Make a home with assignments and Maildirs for user0, user1..."""
    home = Home(f"{folder}/qmail")
    for name in ("queue/mess/0", "control", "users", "bin", "alias"):
        os.makedirs(f"{home.path}/{name}")
    root = os.getuid() == 0
    lines = []
    for number in range(users):
        uid = FIRST_UID + number if root else os.getuid()
        place = f"{folder}/home/user{number}"
        for name in ("tmp", "new", "cur"):
            os.makedirs(f"{place}/Maildir/{name}")
        for path in (place, f"{place}/Maildir", *(f"{place}/Maildir/{name}" for name in ("tmp", "new", "cur"))):
            os.chown(path, uid, uid if root else -1)
        lines.append(f"=user{number}:user{number}:{uid}:{uid}:{place}:::\n")
    with open(f"{home.users}/assign", "w") as file:
        file.write("".join(lines) + ".\n")
    compile_assign(f"{home.users}/assign", f"{home.users}/cdb")
    with open(f"{home.control('defaultdelivery')}", "w") as file:
        file.write("./Maildir/\n")
    return home


def make_messages(home: Home, count: int, size: int) -> None:
    text = (b"From: a@b.example\nSubject: test\n\n" + b"x" * 71 + b"\n") * (size // 72 + 1)
    uid = home.ids().uid["qmailq"]
    for number in range(1, count + 1):
        path = f"{home.queue}/mess/0/{number}"
        with open(path, "wb") as file:
            file.write(text[:size])
        os.chown(path, uid, -1)


def start(home: Home, sock: socket.socket, profile: str | None) -> int:
    from pluq.local import workers

    pid = os.fork()
    if pid == 0:
        if profile:
            profiled(profile)
        os._exit(workers.run(home, sock))
    return pid


def profiled(path: str) -> None:
    """Make qmail-lspawn and its workers write profiles, one file each."""
    import cProfile

    from pluq.local import lspawn, worker

    def wrap(owner: type, name: str) -> None:
        inner = getattr(owner, name)

        def outer(*arguments: object) -> object:
            profile = cProfile.Profile()
            try:
                return profile.runcall(inner, *arguments)
            finally:
                profile.dump_stats(f"{path}.{owner.__name__}.{os.getpid()}")

        setattr(owner, name, outer)

    wrap(lspawn.Lspawn, "run")
    wrap(worker.Deliverer, "serve")


def drive(path: str, messages: int, flight: int, users: int) -> float:
    """Order all deliveries and wait for their reports; return the seconds."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(path)
    limit = int.from_bytes(client.recv(2), "little")
    free = list(range(min(flight, limit)))
    decoder = ReportDecoder(2)
    ordered = done = 0
    began = time.monotonic()
    while done < messages:
        commands = []
        while free and ordered < messages:
            ordered += 1
            user = b"user%d@bench.example" % (ordered % users)
            commands.append(encode_command(free.pop(), b"0/%d" % ordered, b"sender@src.example", user, 2))
        if commands:
            client.sendall(b"".join(commands))
        for number, text in decoder.feed(client.recv(1 << 16)):
            if text[:1] != b"K":
                sys.exit(f"delivery failed: {text!r}")
            free.append(number)
            done += 1
    seconds = time.monotonic() - began
    client.close()
    return seconds


def cpu_of_group(group: int) -> float:
    """Return the CPU seconds that the processes of a group have used, and those of theirs that have ended."""
    ticks = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10000)
    parser.add_argument("--flight", type=int, default=20)
    parser.add_argument("--bytes", type=int, default=4096)
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--profile")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="pluq-bench-", dir=options.folder)
    os.chmod(folder, 0o755)
    try:
        home = make_home(folder, options.users)
        make_messages(home, options.messages, options.bytes)
        os.sync()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(f"{folder}/s")
        sock.listen()
        os.setpgid(0, 0)
        pid = start(home, sock, options.profile)
        os.setpgid(pid, pid)
        for _ in range(options.rounds):
            before = cpu_of_group(pid)
            seconds = drive(f"{folder}/s", options.messages, options.flight, options.users)
            used = cpu_of_group(pid) - before
            rate = options.messages / seconds
            print(f"{rate:8.0f} deliveries/s   {used / options.messages * 1e6:6.0f} us CPU each   {seconds:.2f} s")
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        own = resource.getrusage(resource.RUSAGE_SELF)
        print(f"client: {(own.ru_utime + own.ru_stime):.2f} s CPU in all")
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
