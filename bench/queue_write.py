"""The queue alone: what one message costs the daemon and a worker, without SMTP and without delivery.

    python bench/queue_write.py [--messages N] [--sessions N] [--size BYTES] [--home DIR]

A worker with so many concurrent sessions hands messages to a queue daemon through leases; a stand-in for qmail-send says at once
that each is delivered. Every message is durable before the next one of its session. Printed: messages a second, and CPU
microseconds a message of the daemon, the worker and the stand-in.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import signal
import socket
import tempfile
import time

from pluq.config import Home, current_ids
from pluq.supervisor.hier import make_home
from pluq.supervisor.sockets import bind_unix


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def in_child(work: object, *arguments: object) -> tuple[int, int]:
    """Run work(*arguments) in a child; return its pid and a descriptor that gives its CPU seconds."""
    out, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            start = cpu_seconds()
            assert callable(work)
            work(*arguments)
            os.write(report, repr(cpu_seconds() - start).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(report)
    return pid, out


def finish_at_once(home: Home) -> None:
    """Do as qmail-send when every delivery succeeds at the first try."""
    from pluq.store.unix import connect

    sock = connect(f"{home.run}/todo", socket.SOCK_SEQPACKET)
    while packet := sock.recv(65536):
        if packet[:1] == b"n":
            sock.send(b"m" + packet[1 : packet.index(b" ")])


def submit(home: Home, messages: int, sessions: int, size: int) -> None:
    import uvloop

    uvloop.run(submit_all(home, messages, sessions, size))


async def submit_all(home: Home, messages: int, sessions: int, size: int) -> None:
    from pluq.queue.lease_client import LeaseSubmitter

    submitter = LeaseSubmitter(home)
    if not submitter.connect():
        raise SystemExit("the daemon does not listen")
    body = (b"x" * 70 + b"\n") * (size // 71 + 1)
    body = body[:size]

    async def session(count: int) -> None:
        for _ in range(count):
            submission = await submitter.open()
            submission.write(b"Received: from bench (127.0.0.1)\n  by bench with SMTP; 1 Jan 2026 00:00:00 -0000\n")
            submission.write(body)
            await submission.commit(b"sender@example.org", [b"recipient@example.org"])

    await asyncio.gather(*(session(messages // sessions) for _ in range(sessions)))
    submitter.close()


def profiled_daemon(home: Home, *sockets: socket.socket) -> None:
    import cProfile
    import pstats

    import pluq.queue.daemon

    profiler = cProfile.Profile()
    profiler.runcall(pluq.queue.daemon.run, home, *sockets)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(22)


def main() -> None:
    import pluq.queue.daemon
    import pluq.queue.lease_client  # imported here, so that it is not counted

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--home", help="where to make the queue (default: a temporary folder)")
    parser.add_argument("--profile", action="store_true", help="profile the daemon")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(dir=options.home)
    home = Home(folder)
    make_home(home, current_ids())
    os.makedirs(home.run, exist_ok=True)
    kinds = {"qmqp": socket.SOCK_STREAM, "lease": socket.SOCK_SEQPACKET, "todo": socket.SOCK_SEQPACKET}
    sockets = [bind_unix(f"{home.run}/{name}", kind, 0o600, os.getuid()) for name, kind in kinds.items()]
    run = profiled_daemon if options.profile else pluq.queue.daemon.run
    daemon, daemon_cpu = in_child(run, home, *sockets)
    for sock in sockets:
        sock.close()
    send, send_cpu = in_child(finish_at_once, home)
    time.sleep(0.2)
    start = time.perf_counter()
    worker, worker_cpu = in_child(submit, home, options.messages, options.sessions, options.size)
    os.waitpid(worker, 0)
    seconds = time.perf_counter() - start
    os.kill(daemon, signal.SIGTERM)
    os.waitpid(daemon, 0)
    os.waitpid(send, 0)
    print(f"{options.messages / seconds:.0f} messages a second")
    for name, fd in (("daemon", daemon_cpu), ("worker", worker_cpu), ("send's stand-in", send_cpu)):
        used = float(os.read(fd, 100) or b"nan")
        print(f"{name:16} {used / options.messages * 1e6:6.1f} us CPU a message")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
