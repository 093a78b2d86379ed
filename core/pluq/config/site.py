"""control/pluq.toml as values: what the site turned on, where, and the line of each decision.

    [core]                 what is no plugin
    [profile.NAME]         a listener: listen, protocol, plugins, extends, limits, and a table for each plugin's settings
    [remote] [local] [queue] [send]    the other roles: plugins, and a table for each plugin's settings
    [plugin.NAME]          settings of a plugin wherever it is enabled
    [log] [status]         the form of the log; the status page, figures and health (pluq.config.watching)

The keys of each are declared as plugins declare theirs.

No file is stock qmail: no profile, no plugin. Anything that is not known here is an error with the line and the nearest right
word, because a misspelt setting that does nothing is worse than one that fails.

Source: docs/configuration.md.
"""

from __future__ import annotations

import re
import tomllib
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pluq.config import watching
from pluq.config.home import Home
from pluq.config.settings import Resolved, Value, declarations, read_table, setting
from pluq.config.table import Table, key_lines, nearest
from pluq.errors import ConfigError
from pluq.store.control import read_file

ROLES = ("queue", "send", "local", "remote")
STOCK = "stock"

# What a listener speaks, and the role that serves it; plugins are compiled for that role.
PROTOCOLS = {"smtp": "smtpd", "qmtp": "qmtpd", "qmqp": "qmtpd", "pop3": "pop3d"}
# Those whose sessions know no hook.
WITHOUT_PLUGINS = ("qmtp", "qmqp")
# What stands behind qmail-popup in everybody's run file.
CHECKPASSWORD = ("checkpassword", "qmail-pop3d", "Maildir")
ROLE_KEYS = ("plugins",)


@dataclass(frozen=True)
class Core:
    """[core]: what is no plugin."""

    authserv_id: str = setting("", help="The name that our Authentication-Results fields bear; none: control/me.")
    local_dates: bool = setting(False, help="Dates in Received and of qmail-inject in local time with its zone.")
    memory_limit: int = setting(
        1024,
        unit="MiB",
        help="A process that serves clients and has grown larger is replaced: it serves its last sessions, another takes the new ones; 0: never.",
    )
    maildir_sizes: bool = setting(True, help="Names of messages in a Maildir end in ,S=SIZE.")

    @property
    def memory_bytes(self) -> int:
        """The limit in octets."""
        return self.memory_limit << 20


def at_least_one(number: int) -> int:
    if number < 1:
        raise ValueError("expected a number of 1 or more; leave it out for the usual one")
    return number


@dataclass(frozen=True)
class Listening:
    """[profile.NAME]: a listener."""

    listen: tuple[str, ...] = setting((), help="Addresses, ADDRESS:PORT or [ADDRESS]:PORT; not inherited.")
    protocol: Literal["smtp", "qmtp", "qmqp", "pop3"] = setting("smtp", help="What it speaks.")
    plugins: tuple[str, ...] = setting((), help="Plugins, in the order in which they are asked.")
    extends: str = setting(
        "", help="Another profile, whose keys and plugins are those of this one unless it has its own."
    )
    rules: str = setting("", help="The rules (tcprules), in control unless it begins with /; none: tcp.PROTOCOL.")
    concurrency: int | None = setting(
        None,
        parse=at_least_one,
        unit="connections",
        help="Connections at once; none: control/concurrencyincoming, else as the protocol has it.",
    )
    # 50 as Postfix: no client that behaves needs more, and twenty hostile addresses are needed to take all the places.
    per_address: int = setting(
        50, unit="connections", help="Connections at once of one address, this machine excepted; 0: any number."
    )
    workers: int | None = setting(
        None, parse=at_least_one, unit="processes", help="Processes that serve it; none: one for two processors."
    )
    checkpassword: tuple[str, ...] = setting(
        CHECKPASSWORD, help="POP3: the command of a login, a checkpassword program and what it runs."
    )


TABLES: Mapping[str, type] = {"core": Core, "log": watching.Log, "status": watching.Status}


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
class Profile(Listening, Role):
    """A listener."""

    @property
    def role(self) -> str:
        """The role that serves it."""
        return PROTOCOLS[self.protocol]

    def rules_path(self, home: Home) -> str:
        """Return the path of the rules in text form; a relative name lies in control."""
        rules = self.rules or f"tcp.{self.protocol}"
        return rules if rules.startswith("/") else home.control(rules)


