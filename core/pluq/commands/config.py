"""pluq config show NAME: each effective setting of a profile, role or table, and where its value came from.

    pluq config show [--home DIR] [--json] NAME

NAME is a profile's name; queue, send, local or remote; core, log or status. The connection's own environment (tcprules) comes on top of
what is shown; secrets are not shown.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.config.settings import Value


def main() -> int:
    import argparse
    import json

    from pluq.commands.help_text import HelpText
    from pluq.config import Home
    from pluq.config.settings import plain
    from pluq.errors import ConfigError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("action", choices=["show"], help="show the values in force")
    parser.add_argument("name", metavar="NAME", help="a profile; queue, send, local or remote; core, log or status")
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    try:
        values = values_of(home, options.name)
    except ConfigError as error:
        sys.stderr.write(f"pluq config: {error}\n")
        return 100
    if options.json:
        answer = {name: {"value": plain(value.value), "source": value.source} for name, value in values.items()}
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        sys.stdout.write(f"{name:<{width}} = {plain(value.value)!r}  from {value.source}\n")
    return 0


def values_of(home: Home, name: str) -> dict[str, Value]:
    """Return the settings of a profile, role or table of the core, a plugin's as plugin.setting. Raises ConfigError."""
    from pluq.config.site import ROLES, TABLES, read_site
    from pluq.plan.compile import compile_plan
    from pluq.plan.inspect import effective, own_keys, silent

    site = read_site(home)
    if name in TABLES and name not in site.profiles:
        return dict(site.values.get(name, {}))
    role = name if name in ROLES else site.profile(name).role
    plan = compile_plan(home, site, name, role=role, log=silent)
    return own_keys(site, name) | {f"{plugin}.{key}": value for plugin, key, value in effective(plan)}
