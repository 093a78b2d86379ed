"""control/pluq.toml as values: what the site turned on, where, and the line of each decision.

    [core]                 authserv_id, local_dates, maildir_sizes: what is no plugin
    [profile.NAME]         a listener: listen, protocol, plugins, extends, limits, and a table for each plugin's settings
    [remote] [local] [queue] [send]    the other roles: plugins, and a table for each plugin's settings
    [plugin.NAME]          settings of a plugin wherever it is enabled
    [log] [status]         the form of the log; the status page, figures and health (pluq.config.watching)

No file is stock qmail: no profile, no plugin. Anything that is not known here is an error with the line and the nearest right
word, because a misspelt setting that does nothing is worse than one that fails.

Source: DESIGN "Settings".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pluq.config import watching
from pluq.config.home import Home
from pluq.errors import ConfigError
from pluq.store.control import read_file

ROLES = ("queue", "send", "local", "remote")
STOCK = "stock"

# Keys of the core beside a plugin's own settings.
COMMON_PLUGIN_KEYS = ("on_error", "mode", "timeout")
PROFILE_KEYS = (
    "listen",
    "protocol",
    "plugins",
    "extends",
    "rules",
    "concurrency",
    "per_address",
    "workers",
    "checkpassword",
)
# What a listener speaks, and the role that serves it; plugins are compiled for that role.
PROTOCOLS = {"smtp": "smtpd", "qmtp": "qmtpd", "qmqp": "qmtpd", "pop3": "pop3d"}
# Those whose sessions know no hook.
WITHOUT_PLUGINS = ("qmtp", "qmqp")
# What stands behind qmail-popup in everybody's run file.
CHECKPASSWORD = ("checkpassword", "qmail-pop3d", "Maildir")
ROLE_KEYS = ("plugins",)
CORE_KEYS = ("authserv_id", "local_dates", "maildir_sizes")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest of `words`, or nothing."""
    found = get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True)
class Table:
    """One table of the file: its dotted name, its values, and the line of each key."""

    file: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def line(self, key: str | None = None) -> int | None:
        """Return the line of a key of this table, or of the table itself."""
        full = self.name if key is None else f"{self.name}.{key}"
        return self.lines.get(full)

    def error(self, key: str | None, why: str) -> ConfigError:
        return ConfigError(self.file, why, self.line(key) or self.line(), f"{self.name}.{key}" if key else self.name)

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Raise ConfigError for a key that is neither in `known` nor one that every plugin has."""
        allowed = (*known, *COMMON_PLUGIN_KEYS)
        for key in self.values:
            if key not in allowed:
                raise self.error(key, f"unknown setting{nearest(key, allowed)}")

    def sub(self, key: str) -> Table:
        """Return the table below `key`, an empty one where there is none."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, "expected a table of settings")
        return Table(self.file, f"{self.name}.{key}", value, self.lines)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, () where the key is absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "expected a list of texts")
        return tuple(value)

    def number(self, key: str, default: int) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(key, "expected a whole number that is not negative")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "expected true or false")
        return value

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "expected text in quotes")
        return value


@dataclass(frozen=True)
class Role:
    """Where plugins are enabled: a profile, or one of the other roles. `tables` are its own, the base profile's first."""

    name: str
    plugins: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plugins_table: Table | None = None

    def plugin_tables(self, plugin: str) -> list[Table]:
        """Return this role's settings of one plugin, weakest first."""
        return [table.sub(plugin) for table in self.tables if plugin in table.values]


@dataclass(frozen=True)
class Profile(Role):
    """A listener. `listen` are "ADDRESS:PORT"; `rules` the tcprules file below control; limits are per profile.

    `checkpassword` is the command of a POP3 login: a checkpassword program, and what it runs.
    """

    listen: tuple[str, ...] = ()
    protocol: str = "smtp"
    rules: str = "tcp.smtp"
    checkpassword: tuple[str, ...] = CHECKPASSWORD
    concurrency: int | None = None
    per_address: int | None = None
    workers: int | None = None

    @property
    def role(self) -> str:
        """The role that serves it."""
        return PROTOCOLS[self.protocol]

    def rules_path(self, home: Home) -> str:
        """Return the path of the rules in text form; a relative name lies in control."""
        return self.rules if self.rules.startswith("/") else home.control(self.rules)


@dataclass(frozen=True)
class Site:
    """The whole file. `profiles` in the order of the file; a role that is not there has no plugins."""

    file: str
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    plugins: Mapping[str, Table] = field(default_factory=dict)
    core: Table = field(default_factory=lambda: Table("", "core"))
    log_format: str = "qmail"
    status: watching.Status = field(default_factory=watching.Status)

    def role(self, name: str) -> Role:
        """Return a role ("remote") or a profile by name; one without plugins where the file has none."""
        return self.roles.get(name) or self.profiles.get(name) or Role(name)

    def profile(self, name: str) -> Profile:
        """Return the profile; ConfigError with the nearest name if the file has no such profile."""
        try:
            return self.profiles[name]
        except KeyError:
            raise ConfigError(
                self.file, f"no profile {name!r}{nearest(name, self.profiles)}", None, "profile"
            ) from None


def read_site(home: Home) -> Site:
    """Return what control/pluq.toml says; an empty site where there is no such file. Raises ConfigError."""
    path = home.control("pluq.toml")
    data = read_file(path)
    return Site(path) if data is None else parse_site(path, data)