@dataclass(frozen=True)
class Site:
    """The whole file. `profiles` in the order of the file; a role that is not there has no plugins.

    `values` are the settings of the core with their sources, by table: "core", "profile.mx".
    """

    file: str
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    plugins: Mapping[str, Table] = field(default_factory=dict)
    core: Core = field(default_factory=Core)
    log: watching.Log = field(default_factory=watching.Log)
    status: watching.Status = field(default_factory=watching.Status)
    values: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

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
    return site_of(read_document(path, data))


def read_document(path: str, data: bytes) -> Table:
    """Return the text as one table with its lines. Raises ConfigError with the line where it is no TOML."""
    if data.startswith(BOM_UTF8):
        raise ConfigError(path, "begins with a byte order mark, as some editors write it; save it without", 1)
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(path, "not UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, *_toml_fault(str(error), text)) from None
    return Table(path, "", document, key_lines(text))


def site_of(top: Table) -> Site:
    """Return the site that the whole document describes. Raises ConfigError with the line of the first fault."""
    known = (*TABLES, "profile", "plugin", *ROLES)
    for key in top.values:
        if key not in known:
            raise ConfigError(top.file, f"unknown table{nearest(key, known)}", top.lines.get(key), key)
    read = {name: _read(_top_table(top, name), kind) for name, kind in TABLES.items()}
    watching.check_table(read["status"].settings, _top_table(top, "status"))
    profiles = _profiles(top)
    return Site(
        top.file,
        {name: profile for name, (profile, _values) in profiles.items()},
        {name: _role(_top_table(top, name)) for name in ROLES if name in top.values},
        {name: _top_table(top, "plugin").sub(name) for name in _top_table(top, "plugin").values},
        read["core"].settings,
        read["log"].settings,
        read["status"].settings,
        {name: one.values for name, one in read.items()}
        | {f"profile.{name}": values for name, (_, values) in profiles.items()},
    )


def _toml_fault(message: str, text: str) -> tuple[str, int | None]:
    """Return what the parser says and its line; of what never ends, the line of the last key: there it begins."""
    found = re.search(r"\(at line (\d+), column \d+\)", message)
    if found:
        return message, int(found[1])
    return message, max(key_lines(text).values(), default=None)


def _top_table(top: Table, name: str) -> Table:
    value = top.values.get(name, {})
    if not isinstance(value, dict):
        raise ConfigError(top.file, "expected a table", top.lines.get(name), name)
    return Table(top.file, name, value, top.lines)


def _read(table: Table, kind: type) -> Resolved:
    table.refuse_unknown([one.name for one in declarations(kind)])
    return read_table(kind, [table])


def _profiles(top: Table) -> dict[str, tuple[Profile, Mapping[str, Value]]]:
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


def _profile(name: str, tables: Mapping[str, Table]) -> tuple[Profile, Mapping[str, Value]]:
    """Return a profile, and where each of its keys has its value from."""
    chain = _chain(name, tables)
    role = _role_of_chain(name, chain, tuple(one.name for one in declarations(Listening)))
    found = read_table(Listening, chain)
    # An address belongs to one listener: `listen` is not inherited.
    found.values["listen"] = read_table(Listening, chain[-1:]).values["listen"]
    _check_protocol(found, role, chain)
    if not found.values["checkpassword"].value:  # nobody can log in by no program
        found.values["checkpassword"] = read_table(Listening, []).values["checkpassword"]
    keys = {key: value.value for key, value in found.values.items()}
    return Profile(**{**keys, "name": name, "tables": role.tables, "plugins_table": role.plugins_table}), found.values


def _check_protocol(found: Resolved, role: Role, chain: list[Table]) -> None:
    """Raise ConfigError for what makes no sense with what a profile speaks."""
    protocol = found.values["protocol"].value
    if role.plugins and protocol in WITHOUT_PLUGINS:
        table = role.plugins_table or chain[-1]
        raise table.error("plugins", f"a profile with protocol {protocol!r} has no plugins")
    holder = next((table for table in reversed(chain) if "checkpassword" in table.values), None)
    if holder is not None and protocol != "pop3":
        raise holder.error("checkpassword", "only a profile with protocol 'pop3' has logins of this kind")


def _role(table: Table) -> Role:
    return _role_of_chain(table.name, [table], ROLE_KEYS)


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
