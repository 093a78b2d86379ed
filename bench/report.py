"""Figures for people and programs: a table, JSON, and a plot."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench.workloads import WORKLOADS, Result

# workload -> peer -> its runs
Results = Mapping[str, Mapping[str, Sequence[Result]]]
OURS = "pluq"
COLUMNS = 4


def median(runs: Sequence[Result], what: str) -> float:
    return float(statistics.median(getattr(run, what) for run in runs))


def table(results: Results) -> str:
    """Return one row per workload and peer: medians, and how many times faster than it pluq delivers."""
    head = f"{'workload':10} {'peer':8} {'accepted/s':>11} {'delivered/s':>12} {'(min-max)':>12} {'CPU us/msg':>11} {'PSS MiB':>8} {'pluq is':>8}"
    lines = [head, "-" * len(head)]
    for workload, by_peer in results.items():
        ours = median(by_peer[OURS], "delivered") if by_peer.get(OURS) else None
        for peer, runs in by_peer.items():
            delivered = median(runs, "delivered")
            rates = [run.delivered for run in runs]
            ratio = f"{ours / delivered:6.2f} x" if ours and peer != OURS else ""
            lines.append(
                f"{workload:10} {peer:8} {median(runs, 'accepted'):11.0f} {delivered:12.0f} {f'({min(rates):.0f}-{max(rates):.0f})':>12}"
                f" {median(runs, 'cpu_us'):11.0f} {median(runs, 'memory') / 2**20:8.1f} {ratio:>8}"
            )
    return "\n".join(lines)


def markdown(results: Results, idle: Mapping[str, int]) -> str:
    """Return what docs/performance.md shows: rates and CPU beside each other, and where our CPU goes."""
    peers = list(dict.fromkeys(peer for by_peer in results.values() for peer in by_peer))
    head = ["workload", *(f"{peer}: delivered/s (accepted/s), CPU, memory" for peer in peers), "pluq is"]
    lines = [row(head), row(["---"] * len(head))]
    for workload, by_peer in results.items():
        cells = [cell(by_peer[peer]) if by_peer.get(peer) else "" for peer in peers]
        lines.append(row([WORKLOADS[workload].about, *cells, ratios(by_peer)]))
    lines += ["", "Where pluq's CPU goes, microseconds a message (a recipient, where there are many):", ""]
    roles = {
        "smtpd": "pluq-smtpd",
        "queue": "pluq-queue",
        "send": "pluq-send",
        "local": "pluq-lspawn",
        "remote": "pluq-rspawn",
    }
    lines += [row(["workload", *roles]), row(["---"] * (len(roles) + 1))]
    for workload, by_peer in results.items():
        runs = by_peer.get(OURS, [])
        if runs:
            used = [statistics.median(run.by_program.get(name, 0.0) for run in runs) for name in roles.values()]
            lines.append(row([WORKLOADS[workload].about, *(f"{us:.0f}" if us >= 1 else "" for us in used)]))
    told = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in idle.items())
    lines += ["", f"An idle stack takes (PSS of all processes): {told}."] if idle else []
    return "\n".join(lines) + "\n"


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def cell(runs: Sequence[Result]) -> str:
    cpu, memory = median(runs, "cpu_us"), median(runs, "memory") / 2**20
    return f"{median(runs, 'delivered'):.0f} ({median(runs, 'accepted'):.0f}), {cpu:.0f} us, {memory:.0f} MiB"


def ratios(by_peer: Mapping[str, Sequence[Result]]) -> str:
    """Return how many times as fast we deliver, and in brackets how many times less CPU we use, than each peer."""
    ours = by_peer.get(OURS)
    others = [(peer, runs) for peer, runs in by_peer.items() if peer != OURS and runs]
    if not ours:
        return ""
    told = []
    for peer, runs in others:
        faster = median(ours, "delivered") / median(runs, "delivered")
        told.append(f"{faster:.1f} x {peer} ({median(runs, 'cpu_us') / max(median(ours, 'cpu_us'), 1):.1f} x)")
    return ", ".join(told)


def programs(results: Results) -> str:
    """Return who used the CPU, in microseconds a message: medians of each program."""
    lines = []
    for workload, by_peer in results.items():
        for peer, runs in by_peer.items():
            names = sorted({name for run in runs for name in run.by_program})
            cpu = {name: statistics.median(run.by_program.get(name, 0.0) for run in runs) for name in names}
            busy = sorted(((us, name) for name, us in cpu.items() if us >= 1), reverse=True)
            lines.append(f"{workload:10} {peer:8} " + ", ".join(f"{name} {us:.0f}" for us, name in busy))
    return "\n".join(lines)


def as_json(results: Results, idle: Mapping[str, int]) -> str:
    data = {
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "idle_pss_bytes": dict(idle),
        "results": {
            workload: {peer: [asdict(run) for run in runs] for peer, runs in by_peer.items()}
            for workload, by_peer in results.items()
        },
    }
    return json.dumps(data, indent=2) + "\n"


def plot(results: Results, path: str) -> None:
    """Draw delivered per second of each peer, one group of bars per workload. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    peers = list(dict.fromkeys(peer for by_peer in results.values() for peer in by_peer))
    columns = min(len(results), COLUMNS)
    rows = -(-len(results) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(3.2 * columns, 3.2 * rows), squeeze=False)
    for axis in axes.flat[len(results) :]:
        axis.set_visible(False)
    for axis, (workload, by_peer) in zip(axes.flat, results.items(), strict=False):
        present = [peer for peer in peers if by_peer.get(peer)]
        heights = [median(by_peer[peer], "delivered") for peer in present]
        bars = axis.bar(present, heights, color=[f"C{peers.index(peer)}" for peer in present])
        axis.bar_label(bars, fmt="%.0f")
        axis.margins(y=0.15)
        axis.set_title(WORKLOADS[workload].about if workload in WORKLOADS else workload, fontsize=9)
    axes[0][0].set_ylabel("delivered per second")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
