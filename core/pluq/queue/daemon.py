"""The queue daemon: the one process that writes the queue of a resident stack, as the user qmailq.

It listens on three sockets that the supervisor made: run/lease (workers of servers, lease_server.py), run/qmqp (every local user,
qmqp_server.py), run/todo (qmail-send, todo_link.py). What they hand in, the committer puts into the queue in groups.

One thread does everything: between two waits for events it takes what all sockets have, then commits that as one group. On kill -9
at any point the queue is in a state of INTERNALS, or the journal knows better: the next daemon recovers, empties pool/ and goes on.
"""

from __future__ import annotations

import errno
import gc
import itertools
import os
import resource
import selectors
import signal
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic

from pluq import log
from pluq.config.home import Home
from pluq.errors import PluqError, ProtocolError
from pluq.queue import refusal
from pluq.queue.committer import Committer
from pluq.queue.journal import Journal, JournalError
from pluq.queue.layout import QueueLayout
from pluq.queue.lease import PACKET_BYTES
from pluq.queue.lease_server import Worker
from pluq.queue.pool import Owner, Pool, Slot
from pluq.queue.qmqp_server import MAX_SESSIONS, MAX_USER_SESSIONS, Session, peer_of
from pluq.queue.recovery import recover, report
from pluq.queue.todo_link import TodoLink
from pluq.queue.writer import pull_trigger, qmail_uids

__all__ = ["Daemon", "run"]

# Messages in the queue whose files stay open to be recycled, two descriptors each; far more than are ever under way
# unless deliveries stall, and then recycling would not help.
MAX_HOT = 512
# Descriptors to want: the hot and leased files, the sessions.
WANTED_FILES = 16384
# How often sessions are looked through for stalled ones, and how long a stop waits for those under way.
SWEEP_SECONDS = 5.0
STOP_SECONDS = 5.0
SOCKET_BUFFER = 1 << 20
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def run(home: Home, qmqp_sock: socket.socket, lease_sock: socket.socket, todo_sock: socket.socket) -> int:
    """Serve until TERM. The sockets listen already."""
    os.umask(0o022)
    raise_file_limit()
    # A write lease that is asked for and returned at once must never end in the kernel's default action for SIGIO.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        daemon = Daemon(home, qmqp_sock, lease_sock, todo_sock)
    except (PluqError, OSError) as error:
        log.say("queue", str(error))
        return 111
    gc.collect()
    gc.freeze()
    gc.set_threshold(50000, 20, 20)
    try:
        daemon.serve()
    except JournalError as error:
        log.say("queue", f"{error}; starting again")
        return 111
    return 0


def new_journal(folder: str) -> Journal | None:
    """Return a journal, None where there can be none: a disk without inodes needs a daemon that removes what is delivered."""
    if not Journal.is_possible():
        return None
    try:
        return Journal(folder)
    except OSError as error:
        log.say("queue", f"{folder}: no journal, so every message waits twice for the disk: {error}")
        return None


def raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Daemon:
    """The sockets and who is behind them."""

    def __init__(
        self, home: Home, qmqp_sock: socket.socket, lease_sock: socket.socket, todo_sock: socket.socket
    ) -> None:
        self._layout = QueueLayout(home.queue)
        self._pool = Pool(self._layout)
        report(recover(self._layout))
        self._pool.empty()  # of what was needed to write messages once more
        self._committer = Committer(self._layout, self._pool, self._entered, new_journal(self._layout.pool))
        # Until our qmail-send comes: another one removes messages by qmail-clean, and we do not hear of it.
        self._committer.is_sole_remover = False
        self._own_files = Owner()
        self._qmail_uids = qmail_uids()
        self._numbers = itertools.count(os.getpid())
        self._listeners: dict[socket.socket, Callable[[socket.socket], None]] = {
            qmqp_sock: self._accept_session,
            lease_sock: self._accept_worker,
            todo_sock: self._accept_link,
        }
        self._paused: list[socket.socket] = []
        self._workers: list[Worker] = []
        self._sessions: set[Session] = set()
        self._user_sessions: dict[int, int] = {}
        self._link: TodoLink | None = None
        self._untold = False
        self._packet = bytearray(PACKET_BYTES + 1)
        self._view = memoryview(self._packet)
        self._selector = selectors.DefaultSelector()
        self._next_sweep = monotonic() + SWEEP_SECONDS
        self._stop_at = float("inf")

    # The loop

    def serve(self) -> None:
        """Run until TERM, then until what is under way is done."""
        woken, wake = socket.socketpair()
        for sock in (woken, wake):
            sock.setblocking(False)
        signal.signal(signal.SIGTERM, lambda number, frame: self.stop())
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._selector.register(woken, READ, lambda mask: drain(woken))
        for listener, accept in self._listeners.items():
            listener.setblocking(False)
            self._selector.register(listener, READ, partial(self._accept_all, listener, accept))
        while not self._is_finished():
            self._turn()
        self._close()
        signal.set_wakeup_fd(-1)
        woken.close()
        wake.close()

    def stop(self) -> None:
        """Take no new connections and end once nothing is under way."""
        self._stop_at = monotonic() + STOP_SECONDS

    def _is_finished(self) -> bool:
        if self._stop_at == float("inf"):
            return False
        is_idle = not (self._workers or self._sessions) and self._committer.is_idle
        return is_idle or monotonic() >= self._stop_at

    def _turn(self) -> None:
        timeout = max(0.0, min(self._next_sweep, self._stop_at) - monotonic())
        group_due = self._committer.wait_seconds()
        if group_due is not None:
            timeout = min(timeout, group_due)
        for key, mask in self._selector.select(timeout):
            key.data(mask)
        if self._committer.is_due():
            self._look_again()
            self._committer.run_group()
            self._after_group()
        for worker in self._workers:
            self._flush_worker(worker)
        self._committer.rest()
        if self._link is not None and self._link.blocked:
            self._selector.modify(self._link.sock, READ | WRITE, self._link_ready)
        if monotonic() >= self._next_sweep:
            self._sweep()

    def _look_again(self) -> None:
        """Let those go first who are about to hand something in: one wait for the disk, and one turn of ours, is for more messages then."""
        os.sched_yield()
        for key, mask in self._selector.select(0):
            key.data(mask)

    def _after_group(self) -> None:
        if self._committer.hot_count > MAX_HOT:
            self._committer.cool_down(MAX_HOT // 2)
        if self._untold:
            self._untold = False
            pull_trigger(self._layout)

    def _accept_all(self, listener: socket.socket, accept: Callable[[socket.socket], None], mask: int) -> None:
        """Take every connection that waits."""
        while True:
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # No descriptor for it: it waits, and we do not look until something may have changed.
                self._selector.unregister(listener)
                self._paused.append(listener)
                return
            sock.setblocking(False)
            accept(sock)

    def _sweep(self) -> None:
        now = monotonic()
        self._next_sweep = now + SWEEP_SECONDS
        while self._paused:
            listener = self._paused.pop()
            self._selector.register(listener, READ, partial(self._accept_all, listener, self._listeners[listener]))
        for session in list(self._sessions):
            session.expire(now)

    def _close(self) -> None:
        for session in list(self._sessions):
            session.refuse(refusal.LATER)
            session.end()
        for worker in list(self._workers):
            self._drop_worker(worker)
        self._committer.close()
        if self._link is not None:
            self._link.sock.close()
        self._selector.close()
        self._pool.close()

    # Files

    def _lease(self, owner: Owner) -> Slot:
        """Return a file, making room by letting go of old ones when there are no descriptors left. Raises OSError."""
        try:
            return self._pool.lease(owner)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._committer.cool_down()
        return self._pool.lease(owner)

    def _entered(self, number: int, size: int, todo: bytes) -> bool:
        """Tell qmail-send of a new message; the answer is whether it will tell us when the message has left."""
        if self._link is None:
            self._untold = True
            return False
        self._link.entered(number, size, todo)
        return True

    # Workers

    def _accept_worker(self, sock: socket.socket) -> None:
        uid, _pid = peer_of(sock)
        if uid not in (0, os.geteuid(), self._qmail_uids[1]):
            sock.close()
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        worker = Worker(sock, uid, self._lease, self._pool.give_back, self._committer.add, self._numbers.__next__)
        self._workers.append(worker)
        self._selector.register(sock, READ, lambda mask: self._worker_ready(worker))

    def _worker_ready(self, worker: Worker) -> None:
        """Take every packet of this worker that is there: they form one group."""
        while worker.alive:
            try:
                size = worker.sock.recv_into(self._packet)
                if size == 0 or size > PACKET_BYTES:
                    raise ProtocolError("the worker has gone", blame="local")
                worker.take(self._view[:size])
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, ProtocolError):
                self._drop_worker(worker)

    def _flush_worker(self, worker: Worker) -> None:
        waited = bool(worker.blocked)
        try:
            sent = worker.flush()
        except (OSError, ProtocolError):
            self._drop_worker(worker)
            return
        if sent is waited:
            events = READ if sent else READ | WRITE
            self._selector.modify(worker.sock, events, lambda mask: self._worker_ready(worker))

    def _drop_worker(self, worker: Worker) -> None:
        self._selector.unregister(worker.sock)
        # A new list: the loop may be going over the old one.
        self._workers = [other for other in self._workers if other is not worker]
        worker.close(self._pool.release)

    # Sessions of local users

    def _accept_session(self, sock: socket.socket) -> None:
        session = Session(
            sock,
            self._own_files,
            self._qmail_uids,
            self._lease,
            self._committer.add,
            self._pool.give_back,
            self._session_complete,
            self._session_over,
        )
        count = self._user_sessions.get(session.uid, 0) + 1
        self._user_sessions[session.uid] = count
        self._sessions.add(session)
        self._selector.register(sock, READ, lambda mask: session.readable())
        trusted = session.uid in (0, os.geteuid(), *self._qmail_uids)
        if len(self._sessions) > MAX_SESSIONS or (count > MAX_USER_SESSIONS and not trusted):
            session.refuse(refusal.LATER)
            session.end()

    def _session_complete(self, session: Session) -> None:
        """It waits for the commit: what its client does meanwhile does not matter."""
        self._selector.unregister(session.sock)

    def _session_over(self, session: Session) -> None:
        self._sessions.discard(session)
        count = self._user_sessions[session.uid] - 1
        if count:
            self._user_sessions[session.uid] = count
        else:
            del self._user_sessions[session.uid]
        if session.sock in self._selector.get_map():
            self._selector.unregister(session.sock)
        session.sock.close()

    # qmail-send

    def _accept_link(self, sock: socket.socket) -> None:
        uid, _pid = peer_of(sock)
        if uid not in (0, os.geteuid(), self._qmail_uids[2]):
            sock.close()
            return
        self._drop_link()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self._link = TodoLink(sock, self._committer)
        self._committer.is_sole_remover = True
        self._selector.register(sock, READ, self._link_ready)

    def _link_ready(self, mask: int) -> None:
        link = self._link
        if link is None:
            return
        if mask & WRITE:
            link.flush()
            if not link.blocked:
                self._selector.modify(link.sock, READ, self._link_ready)
        while mask & READ:
            try:
                packet = link.sock.recv(64)
                if not packet:
                    raise ProtocolError("qmail-send has gone", blame="local")
                link.take(packet)
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, ProtocolError):
                self._drop_link()
                return

    def _drop_link(self) -> None:
        """Without qmail-send nobody tells when messages leave: their files are ordinary queue files from now on."""
        if self._link is not None:
            self._selector.unregister(self._link.sock)
            self._link.sock.close()
            self._link = None
        self._committer.is_sole_remover = False
        self._committer.cool_down()


def drain(sock: socket.socket) -> None:
    """Forget the bytes that a signal left; its handler has run."""
    try:
        sock.recv(4096)
    except BlockingIOError:
        pass
