"""Looking at plugins and profiles from outside: what `pluq check`, `pluq plugins` and `pluq config` show.

Nothing is started. Every profile and role of the site is compiled as the daemon would compile it, and every fault is collected,
not only the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pluq.config import Home
from pluq.config.examine import examine
from pluq.config.keys import KeyReader
from pluq.config.settings import Declaration, Value, declarations
from pluq.config.site import ROLES, Profile, Site
from pluq.config.table import nearest
from pluq.errors import ConfigError, TemporaryFailure
from pluq.hookspecs import Plugin
from pluq.hookspecs.plugin import hook_methods
from pluq.plan import Plan
from pluq.plan.compile import compile_plan
from pluq.plan.load import installed, load_class, site_files

HIDDEN = "(secret)"
# Each role: what people call it, and how the hooks begin that it asks beside those of a plugin's life and `observe`.
ASKED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "smtpd": ("a profile", ("smtp_", "message_", "queue_submit", "queue_open", "transaction_end")),
    "pop3d": ("a profile with protocol 'pop3'", ("pop3_",)),
    "queue": ("[queue]", ("queue_fields", "queue_envelope", "queue_open")),
    "send": ("[send]", ("send_",)),
    "local": ("[local]", ("local_", "forward_")),
    "remote": ("[remote]", ("remote_",)),
}


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
    unusable: set[str] = set()

    def compiled(site: Site) -> Iterator[ConfigError]:
        for name, plan in plans(home, site, keys):
            if isinstance(plan, ConfigError):
                unusable.add(name)
                yield plan

    site, broken = examine(home, compiled)
    found = [str(fault) for fault in (*broken, *shared_ports(site), *missing_rules(home, site), *unused_tables(site))]
    for name, plan in plans(home, site, keys):
        if isinstance(plan, Plan) and name not in unusable:
            found += (f"{name}: {fault}" for fault in plugin_faults(plan))
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


def idle_plugins(home: Home) -> list[str]:
    """Return a sentence for each plugin that is asked nothing where it is enabled, though it would be elsewhere."""
    site, _told_elsewhere = examine(home)
    found = []
    for role, place in places(site):
        where = site.role(place)
        for name in where.plugins:
            wanted = roles_of(name, home)
            if wanted and role not in wanted and where.plugins_table is not None:
                why = f"{name!r} does nothing here; its place is {' or '.join(ASKED[one][0] for one in wanted)}"
                found.append(str(where.plugins_table.error("plugins", why)))
    return found


def roles_of(name: str, home: Home) -> list[str]:
    """Return the roles that ask a plugin something; none for one that goes with all, as those that only observe, or that cannot be loaded."""
    try:
        names = hook_methods(load_class(name, home))
    except ConfigError:
        return []
    return (
        []
        if "observe" in names
        else [role for role, (_, hooks) in ASKED.items() if any(one.startswith(hooks) for one in names)]
    )


def shared_ports(site: Site) -> Iterator[ConfigError]:
    """Yield a fault for each address that two profiles listen on."""
    owners: dict[str, str] = {}
    for profile in site.profiles.values():
        for address in profile.listen:
            if address in owners:
                why = f"profiles {owners[address]!r} and {profile.name!r} both listen on {address}"
                yield profile.tables[-1].error("listen", why)
            owners[address] = profile.name


def missing_rules(home: Home, site: Site) -> Iterator[ConfigError]:
    """Yield a fault for rules that a profile names and that are not there; and for a QMQP profile without, which would let nobody in."""
    for profile in site.profiles.values():
        rules = profile.rules_path(home)
        if os.path.exists(rules) or os.path.exists(f"{rules}.cdb"):
            continue
        if profile.protocol == "qmqp":
            yield profile.tables[-1].error(None, f"nobody may connect, for there are no rules in {rules}")
        elif profile.rules:
            holder = next(table for table in reversed(profile.tables) if "rules" in table.values)
            yield holder.error("rules", f"{rules} is not there")


def unused_tables(site: Site) -> Iterator[ConfigError]:
    """Yield a fault for each table [plugin.NAME] that nothing reads."""
    enabled = {plugin for _, name in places(site) for plugin in site.role(name).plugins}
    for name, table in site.plugins.items():
        if name not in enabled:
            yield table.error(None, f"no profile or role enables it{nearest(name, enabled)}")


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
