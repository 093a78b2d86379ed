"""Finding plugin classes by name, and refusing those that would break silently.

A name in a profile's list is an entry point of the group "pluq.plugins", or a file NAME.py in the site's plugins folder (the
file wins, so that a site can mend a plugin without packaging it). Nothing is imported that the configuration does not name.

Checked when a class is loaded, so that nothing fails for the first time in the middle of the night: every marked method is a
hook, every parameter of it is one of the hook's, no defaults, no generators, plain functions where the core cannot wait, and
no method that bears a hook's name without the mark.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from pluq.config import Home
from pluq.config.settings import META, declarations
from pluq.config.table import nearest
from pluq.errors import ConfigError
from pluq.hookspecs import HOOKS, PROJECT, SYNC
from pluq.hookspecs.plugin import NoSettings, Plugin, hook_methods

GROUP = "pluq.plugins"


def installed() -> Mapping[str, EntryPoint]:
    """Return the entry points of installed plugins by name; nothing is imported."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def site_files(home: Home) -> Mapping[str, str]:
    """Return the single-file plugins of the site: name to path."""
    try:
        names = sorted(os.listdir(home.plugins))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name[:-3]: f"{home.plugins}/{name}" for name in names if name.endswith(".py") and not name.startswith("_")}


def load_class(name: str, home: Home) -> type[Plugin[Any]]:
    """Return the checked plugin class of that name. Raises ConfigError: not there, cannot be imported, or faulty."""
    files = site_files(home)
    if name in files:
        return load_file(name, files[name])
    plugin = _from_entry_point(name, files)
    check_class(name, plugin)
    return plugin


def load_file(name: str, path: str) -> type[Plugin[Any]]:
    """Return the checked plugin class of a file. Raises ConfigError."""
    plugin = _from_file(name, path)
    check_class(name, plugin)
    return plugin


def _from_entry_point(name: str, files: Mapping[str, str]) -> type[Plugin[Any]]:
    found = installed()
    if name not in found:
        raise ConfigError("plugins", f"no plugin {name!r} is installed{nearest(name, [*found, *files])}", None, name)
    try:
        plugin = found[name].load()
    except ImportError as error:
        raise ConfigError(found[name].value, f"cannot be imported: {error}", None, name) from error
    return _only_a_plugin(plugin, found[name].value, name)


def _from_file(name: str, path: str) -> type[Plugin[Any]]:
    _refuse_unsafe_file(path)
    spec = importlib.util.spec_from_file_location(f"pluq_site_{name}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(path, "is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        why = error.msg if isinstance(error, SyntaxError) else error  # its text says file and line once more
        raise ConfigError(path, f"{type(error).__name__}: {why}", _last_line_in(path, error), name) from error
    classes = [
        one
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, Plugin) and one.__module__ == module.__name__
    ]
    if len(classes) != 1:
        names = f" ({', '.join(one.__name__ for one in classes)})" if classes else ""
        raise ConfigError(path, f"has {len(classes)} plugin classes{names} where one is expected", None, name)
    return classes[0]


def _refuse_unsafe_file(path: str) -> None:
    """A file that others may write would let them run code as the mail system."""
    if os.stat(path).st_mode & stat.S_IWOTH:
        raise ConfigError(path, "is writable by everybody; plugins run with the mail system's rights")


def _last_line_in(path: str, error: BaseException) -> int | None:
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _only_a_plugin(plugin: Any, where: str, name: str) -> type[Plugin[Any]]:
    if not (inspect.isclass(plugin) and issubclass(plugin, Plugin)):
        raise ConfigError(where, "is not a subclass of pluq.Plugin", None, name)
    return plugin


# -- checks


