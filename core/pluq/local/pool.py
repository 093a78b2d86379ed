"""The workers of qmail-lspawn: one process for each user with mail, kept warm for a while.

A worker is forked, never executed: it shares the memory of what is imported, and starts in a millisecond. It gives up root before it
sees anything of a user. One that idles ends; where memory allows no more, the one that has idled longest makes room; after MOST_JOBS a
worker is replaced, so that nothing grows for ever. When a worker dies, each delivery that it had is reported as a crash, which is temporary.

Source: qmail-lspawn(8), prot.c; credentials(7).
"""

from __future__ import annotations

import array
import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from pluq.errors import ProtocolError
from pluq.local.packets import PACKET_BYTES, PACKET_FILES, Answer, decode_answers

IDLE_SECONDS = 60.0
"""A mailing list or a busy hour finds workers warm; forking one costs as much as some deliveries."""
WORKER_BYTES = 3 << 20
"""Memory of its own that a worker uses; the rest is shared."""
MEMORY_SHARE = 20
"""Workers together use at most this part (a twentieth) of the memory: with 2 GiB that is 34 of them."""
FEWEST_WORKERS, MOST_WORKERS = 8, 256
MOST_JOBS = 20_000
CRASH = -signal.SIGKILL


@dataclass(frozen=True)
class Identity:
    """Whom a worker becomes. None: it stays who it is (a stack of one user)."""

    uid: int | None
    gid: int


@dataclass
class Worker:
    """One process and what it has to do. `queue` holds jobs that its socket did not take yet; it is `blocked` when it takes no more."""

    pid: int
    sock: socket.socket
    last_used: float
    jobs: set[int] = field(default_factory=set)
    queue: deque[tuple[bytes, int]] = field(default_factory=deque)
    served: int = 0
    retired: bool = False
    blocked: bool = False


