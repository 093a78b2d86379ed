"""pluq config show PROFILE: each effective setting of a profile or role, and where its value came from.

    pluq config show [--home DIR] [--json] PROFILE

PROFILE is a profile's name, or queue, send, local, remote. The connection's own environment (tcprules) comes on top of what is
shown; secrets are not shown.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    import argparse
    import json

    from pluq.config import Home
    from pluq.config.site import ROLES, read_site
    from pluq.errors import ConfigError
    from pluq.plan.compile import compile_plan
    from pluq.plan.inspect import effective, silent

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["show"], help="show the values in force")
    parser.add_argument("profile", help="a profile, or queue, send, local, remote")
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    try:
        site = read_site(home)
        role = options.profile if options.profile in ROLES else site.profile(options.profile).role
        plan = compile_plan(home, site, options.profile, role=role, log=silent)
    except ConfigError as error:
        sys.stderr.write(f"pluq config: {error}\n")
        return 100
    rows = [(f"{plugin}.{name}", value) for plugin, name, value in effective(plan)]
    if options.json:
        answer = {name: {"value": value.value, "source": value.source} for name, value in rows}
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0
    width = max((len(name) for name, _ in rows), default=0)
    sys.stdout.write(f"plugins: {' '.join(plugin.name for plugin in plan.plugins) or '(none)'}\n")
    sys.stdout.write("".join(f"{name:<{width}} = {value.value!r}  from {value.source}\n" for name, value in rows))
    return 0
