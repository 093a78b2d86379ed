"""From the list of a profile to a plan.

The order is the list. A plugin may declare `before` and `after`; a list that contradicts them is an error that shows a list
that would do, never a silent reordering. pluggy holds the instances and validates them; the chains are our own tuples.

Every error is a ConfigError with the file and line of the profile's list. On a reload the caller keeps the old plan.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, NoReturn

import pluggy

from pluq.config import Home
from pluq.config.keys import KeyReader
from pluq.config.settings import resolve
from pluq.config.site import PROTOCOLS, Role, Site
from pluq.config.table import Table, nearest
from pluq.errors import ConfigError
from pluq.hookspecs import FOLDED, HOOKS, KINDS, SYNC, Context, Kind, Plugin
from pluq.hookspecs.plugin import hook_methods
from pluq.plan import EMPTY, Plan, chain
from pluq.plan.heed import Heed
from pluq.plan.load import line_of, load_class, new_registry
from pluq.plan.shadow import NOT_ASKED
from pluq.store.control import ControlFiles

if TYPE_CHECKING:
    from pluq.dns import Resolver

ON_ERROR = ("defer", "skip")
MODES = ("enforce", "shadow", "off")
# Roles that know few hooks: what a plugin in them must have one of.
NEEDED = {"pop3d": "pop3_"}
VERB_ARGUMENTS = ("session", "argument", "connection")

Log = Callable[[str], None]
Watch = Callable[[chain.Step], chain.Step]


@cache
def process_resolver() -> Resolver:
    """Return the resolver of this process, made when it is first asked for."""
    from pluq.dns import Resolver

    return Resolver.from_system()


def compile_plan(
    home: Home,
    site: Site,
    role_name: str,
    *,
    role: str = "smtpd",
    log: Log,
    resolver: Callable[[], Resolver] = process_resolver,
    read_file: Callable[[str], bytes] | None = None,
    watch: Watch | None = None,
) -> Plan:
    """Return the plan of a profile or role by name. Raises ConfigError; nothing is started.

    The last three are for `pluq explain`: a resolver that asks nobody, keys from elsewhere than the role "keys", and a `watch` that may put another
    step in the place of each.
    """
    where = site.profile(role_name) if role in PROTOCOLS.values() else site.role(role_name)
    if not where.plugins:
        return EMPTY
    reader = KeyReader(home) if read_file is None else read_file
    context = Context(home, role, where.name, log, reader, resolver, authserv_id(home, site))
    instances = make_plugins(site, where, context)
    return assemble(instances, where, site, log, watch)


def started_plan(home: Home, site: Site, role: str, log: Log) -> Plan:
    """Return the plan of a role that has no event loop, started. Raises ConfigError, TemporaryFailure."""
    plan = compile_plan(home, site, role, role=role, log=log)
    if plan.start is not None:
        import asyncio

        asyncio.run(plan.start())  # type: ignore[arg-type]  # a chain is a coroutine function
    return plan


def make_plugins(site: Site, where: Role, context: Context) -> list[Plugin[Any]]:
    """Return a configured instance of each plugin of the list, in its order."""
    classes = [(name, _load(name, context.home, where)) for name in where.plugins]
    check_order(dict(classes), where)
    if context.role in NEEDED:
        check_sense(dict(classes), where, NEEDED[context.role])
    return [_instance(name, one, site, where, context) for name, one in classes]


def authserv_id(home: Home, site: Site) -> str:
    """Return the name that our Authentication-Results fields bear: [core] authserv_id, else control/me."""
    return site.core.authserv_id or (home.controls.me() or b"").decode("utf-8", "replace")


def _load(name: str, home: Home, where: Role) -> type[Plugin[Any]]:
    try:
        return load_class(name, home)
    except ConfigError as error:
        if error.file == "plugins":
            _blame_list(where, error.why)
        raise


def _blame_list(where: Role, why: str) -> NoReturn:
    table = where.plugins_table or Table("pluq.toml", where.name)
    raise table.error("plugins", why)


def plugin_tables(site: Site, where: Role, name: str) -> list[Table]:
    """Return the tables with settings of one plugin in one role, weakest first."""
    shared = [site.plugins[name]] if name in site.plugins else []
    return shared + where.plugin_tables(name)


def _instance(name: str, plugin: type[Plugin[Any]], site: Site, where: Role, context: Context) -> Plugin[Any]:
    tables = plugin_tables(site, where, name)
    instance = _new(name, plugin)
    instance.context = context
    try:
        instance.resolved = resolve(plugin.settings_class, ControlFiles(context.home.control_dir), tables)
    except ValueError as error:  # what the class of the settings says of them together
        table = tables[-1] if tables else where.plugins_table or Table(site.file, where.name)
        raise ConfigError(table.file, str(error), table.line(), f"{where.name}: plugin {name!r}") from error
    instance.settings = instance.resolved.settings
    return instance


def _new(name: str, plugin: type[Plugin[Any]]) -> Plugin[Any]:
    """Return a bare instance. Raises ConfigError where the class cannot be made without arguments."""
    try:
        return plugin()
    except Exception as error:
        hint = "__init__ takes nothing but self, and settings and context are there from the hook start on"
        raise ConfigError(
            inspect.getfile(plugin), f"{type(error).__name__}: {error}; {hint}", line_of(plugin), name
        ) from error


def check_sense(classes: Mapping[str, type[Plugin[Any]]], where: Role, prefix: str) -> None:
    """Raise ConfigError for a plugin that has no hook of a protocol whose profile names it."""
    for name, plugin in classes.items():
        if not any(hook_name.startswith(prefix) for hook_name in hook_methods(plugin)):
            _blame_list(where, f"{name!r} does nothing in a profile of this protocol: it has no hook {prefix}*")


# -- order


def check_order(classes: Mapping[str, type[Plugin[Any]]], where: Role) -> None:
    """Raise ConfigError, with a list that would do, if the list contradicts what a plugin declares."""
    names = list(classes)
    earlier: dict[str, set[str]] = {name: set() for name in names}
    for name, plugin in classes.items():
        for other in plugin.after:
            if other in earlier:
                earlier[name].add(other)
        for other in plugin.before:
            if other in earlier:
                earlier[other].add(name)
    for position, name in enumerate(names):
        late = [other for other in earlier[name] if names.index(other) > position]
        if late:
            _blame_list(where, f"{late[0]!r} must stand before {name!r}; {_suggest(names, earlier)}")


def _suggest(names: Sequence[str], earlier: Mapping[str, set[str]]) -> str:
    sorter = TopologicalSorter({name: earlier[name] for name in names})
    try:
        good = list(sorter.static_order())
    except CycleError as error:
        return f"no order is possible: {' before '.join(error.args[1])}"
    return f"this order would do: {good}"


# -- chains


def assemble(instances: Sequence[Plugin[Any]], where: Role, site: Site, log: Log, watch: Watch | None = None) -> Plan:
    """Return the plan of these instances, in this order."""
    registry = new_registry()
    heed = Heed.of(instances[0].context.role, where.name) if instances else None
    steps: dict[str, list[chain.Step]] = {name: [] for name in HOOKS}
    for instance in instances:
        policy = _Policy.of(instance, plugin_tables(site, where, instance.name))
        if policy.mode == "off":
            continue
        _register(registry, instance)
        instance.is_shadow = policy.mode == "shadow"
        for hook_name in hook_methods(type(instance)):
            if instance.is_shadow and hook_name in NOT_ASKED:
                continue
            step = _step(instance, hook_name, policy)
            if heed is not None:
                step = heed.timed(step)
            steps[hook_name].append(step if watch is None else watch(step))
    observe = _chain("observe", steps["observe"], log, None)
    notify = _notify(observe, heed)
    chains = {name: _chain(name, found, log, notify) for name, found in steps.items()}
    chains["observe"] = observe
    name = instances[0].context.authserv_id if instances else ""
    verifies = any(not step.shadow for step in steps["message_verify"])
    return Plan(chains, instances, _verbs(steps["smtp_verbs"], where), name, verifies)


def _notify(observe: Any, heed: Heed | None) -> chain.Notify | None:
    """Return who hears of verdicts and failures: plugins that observe, the log, the figures. None where nobody does."""
    if observe is None:
        return None if heed is None else heed.notice

    def told(event: Mapping[str, Any]) -> None:
        if heed is not None:
            heed.notice(event)
        observe(event=event)

    return told


class _Policy:
    """What the site says of one plugin beside its settings: on_error, mode, timeout."""

    def __init__(self, on_error: str, mode: str, budget: float) -> None:
        self.on_error = on_error
        self.mode = mode
        self.budget = budget

    @classmethod
    def of(cls, instance: Plugin[Any], tables: list[Table]) -> _Policy:
        on_error = _word(tables, "on_error", ON_ERROR)
        mode = _word(tables, "mode", MODES)
        return cls(on_error, mode, _seconds(tables, instance.budget))


def _last(tables: list[Table], key: str) -> Table | None:
    return next((table for table in reversed(tables) if key in table.values), None)


def _word(tables: list[Table], key: str, words: Sequence[str]) -> str:
    table = _last(tables, key)
    if table is None:
        return words[0]
    word = table.text(key, "")
    if word not in words:
        raise table.error(key, f"{word!r} is none of {', '.join(words)}{nearest(word, words)}")
    return word


def _seconds(tables: list[Table], default: float) -> float:
    table = _last(tables, "timeout")
    if table is None:
        return default
    value = table.values["timeout"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise table.error("timeout", "expected seconds, more than 0")
    return float(value)


def _register(registry: pluggy.PluginManager, instance: Plugin[Any]) -> None:
    try:
        registry.register(instance, instance.name)
        registry.check_pending()
    except pluggy.PluginValidationError as error:
        raise ConfigError(type(instance).__module__, str(error), None, instance.name) from error


def _step(instance: Plugin[Any], hook_name: str, policy: _Policy) -> chain.Step:
    function = getattr(instance, hook_name)
    return chain.Step(
        instance.name,
        hook_name,
        function,
        tuple(inspect.signature(function).parameters),
        inspect.iscoroutinefunction(function),
        policy.budget,
        policy.on_error == "skip",
        policy.mode == "shadow",
        instance.permissions,
    )


_CLASSES: Mapping[Kind, type[chain.Chain]] = {
    Kind.DECIDE: chain.Decide,
    Kind.FIRST: chain.First,
    Kind.COLLECT: chain.Collect,
    Kind.EACH: chain.Each,
    Kind.OBSERVE: chain.Observe,
}


def _chain(hook_name: str, steps: list[chain.Step], log: Log, notify: chain.Notify | None) -> Any:
    if not steps:
        return None
    kind = KINDS[hook_name]
    if kind is Kind.FOLD:
        return chain.Fold(tuple(steps), log, notify, FOLDED[hook_name])
    made = _CLASSES[kind](tuple(steps), log, notify)
    return chain.Now(made) if hook_name in SYNC else made


def _verbs(steps: list[chain.Step], where: Role) -> dict[bytes, Callable[..., Any]]:
    verbs: dict[bytes, Callable[..., Any]] = {}
    owners: dict[bytes, str] = {}
    for step in steps:
        for verb, handler in step.function().items():
            fault = _verb_fault(verb, handler)
            if fault:
                _blame_list(where, f"plugin {step.plugin!r}: smtp_verbs: {fault}")
            if verb in owners:
                _blame_list(
                    where, f"{owners[verb]!r} and {step.plugin!r} both want the verb {verb.decode('ascii', 'replace')}"
                )
            owners[verb] = step.plugin
            verbs[verb] = handler
    return verbs


def _verb_fault(verb: Any, handler: Any) -> str | None:
    if not isinstance(verb, bytes) or verb != verb.upper():
        return f"{verb!r}: a verb is bytes in upper case, as b'XPING'"
    if (inspect.isfunction(handler) or inspect.ismethod(handler)) and not inspect.iscoroutinefunction(handler):
        return f"the handler of {verb.decode('ascii', 'replace')} must be async"
    try:
        inspect.signature(handler).bind(*VERB_ARGUMENTS)
    except TypeError:
        return f"the handler of {verb.decode('ascii', 'replace')} takes {', '.join(VERB_ARGUMENTS)}"
    return None
