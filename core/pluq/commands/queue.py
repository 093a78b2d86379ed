"""pluq queue VERB ...: looking after the queue directory."""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "bounce": "give messages up: their senders get bounces",
    "check": "say what is wrong with the queue directory; --repair mends it",
    "flush": "try messages now",
    "hold": "keep messages in the queue, untried, until they are released",
    "list": "list the messages, oldest first",
    "release": "let messages that are on hold go on",
    "remove": "throw messages away",
    "show": "show one message and its header",
}
# Some verbs share a module, which looks at its name.
MODULES = {"check": "queue_check", "list": "queue_list", "show": "queue_list"}
STEERING = "queue_steer"


def main() -> int:
    arguments = sys.argv[1:]
    if arguments and arguments[0] in VERBS:
        verb = arguments[0]
        sys.argv = [f"{sys.argv[0]} {verb}", *arguments[1:]]
        code: int = importlib.import_module(f"pluq.commands.{MODULES.get(verb, STEERING)}").main()
        return code
    overview = "usage: pluq queue VERB [ARGUMENT]...\n\n" + "".join(
        f"  {verb:<7}  {line}\n" for verb, line in VERBS.items()
    )
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(overview)
        return 0
    sys.stderr.write(f"{fault(arguments[0])}\n`pluq queue --help` lists the verbs\n" if arguments else overview)
    return 100


def fault(word: str) -> str:
    """Return what is wrong with a first word that is no verb."""
    from pluq.config.table import nearest

    if word.startswith("-"):
        return f"pluq queue: {word}: options come after the verb: pluq queue list {word}"
    return f"pluq queue: no verb {word!r}{nearest(word, VERBS)}"
