"""A site with figures of every kind, as tests and pictures of the status page need it; no stack runs."""

from __future__ import annotations

import json
import math
import os

from pluq.config import Home
from pluq.config.watching import Status
from pluq.metrics import Board, Histogram, page, series
from pluq.metrics.text import Sample, Totals
from pluq.status.server import Site

NOW = 1_795_267_217.0
EVIL = '<script>alert("mail")</script>.example'
SPREAD = (0.0004, 0.0009, 0.002, 0.004, 0.02, 0.3)


def fill(mine, profile, scale, tls, login):
    """Count as a busy SMTP profile does."""
    for verdict, count in (("ok", 41000), ("deny", 120), ("limit", 14)):
        mine.add(series("pluq_connections_total", profile=profile, verdict=verdict), count * scale)
    mine.add(series("pluq_connections", profile=profile), 17 * scale // 1)
    mine.add(series("pluq_accepted_bytes_total", profile=profile), 4.2e9 * scale)
    for version, share in tls:
        for mechanism, part in login:
            labels = {"profile": profile, "tls": version, "login": mechanism}
            mine.add(series("pluq_sessions_total", **labels), 41000 * scale * share * part // 1)
            mine.add(series("pluq_accepted_total", **labels), 30000 * scale * share * part // 1)
    histogram = Histogram(mine, "pluq_acceptance_seconds", profile=profile)
    for seconds in SPREAD * 20:
        histogram.observe(seconds)


def smtpd(mine):
    fill(mine, "mx", 1, [("TLSv1.3", 0.81), ("TLSv1.2", 0.08), ("no", 0.11)], [("no", 1.0)])
    fill(mine, "submission", 0.2, [("TLSv1.3", 1.0)], [("PLAIN", 0.7), ("SCRAM-SHA-256", 0.3)])
    reasons = (("rcpthosts", 4100), ("plugin", 11800), ("auth", 640), ("timeout", 220), ("size", 31), ("newline", 3))
    for reason, count in reasons:
        mine.add(series("pluq_refused_total", profile="mx", reason=reason), count)
    for plugin, hook, calls, seconds, verdicts in (
        ("dnsbl", "smtp_connect", 41134, 310.0, {"reject": 9120}),
        ("spf", "smtp_mail", 39800, 420.0, {"reject": 1480, "defer": 77}),
        ("badmail", "smtp_rcpt", 52110, 0.9, {"reject": 1123}),
        ("dkim", "message_verify", 30100, 21.0, {}),
        ("tls", "smtp_command", 190400, 0.8, {}),
        ("greylist", "smtp_rcpt", 52110, 4.1, {"shadow-defer": 8804}),
    ):
        labels = {"role": "smtpd", "profile": "mx", "plugin": plugin, "hook": hook}
        mine.add(series("pluq_plugin_calls_total", **labels), calls)
        mine.add(series("pluq_plugin_seconds_total", **labels), seconds)
        for verdict, count in verdicts.items():
            mine.add(series("pluq_plugin_verdicts_total", **labels, verdict=verdict), count)
    failed = {"role": "smtpd", "profile": "mx", "plugin": "spf", "hook": "smtp_mail"}
    mine.add(series("pluq_plugin_failures_total", **failed), 12)
    mine.put(series("pluq_certificate_expires_seconds", profile="mx", file="control/servercert.pem"), NOW + 51 * 86400)


def send(mine):
    for channel, outcomes in (("local", (30211, 14, 220)), ("remote", (7733, 5120, 341))):
        for outcome, count in zip(("success", "deferral", "failure"), outcomes, strict=True):
            mine.add(series("pluq_deliveries_total", channel=channel, outcome=outcome), count)
        took = Histogram(mine, "pluq_delivery_seconds", channel=channel)
        late = Histogram(mine, "pluq_delivery_delay_seconds", channel=channel)
        for seconds in SPREAD * 50:
            took.observe(seconds * (1 if channel == "local" else 100))
            late.observe(seconds * (10 if channel == "local" else 4000))
    for channel, count, limit in (("local", 2, 10), ("remote", 14, 120)):
        mine.put(series("pluq_deliveries", channel=channel), count)
        mine.put(series("pluq_concurrency", channel=channel), limit)
    mine.add("pluq_messages_total", 43000)


def rspawn(mine):
    for tls, count in (("TLSv1.3", 6100), ("TLSv1.2", 812), ("no", 90)):
        mine.add(series("pluq_remote_sessions_total", tls=tls), count)


def census(now, messages=True):
    domains = [
        "gmail.example",
        "outlook.example",
        "t-online.example",
        EVIL,
        "uni-heidelberg.example",
        "lists.example.org",
    ]
    return {
        "time": now - 4,
        "seconds": 0.21,
        "states": {"todo": 3, "queued": 1204, "held": 2, "bouncing": 17},
        "ages": {"1m": 21, "5m": 64, "1h": 310, "6h": 402, "1d": 290, "4d": 131, "older": 8},
        "recipients": {"local": 41, "remote": 2290, "unknown": 3},
        "oldest": {"all": 5.2 * 86400, "todo": 2.0},
        "destinations": [
            {
                "channel": "remote" if domain != "lists.example.org" else "local",
                "domain": domain,
                "messages": 900 // (place + 1),
                "recipients": 1300 // (place + 1) ** 2 + 5,
                "age": 5.2 * 86400 / (place + 1),
            }
            for place, domain in enumerate(domains)
        ],
        "more_destinations": 212,
        "messages": [
            {
                "number": 2318578 + place,
                "state": "queued",
                "age": (5.2 - place) * 86400,
                "sender": "bounces+user=example.net@lists.example.org",
                "recipients": [f"somebody@{EVIL}", "elsewhere@uni-heidelberg.example"],
                "more": place * 40,
            }
            for place in range(3)
        ]
        if messages
        else [],
    }


def in_child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    os.waitpid(pid, 0)


def make_site(folder, clock=lambda: NOW, settings=None, down=()):
    """Return a Site with a day of history. The roles are this process, but for those that are `down`."""
    board = Board()
    for role, work in (("smtpd", smtpd), ("send", send), ("rspawn", rspawn)):
        in_child(lambda role=role, work=work: (board.enter(role), work(page())))
    for place, role in enumerate(("smtpd", "queue", "send", "lspawn", "rspawn", "keys", "status", "census")):
        board.tell(role, 0 if role in down else os.getpid())
        board._supervisor.put(series("pluq_role_memory_bytes", role=role, kind="pss"), 4e6 + place * 9e5)
    board.census.write(json.dumps(census(clock())).encode())
    os.makedirs(f"{folder}/control", exist_ok=True)
    os.makedirs(f"{folder}/queue", exist_ok=True)
    with open(f"{folder}/control/me", "w") as file:
        file.write("mail.example.org\n")
    site = Site(Home(str(folder)), board, settings or Status(listen="127.0.0.1:8025"), clock)
    site._began = clock() - 9 * 86400
    write_history(site.history, clock())
    return site


def write_history(history, now):
    """Write a day as it may have been: quiet at night, with one host down for an hour."""
    sums = dict.fromkeys(("success", "deferral", "failure", "accepted", "refused", "connections"), 0.0)
    for minute in range(1440, -1, -1):
        busy = 1.2 + math.sin((720 - minute) / 230) + 0.35 * math.sin(minute * 1.7) + 0.2 * math.sin(minute * 0.37)
        trouble = 9 if 20 <= minute <= 34 else 1
        growth = {
            "success": 22 * busy,
            "deferral": 1.6 * busy * trouble,
            "failure": 0.7 * busy,
            "accepted": 24 * busy,
            "refused": 7 * busy,
            "connections": 30 * busy,
        }
        for name, amount in growth.items():
            sums[name] += max(0, round(amount))
        history.add(now - minute * 60, totals_of(sums))


def totals_of(sums):
    return Totals(
        [
            *(
                Sample("pluq_deliveries_total", {"channel": "remote", "outcome": outcome}, sums[outcome])
                for outcome in ("success", "deferral", "failure")
            ),
            Sample("pluq_accepted_total", {"profile": "mx", "tls": "no", "login": "no"}, sums["accepted"]),
            Sample("pluq_refused_total", {"profile": "mx", "reason": "rcpthosts"}, sums["refused"]),
            Sample("pluq_connections_total", {"profile": "mx", "verdict": "ok"}, sums["connections"]),
        ]
    )
