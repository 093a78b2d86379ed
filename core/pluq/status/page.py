"""The page for people: one HTML document with everything in it, drawn from a snapshot.

All facts are there without a script; the script only asks again. The policy lets nothing in but this style sheet and this script, by
their hashes, and what strangers wrote (domains, addresses) is escaped wherever it stands.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from pluq.status import chart
from pluq.status.chart import Layer, bar, short
from pluq.status.health import Check, span
from pluq.status.history import COUNTED, History
from pluq.status.snapshot import Snapshot

STYLE = resources.files("pluq.status").joinpath("style.css").read_text("utf-8")
SCRIPT = resources.files("pluq.status").joinpath("refresh.js").read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

DELIVERIES = (
    Layer("success", "good", "delivered"),
    Layer("deferral", "late", "deferred"),
    Layer("failure", "bad", "failed"),
)
INCOMING = (Layer("accepted", "fill", "accepted"), Layer("refused", "bad", "refused"))
HOUR, DAY = 3600, 86400
AGE_WORDS = {"1m": "under a minute", "5m": "under 5 minutes", "1h": "under an hour", "6h": "under 6 hours", "1d": "under a day",
             "4d": "under 4 days", "older": "older"}  # fmt: skip
STATE_WORDS = {
    "todo": "new, nobody has looked yet",
    "queued": "waiting",
    "held": "on hold",
    "bouncing": "with failed recipients",
}
MOST_ROWS = 40

DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">To the figures</a>
<div class="wide">
<header class="page">
<div class="head" id="top">{top}</div>
<div class="tools"><button id="refresh" type="button" hidden>Pause updates</button><p class="note" id="note" role="status"></p></div>
</header>
<main id="main">{main}</main>
<footer><nav aria-label="Other forms"><a href="/metrics">/metrics</a><a href="/health">/health</a></nav></footer>
</div>
<script>{script}</script>
</body>
</html>
"""


def render(name: str, snapshot: Snapshot, checks: Sequence[Check], history: History, began: float) -> str:
    """Return the page. `name` is the host's; `began` when the status role started, in seconds since the epoch."""
    failing = [check for check in checks if not check.is_well]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(snapshot.now))
    badge = '<span class="badge good">well</span>' if not failing else '<span class="badge bad">needs attention</span>'
    top = (
        f"<h1>{escape(name)}</h1>{badge}"
        f'<p class="when"><time datetime="{when.replace(" ", "T")}Z">{when}</time> UTC</p>'
    )
    parts = [
        _alarm(failing),
        _tiles(snapshot, history, began),
        '<div class="grid">',
        _deliveries(snapshot, history),
        _queue(snapshot),
        _destinations(snapshot),
        _oldest(snapshot),
        _incoming(snapshot, history),
        _shares(snapshot),
        _plugins(snapshot),
        _roles(snapshot),
        _health(checks),
        "</div>",
    ]
    title = f"{'! ' if failing else ''}{escape(name)} - mail"
    return DOCUMENT.format(title=title, style=STYLE, script=SCRIPT, top=top, main="".join(parts))


# -- pieces


def section(heading: str, body: str, width: str = "", aside: str = "") -> str:
    identity = heading.lower().replace(" ", "-").replace(",", "")
    aside = f'<span class="aside">{aside}</span>' if aside else ""
    return f'<section class="{width}" aria-labelledby="{identity}"><h2 id="{identity}">{escape(heading)}{aside}</h2>{body}</section>'


