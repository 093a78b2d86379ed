"""Every figure of a stack: the table that /metrics, the manual and the writers share.

A counter only grows, and begins anew with the supervisor; a gauge is what is so now; a histogram counts how long something took.
Labels have few values: profiles, plugins, outcomes; never addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

# Seconds. Acceptance waits for the disk; an attempt waits for another host; the delay of a message may be days.
ACCEPTANCE_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
ATTEMPT_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)
DELAY_BOUNDS = (1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 345600.0)


@dataclass(frozen=True)
class Family:
    """One figure. `kind` is counter, gauge or histogram; `bounds` are those of a histogram, in seconds."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


FAMILIES = (
    Family("pluq_build_info", "gauge", ("version",), "1, with the version of pluq."),
    Family("pluq_role_up", "gauge", ("role",), "1 while the role's process runs."),
    Family("pluq_role_pid", "gauge", ("role",), "The process number of the role, 0 while it is down."),
    Family("pluq_role_starts_total", "counter", ("role",), "Starts of the role; more than one means that it ended."),
    Family(
        "pluq_role_memory_bytes",
        "gauge",
        ("role", "kind"),
        "Memory of the role and its children: pss (shared pages divided), or rss.",
    ),
    Family("pluq_role_processes", "gauge", ("role",), "Processes of the role: its own and its children."),
    Family(
        "pluq_connections_total", "counter", ("profile", "verdict"), "Connections that came: ok, deny (rules) or limit."
    ),
    Family("pluq_connections", "gauge", ("profile",), "Connections that are open."),
    Family(
        "pluq_sessions_total",
        "counter",
        ("profile", "tls", "login"),
        "SMTP sessions that ended, by encryption and login.",
    ),
    Family("pluq_accepted_total", "counter", ("profile", "tls", "login"), "Messages accepted by SMTP."),
    Family("pluq_accepted_bytes_total", "counter", ("profile",), "Bytes of the messages accepted by SMTP."),
    Family(
        "pluq_refused_total", "counter", ("profile", "reason"), "Refusals of commands, recipients and messages by SMTP."
    ),
    Family(
        "pluq_acceptance_seconds",
        "histogram",
        ("profile",),
        "From the end of a message to our answer: plugins, and the wait for the disk.",
        ACCEPTANCE_BOUNDS,
    ),
    Family("pluq_commits_total", "counter", (), "Messages that the queue daemon made durable."),
    Family(
        "pluq_commits_refused_total", "counter", ("code",), "Messages it could not take, by qmail-queue's exit code."
    ),
    Family(
        "pluq_commit_seconds",
        "histogram",
        (),
        "How long a group of messages took to be durable: the disk.",
        ACCEPTANCE_BOUNDS,
    ),
    Family("pluq_messages_total", "counter", (), "Messages that the scheduler took up."),
    Family("pluq_messages_ended_total", "counter", (), "Messages that left the queue."),
    Family("pluq_bounces_total", "counter", (), "Bounces that were queued."),
    Family(
        "pluq_deliveries_total", "counter", ("channel", "outcome"), "Attempts that ended: success, deferral, failure."
    ),
    Family("pluq_deliveries", "gauge", ("channel",), "Attempts under way."),
    Family("pluq_concurrency", "gauge", ("channel",), "How many attempts may be under way."),
    Family("pluq_delivery_seconds", "histogram", ("channel",), "How long an attempt took.", ATTEMPT_BOUNDS),
    Family(
        "pluq_delivery_delay_seconds",
        "histogram",
        ("channel",),
        "Age of the message when a recipient was done (success).",
        DELAY_BOUNDS,
    ),
    Family(
        "pluq_remote_sessions_total", "counter", ("tls",), "SMTP sessions with other hosts that were opened, by TLS."
    ),
    Family("pluq_plugin_calls_total", "counter", ("role", "profile", "plugin", "hook"), "Calls of a hook."),
    Family(
        "pluq_plugin_seconds_total",
        "counter",
        ("role", "profile", "plugin", "hook"),
        "Time that they took, waits included.",
    ),
    Family(
        "pluq_plugin_verdicts_total",
        "counter",
        ("role", "profile", "plugin", "hook", "verdict"),
        "Verdicts: accept, reject, defer, ...; shadow-reject and the like are of plugins in mode shadow.",
    ),
    Family(
        "pluq_plugin_failures_total",
        "counter",
        ("role", "profile", "plugin", "hook"),
        "Calls that failed or took too long.",
    ),
    Family(
        "pluq_certificate_expires_seconds", "gauge", ("profile", "file"), "When a certificate expires, since the epoch."
    ),
    Family(
        "pluq_queue_messages",
        "gauge",
        ("state",),
        "Messages in the queue: todo (nobody looked yet), queued, held, bouncing.",
    ),
    Family("pluq_queue_messages_by_age", "gauge", ("age",), "Messages in the queue by their age."),
    Family("pluq_queue_recipients", "gauge", ("channel",), "Recipients that are not done."),
    Family("pluq_queue_oldest_seconds", "gauge", ("state",), "Age of the oldest message: todo, or all."),
    Family("pluq_queue_counted_seconds", "gauge", (), "How long ago the queue was counted."),
    Family("pluq_disk_free_bytes", "gauge", (), "Free space where the queue lies."),
    Family("pluq_disk_free_ratio", "gauge", ("what",), "Free part of the queue's file system: space, inodes."),
    Family("pluq_series_dropped_total", "counter", (), "Figures that had no place any more: a fault of ours."),
)

BY_NAME = {family.name: family for family in FAMILIES}


def table() -> str:
    """Return all figures as a table in Markdown: docs/monitoring.md has it."""
    rows = ["| figure | kind | labels | what it tells |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "".join(f"{row}\n" for row in rows)
