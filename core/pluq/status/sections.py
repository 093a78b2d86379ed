"""The sections of the page, each drawn from a snapshot. What strangers wrote is escaped wherever it stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from pluq.status import chart
from pluq.status.chart import Layer, bar, short
from pluq.status.health import Check, span
from pluq.status.history import COUNTED, History
from pluq.status.parts import empty, legend, seconds, section, size, table
from pluq.status.snapshot import Snapshot

DELIVERIES = (
    Layer("success", "good", "delivered"),
    Layer("deferral", "late", "deferred"),
    Layer("failure", "bad", "failed"),
)
INCOMING = (Layer("accepted", "fill", "accepted"), Layer("refused", "new", "refused"))
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


def alarm(failing: Sequence[Check]) -> str:
    if not failing:
        return ""
    items = "".join(f"<li>{escape(check.name)}: {escape(check.text)}</li>" for check in failing)
    return f'<div class="alarm"><ul>{items}</ul></div>'


def tiles(snapshot: Snapshot, history: History, began: float) -> str:
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
            "Oldest",
            span(oldest) if waiting else "none",
            "since it came" if waiting else "nothing waits",
            "",
        ),
        ("Under way", short(under_way), f"of {limit:,.0f}", ""),
        ("Connections", short(totals.total("pluq_connections")), "open now", ""),
    ]
    items = [
        f'<li><span class="what">{what}</span><span class="value {style}">{value}</span><span class="more">{more}</span></li>'
        for what, value, more, style in tiles
    ]
    return f'<ul class="tiles" aria-label="In short">{"".join(items)}</ul>'


def deliveries(snapshot: Snapshot, history: History) -> str:
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
                escape(channel),
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


def queue(snapshot: Snapshot) -> str:
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


def destinations(snapshot: Snapshot) -> str:
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
        ("", "meter wide-only"),
        ("oldest", "num"),
    ]
    more = snapshot.census.get("more_destinations", 0)
    body = table("Where mail waits to go, by recipients that are not done", heads, rows)
    return section("Destinations", body + (f'<p class="soft">and {more:,} more</p>' if more else ""))


def oldest(snapshot: Snapshot) -> str:
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


def incoming(snapshot: Snapshot, history: History) -> str:
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
        [escape(reason), f"{count:,.0f}", bar(count / most, "new")]
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


def shares(snapshot: Snapshot) -> str:
    totals = snapshot.totals
    blocks = []
    for heading, first, name, label in (
        ("Sessions of clients, by encryption", "Encryption", "pluq_sessions_total", "tls"),
        ("Messages of clients, by login", "Login", "pluq_accepted_total", "login"),
        ("Sessions with other hosts, by encryption", "Encryption", "pluq_remote_sessions_total", "tls"),
    ):
        found = totals.by(name, label)
        total = sum(found.values())
        if not total:
            continue
        rows = [
            [
                "none" if value == "no" else escape(value),
                f"{count / total:.0%}",
                bar(count / total, "new" if value == "no" else "fill"),
            ]
            for value, count in sorted(found.items(), key=lambda item: (item[0] == "no", -item[1]))
        ]
        blocks.append(table(heading, [(first, ""), ("share", "num"), ("", "meter")], rows))
    failed = totals.total("pluq_refused_total", reason="auth")
    blocks.append(f"<p>{failed:,.0f} logins failed.</p>" if failed else "")
    return section("Encryption and logins", "".join(blocks) or empty("no session has ended yet"), "third")


def plugins(snapshot: Snapshot) -> str:
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


def roles(snapshot: Snapshot) -> str:
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


def health(checks: Sequence[Check]) -> str:
    rows = [
        [
            escape(check.name),
            '<span class="state good">well</span>' if check.is_well else '<span class="state bad">failing</span>',
            escape(check.text),
        ]
        for check in checks
    ]
    return section("Health", table("What was looked at", [("Check", ""), ("state", ""), ("why", "wrap")], rows), "half")
