"""What pluq does with very much of something, and how the cost grows with it.

    python -m bench.limits [--only NAME,...] [--output FOLDER]

idle        10,000 connections that say EHLO and no more: memory and CPU of the whole stack
gigabyte    one message of 1 GB: the most memory that any process had
growth      recipients, connections, header fields and message size, each over three decades: CPU against the number
deferred    the same for the length of the queue; and with 100,000 deferred messages: seconds to a ready stack, memory, a new local
            message, CPU at rest. It comes last: a filesystem that has just lost 300,000 files makes new ones slowly

Everything is a row of a table (Markdown, also in limits.md). Growth is drawn in growth.png, with lines for n and n log n.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench import processes
from bench.peers import USERS_DOMAIN, Pluq
from bench.workloads import SENDER, SOURCE, wait_until

from pluq.queue.layout import QueueLayout

MIB = 1 << 20
REST_SECONDS = 5.0
RUNS = 3
QUEUE_LENGTHS = (100, 1000, 10_000, 100_000)
Row = tuple[str, str]
Curve = list[tuple[int, float]]


class Alone(Pluq):
    """pluq with room for many connections."""

    def make_home(self) -> None:
        super().make_home()
        self.control("concurrencyincoming", "20000")

    def control(self, name: str, text: str) -> None:
        with open(f"{self.home}/control/{name}", "w") as file:
            file.write(f"{text}\n")

    def delivered(self) -> int:
        return len(os.listdir(self.new))

    def send(self, *options: str, to: str = "") -> None:
        """Send with smtp-source; return when it is accepted."""
        command = [SOURCE, *options, "-f", SENDER, "-t", to or self.address(), f"127.0.0.1:{self.port}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def usage(self) -> dict[int, processes.Usage]:
        return processes.cpu_usage(self.roots)

    def cpu_since(self, before: dict[int, processes.Usage]) -> float:
        """Return the CPU seconds since a look at `usage`, a tick of the clock at least."""
        return max(sum(processes.cpu_between(before, self.usage()).values()), 1 / processes.TICK)


def open_stack(profile: str = "", serve: bool = True) -> Alone:
    """Make a stack, warmed up if it is to serve at once."""
    folder = tempfile.mkdtemp(prefix="bench.")
    os.chmod(folder, 0o755)
    peer = Alone(f"{folder}/pluq", 1)  # nobody listens on port 1: mail for others is deferred
    peer.profile = profile
    peer.make_home()
    if serve:
        peer.serve()
        peer.send("-m", "20")
        wait_until(lambda: peer.delivered() >= 20, "the first messages")
        peer.clear()
    return peer


def close_stack(peer: Alone) -> None:
    peer.stop()
    shutil.rmtree(os.path.dirname(peer.folder), ignore_errors=True)


@contextlib.contextmanager
def stack(serve: bool = True) -> Iterator[Alone]:
    peer = open_stack(serve=serve)
    try:
        yield peer
    finally:
        close_stack(peer)


# -- connections


def hold(peer: Alone, count: int) -> list[socket.socket]:
    """Open connections that greet, and nothing else."""
    held = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", peer.port))
        sock.sendall(b"EHLO client.example\r\n")
        held.append(sock)
    for sock in held:
        said = b""
        while not said.endswith(b"250 8BITMIME\r\n"):
            said += sock.recv(500)
    return held


def at_rest(peer: Alone) -> float:
    """Return the share of a processor that the stack uses while nothing happens."""
    before, began = peer.usage(), time.monotonic()
    time.sleep(REST_SECONDS)
    return sum(processes.cpu_between(before, peer.usage()).values()) / (time.monotonic() - began)


def idle(count: int = 10_000) -> list[Row]:
    raise_files(count + 200)
    more, rest = [], []
    for _ in range(RUNS):
        with stack() as peer:
            base = processes.pss_bytes(peer.roots)
            held = hold(peer, count)
            more.append(processes.pss_bytes(peer.roots) - base)
            rest.append(at_rest(peer))
            for sock in held:
                sock.close()
    memory = statistics.median(more)
    return [
        (f"{count} idle connections, memory over the base", f"{memory / MIB:.1f} MiB, {memory / count:.0f} bytes each"),
        (f"{count} idle connections, CPU", f"{statistics.median(rest):.1%}"),
    ]


def raise_files(wanted: int) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


# -- the queue


def fill(home: str, count: int) -> None:
    """Put deferred messages into the queue as a scheduler leaves them, due in an hour."""
    layout = QueueLayout(f"{home}/queue")
    due, birth = int(time.time()) + 3600, int(time.time()) - 60
    ids = [owner_of(f"{home}/queue/{name}/0") for name in ("mess", "info", "remote")]
    for _ in range(count):
        path = f"{home}/queue/pid/bench"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        number = os.fstat(descriptor).st_ino
        os.write(descriptor, b"Subject: x\n\nx\n")
        os.fchown(descriptor, *ids[0])
        os.close(descriptor)
        os.rename(path, layout.mess(number))
        write(layout.info(number), b"Fsender%d@there.example.net\0" % number, birth, ids[1])
        write(layout.remote(number), b"Trecipient%d@elsewhere.example.com\0" % number, due, ids[2])


def write(path: str, data: bytes, when: int, owner: tuple[int, int]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, data)
    os.fchown(descriptor, *owner)
    os.close(descriptor)
    os.utime(path, (when, when))


def owner_of(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_uid, status.st_gid


def scheduler_ready(peer: Alone, began: float) -> float:
    """Return how long after `began` the scheduler knew its queue: its status line."""
    wait_until(lambda: b"status:" in processes.read_bytes(peer.log), "the scheduler's first line")
    return time.monotonic() - began


def deferred(curves: dict[str, Curve]) -> list[Row]:
    with stack(serve=False) as peer:
        base = [started(peer) for _ in range(RUNS)]
        cpu, memory = (statistics.median(column) for column in list(zip(*base, strict=True))[1:])
        curve: Curve = []
        present = 0
        for count in QUEUE_LENGTHS:
            fill(peer.home, count - present)
            present = count
            spent = statistics.median(started(peer)[1] for _ in range(RUNS))
            curve.append((count, max(spent - cpu, 0.001)))
        curves["deferred messages, start"] = curve
        return [*full_queue(peer, present, memory), ("growth: deferred messages, start", describe(curve))]


def full_queue(peer: Alone, count: int, base: float) -> list[Row]:
    """Measure a stack with `count` deferred messages; `base` is the memory with none."""
    readies, memories, rests, news = [], [], [], []
    for _ in range(RUNS):
        ready, _cpu, memory = started(peer, stop=False)
        readies.append(ready)
        memories.append(memory - base)
        rests.append(at_rest(peer))
        peer.clear()
        began = time.monotonic()
        peer.send("-m", "1")
        wait_until(lambda: peer.delivered() >= 1, "a local message", 0.001)
        news.append(time.monotonic() - began)
        peer.stop()
    middle = statistics.median
    return [
        (f"{count} deferred messages, ready after", f"{middle(readies):.1f} s"),
        (f"{count} deferred messages, memory over an empty queue", f"{middle(memories) / MIB:.1f} MiB"),
        (f"{count} deferred messages, a new local message delivered after", f"{middle(news) * 1000:.0f} ms"),
        (f"{count} deferred messages, CPU at rest", f"{middle(rests):.1%}"),
    ]


def started(peer: Alone, stop: bool = True) -> tuple[float, float, int]:
    """Start the stack; return seconds until its scheduler is ready, CPU seconds, and memory; stop it again."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(peer.log)
    began = time.monotonic()
    peer.serve()
    ready = scheduler_ready(peer, began)
    time.sleep(1.0)
    cpu, memory = peer.cpu_since({}), processes.pss_bytes(peer.roots)
    if stop:
        peer.stop()
    return ready, cpu, memory


