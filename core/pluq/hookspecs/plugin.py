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
S = TypeVar("S")
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


@dataclass(frozen=True)
class Context:
    """Where a plugin instance lives.

    `role` is "smtpd", "pop3d", "queue", "send", "local" or "remote"; `profile` the profile's name (the role's name elsewhere). `log`
    writes one line, escaped. `read_file` opens a file that the configuration names, also one that only root may read.
    `resolver()` is the DNS resolver that everything in this process shares; call it in `start` or later.
    """

    home: Home
    role: str
    profile: str
    log: Callable[[str], None]
    read_file: Callable[[str], bytes]
    resolver: Callable[[], Resolver]
    authserv_id: str = ""


class Plugin(Generic[S]):
    """A plugin. Subclasses set `name`, may set `before`, `after`, `permissions`, and mark hook methods.

    The type parameter is the dataclass of its settings: `class MaxRcpt(Plugin[Settings])`; plain `Plugin` has none.

    `before` and `after` name plugins that must stand later or earlier in the list of the profile where both are enabled; a list
    that contradicts them is an error. `permissions`: "relay" to accept recipients that rcpthosts does not list, "body" to
    replace bodies. `budget` is how many seconds one call of a hook may wait.
    """

    name: ClassVar[str]
    settings_class: ClassVar[type] = NoSettings
    before: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    permissions: ClassVar[frozenset[str]] = frozenset()
    budget: ClassVar[float] = 10.0

    settings: S
    context: Context
    resolved: Resolved
    is_shadow: bool = False
    """The site only wants to know what the plugin would say. What it changes is changed for nobody; it runs no programs and delays nobody."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for base in get_original_bases(cls):
            if get_origin(base) is Plugin and is_dataclass(get_args(base)[0]):
                cls.settings_class = get_args(base)[0]

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
        if not any(variable in environment for variable in self.resolved.by_env):
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
