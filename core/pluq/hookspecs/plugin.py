"""The base of every plugin, and the mark of a hook method.

    class MaxRcpt(Plugin[Settings]):
        name = "maxrcpt"

        @hook
        def smtp_rcpt(self, session, transaction): ...

One instance is made for each profile or role that names the plugin. A method marked `@hook` carries the name of the hook; it
asks for the parameters that it needs, by the names of the specification. A wrong name is an error when the plugin is loaded.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args, get_origin

from pluq.config import Home
from pluq.errors import ConfigError

if TYPE_CHECKING:
    from pluq.config.settings import Resolved  # not at run time: qmail-smtpd without plugins must not read TOML modules
    from pluq.dns import Resolver
    from pluq.hookspecs.context import Session

F = TypeVar("F", bound=Callable[..., Any])
PROJECT = "pluq"

Command = Callable[[Sequence[str]], int]


def get_original_bases(cls: type) -> tuple[Any, ...]:
    """Return the bases as they were written, with their type parameters (types.get_original_bases of Python 3.12)."""
    return tuple(cls.__dict__.get("__orig_bases__", ()))


def hook(function: F) -> F:
    """Mark a method as the implementation of the hook that bears its name."""
    import pluggy  # here, because programs without plugins must not pay for it

    return pluggy.HookimplMarker(PROJECT)(function)


@dataclass(frozen=True)
class DnsRecord:
    """A record that a plugin needs published. `what` it is for; `value` in the presentation format, without quotes.

    `fault` is given what is published, as pluq.dns gives it, and returns why that will not do, "" if it will.
    """

    name: str
    rdtype: str
    what: str
    value: str
    fault: Callable[[Sequence[Any]], str]


@dataclass(frozen=True)
class NoSettings:
    """A plugin without settings."""


if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # typing's own has defaults from Python 3.13 on

    S = TypeVarWithDefault("S", default=NoSettings)  # so that `class MyPlugin(Plugin)` is whole for type checkers
else:
    S = TypeVar("S")


@dataclass(frozen=True)
class Context:
    """Where a plugin instance lives."""

    home: Home
    """The qmail home: `home.control("NAME")` is the path of a control file, `home.controls` reads them."""
    role: str
    """ "smtpd", "pop3d", "queue", "send", "local" or "remote"."""
    profile: str
    """The profile's name; the role's name where there are no profiles."""
    log: Callable[[str], None]
    """Writes one line, escaped. `self.log` puts the plugin's name in front."""
    read_file: Callable[[str], bytes]
    """Reads a file that the configuration names, also one that only root may read (a key)."""
    resolver: Callable[[], Resolver]
    """Returns the DNS resolver that everything in this process shares. Call it in `start` or later."""
    authserv_id: str = ""
    """The name that our Authentication-Results fields bear."""


class Plugin(Generic[S]):
    """A plugin: a subclass sets `name`, may set the others of the first six, and marks hook methods.

    The type parameter is the dataclass of its settings, `class MaxRcpt(Plugin[Settings])`; plain `Plugin` has none. An `__init__` takes
    nothing but self; settings and context are there from the hook `start` on. One instance serves all sessions of a process.
    """

    name: ClassVar[str]
    """Its name in the configuration, and that of its file or entry point."""
    settings_class: ClassVar[type] = NoSettings
    """Set by the type parameter."""
    before: ClassVar[tuple[str, ...]] = ()
    """Plugins that must stand later in the list of a profile where both are enabled; a list that contradicts it is an error."""
    after: ClassVar[tuple[str, ...]] = ()
    """Plugins that must stand earlier."""
    permissions: ClassVar[frozenset[str]] = frozenset()
    """ "relay": it may accept recipients that rcpthosts does not list."""
    budget: ClassVar[float] = 10.0
    """How many seconds one call of a hook may wait; the site's `timeout` wins."""

    settings: S
    """Those of the profile or role; `settings_for(session)` are those of a connection."""
    context: Context
    """Where this instance lives: home, role, resolver."""
    resolved: Resolved
    """The settings with where each came from."""
    is_shadow: bool = False
    """The site only wants to know what the plugin would say. What it changes is changed for nobody; it runs no programs and delays nobody."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for base in get_original_bases(cls):
            if get_origin(base) is Plugin and isinstance(found := get_args(base)[0], type) and found is not Any:
                if not is_dataclass(found):
                    raise TypeError(
                        f"{found.__qualname__}: the class of a plugin's settings is a @dataclass(frozen=True)"
                    )
                cls.settings_class = found

    @classmethod
    def cli_commands(cls) -> Mapping[str, Command]:
        """Return the commands of `pluq NAME ...`: argv after the command in, exit status out."""
        return {}

    def dns_records(self, domain: str) -> Sequence[DnsRecord]:
        """Return the records that these settings need published for a domain. `pluq dns` asks, of a plugin that was not started."""
        return ()

    def settings_for(self, session: Session) -> S:
        """Return the settings of this connection: the profile's, with the connection's own variables on top."""
        environment = session.environment
        if self.resolved.by_env.keys().isdisjoint(environment):
            return self.settings
        settings, complaints = self.resolved.overlay(environment)
        for complaint in complaints:
            self.context.log(f"{self.name}: {session.remote_ip}: {complaint}")
        return settings  # type: ignore[no-any-return]  # the class is S by construction

    def state_folder(self) -> str:
        """Return the plugin's own folder, made if it is missing: HOME/state/ROLE/NAME, for the role's user alone.

        What lies there survives restarts. All processes of the role share it, so write files as a whole (a new file, renamed) or
        through something that locks, such as sqlite3. In the role "local" there is none: each delivery is another user.
        Raises ConfigError.
        """
        parent = self.context.home.state(self.context.role)
        path = f"{parent}/{self.name}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError as error:
            raise ConfigError(parent, "not there: run `pluq init`") from error
        except OSError as error:
            raise ConfigError(path, os.strerror(error.errno or 0)) from error
        return path

    def log(self, text: str) -> None:
        """Write one line to the role's log, with this plugin's name in front."""
        self.context.log(f"{self.name}: {text}")


def hook_methods(plugin: type[Plugin[Any]]) -> dict[str, Callable[..., Any]]:
    """Return the marked methods of a plugin class by hook name."""
    members: list[tuple[str, Callable[..., Any]]] = inspect.getmembers(plugin, inspect.isfunction)
    return {name: member for name, member in members if getattr(member, f"{PROJECT}_impl", None) is not None}