class Pool:
    """Starts workers, hands them jobs and collects what they answer.

    `serve(key, sock)` is what a worker does; `identity(key)` whom it does it as. `watch(worker, writing)` is called when the pool
    wants to hear of a worker's socket (None: no more). `kept(key)` tells which descriptors a worker keeps beside its socket.
    A job that cannot be given away is answered with `failed`.
    """

    def __init__(
        self,
        serve: Callable[[Hashable, socket.socket], None],
        identity: Callable[[Hashable], Identity],
        watch: Callable[[Worker, bool | None], None],
        answered: Callable[[Answer], None],
        most_workers: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        kept: Callable[[Hashable], Sequence[int]] = lambda key: (),
    ) -> None:
        self.serve = serve
        self.identity = identity
        self.watch = watch
        self.answered = answered
        self.kept = kept
        self.most_workers = affordable_workers() if most_workers is None else most_workers
        self.clock = clock
        self._workers: OrderedDict[Hashable, Worker] = OrderedDict()
        self._retired: list[Worker] = []
        self._fresh: dict[int, Worker] = {}
        self._buffer = bytearray(PACKET_BYTES)
        self._look_at = 0.0
        """Before that no worker has idled long enough."""

    # -- giving work

    def give(self, key: Hashable, job: int, packet: bytes, file: int = -1) -> None:
        """Queue a job for the worker of `key`; the pool owns the file. Raises OSError if no worker can be started."""
        worker = self._workers.get(key)
        if worker is None or worker.served >= MOST_JOBS:
            if worker is not None:
                self._retire(key)
            worker = self._start(key)
        self._workers.move_to_end(key)
        worker.jobs.add(job)
        worker.served += 1
        worker.queue.append((packet, file))
        self._fresh[worker.pid] = worker

    def load(self, key: Hashable) -> int:
        """Return how many jobs the worker of `key` has."""
        worker = self._workers.get(key)
        return len(worker.jobs) if worker else 0

    def flush(self) -> None:
        """Send what was queued since the last time."""
        fresh, self._fresh = self._fresh, {}
        for worker in fresh.values():
            self.send(worker)

    def send(self, worker: Worker) -> None:
        """Send a worker its queue, as far as its socket takes it."""
        queue = worker.queue
        while queue:
            count = fitting(queue)
            jobs = [queue[index] for index in range(count)]
            files = [file for _, file in jobs if file >= 0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
            try:
                worker.sock.sendmsg([b"".join(packet for packet, _ in jobs)], rights, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                worker.blocked = True
                self.watch(worker, True)
                return
            except OSError:  # it has died; its socket will say so too
                return
            for _ in range(count):
                close(queue.popleft()[1])
        if worker.blocked:
            worker.blocked = False
            self.watch(worker, False)

    # -- hearing

    def hear(self, worker: Worker) -> None:
        """Take the answers of a worker, or note its death."""
        try:
            length = worker.sock.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            answers = decode_answers(bytes(self._buffer[:length]))
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            length, answers = 0, []
        for answer in answers:
            if answer.job in worker.jobs:
                worker.jobs.discard(answer.job)
                self.answered(answer)
        worker.last_used = self.clock()
        if not length:
            self._bury(worker)
        elif worker.retired and not worker.jobs:
            self._close(worker)

    def _bury(self, worker: Worker) -> None:
        for key, other in list(self._workers.items()):
            if other is worker:
                del self._workers[key]
        for _, file in worker.queue:
            close(file)
        worker.queue.clear()
        jobs, worker.jobs = worker.jobs, set()
        self._close(worker)
        for job in jobs:
            self.answered(Answer(job, CRASH, b""))

    # -- starting and ending

    def _start(self, key: Hashable) -> Worker:
        if len(self._workers) >= self.most_workers:
            self._make_room()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = fork_as(self.identity(key), [theirs.fileno(), *self.kept(key)], lambda: self.serve(key, theirs))
        except BaseException:
            ours.close()
            theirs.close()
            raise
        theirs.close()
        ours.setblocking(False)
        worker = self._workers[key] = Worker(pid, ours, self.clock())
        self.watch(worker, False)
        return worker

    def _make_room(self) -> None:
        for key, worker in self._workers.items():
            if not worker.jobs:
                self._retire(key)
                return

    def _retire(self, key: Hashable) -> None:
        worker = self._workers.pop(key)
        worker.retired = True
        if worker.jobs:
            self._retired.append(worker)
        else:
            self._close(worker)

    def _close(self, worker: Worker) -> None:
        self.watch(worker, None)
        worker.sock.close()
        if worker in self._retired:
            self._retired.remove(worker)

    def expire(self) -> float | None:
        """End workers that have idled long enough; return the seconds until the next may, None if there is none.

        It is asked at every turn, and looks at the workers only when one may be due: whoever is busy now idles later.
        """
        if not self._workers:
            return None
        now = self.clock()
        if now < self._look_at:
            return self._look_at - now
        idle = [
            (worker.last_used + IDLE_SECONDS - now, key) for key, worker in self._workers.items() if not worker.jobs
        ]
        for left, key in idle:
            if left <= 0:
                self._retire(key)
        wait = min((left for left, _ in idle if left > 0), default=IDLE_SECONDS)
        self._look_at = now + wait
        return wait if self._workers else None

    def retire_all(self) -> None:
        """Let every worker finish and end; later jobs get new ones."""
        for key in list(self._workers):
            self._retire(key)

    def close(self) -> None:
        """Hang up on all workers: they end their programs and themselves."""
        for worker in [*self._workers.values(), *self._retired]:
            worker.jobs.clear()
            self._close(worker)
        self._workers.clear()


def affordable_workers() -> int:
    """Return how many workers may stay warm on this machine."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(FEWEST_WORKERS, min(MOST_WORKERS, memory // MEMORY_SHARE // WORKER_BYTES))


def fitting(queue: Sequence[tuple[bytes, int]] | deque[tuple[bytes, int]]) -> int:
    """Return how many of the first jobs fit into one packet, at least 1."""
    size = 0
    for count, (packet, _) in enumerate(queue):
        size += len(packet)
        if count and (size > PACKET_BYTES or count == PACKET_FILES):
            return count
    return len(queue)


def close(file: int) -> None:
    if file >= 0:
        os.close(file)


def fork_as(identity: Identity, kept: Sequence[int], serve: Callable[[], None]) -> int:
    """Fork a process that is `identity`, has no descriptors but `kept`, and ends when `serve` does; return its number.

    Raises OSError. In the child the parent's objects stay until the end, garbage as well: their descriptors are closed here, once.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    gc.freeze()
    try:
        reset_signals()
        close_others(kept)
        drop(identity)
        os.umask(0o077)
        serve()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def close_others(kept: Sequence[int]) -> None:
    """Close every descriptor but the standard ones and these."""
    low = 3
    for file in sorted(kept):
        os.closerange(low, file)
        low = file + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def reset_signals() -> None:
    """Take default signals: a worker waits for its own children and dies of TERM."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def drop(identity: Identity) -> None:
    """Become a user for good: one group, one user, no way back. Raises OSError, after which the process must end."""
    uid, gid = identity.uid, identity.gid
    if uid is None:
        return
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or uid == 0:
        raise PermissionError(f"could not become uid {uid} gid {gid}")
