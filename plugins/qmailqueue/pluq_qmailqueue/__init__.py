"""qmailqueue: messages go through filters and the site's own queue program, with time limits, in the words that patches gave to exit codes.

In a profile it is asked for the messages of its clients; in `[queue]` for all that this host queues: qmail-inject, sendmail, forwards,
bounces, QMTP, QMQP. Where neither a program nor a filter is set, messages go the usual way.

Source: the QMAILQUEUE patch and its kin; reference replies of patched qmail.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pluq import Plugin, hook, setting
from pluq.queue.submit import SyncSubmission, open_directly
from pluq_qmailqueue.filters import parse_filter
from pluq_qmailqueue.submission import FilteredSubmission, Route


def is_set(text: str) -> bool:
    """A variable that is there switches on, whatever it holds."""
    return True


@dataclass(frozen=True)
class Settings:
    program: str = setting(
        "", env="QMAILQUEUE", help="The queue program, relative to the qmail home; none: our own queue."
    )
    filters: tuple[str, ...] = setting(
        (), control="qfilters", help="Filters before it, in order: a command, or domain:command[:NAME=value,...]."
    )
    discard: bool = setting(
        False, env="NULLQUEUE", parse_env=is_set, help="Say that messages are queued, and drop them."
    )
    seconds: float = setting(
        280.0,
        unit="seconds",
        help="A program that runs longer is killed, and the client hears 451; clients wait ten minutes.",
    )


class QmailQueue(Plugin[Settings]):
    """Queue through filters and a program of the site; understand what patches let them say."""

    name = "qmailqueue"

    @hook
    def check(self) -> Sequence[str]:
        """Name programs that cannot be run, and filters that are none."""
        faults: list[str] = []
        programs = [self.settings.program] if self.settings.program else []
        for line in self.settings.filters:
            try:
                programs.append(parse_filter(line).argv[0])
            except ValueError as error:
                faults.append(f"filters: {error}")
        home = self.context.home.path
        return faults + [
            f"{program}: not a program that can be run"
            for program in programs
            if not os.access(os.path.join(home, program), os.X_OK)
        ]

    @hook
    def queue_open(self, environment: Mapping[str, str]) -> SyncSubmission | None:
        merged = {**os.environ, **environment}
        settings, complaints = self.resolved.overlay(merged)
        for complaint in complaints:
            self.log(complaint)
        if not settings.program and not settings.filters and not settings.discard:
            return None
        home = self.context.home
        usual_environment = {name: value for name, value in merged.items() if name != "QMAILQUEUE"}
        return FilteredSubmission(
            Route(
                home.path,
                settings.program,
                [parse_filter(line) for line in settings.filters],
                merged,
                settings.seconds,
                lambda: open_directly(home, usual_environment),
                settings.discard,
            )
        )