def table(caption: str, heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. `heads` are text and class of each column; cells are HTML, the first of a row is its head."""
    head = "".join(f'<th scope="col" class="{style}">{escape(words)}</th>' for words, style in heads)
    body = []
    for row in rows:
        cells = [f'<th scope="row">{row[0]}</th>']
        cells += [f'<td class="{style}">{cell}</td>' for cell, (_words, style) in zip(row[1:], heads[1:], strict=True)]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def legend(layers: Sequence[Layer]) -> str:
    keys = [
        f'<li><svg viewBox="0 0 1 1" aria-hidden="true"><rect class="{layer.style}" width="1" height="1"/></svg>{layer.title}</li>'
        for layer in layers
    ]
    return f'<ul class="legend">{"".join(keys)}</ul>'


def empty(words: str) -> str:
    return f'<p class="soft">{escape(words)}</p>'


def size(count: float) -> str:
    """Return a number of bytes in the unit that fits."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.3g} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    """Return a short time: in microseconds, milliseconds or seconds."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


# -- sections


def _alarm(failing: Sequence[Check]) -> str:
    if not failing:
        return ""
    items = "".join(f"<li>{escape(check.name)}: {escape(check.text)}</li>" for check in failing)
    return f'<div class="alarm"><ul>{items}</ul></div>'


def _tiles(snapshot: Snapshot, history: History, began: float) -> str:
    totals, census = snapshot.totals, snapshot.census
    hour = history.sums(snapshot.now, HOUR)
    lately = "last hour" if snapshot.now - began >= HOUR else f"last {span(max(60, snapshot.now - began))}"
    waiting = sum(census["states"].values()) if census else None
    oldest = census["oldest"].get("all", 0.0) if waiting else 0.0
    recipients = sum(census["recipients"].values()) if census else 0
    under_way, limit = totals.total("pluq_deliveries"), totals.total("pluq_concurrency")
    tiles = [
        ("Accepted", short(hour["accepted"]), lately, ""),
        ("Delivered", short(hour["success"]), lately, ""),
        ("Deferred", short(hour["deferral"]), lately, "late" if hour["deferral"] else ""),
        ("Failed", short(hour["failure"]), lately, "bad" if hour["failure"] else ""),
        ("In the queue", "?" if waiting is None else short(waiting), f"{recipients:,} recipients", ""),
        (
            "Oldest message",
            span(oldest) if waiting else "none",
            "since it came" if waiting else "the queue is empty",
            "",
        ),
        ("Under way", short(under_way), f"of {limit:,.0f} deliveries", ""),
        ("Connections", short(totals.total("pluq_connections")), "open now", ""),
    ]
    items = [
        f'<li><span class="what">{what}</span><span class="value {style}">{value}</span><span class="more">{more}</span></li>'
        for what, value, more, style in tiles
    ]
    return f'<ul class="tiles" aria-label="In short">{"".join(items)}</ul>'


def _deliveries(snapshot: Snapshot, history: History) -> str:
    hour = history.steps(snapshot.now, 60, 60)
    day = history.steps(snapshot.now, 96, 900)
    words = "Deliveries {}: {}".format(
        "minute by minute in the last hour",
        ", ".join(f"{sum(m.counts[layer.count] for m in hour):,.0f} {layer.title}" for layer in DELIVERIES),
    )
    rows = []
    for channel, outcomes in _outcomes(snapshot).items():
        took = snapshot.totals.total("pluq_delivery_seconds_sum", channel=channel)
        tried = sum(outcomes.values())
        rows.append(
            [
                channel,
                *(f"{outcomes.get(outcome, 0):,.0f}" for outcome in ("success", "deferral", "failure")),
                seconds(took / tried) if tried else "-",
                _delay(snapshot, channel),
            ]
        )
    heads = [
        ("Channel", ""),
        ("delivered", "num"),
        ("deferred", "num"),
        ("failed", "num"),
        ("an attempt took", "num"),
        ("median age at delivery", "num"),
    ]
    body = [
        chart.stacked(hour, DELIVERIES, words, "%H:%M"),
        legend(DELIVERIES),
        '<details id="day"><summary>The last day</summary>',
        chart.stacked(day, DELIVERIES, "Deliveries of the last day, by quarters of an hour", "%H:%M"),
        _day_table(snapshot, history),
        "</details>",
        "<h3>Since the start</h3>",
        table("Deliveries by channel since pluq serve was started", heads, rows) if rows else empty("no delivery yet"),
    ]
    return section("Deliveries", "".join(body), "twothirds", "each minute of the last hour")


def _day_table(snapshot: Snapshot, history: History) -> str:
    steps = [step for step in history.steps(snapshot.now, 24, HOUR) if any(step.counts.values())]
    rows = [
        [time.strftime("%H:%M", time.gmtime(step.start)), *(f"{step.counts[name]:,.0f}" for name in COUNTED)]
        for step in reversed(steps)
    ]
    return table("Hour by hour (UTC)", [("Hour", ""), *((name, "num") for name in COUNTED)], rows)


def _outcomes(snapshot: Snapshot) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for labels, value in snapshot.totals.of("pluq_deliveries_total"):
        found.setdefault(labels["channel"], {})[labels["outcome"]] = value
    return {channel: outcomes for channel, outcomes in found.items() if any(outcomes.values())}


def _delay(snapshot: Snapshot, channel: str) -> str:
    """Return the bound that half of the messages were younger than when they were delivered."""
    found = [
        (float(labels["le"]), value)
        for labels, value in snapshot.totals.of("pluq_delivery_delay_seconds_bucket")
        if labels["channel"] == channel
    ]
    total = sum(value for _bound, value in found)
    seen = 0.0
    for bound, value in sorted(found):
        seen += value
        if total and seen * 2 >= total:
            return "more than 4 d" if bound == float("inf") else f"under {span(bound)}"
    return "-"


def _queue(snapshot: Snapshot) -> str:
    census = snapshot.census
    if not census:
        return section("Queue", empty("nobody has counted it yet"), "third")
    total = sum(census["states"].values())
    aside = f"counted {span(snapshot.census_age)} ago"
    if not total:
        return section("Queue", empty("The queue is empty."), "third", aside)
    ages = [[AGE_WORDS[age], f"{count:,}", bar(count / total)] for age, count in census["ages"].items()]
    states = [[STATE_WORDS[state], f"{count:,}"] for state, count in census["states"].items() if count]
    body = table("Messages by age", [("Age", ""), ("messages", "num"), ("", "meter")], ages)
    body += table("Messages by state", [("State", ""), ("messages", "num")], states)
    return section("Queue", body, "third", aside)


def _destinations(snapshot: Snapshot) -> str:
    found = snapshot.census.get("destinations", [])
    if not found:
        return ""
    most = max(one["recipients"] for one in found)
    rows = [
        [
            escape(one["domain"]) or "<em>others</em>",
            escape(one["channel"]),
            f"{one['messages']:,}",
            f"{one['recipients']:,}",
            bar(one["recipients"] / most),
            span(one["age"]),
        ]
        for one in found
    ]
    heads = [
        ("Domain", ""),
        ("channel", ""),
        ("messages", "num"),
        ("recipients", "num"),
        ("", "meter"),
        ("oldest", "num"),
    ]
    more = snapshot.census.get("more_destinations", 0)
    body = table("Where mail waits to go, by recipients that are not done", heads, rows)
    return section("Destinations", body + (f'<p class="soft">and {more:,} more</p>' if more else ""))


def _oldest(snapshot: Snapshot) -> str:
    found = snapshot.census.get("messages", [])
    if not found:
        return ""
    rows = [
        [
            str(int(one["number"])),
            span(one["age"]),
            escape(one["state"]),
            f"&lt;{escape(one['sender'])}&gt;",
            ", ".join(escape(address) for address in one["recipients"])
            + (f" and {one['more']:,} more" if one["more"] else ""),
        ]
        for one in found
    ]
    heads = [("Message", ""), ("age", "num"), ("state", ""), ("sender", "wrap"), ("waits for", "wrap")]
    return section("Oldest messages", table("The oldest messages in the queue", heads, rows))


def _incoming(snapshot: Snapshot, history: History) -> str:
    totals = snapshot.totals
    hour = history.steps(snapshot.now, 60, 60)
    words = f"Messages accepted and refusals by SMTP in the last hour: {sum(m.counts['accepted'] for m in hour):,.0f} and {sum(m.counts['refused'] for m in hour):,.0f}"
    profiles = sorted({labels["profile"] for labels, _value in totals.of("pluq_connections_total")})
    rows = []
    for profile in profiles:
        came = totals.by("pluq_connections_total", "verdict", profile=profile)
        accepted = totals.total("pluq_accepted_total", profile=profile)
        took = totals.total("pluq_acceptance_seconds_sum", profile=profile)
        rows.append(
            [
                escape(profile),
                f"{totals.total('pluq_connections', profile=profile):,.0f}",
                f"{sum(came.values()):,.0f}",
                f"{came.get('deny', 0) + came.get('limit', 0):,.0f}",
                f"{accepted:,.0f}",
                size(totals.total("pluq_accepted_bytes_total", profile=profile)),
                seconds(took / accepted) if accepted else "-",
            ]
        )
    heads = [
        ("Profile", ""),
        ("open", "num"),
        ("came", "num"),
        ("denied", "num"),
        ("messages", "num"),
        ("bytes", "num"),
        ("answer after", "num"),
    ]
    reasons = totals.by("pluq_refused_total", "reason")
    most = max(reasons.values(), default=1) or 1
    refusals = [
        [escape(reason), f"{count:,.0f}", bar(count / most, "bad")]
        for reason, count in list(reasons.items())[:MOST_ROWS]
    ]
    body = [
        chart.stacked(hour, INCOMING, words, "%H:%M"),
        legend(INCOMING),
        "<h3>Since the start</h3>",
        table("Connections and messages by profile", heads, rows) if rows else empty("nobody has connected yet"),
        table("Refusals by reason", [("Reason", ""), ("refusals", "num"), ("", "meter")], refusals) if refusals else "",
    ]
    return section("Coming in", "".join(body), "twothirds", "each minute of the last hour")


def _shares(snapshot: Snapshot) -> str:
    totals = snapshot.totals
    blocks = []
    for heading, name, label in (
        ("Sessions with TLS", "pluq_sessions_total", "tls"),
        ("Messages by login", "pluq_accepted_total", "login"),
        ("Sessions with other hosts, by TLS", "pluq_remote_sessions_total", "tls"),
    ):
        found = totals.by(name, label)
        total = sum(found.values())
        if not total:
            continue
        rows = [
            [
                "none" if value == "no" else escape(value),
                f"{count / total:.0%}",
                bar(count / total, "rest" if value == "no" else "fill"),
            ]
            for value, count in found.items()
        ]
        blocks.append(table(heading, [("", ""), ("share", "num"), ("", "meter")], rows))
    failed = totals.total("pluq_refused_total", reason="auth")
    blocks.append(f"<p>{failed:,.0f} logins failed.</p>" if failed else "")
    return section("Encryption and logins", "".join(blocks) or empty("no session has ended yet"), "third")


def _plugins(snapshot: Snapshot) -> str:
    totals = snapshot.totals
    rows = []
    for labels, calls in totals.of("pluq_plugin_calls_total"):
        if not calls:
            continue
        verdicts = totals.by("pluq_plugin_verdicts_total", "verdict", **labels)
        failures = totals.total("pluq_plugin_failures_total", **labels)
        took = totals.total("pluq_plugin_seconds_total", **labels)
        said = [f"{escape(verdict)} {count:,.0f}" for verdict, count in verdicts.items()]
        rows.append(
            (
                -calls,
                [
                    escape(labels["plugin"]),
                    escape(labels["hook"]),
                    escape(labels["profile"]),
                    f"{calls:,.0f}",
                    seconds(took / calls) if calls else "-",
                    ", ".join(said) or "-",
                    f"{failures:,.0f}" if failures else "-",
                ],
            )
        )
    if not rows:
        return ""
    rows.sort()
    heads = [
        ("Plugin", ""),
        ("hook", ""),
        ("profile", ""),
        ("calls", "num"),
        ("a call took", "num"),
        ("verdicts", "wrap"),
        ("failed", "num"),
    ]
    body = table("What plugins were asked, and what they said", heads, [row for _calls, row in rows[:MOST_ROWS]])
    return section("Plugins", body, "", "since the start")


def _roles(snapshot: Snapshot) -> str:
    rows = []
    for role in snapshot.roles:
        state = '<span class="state good">runs</span>' if role.is_up else '<span class="state bad">down</span>'
        rows.append(
            [
                escape(role.name),
                state,
                str(role.pid) if role.pid else "-",
                f"{role.processes:,}" if role.processes else "-",
                f"{role.starts:,}",
                size(role.pss) if role.pss else "?",
                size(role.rss) if role.rss else "?",
            ]
        )
    heads = [
        ("Role", ""),
        ("state", ""),
        ("process", "num"),
        ("processes", "num"),
        ("starts", "num"),
        ("memory", "num"),
        ("resident", "num"),
    ]
    return section("Roles", table("The processes of the stack", heads, rows), "half")


def _health(checks: Sequence[Check]) -> str:
    rows = [
        [
            escape(check.name),
            '<span class="state good">well</span>' if check.is_well else '<span class="state bad">failing</span>',
            escape(check.text),
        ]
        for check in checks
    ]
    return section("Health", table("What was looked at", [("Check", ""), ("state", ""), ("why", "wrap")], rows), "half")
