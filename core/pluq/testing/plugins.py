"""Plugin instances and plans for tests, without a home: `plan_of(make_plugin(Size, databytes=100))`.

What plugins log, and why one has failed, is printed, so that pytest shows it below a test that fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from pluq.config import Home
from pluq.config.keys import KeyReader
from pluq.config.settings import Resolved, Value, declarations
from pluq.config.site import Role, Site
from pluq.config.table import Table
from pluq.hookspecs import Context, Plugin
from pluq.plan import Plan
from pluq.plan.compile import assemble, process_resolver
from pluq.plan.load import load_file

P = TypeVar("P", bound=Plugin[Any])


def load_plugin(path: str | os.PathLike[str]) -> Any:
    """Return the plugin class of a single file, `load_plugin("plugins/nonames.py")`, checked as a site's is. Raises ConfigError."""
    folder, name = os.path.split(os.fspath(path))
    return load_file(name.removesuffix(".py"), os.path.join(folder, name))


def make_plugin(
    plugin: type[P],
    *,
    home: Home | None = None,
    role: str = "smtpd",
    log: Callable[[str], None] = print,
    resolver: Callable[[], Any] = process_resolver,
    authserv_id: str = "mx.example.org",
    **settings: Any,
) -> P:
    """Return an instance whose settings are the defaults with `settings` on top; a name that is no setting is a TypeError."""
    declared = declarations(plugin.settings_class)
    unknown = settings.keys() - {one.name for one in declared}
    if unknown:
        raise TypeError(f"{plugin.name} has no setting {', '.join(sorted(unknown))}")
    values = {one.name: Value(one.default, "default") for one in declared} | {
        name: Value(value, "test") for name, value in settings.items()
    }
    instance = plugin()
    home = home or Home("/nonexistent")
    instance.context = Context(home, role, "test", log, KeyReader(home), resolver, authserv_id)
    instance.resolved = Resolved(plugin.settings_class, values, declared)
    instance.settings = instance.resolved.settings
    return instance


def plan_of(
    *plugins: Plugin[Any],
    mode: str = "enforce",
    on_error: str = "defer",
    log: Callable[[str], None] = print,
) -> Plan:
    """Return the plan of these instances in this order, as a profile that lists them; `mode` and `on_error` are those of all of them."""
    for plugin in plugins:
        if not isinstance(plugin, Plugin):
            raise TypeError(f"plan_of() takes instances, as make_plugin() returns them, not {plugin!r}")
    tables = {plugin.name: Table("test", plugin.name, {"mode": mode, "on_error": on_error}) for plugin in plugins}
    return assemble(plugins, Role("test", tuple(tables)), Site("test", plugins=tables), log)