# -- size


def gigabyte(size: int = 1_000_000_000) -> list[Row]:
    with stack() as peer:
        peaks: dict[str, int] = {}
        began = time.monotonic()
        source = [SOURCE, "-m", "1", "-l", str(size), "-f", SENDER, "-t", peer.address(), f"127.0.0.1:{peer.port}"]
        load = subprocess.Popen(source, stdout=subprocess.DEVNULL)
        while load.poll() is None or peer.delivered() < 1:
            for root in peer.roots:
                for pid in processes.tree(root):
                    name, peak = processes.peak_bytes(pid)
                    peaks[name] = max(peaks.get(name, 0), peak)
            time.sleep(0.2)
        seconds = time.monotonic() - began
        whole = os.path.getsize(f"{peer.new}/{os.listdir(peer.new)[0]}")
    if load.returncode or whole < size * 0.95:  # it has lost the CR of each line
        raise RuntimeError(f"the message of {size} bytes did not arrive")
    largest = max(peaks, key=lambda name: peaks[name])
    return [
        ("one message of 1 GB, the largest process", f"{peaks[largest] / MIB:.0f} MiB ({largest})"),
        ("one message of 1 GB, delivered after", f"{seconds:.0f} s"),
    ]


# -- growth


def cost_of(peer: Alone, deliveries: int, *options: str, to: str = "") -> float:
    """Return the CPU seconds of the stack for one load."""
    peer.clear()
    before = peer.usage()
    peer.send(*options, to=to)
    folders = peer.folders() if to else [peer.new]
    wait_until(lambda: sum(len(os.listdir(folder)) for folder in folders) >= deliveries, f"{deliveries} messages")
    return peer.cpu_since(before)


