"""pluq VERB ...: the commands that qmail has no name for. Each verb is a module, imported only when it is called.

A word that is no verb may be an installed plugin: `pluq dkim keygen example.org` is the command "keygen" of the plugin "dkim".
"""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "check": "say what is wrong with this home, all of it, before a start or a reload",
    "config": "show each effective setting of a profile and where it came from",
    "demo": "try it: a mail system as the current user, with a first message delivered",
    "dns": "say which DNS records a domain should have, and whether they are there",
    "docs": "print documentation that is made from the code: hooks, settings",
    "explain": "say what would happen to mail for an address, and why; replay a dialogue",
    "init": "make a qmail home: folders, queue, users, first control files and profiles",
    "install": "put programs, man pages and boot scripts into a qmail home, or below --destdir for a package",
    "instcheck": "say what in an installed home is missing or has a wrong owner, mode or type",
    "migrate": "say what becomes of a qmail site, and write the pluq.toml that keeps it as it is",
    "plugin": "make a folder with a new plugin that passes its own tests",
    "plugins": "show what is installed, where it is enabled, its hooks and settings",
    "queue": "look at the queue and steer it: list, show, hold, release, flush, remove, bounce, check",
    "send-test": "send a test message, and say what happens to it",
    "serve": "run the whole stack: listen, accept, deliver",
    "stats": "say what a log says, in numbers and pictures: deliveries, delays, senders, reasons",
}
FAILED = 111
INTERRUPTED = 130
USAGE = "usage: pluq VERB [ARGUMENT]...\n       pluq PLUGIN COMMAND [ARGUMENT]...\n       pluq VERB --help\n"


def overview() -> str:
    from textwrap import fill

    width = max(map(len, VERBS))
    indent = " " * (width + 4)
    lines = (fill(f"  {verb:<{width}}  {line}", 79, subsequent_indent=indent) for verb, line in VERBS.items())
    return f"{USAGE}\n" + "\n".join(lines) + "\n"


def unknown(word: str) -> str:
    """Return what is said of a word that is neither verb nor plugin."""
    from pluq.config.table import nearest

    return f"pluq: no verb {word!r}{nearest(word, VERBS)}\n"


def run_verb(verb: str, arguments: list[str]) -> int:
    """Return the exit status of a verb. What it could not do is one line on standard error."""
    from pluq.errors import PluqError, in_words

    sys.argv = [f"pluq {verb}", *arguments]
    try:
        code: int = importlib.import_module(f"pluq.commands.{verb.replace('-', '_')}").main()
    except BrokenPipeError:  # nobody reads on
        sys.stderr.close()
        return FAILED
    except (OSError, PluqError) as error:
        sys.stderr.write(f"pluq {verb}: {in_words(error)}\n")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def main() -> int:
    arguments = sys.argv[1:]
    if arguments and arguments[0] in VERBS:
        return run_verb(arguments[0], arguments[1:])
    if arguments and arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if arguments and arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        sys.stdout.write(f"pluq {version('pluq')}\n")
        return 0
    if arguments:
        from pluq.plan.commands import run_plugin_command

        status = run_plugin_command(arguments[0], arguments[1:])
        if status is not None:
            return status
    sys.stderr.write(f"{unknown(arguments[0])}{overview()}" if arguments else overview())
    return 100
