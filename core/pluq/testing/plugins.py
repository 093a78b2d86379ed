"""Plugin instances for tests, configured without a home: `make_plugin(Size, databytes=100)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pluq.config import Home
from pluq.config.settings import Resolved, Value, declarations
from pluq.hookspecs import Context, Plugin
from pluq.plan.compile import process_resolver, read_plainly

P = TypeVar("P", bound=Plugin[Any])


def make_plugin(
    plugin: type[P],
    *,
    home: Home | None = None,
    role: str = "smtpd",
    log: Callable[[str], None] = lambda line: None,
    resolver: Callable[[], Any] = process_resolver,
    authserv_id: str = "mx.example.org",
    **settings: Any,
) -> P:
    """Return an instance whose settings are the defaults with `settings` on top; a name that is no setting is a TypeError."""
    declared = declarations(plugin.settings_class)
    unknown = settings.keys() - {one.name for one in declared}
    if unknown:
        raise TypeError(f"{plugin.name} has no setting {', '.join(sorted(unknown))}")
    values = {one.name: Value(settings.get(one.name, one.default), "test") for one in declared}
    instance = plugin()
    instance.context = Context(home or Home("/nonexistent"), role, "test", log, read_plainly, resolver, authserv_id)
    instance.resolved = Resolved(plugin.settings_class, values, declared)
    instance.settings = instance.resolved.settings
    return instance