def repeated(counts: list[int], measure: Callable[[int, int], float]) -> Curve:
    """Measure each number often enough for the clock ticks of 10 ms; `measure(n, times)` gives seconds of CPU in all."""
    curve = []
    for count in counts:
        times = max(1, 2000 // count)
        curve.append((count, measure(count, times) / times))
    return curve


def recipients_curve(peer: Alone) -> Curve:
    """CPU of one message to n recipients in 200 mailboxes."""

    def measure(count: int, times: int) -> float:
        options = ("-s", "5", "-d", "-m", str(times), "-r", str(count))
        return cost_of(peer, count * times, *options, to=f"user@{USERS_DOMAIN}")

    return repeated([2, 20, 200, 2000], measure)


def size_curve(peer: Alone) -> Curve:
    """CPU of one message of n bytes."""
    curve = []
    for size, times in ((10_000, 400), (100_000, 200), (1_000_000, 50), (10_000_000, 8)):
        curve.append((size, cost_of(peer, times, "-s", "4", "-m", str(times), "-l", str(size)) / times))
    return curve


def header_curve(peer: Alone) -> Curve:
    """CPU of one message with n header fields."""
    curve = []
    for count, times in ((10, 500), (100, 400), (1000, 200), (10_000, 40)):
        path = f"{peer.folder}/fields"
        with open(path, "w") as file:
            file.write("From: a@b.example\n" + "".join(f"X-Field-{n}: some words\n" for n in range(count)) + "\nx\n")
        curve.append((count, cost_of(peer, times, "-s", "4", "-m", str(times), "-F", path) / times))
    return curve


def connections_curve(peer: Alone) -> Curve:
    """CPU of n connections that greet at the same time."""
    curve = []
    for count in (10, 100, 1000, 10_000):
        times = max(1, 4000 // count)
        before = peer.usage()
        for _ in range(times):
            for sock in hold(peer, count):
                sock.close()
        time.sleep(0.5)
        curve.append((count, peer.cpu_since(before) / times))
    return curve


def growth(curves: dict[str, Curve]) -> list[Row]:
    raise_files(10_200)
    with stack() as peer:
        curves["recipients of a message"] = recipients_curve(peer)
        curves["header fields"] = header_curve(peer)
        curves["message size, bytes"] = size_curve(peer)
        curves["connections"] = connections_curve(peer)
    return [(f"growth: {name}", describe(curve)) for name, curve in curves.items()]


def describe(curve: Curve) -> str:
    """Return the costs, and the exponent of the last decade: 1 is linear."""
    costs = ", ".join(f"{count}: {seconds * 1000:.3g} ms" for count, seconds in curve)
    (few, cheap), (many, dear) = curve[-2:]
    exponent = math.log(dear / cheap) / math.log(many / few)
    return f"{costs}; n^{exponent:.2f} in the last decade"


def draw(curves: dict[str, Curve], path: str) -> None:
    try:
        import matplotlib
    except ImportError:
        sys.stderr.write("no plot: matplotlib is not installed (pip install --group bench)\n")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(3.2 * len(curves), 3.4), squeeze=False)
    for axis, (name, curve) in zip(axes[0], curves.items(), strict=True):
        counts, costs = [count for count, _ in curve], [seconds for _, seconds in curve]
        last, cost = curve[-1]
        axis.loglog(counts, costs, "o-", label="measured")
        axis.loglog(counts, [cost * count / last for count in counts], ":", label="n")
        scale = cost / (last * math.log(last))
        axis.loglog(counts, [scale * count * math.log(count) for count in counts], "--", label="n log n")
        axis.set_title(name, fontsize=9)
    axes[0][0].set_ylabel("CPU seconds, all processes")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="idle,gigabyte,growth,deferred")
    parser.add_argument("--output", default="bench/results")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started must not outlive us
    os.makedirs(options.output, exist_ok=True)
    curves: dict[str, Curve] = {}
    kinds: dict[str, Callable[[], list[Row]]] = {
        "idle": idle,
        "gigabyte": gigabyte,
        "growth": partial(growth, curves),
        "deferred": partial(deferred, curves),
    }
    lines = ["| what | measured |", "|---|---|"]
    for name in options.only.split(","):
        for what, measured in kinds[name]():
            lines.append(f"| {what} | {measured} |")
            sys.stderr.write(f"{what}: {measured}\n")
    if curves:
        draw(curves, f"{options.output}/growth.png")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    with open(f"{options.output}/limits.md", "w") as file:
        file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
