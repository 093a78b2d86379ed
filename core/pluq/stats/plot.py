"""A tally as a picture, by matplotlib: deliveries over time, delays, domains, reasons."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pluq.stats.report import domain_outcomes, duration, moment, periods
from pluq.stats.tally import CHANNELS, OUTCOMES, Tally

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Blue, orange, vermilion and sky blue of Okabe and Ito: told apart without colour vision as well.
COLOURS = {b"success": "#0072b2", b"deferral": "#e69f00", b"failure": "#d55e00"}
CHANNEL_COLOURS = {b"local": "#56b4e9", b"remote": "#0072b2"}
WIDTH_INCHES, HEIGHT_INCHES, DOTS = 14, 9, 110
ROWS = 8
LEGEND_ROOM = 1.15
LABEL_CHARACTERS = 95
TICKS = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400)


def require_library() -> None:
    """Raise ImportError, with what to do, where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ImportError(
            "a picture needs matplotlib: pip install 'pluq[stats]', or Debian's python3-matplotlib"
        ) from None


def draw(tally: Tally, path: str) -> None:
    """Write a PNG. Raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, 2)
    _over_time(axes[0][0], tally)
    _delays(axes[0][1], tally)
    _domains(axes[1][0], tally)
    _reasons(axes[1][1], tally)
    if tally.first is not None and tally.last is not None:
        span = f"{moment(tally.first)} to {moment(tally.last)} UTC"
        figure.suptitle(f"{tally.messages} messages, {sum(tally.attempts.values())} deliveries, {span}")
    figure.savefig(path, format="png")


def _over_time(axes: Axes, tally: Tally) -> None:
    import matplotlib.dates

    step, found = periods(tally)
    times: Any = [datetime.fromtimestamp(when, UTC) for when, _one in found]
    bottom = [0] * len(found)
    for outcome in OUTCOMES:
        heights = [getattr(one, outcome.decode()) for _when, one in found]
        axes.bar(
            times,
            heights,
            width=step / 86400,
            bottom=bottom,
            align="edge",
            color=COLOURS[outcome],
            label=outcome.decode(),
        )
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    locator: Any = matplotlib.dates.AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_title("deliveries by " + ("hour" if step == 3600 else "day"))
    axes.set_ylim(top=LEGEND_ROOM * max([*bottom, 1]))
    axes.legend(loc="upper center", ncols=len(OUTCOMES))


def _delays(axes: Axes, tally: Tally) -> None:
    for channel in CHANNELS:
        steps = list(tally.delays[channel].steps())
        if steps:
            seconds, shares = zip(*steps, strict=True)
            axes.step(
                seconds, [100 * share for share in shares], color=CHANNEL_COLOURS[channel], label=channel.decode()
            )
    axes.set_title("from arrival to delivery: how many took no longer")
    if not axes.lines:
        _nothing(axes)
        return
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [duration(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 101)
    axes.set_ylabel("%")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _domains(axes: Axes, tally: Tally) -> None:
    names = [name for name, _count in tally.domain_attempts.top(ROWS)][::-1]
    counts = domain_outcomes(tally)
    labels = [textwrap.shorten(name.decode("utf-8", "backslashreplace"), 30, placeholder="...") for name in names]
    places = range(len(names))
    left = [0] * len(names)
    for outcome in OUTCOMES:
        widths = [counts.get((name, outcome), 0) for name in names]
        axes.barh(places, widths, left=left, color=COLOURS[outcome])
        left = [low + width for low, width in zip(left, widths, strict=True)]
    axes.set_yticks(places, labels, parse_math=False)
    axes.set_ylim(len(names) - ROWS - 0.6, len(names) - 0.4)
    axes.set_title("domains of recipients, by deliveries")
    if not names:
        _nothing(axes)


def _reasons(axes: Axes, tally: Tally) -> None:
    found = [(count, name, COLOURS[b"deferral"]) for name, count in tally.deferrals.top(ROWS)]
    found += [(count, name, COLOURS[b"failure"]) for name, count in tally.failures.top(ROWS)]
    rows = sorted(found, key=lambda row: row[0])[-ROWS:]
    axes.barh(range(len(rows)), [row[0] for row in rows], color=[row[2] for row in rows], alpha=0.55)
    axes.set_yticks([])
    axes.set_ylim(len(rows) - ROWS - 0.6, len(rows) - 0.4)
    for place, (_count, name, _colour) in enumerate(rows):
        label = textwrap.shorten(name.decode("utf-8", "backslashreplace"), LABEL_CHARACTERS, placeholder="...")
        # In the bar's row, from the left edge of the panel: a bar may be longer than its text, or shorter.
        axes.text(0.01, place, label, transform=axes.get_yaxis_transform(), va="center", fontsize=8, parse_math=False)
    axes.set_title("why deliveries were deferred (orange) and failed (red)")
    if not rows:
        _nothing(axes)


def _nothing(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center")
