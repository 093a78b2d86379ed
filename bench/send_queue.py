"""A full queue: python -m bench.send_queue [--messages N] [--due]

Makes a queue of deferred remote messages (info and remote files; they are an hour from their next try, or due now with --due), starts
the scheduler over it, and prints how long it takes to be ready, how much memory it took, what it costs at rest, and how long a new
local message waits. The daemon and the deliverers are played here.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time

from bench.send_loop import Peers, cpu_seconds, run_send

from pluq.config import Home, current_ids
from pluq.queue.layout import QueueLayout
from pluq.supervisor.hier import make_home

REST_SECONDS = 5.0


def fill(layout: QueueLayout, messages: int, due: int) -> None:
    """Make messages in S5."""
    for number in range(10**6, 10**6 + messages):
        for path, data in (
            (layout.mess(number), b"Subject: x\n\nx\n"),
            (layout.info(number), b"Fsender%d@there.example.net\0" % number),
            (layout.remote(number), b"Trecipient%d@elsewhere.example.com\0" % number),
        ):
            with open(path, "wb", buffering=0) as file:
                file.write(data)
        os.utime(layout.remote(number), (due, due))


def memory(pid: int, field: str = "Pss") -> float:
    """Return a process's share of memory in MB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(f"{field}:")) / 1024


def wait_for(log: str, start: str, limit: float = 120.0) -> float:
    """Return when the log has a line that starts so."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if os.path.exists(log):
            with open(log) as file:
                if any(line.startswith(start) for line in file):
                    return time.monotonic()
        time.sleep(0.005)
    raise TimeoutError(start)


def measure(messages: int, due: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(f"{folder}/home")
        make_home(home, current_ids())
        os.makedirs(home.run, exist_ok=True)
        with open(home.control("me"), "w") as file:
            file.write("here.example\n")
        fill(QueueLayout(home.queue), messages, int(time.time()) + (0 if due else 3600))
        peers = Peers(home)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os._exit(run_send(home, f"{folder}/log", None))
        peers.accept()
        ready = wait_for(f"{folder}/log", "status:")
        print(f"{messages} messages: ready in {ready - began:.2f} s, {memory(pid):.0f} MB")
        told = time.monotonic()
        peers.tell(7)
        while not peers.ended:
            peers.step(0.01)
        print(f"a new local message was done after {(time.monotonic() - told) * 1000:.0f} ms")
        time.sleep(2.0)
        before, rest = cpu_seconds(pid), time.monotonic()
        time.sleep(REST_SECONDS)
        used = sum(cpu_seconds(pid)) - sum(before)
        print(f"at rest: {used / (time.monotonic() - rest) * 100:.2f} % CPU, {memory(pid):.0f} MB")
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        print(f"left in {time.monotonic() - began:.2f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--due", action="store_true")
    options = parser.parse_args()
    measure(options.messages, options.due)
    return 0


if __name__ == "__main__":
    sys.exit(main())
