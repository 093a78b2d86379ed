"""control/pluq.toml as text. Only what profiles hold is written; a text is checked by the caller with pluq.config.site."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pluq.migrate.needs import Profile

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def value(found: Any) -> str:
    """Return a value as TOML."""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, (list, tuple)):
        return "[" + ", ".join(value(item) for item in found) + "]"
    if isinstance(found, str):
        # JSON's escapes are TOML's, but for DEL.
        return json.dumps(found, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(found)


def key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else value(name)


def profile_lines(profile: Profile, plugins: Sequence[str]) -> Iterable[str]:
    """Yield the lines of one table: a listener, or a role."""
    yield f"[profile.{key(profile.name)}]" if profile.listen else f"[{profile.name}]"
    if profile.listen:
        yield f"listen = {value(profile.listen)}"
    yield f"plugins = {value(list(plugins))}"
    for name, option in profile.options.items():
        yield f"{name} = {value(option)}"
    for plugin in plugins:
        for name, option in profile.settings.get(plugin, {}).items():
            yield f"{key(plugin)}.{key(name)} = {value(option)}"


def document(tables: Iterable[tuple[Profile, Sequence[str]]], head: Iterable[str]) -> str:
    """Return the whole file. A role without plugins is left out."""
    blocks = ["\n".join(f"# {line}" if line else "#" for line in head)]
    blocks += ["\n".join(profile_lines(profile, plugins)) for profile, plugins in tables if profile.listen or plugins]
    return "\n\n".join(blocks) + "\n"
