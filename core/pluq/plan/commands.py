"""The commands of plugins: `pluq NAME COMMAND ...` calls what the plugin's `cli_commands` has under that name.

Nothing is enabled or started for it: a command works for a plugin that no profile names yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from pluq.config import Home
from pluq.config.table import nearest
from pluq.errors import ConfigError
from pluq.hookspecs.plugin import Command
from pluq.plan.load import installed, load_class, site_files


def run_plugin_command(name: str, arguments: Sequence[str]) -> int | None:
    """Return the exit status of a plugin's command; None if there is no plugin of that name."""
    home = Home.from_environment()
    if name not in installed() and name not in site_files(home):
        return None
    try:
        commands = load_class(name, home).cli_commands()
    except ConfigError as error:
        sys.stderr.write(f"pluq {name}: {error}\n")
        return 111
    if arguments and arguments[0] in commands:
        return commands[arguments[0]](arguments[1:])
    if arguments and arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(overview(name, commands))
        return 0
    if arguments:
        sys.stderr.write(f"pluq {name}: no command {arguments[0]!r}{nearest(arguments[0], commands)}\n")
    sys.stderr.write(overview(name, commands))
    return 100


def overview(name: str, commands: Mapping[str, Command]) -> str:
    if not commands:
        return f"the plugin {name} has no commands\n"
    width = max(map(len, commands))
    lines = [f"  {word:<{width}}  {first_line(command)}\n" for word, command in sorted(commands.items())]
    return f"usage: pluq {name} COMMAND [ARGUMENT]...\n\n" + "".join(lines)


def first_line(command: Command) -> str:
    return (command.__doc__ or "").strip().partition("\n")[0]
