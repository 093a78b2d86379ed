"""Looking at plugins and profiles from outside: what `pluq check`, `pluq plugins` and `pluq config` show.

Nothing is started. Every profile and role of the site is compiled as the daemon would compile it, and every fault is collected,
not only the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pluq.config import Home
from pluq.config.keys import KeyReader
from pluq.config.settings import Declaration, Value, declarations
from pluq.config.site import ROLES, Profile, Site, read_site
from pluq.errors import ConfigError, TemporaryFailure
from pluq.hookspecs import Plugin
from pluq.hookspecs.plugin import hook_methods
from pluq.plan import Plan
from pluq.plan.compile import compile_plan
from pluq.plan.load import installed, load_class, site_files

HIDDEN = "(secret)"


@dataclass(frozen=True)
class Installed:
    """One plugin that could be enabled. `error` is why it cannot be loaded; `enabled` the profiles and roles that name it."""

    name: str
    source: str
    summary: str
    hooks: tuple[str, ...]
    settings: tuple[Declaration, ...]
    enabled: tuple[str, ...]
    error: str | None = None


def silent(line: str) -> None:
    """A log for plans that nobody runs."""


def places(site: Site) -> Iterator[tuple[str, str]]:
    """Yield (role, name) of everything in the site that may have plugins: each profile with the role that serves it, and the other roles."""
    for name, profile in site.profiles.items():
        yield profile.role, name
    for name in ROLES:
        if name in site.roles:
            yield name, name


def plans(home: Home, site: Site, keys: str | None = None) -> Iterator[tuple[str, Plan | ConfigError]]:
    """Yield the plan of each profile and role, or why it has none. `keys`: another socket than that of the role "keys"."""
    reader = KeyReader(home, keys)
    for role, name in places(site):
        try:
            yield name, compile_plan(home, site, name, role=role, log=silent, read_file=reader)
        except ConfigError as error:
            yield name, error


def faults(home: Home, keys: str | None = None) -> list[str]:
    """Return a sentence for everything that is wrong with control/pluq.toml and the plugins that it enables."""
    try:
        site = read_site(home)
    except ConfigError as error:
        return [str(error)]
    found = [*shared_ports(site), *closed_doors(home, site)]
    found += (f"{site.file}: plugin.{name}: no profile or role enables it" for name in unused_tables(site))
    for name, plan in plans(home, site, keys):
        found += [str(plan)] if isinstance(plan, ConfigError) else [f"{name}: {fault}" for fault in plugin_faults(plan)]
    return list(dict.fromkeys(found))


def plugin_faults(plan: Plan) -> list[str]:
    """Return what the plugins themselves find wrong with their settings."""
    if plan.check is None:
        return []
    try:
        return list(plan.check())
    except TemporaryFailure as error:
        cause = error.__cause__
        return [f"{error} in check: {type(cause).__name__}: {cause}" if cause else str(error)]


def shared_ports(site: Site) -> Iterator[str]:
    """Yield a sentence for each address that two profiles listen on."""
    owners: dict[str, str] = {}
    for profile in site.profiles.values():
        for address in profile.listen:
            if address in owners:
                yield f"{site.file}: profiles {owners[address]!r} and {profile.name!r} both listen on {address}"
            owners[address] = profile.name


def closed_doors(home: Home, site: Site) -> Iterator[str]:
    """Yield a sentence for each QMQP profile without rules: its clients may do everything, so nobody would be let in."""
    for name, profile in site.profiles.items():
        rules = profile.rules_path(home)
        if profile.protocol == "qmqp" and not (os.path.exists(rules) or os.path.exists(f"{rules}.cdb")):
            yield f"{site.file}: profile {name!r}: nobody may connect, for there are no rules in {rules}"


def unused_tables(site: Site) -> list[str]:
    enabled = {plugin for _, name in places(site) for plugin in site.role(name).plugins}
    return [name for name in site.plugins if name not in enabled]


def list_plugins(home: Home, site: Site) -> list[Installed]:
    """Return every plugin that is installed or lies in the site's folder, by name."""
    sources = {name: entry.value for name, entry in installed().items()} | dict(site_files(home))
    return [describe(name, sources[name], home, site) for name in sorted(sources)]


def describe(name: str, source: str, home: Home, site: Site) -> Installed:
    enabled = tuple(place for _, place in places(site) if name in site.role(place).plugins)
    try:
        plugin = load_class(name, home)
    except ConfigError as error:
        return Installed(name, source, "", (), (), enabled, str(error))
    return Installed(
        name,
        source,
        summary(plugin),
        tuple(sorted(hook_methods(plugin))),
        tuple(declarations(plugin.settings_class)),
        enabled,
    )


def summary(plugin: type[Plugin[Any]]) -> str:
    """Return the first line of the class's docstring."""
    return (plugin.__doc__ or "").strip().split("\n", 1)[0]


def own_keys(site: Site, name: str) -> dict[str, Value]:
    """Return what a profile or role says itself, beside its plugins' settings."""
    role = site.role(name)
    if isinstance(role, Profile):
        return dict(site.values[f"profile.{name}"])
    table = role.plugins_table
    return {"plugins": Value(role.plugins, f"{site.file}:{table.line('plugins')}" if table else "default")}


def effective(plan: Plan) -> Iterator[tuple[str, str, Value]]:
    """Yield (plugin, setting, value) for every setting in force; the values of secrets are hidden."""
    for plugin in plan.plugins:
        secret = {one.name for one in declarations(plugin.settings_class) if one.secret}
        for name, value in plugin.resolved.values.items():
            hide = name in secret and value.value not in (None, "", ())
            yield plugin.name, name, Value(HIDDEN, value.source) if hide else value