def parse_site(path: str, data: bytes) -> Site:
    """Return the site that the text describes. Raises ConfigError with the line of the first fault."""
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(path, "not UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, *_toml_fault(str(error))) from None
    top = Table(path, "", document, key_lines(text))
    known = ("core", "log", "profile", "plugin", "status", *ROLES)
    for key in document:
        if key not in known:
            raise ConfigError(path, f"unknown table{nearest(key, known)}", top.lines.get(key), key)
    return Site(
        path,
        _profiles(top),
        {name: _role(_top_table(top, name), ROLE_KEYS) for name in ROLES if name in document},
        {name: _top_table(top, "plugin").sub(name) for name in _top_table(top, "plugin").values},
        _core(_top_table(top, "core")),
        watching.log_format(_top_table(top, "log")),
        watching.status(_top_table(top, "status")),
    )


def _toml_fault(message: str) -> tuple[str, int | None]:
    found = re.search(r"\(at line (\d+), column \d+\)", message)
    return message, int(found[1]) if found else None


def _top_table(top: Table, name: str) -> Table:
    value = top.values.get(name, {})
    if not isinstance(value, dict):
        raise ConfigError(top.file, "expected a table", top.lines.get(name), name)
    return Table(top.file, name, value, top.lines)


def _core(table: Table) -> Table:
    for key in table.values:
        if key not in CORE_KEYS:
            raise table.error(key, f"unknown setting{nearest(key, CORE_KEYS)}")
    return table


def _profiles(top: Table) -> dict[str, Profile]:
    parent = _top_table(top, "profile")
    tables = {name: parent.sub(name) for name in parent.values}
    return {name: _profile(name, tables) for name in tables}


def _chain(name: str, tables: Mapping[str, Table]) -> list[Table]:
    """Return the tables of a profile and of what it extends, the base first."""
    chain: list[Table] = []
    while True:
        table = tables[name]
        if table in chain:
            raise table.error("extends", "a profile cannot extend itself")
        chain.insert(0, table)
        base = table.text("extends", "")
        if not base:
            return chain
        if base not in tables:
            raise table.error("extends", f"no profile {base!r}{nearest(base, tables)}")
        name = base


def _profile(name: str, tables: Mapping[str, Table]) -> Profile:
    chain = _chain(name, tables)
    role = _role_of_chain(name, chain, PROFILE_KEYS)
    own = tables[name]
    merged = Table(
        own.file, own.name, {key: value for table in chain for key, value in table.values.items()}, own.lines
    )
    limits = {
        key: merged.number(key, 0) if key in merged.values else None
        for key in ("concurrency", "per_address", "workers")
    }
    protocol = _protocol(merged, role)
    # An address belongs to one listener: `listen` is not inherited.
    return Profile(
        role.name,
        role.plugins,
        role.tables,
        role.plugins_table,
        own.texts("listen"),
        protocol,
        merged.text("rules", f"tcp.{protocol}"),
        merged.texts("checkpassword") or CHECKPASSWORD,
        **limits,
    )


def _protocol(merged: Table, role: Role) -> str:
    """Return what a profile speaks. Raises ConfigError for what makes no sense with it."""
    protocol = merged.text("protocol", "smtp")
    if protocol not in PROTOCOLS:
        raise merged.error("protocol", f"{protocol!r} is none of {', '.join(PROTOCOLS)}{nearest(protocol, PROTOCOLS)}")
    if role.plugins and protocol in WITHOUT_PLUGINS:
        table = role.plugins_table or merged
        raise table.error("plugins", f"a profile with protocol {protocol!r} has no plugins")
    if "checkpassword" in merged.values and protocol != "pop3":
        raise merged.error("checkpassword", "only a profile with protocol 'pop3' has logins of this kind")
    return protocol


def _role(table: Table, keys: tuple[str, ...]) -> Role:
    return _role_of_chain(table.name, [table], keys)


def _role_of_chain(name: str, chain: list[Table], keys: tuple[str, ...]) -> Role:
    holder = next((table for table in reversed(chain) if "plugins" in table.values), None)
    plugins = holder.texts("plugins") if holder else ()
    for plugin in plugins:
        if holder and plugins.count(plugin) > 1:
            raise holder.error("plugins", f"{plugin!r} stands twice")
    for table in chain:
        for key, value in table.values.items():
            if key in keys:
                continue
            if not isinstance(value, dict):
                raise table.error(key, f"unknown setting{nearest(key, keys)}")
            if key not in plugins and table is chain[-1]:
                raise table.error(key, f"settings of a plugin that is not in plugins{nearest(key, plugins)}")
    return Role(name, plugins, tuple(chain), holder)


_HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Return the line (from 1) where each table and key of a valid TOML text begins, by its dotted name.

    Lines inside a multi-line text could look like a key; they are below a key that has its line already, and the first wins.
    """
    lines: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.match(line)
        if header:
            prefix = _dotted(header[1])
            _note(lines, prefix, number)
            continue
        key = _KEY.match(line)
        if key:
            _note(lines, f"{prefix}.{_dotted(key[1])}" if prefix else _dotted(key[1]), number)
    return lines


def _dotted(raw: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in raw.split("."))


def _note(lines: dict[str, int], name: str, number: int) -> None:
    """Remember the line of a name and of the tables that its dots imply."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        lines.setdefault(".".join(parts[:count]), number)
