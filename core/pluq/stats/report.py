"""A tally as text, and as values for JSON. What came from a log is printable already; it is shown as it stands there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from pluq.stats.bounded import Durations, TopCounts
from pluq.stats.tally import CHANNELS, HOUR, OUTCOMES, Hour, Tally

QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}
BAR_WIDTH = 50
NAME_WIDTH = 34
HOURS_SHOWN = 72
"""With more hours than this the text has days."""
DAY = 86400


def moment(seconds: float) -> str:
    """Return a time for people: UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def duration(seconds: float | None) -> str:
    """Return a time span for people, in three digits or so."""
    if seconds is None:
        return "-"
    for limit, unit, size in ((1, "ms", 0.001), (120, "s", 1), (7200, "min", 60), (172800, "h", HOUR)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / DAY:.3g} d"


def size(count: float) -> str:
    """Return bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def text(tally: Tally, top: int) -> Iterator[str]:
    """Yield the lines of the report, lists with up to `top` entries."""
    if tally.first is None or tally.last is None:
        yield f"{tally.lines} lines without a time: there are no delays, and no hours"
    else:
        yield f"from {moment(tally.first)} to {moment(tally.last)} UTC ({duration(tally.last - tally.first)})"
    yield ""
    yield f"messages    {tally.messages} new, {tally.ended} ended, {size(tally.size)}; {tally.bounces} bounces sent"
    yield from _attempts(tally)
    yield from _delays(tally)
    yield from _section("senders, by messages", _names(tally.senders, top))
    yield from _section("senders, by size", [(size(count), name) for count, name in _names(tally.sizes, top)])
    yield from _domains(tally, top)
    yield from _section("why deliveries were deferred", _names(tally.deferrals, top))
    yield from _section("why deliveries failed", _names(tally.failures, top))
    yield from _section("warnings and alerts", _names(tally.troubles, top))
    yield from hours(tally)


def _attempts(tally: Tally) -> Iterator[str]:
    total = sum(tally.attempts.values())
    yield f"deliveries  {total} tried"
    yield ""
    yield f"{'':10}{'success':>12}{'deferral':>12}{'failure':>12}"
    for channel in CHANNELS:
        yield f"{channel.decode():10}" + "".join(f"{tally.attempts[channel, outcome]:>12}" for outcome in OUTCOMES)


def _delays(tally: Tally) -> Iterator[str]:
    rows = [(f"{channel.decode()}, from arrival to delivery", tally.delays[channel]) for channel in CHANNELS]
    rows += [(f"{channel.decode()}, one attempt", tally.durations[channel]) for channel in CHANNELS]
    rows.append(("in the queue", tally.lifetimes))
    if not any(one.count for _name, one in rows):
        return
    yield ""
    yield f"{'delays':{NAME_WIDTH}}{'median':>10}{'90 %':>10}{'99 %':>10}{'longest':>10}"
    for name, one in rows:
        if one.count:
            times = [*(one.quantile(share) for share in QUANTILES.values()), one.largest]
            yield f"{name:{NAME_WIDTH}}" + "".join(f"{duration(seconds):>10}" for seconds in times)


def _names(counts: TopCounts[bytes], top: int) -> list[tuple[int, str]]:
    return [(count, name.decode("utf-8", "backslashreplace") or "<>") for name, count in counts.top(top)]


def _section(title: str, rows: Sequence[tuple[object, str]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield title
    yield from (f"{count!s:>10}  {name}" for count, name in rows)


def _domains(tally: Tally, top: int) -> Iterator[str]:
    names = tally.domain_attempts.top(top)
    if not names:
        return
    counts = domain_outcomes(tally)
    yield ""
    yield f"{'domains of recipients':{NAME_WIDTH}}{'success':>10}{'deferral':>10}{'failure':>10}"
    for name, _count in names:
        shown = name.decode("utf-8", "backslashreplace")
        shown = shown if len(shown) < NAME_WIDTH else f"{shown[: NAME_WIDTH - 4]}..."
        yield f"{shown:{NAME_WIDTH}}" + "".join(f"{counts.get((name, outcome), 0):>10}" for outcome in OUTCOMES)


def domain_outcomes(tally: Tally) -> dict[tuple[bytes, bytes], int]:
    """Return the attempts by domain and outcome."""
    return dict(tally.domains.all())


def periods(tally: Tally) -> tuple[int, list[tuple[int, Hour]]]:
    """Return how long a period is, hours or days, and all periods in order, those without mail too."""
    if not tally.hours:
        return HOUR, []
    first, last = min(tally.hours), max(tally.hours)
    step = HOUR if (last - first) // HOUR < HOURS_SHOWN else DAY
    found = {when: Hour() for when in range(first - first % step, last + 1, step)}
    for when, hour in tally.hours.items():
        period = found[when - when % step]
        for name, value in vars(hour).items():
            setattr(period, name, getattr(period, name) + value)
    return step, list(found.items())


def hours(tally: Tally) -> Iterator[str]:
    """Yield a text plot: deliveries by hour or day, as long as they are many; `#` done, `~` deferred, `x` failed."""
    step, found = periods(tally)
    most = max((one.success + one.deferral + one.failure for _when, one in found), default=0)
    if not most:
        return
    yield ""
    name = "hour" if step == HOUR else "day"
    yield f"deliveries by {name} (UTC)   # success  ~ deferral  x failure"
    for when, one in found:
        label = time.strftime("%m-%d %H:00" if step == HOUR else "%Y-%m-%d", time.gmtime(when))
        parts = ((one.success, "#"), (one.deferral, "~"), (one.failure, "x"))
        bar = "".join(sign * _length(count, most) for count, sign in parts)
        yield f"{label:>12} {one.success + one.deferral + one.failure:>9}  {bar}".rstrip()


def _length(count: int, most: int) -> int:
    """Return how long a part of a bar is; what exists is seen."""
    return max(1, round(count * BAR_WIDTH / most)) if count else 0


def values(tally: Tally, top: int) -> dict[str, Any]:
    """Return everything as values for JSON. Times are seconds since the epoch, delays in seconds."""
    outcomes = domain_outcomes(tally)
    return {
        "first": tally.first,
        "last": tally.last,
        "lines": tally.lines,
        "messages": {"new": tally.messages, "ended": tally.ended, "bytes": tally.size, "bounces": tally.bounces},
        "deliveries": {
            channel.decode(): {outcome.decode(): tally.attempts[channel, outcome] for outcome in OUTCOMES}
            for channel in CHANNELS
        },
        "delays": {channel.decode(): spread(tally.delays[channel]) for channel in CHANNELS},
        "attempts": {channel.decode(): spread(tally.durations[channel]) for channel in CHANNELS},
        "in_queue": spread(tally.lifetimes),
        "senders": [{"sender": name, "messages": count} for count, name in _names(tally.senders, top)],
        "senders_by_bytes": [{"sender": name, "bytes": count} for count, name in _names(tally.sizes, top)],
        "domains": [
            {
                "domain": name.decode("utf-8", "backslashreplace"),
                **{outcome.decode(): outcomes.get((name, outcome), 0) for outcome in OUTCOMES},
            }
            for name, _count in tally.domain_attempts.top(top)
        ],
        "deferrals": [{"reason": name, "count": count} for count, name in _names(tally.deferrals, top)],
        "failures": [{"reason": name, "count": count} for count, name in _names(tally.failures, top)],
        "troubles": [{"line": name, "count": count} for count, name in _names(tally.troubles, top)],
        "hours": [{"hour": when, **vars(hour)} for when, hour in sorted(tally.hours.items())],
        "approximate": any(
            counts.forgotten
            for counts in (tally.senders, tally.sizes, tally.domain_attempts, tally.deferrals, tally.failures)
        ),
    }


def spread(durations: Durations) -> dict[str, float | int | None]:
    """Return how many there were and how long they took."""
    found: dict[str, float | int | None] = {"count": durations.count}
    found.update({name: durations.quantile(share) for name, share in QUANTILES.items()})
    found["longest"] = durations.largest if durations.count else None
    return found
