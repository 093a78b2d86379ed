"""More of everything than anybody sends: connections, recipients, header lines, bytes. Memory stays bounded, other mail goes on.

Each run watches the largest resident memory of each process of the stack; MOST_MIB is the bound for every one.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.torture.ledger import Row
from tests.torture.load import RefusedError, Session
from tests.torture.system import JOE, System, new_system

MOST_MIB = 128
CHUNK = b"x" * 998 + b"\r\n"
RESERVED_FILES = 500
HURRY_SECONDS = 30.0


class Watch:
    """The largest memory of any process of the stack, sampled in a thread while it is entered."""

    def __init__(self, system: System) -> None:
        self.most: dict[str, float] = {}
        self._system = system
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._look()
            if self._ending.wait(0.2):
                return

    def _look(self) -> None:
        with contextlib.suppress(OSError):
            pids = {
                **self._system.stack.role_pids(),
                **{f"worker{pid}": pid for pid in self._system.stack.worker_pids()},
            }
            for name, pid in pids.items():
                self._note(name.rstrip("0123456789"), pid)

    def _note(self, name: str, pid: int) -> None:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            kib = int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
            self.most[name] = max(self.most.get(name, 0), round(kib / 1024))


def bounded(run: str, folder: str | None, work: Callable[[System], str]) -> Row:
    """Do something expensive to a stack, and see that it stays small and goes on."""
    began = time.monotonic()
    with new_system(folder) as system, Watch(system) as watch:
        note = work(system)
        row = system.finish(run)
    row.notes = [note, f"largest memory in MiB: {watch.most}", *row.notes]
    too_large = {name: mib for name, mib in watch.most.items() if mib > MOST_MIB}
    if too_large:
        row.notes.append(f"FAILED: above {MOST_MIB} MiB: {too_large}")
    row.seconds = round(time.monotonic() - began, 1)
    return row


def idle(folder: str | None, count: int) -> Row:
    """Thousands of clients connect, say nothing or a byte now and then, and stay."""

    def work(system: System) -> str:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        wanted = min(count, limit - RESERVED_FILES)
        with contextlib.ExitStack() as kept:
            socks = []
            for _ in range(wanted):
                with contextlib.suppress(OSError):
                    socks.append(kept.enter_context(socket.create_connection(("127.0.0.1", system.stack.port), 20)))
            for sock in socks[::10]:
                sock.send(b"H")
            began = time.monotonic()
            client = system.client()
            client.send_surely(patience=HURRY_SECONDS)
            client.close()
            return f"{len(socks)} connections kept; a message with them took {time.monotonic() - began:.2f} s"

    return bounded("idle connections", folder, with_room(work))


def with_room(work: Callable[[System], str]) -> Callable[[System], str]:
    """Allow so many connections: the administrator's limits would turn most away, which is another test."""

    def prepared(system: System) -> str:
        system.stack.stop()
        system.stack.control("concurrencyincoming", "20000")
        system.stack.start()
        return work(system)

    return prepared


def storm(folder: str | None, count: int) -> Row:
    """Clients connect and vanish at once, as fast as they can."""

    def work(system: System) -> str:
        for number in range(count):
            with contextlib.suppress(OSError):
                sock = socket.create_connection(("127.0.0.1", system.stack.port), 5)
                if number % 2:
                    sock.send(b"EHLO x\r\nMAIL FROM:<a@b>\r\nDATA\r\n")
                sock.close()
        return f"{count} connections opened and dropped"

    return bounded("connection storm", folder, work)


def recipients(folder: str | None, count: int) -> Row:
    """One message to very many recipients; each gets one line in the queue."""

    def work(system: System) -> str:
        session = Session("127.0.0.1", system.stack.port)
        try:
            session.send("sender@example.net", [JOE] * count, b"Subject: many\n\nx\n")
            answer = "accepted"
        except RefusedError as error:
            answer = f"refused: {error}"
        session.close()
        # Delivering them all would measure the disk. What counts is that others are served meanwhile.
        began = time.monotonic()
        client = system.client()
        token = client.send_surely()
        client.close()
        while (token, JOE) in system.ledger.outstanding(system.box.copies()) and time.monotonic() < began + 60:
            time.sleep(0.1)
        waited = time.monotonic() - began
        system.stack.kill()
        remove_queue(system)
        system.stack.start()
        for path in (system.box.path / "new").iterdir():
            if b"Subject: many" in path.read_bytes():
                path.unlink()
        system.box.forget()
        return f"{count} recipients {answer}; another message took {waited:.1f} s"

    return bounded("many recipients", folder, work)


def remove_queue(system: System) -> None:
    """Drop the message for the many: its files in the queue are found by its size."""
    queue = Path(system.stack.home.queue)
    for path in [*queue.glob("todo/*"), *queue.glob("info/*/*"), *queue.glob("local/*/*"), *queue.glob("remote/*/*")]:
        path.unlink()


def header_lines(folder: str | None, count: int) -> Row:
    """A message that is all header."""
    return one_large("header lines", folder, lambda: (b"X-Line: %d\r\n" % number for number in range(count)), count)


def large(folder: str | None, mib: int) -> Row:
    """A message of a gigabyte."""
    return one_large("large message", folder, lambda: (CHUNK * 1000 for _ in range(mib)), mib)


def one_large(run: str, folder: str | None, pieces: Callable[[], Iterator[bytes]], amount: int) -> Row:
    def work(system: System) -> str:
        system.stack.stop()
        system.stack.control("databytes", "0")
        system.stack.start()
        answer = send_pieces(system.stack.port, pieces())
        deadline = time.monotonic() + 240
        while system.stack.queued() and time.monotonic() < deadline:
            time.sleep(0.2)
        sizes = sorted(path.stat().st_size for path in (system.box.path / "new").iterdir())
        for path in (system.box.path / "new").iterdir():
            path.unlink()
        client = system.client()
        client.send_surely()
        client.close()
        return f"{amount}: {answer}; arrived as {sizes[-1:]} bytes"

    return bounded(run, folder, work)


def send_pieces(port: int, pieces: Iterator[bytes]) -> str:
    """Send a message as it is made; return the last reply."""
    with socket.create_connection(("127.0.0.1", port), 240) as sock:
        file = sock.makefile("rb")
        for line in (
            b"",
            b"HELO x\r\n",
            b"MAIL FROM:<a@b.example>\r\n",
            b"RCPT TO:<%b>\r\n" % JOE.encode(),
            b"DATA\r\n",
        ):
            sock.sendall(line)
            reply = file.readline()
        if not reply.startswith(b"354"):
            return reply.decode(errors="replace").strip()
        for piece in pieces:
            sock.sendall(piece)
        sock.sendall(b"\r\n.\r\n")
        return file.readline().decode(errors="replace").strip()
