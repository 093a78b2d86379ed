"""bench/run: pluq beside its peers on this machine, in interleaved runs.

Every peer is started once, with folders and port of its own; then run by run, workload by workload, each is loaded in turn, so that
what else the machine does hits all of them. Printed are medians; all runs are in the JSON. docs/performance.md tells how to read it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

from bench import report
from bench.peers import Peer
from bench.processes import pss_bytes
from bench.setups import NAMES, SETUPS, missing, unusable
from bench.workloads import SOURCE, WARM_UP, WORKLOADS, Result, Workload

from pluq.testing.ports import free_port


def main() -> int:
    options = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started must not outlive us
    if not os.path.exists(SOURCE):
        sys.stderr.write(f"bench: {SOURCE} is missing: install Debian's postfix, which has it\n")
        return 111
    results: dict[str, dict[str, list[Result]]] = {}
    idle: dict[str, int] = {}
    chosen = [WORKLOADS[name] for name in options.workloads.split(",")]
    for setup in dict.fromkeys(workload.setup for workload in chosen):
        measure(setup, [workload for workload in chosen if workload.setup == setup], options, results, idle)
    print(report.table(results))
    print(f"\nCPU us/msg by program:\n{report.programs(results)}\n")
    print("idle PSS: " + ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in idle.items()))
    write_files(options.output, results, idle)
    return 0


def measure(
    setup: str,
    workloads: list[Workload],
    options: argparse.Namespace,
    results: dict[str, dict[str, list[Result]]],
    idle: dict[str, int],
) -> None:
    """Run the workloads of one setup, each peer in turn."""
    wanted = options.peers.split(",")
    kinds = {
        name: kind for name, kind in SETUPS[setup].items() if name in wanted and available(setup, name, options.folder)
    }
    with started(list(kinds.values()), options.folder, workloads[0]) as running:
        if setup == "plain":
            idle |= {peer.name: pss_bytes(peer.roots) for peer in running}
        for number in range(options.runs):
            for workload in workloads:
                by_peer = results.setdefault(workload.name, {name: [] for name in kinds})
                for peer in running:
                    result = workload.run(peer, options.scale)
                    by_peer[peer.name].append(result)
                    what = f"delivered {result.delivered:.0f}/s, {result.cpu_us:.0f} us"
                    progress(f"run {number + 1} {workload.name} {peer.name}: {what}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = "\n".join(f"  {name:9} {workload.about}" for name, workload in WORKLOADS.items())
    parser.epilog = f"workloads:\n{names}\n\nBENCH_QMAIL=HOME adds a stock qmail or notqmail."
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="which, separated by commas (default: all)")
    parser.add_argument("--peers", default=",".join(NAMES), help="which, separated by commas (default: all there are)")
    parser.add_argument("--runs", type=int, default=3, help="how often each (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of messages")
    parser.add_argument(
        "--folder", default=tempfile.gettempdir(), help="where queues and mailboxes lie (default: %(default)s)"
    )
    parser.add_argument(
        "--output", default="bench/results", help="folder for results.json and results.png (default: %(default)s)"
    )
    return parser.parse_args()


def available(setup: str, name: str, folder: str) -> bool:
    kind = SETUPS[setup][name]
    why = missing(kind) or unusable(kind, folder)
    if why:
        progress(f"{setup} without {name}: {why}")
    return why is None


def progress(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def started(kinds: list[type[Peer]], parent: str, first: Workload) -> Iterator[list[Peer]]:
    """Start the peers, warm each up a little, and end and remove everything afterwards."""
    folder = tempfile.mkdtemp(prefix="bench.", dir=parent)
    os.chmod(folder, 0o755)
    running: list[Peer] = []
    try:
        for kind in kinds:
            peer = kind(f"{folder}/{kind.__name__}", free_port())
            running.append(peer)
            peer.start()
            first.run(peer, WARM_UP / first.messages)
        yield running
    finally:
        for peer in running:
            peer.stop()
        shutil.rmtree(folder, ignore_errors=True)


def write_files(folder: str, results: report.Results, idle: dict[str, int]) -> None:
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/results.json", "w") as file:
        file.write(report.as_json(results, idle))
    with open(f"{folder}/results.md", "w") as file:
        file.write(report.markdown(results, idle))
    try:
        report.plot(results, f"{folder}/results.png")
    except ImportError:
        progress("no plot: matplotlib is not installed (pip install --group bench)")


if __name__ == "__main__":
    sys.exit(main())
