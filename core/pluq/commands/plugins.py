"""pluq plugins: what is installed, where it is enabled and in which order, its hooks and settings.

    pluq plugins [--home DIR] [--json] [NAME]

Without NAME what each plugin does, where it is enabled, and the order in each profile; with NAME everything about one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pluq.config.site import Site
    from pluq.plan.inspect import Installed


def main() -> int:
    import argparse
    import json

    from pluq.commands.help_text import HelpText
    from pluq.config import Home
    from pluq.config.site import read_site
    from pluq.config.table import nearest
    from pluq.errors import ConfigError
    from pluq.plan.inspect import list_plugins

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("name", nargs="?", help="show one plugin")
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--json", action="store_true", help="answer with one JSON array")
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    try:
        site = read_site(home)
    except ConfigError as error:
        sys.stderr.write(f"pluq plugins: {error}\n")
        return 111
    found = list_plugins(home, site)
    if options.name:
        names = [one.name for one in found]
        if options.name not in names:
            sys.stderr.write(f"pluq plugins: no plugin {options.name!r}{nearest(options.name, names)}\n")
            return 100
        found = [one for one in found if one.name == options.name]
    if options.json:
        sys.stdout.write(json.dumps([as_json(one) for one in found]) + "\n")
    else:
        lines = one_plugin(found[0]) if options.name else overview(found, site)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def as_json(one: Installed) -> dict[str, Any]:
    from pluq.config.settings import plain

    return {
        "name": one.name,
        "source": one.source,
        "summary": one.summary,
        "hooks": list(one.hooks),
        "settings": [
            {
                "name": setting.name,
                "type": setting.kind,
                "default": None if setting.secret else plain(setting.default),
                "unit": setting.unit,
                "control": setting.control,
                "env": setting.env,
                "help": setting.help,
            }
            for setting in one.settings
        ],
        "enabled": list(one.enabled),
        "error": one.error,
    }


def overview(found: list[Installed], site: Site) -> Iterator[str]:
    from pluq.plan.inspect import places

    width = max((len(one.name) for one in found), default=0)
    for one in found:
        where = f"  [{', '.join(one.enabled)}]" if one.enabled else ""
        yield from folded(f"{one.name:<{width}}  {one.error or one.summary}{where}", width + 2)
    for _, name in places(site):
        yield from folded(f"order in {name}: {' '.join(site.role(name).plugins) or '(none)'}", 4)


def folded(text: str, indent: int) -> list[str]:
    """Return lines of up to 80 columns, those after the first indented; a long word stays whole."""
    import textwrap

    return textwrap.wrap(text, 80, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def one_plugin(one: Installed) -> Iterator[str]:
    from pluq.config.settings import plain

    yield f"{one.name}: {one.error or one.summary}"
    yield f"from {one.source}"
    yield f"enabled in: {', '.join(one.enabled) or 'nothing'}"
    yield from folded(f"hooks: {', '.join(one.hooks) or 'none'}", 7)
    for setting in one.settings:
        places = [f"control/{setting.control}"] if setting.control else []
        places += [f"${setting.env}"] if setting.env else []
        unit = f" {setting.unit}" if setting.unit else ""
        also = f"  ({', '.join(places)})" if places else ""
        yield f"  {setting.name} = {plain(setting.default)!r}{unit}{also}"
        yield from folded(f"      {setting.help}", 6)