def check_class(name: str, plugin: type[Plugin[Any]]) -> None:
    """Raise ConfigError, naming plugin, hook and parameter, for a class that cannot work as written."""
    where = getattr(sys.modules.get(plugin.__module__), "__file__", None) or plugin.__module__
    if getattr(plugin, "name", None) != name:
        raise ConfigError(where, f"the class says name = {getattr(plugin, 'name', None)!r}, it is enabled as {name!r}")
    try:
        declarations(plugin.settings_class)
    except TypeError as error:
        raise ConfigError(where, f"plugin {name!r}: {error}", line_of(plugin.settings_class)) from error
    forgotten = unused_settings(plugin)
    if forgotten is not None:
        why = f"{forgotten.__name__} is not used: class {plugin.__name__}(Plugin[{forgotten.__name__}])"
        raise ConfigError(where, f"plugin {name!r}: {why}", line_of(plugin))
    methods = hook_methods(plugin)
    for hook_name, method in methods.items():
        problem = method_problem(hook_name, method)
        if problem:
            raise ConfigError(where, f"plugin {name!r}: {problem}", method.__code__.co_firstlineno)
    for hook_name in HOOKS:
        own = plugin.__dict__.get(hook_name)
        if inspect.isfunction(own) and hook_name not in methods:
            line = own.__code__.co_firstlineno
            raise ConfigError(where, f"plugin {name!r}: {hook_name} bears a hook's name and is not marked @hook", line)
    has_commands = plugin.cli_commands.__func__ is not Plugin.cli_commands.__func__  # type: ignore[attr-defined]  # class methods
    if not methods and not has_commands:
        raise ConfigError(where, f"plugin {name!r} has no method marked @hook, so it would do nothing", line_of(plugin))


def unused_settings(plugin: type[Plugin[Any]]) -> type | None:
    """Return the class of settings that stands beside a plugin which says that it has none; None where all is well."""
    if plugin.settings_class is not NoSettings:
        return None
    beside = vars(sys.modules[plugin.__module__]).values()
    classes = (one for one in beside if inspect.isclass(one) and one.__module__ == plugin.__module__)
    return next(
        (one for one in classes if is_dataclass(one) and any(META in part.metadata for part in fields(one))), None
    )


def line_of(owner: type) -> int | None:
    """Return the line of a class in its file, None where that cannot be known."""
    try:
        return inspect.getsourcelines(owner)[1]
    except (OSError, TypeError):
        return None


def method_problem(hook_name: str, method: Callable[..., Any]) -> str | None:
    """Return what is wrong with one marked method, None for a good one."""
    if hook_name not in HOOKS:
        return f"there is no hook {hook_name}{nearest(hook_name, HOOKS)}"
    known = list(inspect.signature(HOOKS[hook_name]).parameters)
    parameters = list(inspect.signature(method).parameters.values())
    if not parameters or parameters[0].name in known:
        return f"{hook_name} is a method: its first parameter is self"
    for parameter in parameters[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return f"{hook_name} takes *{parameter.name}; name the parameters that it needs: {', '.join(known)}"
        if parameter.name not in known:
            return f"{hook_name} has no parameter {parameter.name!r}{nearest(parameter.name, known)} (it has: {', '.join(known) or 'none'})"
        if parameter.default is not parameter.empty:
            return f"{hook_name}: parameter {parameter.name!r} must not have a default"
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        return f"{hook_name} must not be a generator"
    if hook_name in SYNC and inspect.iscoroutinefunction(method):
        return f"{hook_name} must be a plain function, not async"
    return None


def new_registry() -> pluggy.PluginManager:
    """Return a pluggy registry that knows the hooks. One for each plan: the same class may be there with other settings."""
    marker = pluggy.HookspecMarker(PROJECT)
    for function in HOOKS.values():
        if not hasattr(function, f"{PROJECT}_spec"):
            marker(function)
    registry = pluggy.PluginManager(PROJECT)
    registry.add_hookspecs(_Specs)
    return registry


class _Specs:
    """The specifications as one namespace, as pluggy wants them."""


for _name, _function in HOOKS.items():
    setattr(_Specs, _name, staticmethod(_function))
