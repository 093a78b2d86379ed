"""The resident SMTP server: sessions without plugins cost about 4 KiB while they are idle.

    run(home, listeners)     blocks until TERM

How processes, signals, rules and limits work is told in pluq.listen. At TERM a session between messages hears 421.

Source: tcpserver(1), qmail-smtpd(8).
"""

from __future__ import annotations

from collections.abc import Sequence

from pluq.config.home import Home
from pluq.listen import worker
from pluq.listen.worker import Listener
from pluq.smtpd.gate import SmtpGate

__all__ = ["Listener", "run"]


def run(home: Home, listeners: Sequence[Listener]) -> int:
    """Serve until TERM. Raises ConfigError for what keeps it from beginning."""
    return worker.run(home, listeners, SmtpGate.role, SmtpGate)
