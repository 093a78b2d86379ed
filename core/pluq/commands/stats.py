"""pluq stats: what the log of qmail-send says, in numbers: messages, deliveries, delays, senders, domains, reasons.

    pluq stats [LOG]... [--since WHEN] [--until WHEN] [--top N] [--json] [--plot FILE.png]

LOG is a file (.gz too), a folder of multilog or svlogd, or - for standard input. Without one it is what comes on standard input, or, at a
terminal, the first of /var/log/qmail/pluq, /var/log/qmail/qmail-send, /var/log/qmail and /var/log/mail.log. Lines may
have times by multilog (TAI64N), tai64nlocal, svlogd, syslog, the journal or splogger, and may be JSON. WHEN is a UTC time such as
"2026-11-21" or "2026-11-21 15:00", or an age: 90s, 15m, 24h, 7d. What is counted by name is kept exactly for up to 50000 names.

Exit codes: 0; 1 nothing in these files is a line of qmail-send; 2 usage; 111 a file cannot be read, or the picture not be made.
"""

from __future__ import annotations

import os
import sys

FOLDERS = ("/var/log/qmail/pluq", "/var/log/qmail/qmail-send", "/var/log/qmail", "/var/log/mail.log")
NOTHING = 1
FAILED = 111
DEFAULT_TOP = 10


def main() -> int:
    import argparse

    from pluq.commands.help_text import HelpText

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("logs", metavar="LOG", nargs="*", help="a file, a folder of multilog or svlogd, or -")
    parser.add_argument("--since", metavar="WHEN", type=moment, help="leave out what is older")
    parser.add_argument("--until", metavar="WHEN", type=moment, help="leave out what is not older")
    parser.add_argument(
        "--top", metavar="N", type=int, default=DEFAULT_TOP, help="how long the lists are (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--plot", metavar="FILE.png", help="draw a picture as well; needs matplotlib")
    options = parser.parse_args()
    logs = options.logs or default_logs()
    if not logs:
        parser.error("which log? There is none in " + ", ".join(FOLDERS))
    try:
        return report(logs, options.since, options.until, options.top, options.json, options.plot)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on; the interpreter would complain
        return 0
    except OSError as error:
        sys.stderr.write(
            f"pluq stats: {error.filename}: {os.strerror(error.errno)}\n" if error.errno else f"pluq stats: {error}\n"
        )
    except EOFError as error:
        sys.stderr.write(f"pluq stats: {error}\n")
    except ImportError as error:
        sys.stderr.write(f"pluq stats: {error}\n")
    return FAILED


def moment(given: str) -> float:
    """Return seconds since the epoch of a UTC time or an age."""
    import argparse
    import time
    from datetime import UTC, datetime

    from pluq.queue.select import parse_age

    try:
        return time.time() - parse_age(given)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r} is neither a time nor an age") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def default_logs() -> list[str]:
    if not sys.stdin.isatty():
        return ["-"]
    return [path for path in FOLDERS if os.path.isfile(path) or os.path.exists(f"{path}/current")][:1]


def report(logs: list[str], since: float | None, until: float | None, top: int, as_json: bool, plot: str | None) -> int:
    """Read everything and tell. Raises OSError, EOFError, ImportError."""
    from pluq.stats import files
    from pluq.stats.report import text, values
    from pluq.stats.tally import Counter

    if plot is not None:
        import pluq.stats.plot

        pluq.stats.plot.require_library()
    counter = Counter(since, until)
    for path in files.log_files(logs):
        counter.read(files.lines(path))
    tally = counter.tally
    if as_json:
        import json

        sys.stdout.write(json.dumps(values(tally, top)) + "\n")
    elif tally.lines:
        sys.stdout.writelines(f"{line}\n" for line in text(tally, top))
    if plot is not None:
        pluq.stats.plot.draw(tally, plot)
    if not tally.lines:
        names = ("standard input" if log == "-" else log for log in logs)
        sys.stderr.write(f"pluq stats: no line of qmail-send in {', '.join(names)}\n")
        return NOTHING
    return 0
