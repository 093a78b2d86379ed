"""pluq queue VERB ...: looking after the queue directory."""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "check": "say what is wrong with the queue directory; --repair mends it",
    "list": "list the messages, oldest first",
    "show": "show one message and its header",
}
# Two verbs of one module, which looks at its name.
MODULES = {"check": "queue_check", "list": "queue_list", "show": "queue_list"}


def main() -> int:
    arguments = sys.argv[1:]
    if arguments and arguments[0] in VERBS:
        verb = arguments[0]
        sys.argv = [f"{sys.argv[0]} {verb}", *arguments[1:]]
        code: int = importlib.import_module(f"pluq.commands.{MODULES[verb]}").main()
        return code
    asked = arguments[:1] in (["-h"], ["--help"])
    overview = "usage: pluq queue VERB [ARGUMENT]...\n\n" + "".join(
        f"  {verb:<5}  {line}\n" for verb, line in VERBS.items()
    )
    (sys.stdout if asked else sys.stderr).write(overview)
    return 0 if asked else 100
