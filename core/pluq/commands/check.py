"""pluq check: say what is wrong with this home before a start or a reload, all of it.

    pluq check [--home DIR] [--json]

Exit 0 when nothing is wrong, 1 when something is (each fault on its own line, with file, line and setting), 111 when it could
not be looked at. With --json the answer is one object: {"ok": bool, "faults": [text, ...]}.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config import Home


def main() -> int:
    import argparse
    import json

    from pluq.commands.help_text import HelpText
    from pluq.config import Home
    from pluq.supervisor import check

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    faults = [str(error) for error in check.faults(home, home.ids())]
    if os.path.isdir(home.control_dir):
        faults += [fault for fault in check.plugin_faults(home, home.ids()) if fault not in faults]
    idle = check.plugin_warnings(home, home.ids()) if not faults else []
    for warning in (*check.warnings(home.ids()), *library_warnings(home), *idle):
        sys.stderr.write(f"pluq check: warning: {warning}\n")
    if options.json:
        sys.stdout.write(json.dumps({"ok": not faults, "faults": faults}) + "\n")
    else:
        sys.stdout.write("".join(f"{fault}\n" for fault in faults) or f"{home.path}: nothing wrong\n")
    return 1 if faults else 0


def library_warnings(home: Home) -> list[str]:
    """Return which libraries the enabled plugins miss; nothing where pluq.toml is faulty, which is told elsewhere."""
    from pluq.config.site import read_site
    from pluq.errors import ConfigError
    from pluq.plan.extras import missing_libraries
    from pluq.plan.inspect import places

    try:
        site = read_site(home)
    except ConfigError:
        return []
    return list(missing_libraries(plugin for _, name in places(site) for plugin in site.role(name).plugins))
