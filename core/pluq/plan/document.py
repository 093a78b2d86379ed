"""Documentation that is read off the code: hooks from their specifications, settings from their declarations.

`hooks_page` and `settings_page` give Markdown; docs/hooks.md and docs/settings.md are their output, and a test compares.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pluq.config.settings import KINDS as VALUE_KINDS
from pluq.config.settings import Declaration, declarations
from pluq.config.site import Core, Listening
from pluq.config.watching import Log, Status
from pluq.hookspecs import FOLDED, HOOKS, KINDS, PROVISIONAL, SYNC, Kind, Plugin
from pluq.plan.inspect import summary
from pluq.plan.load import installed
from pluq.plan.objects import object_lines

ANSWERS = {
    Kind.DECIDE: "asked in order, the first verdict ends",
    Kind.FIRST: "asked in order, the first answer that is not None is taken",
    Kind.FOLD: "each gets the last answer",
    Kind.COLLECT: "all are asked, the answers are joined",
    Kind.EACH: "all are asked, in order",
    Kind.OBSERVE: "all are told, nothing they do changes anything",
}
PHASES = {
    "check": "Life",
    "smtp_preamble": "The SMTP session",
    "message_verify": "The message",
    "queue_submit": "The queue and the end",
    "pop3_tls": "POP3",
    "send_bounce": "The scheduler",
    "remote_envelope": "Remote delivery",
    "local_envelope": "Local delivery",
    "observe": "All roles",
}
HEAD = """# Hooks

Made from `pluq.hookspecs` by `pluq docs hooks`; do not edit. A plugin implements a hook by a method of that name marked `@hook`,
and takes the parameters that it needs, by name, leaving the others out. A hook may be `def` or `async def` unless it says
*sync*. None is always "no opinion". What they are given is [at the end](#the-objects). See [writing plugins](writing-plugins.md).

"""


def hooks_page() -> str:
    """Return docs/hooks.md."""
    return HEAD + "\n".join([*_hook_lines(), *object_lines()]) + "\n"


def _hook_lines() -> Iterator[str]:
    for name, function in HOOKS.items():
        if name in PHASES:
            yield f"## {PHASES[name]}\n"
        kind = KINDS[name]
        notes = [f"{kind.value}: {ANSWERS[kind]}"]
        notes += [f"the answer takes the place of `{', '.join(FOLDED[name])}`"] if name in FOLDED else []
        notes += ["sync"] if name in SYNC else []
        notes += ["provisional"] if name in PROVISIONAL else []
        yield f"### {name}\n"
        yield f"    {name}{_signature(function)}\n"
        yield f"{inspect.getdoc(function)}\n"
        yield f"*{'; '.join(notes)}*\n"


def _signature(function: Any) -> str:
    """Return the signature without module names: the words that an author would write."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(inspect.signature(function)).replace("'", ""))


TABLES: Mapping[str, type] = {
    "`[core]`": Core,
    "`[profile.NAME]`": Listening,
    "`[log]`": Log,
    "`[status]`": Status,
}
SETTINGS_HEAD = """# Settings

Made from the declarations by `pluq docs settings`; do not edit. All of them stand in `control/pluq.toml`; what each control file of qmail
says is in its man page.

"""
PLUGINS_HEAD = """## Plugins

A value is looked for in layers, and the later wins: the default, the control file, `[plugin.NAME]`, `[profile.P.NAME]`, the connection's
variable (from `tcp.smtp` or the run script). The last column names the control file and the VARIABLE.

Every plugin also has `on_error` ("defer": a failure answers 451; "skip": go on without it), `mode` ("enforce", "shadow": log and do
not act, "off") and `timeout` (seconds for one call).

"""


def settings_page(plugins: Iterable[type[Plugin[Any]]] | None = None) -> str:
    """Return docs/settings.md for the given plugin classes, those of this distribution by default."""
    chosen = shipped() if plugins is None else list(plugins)
    core = "\n".join(line for title, kind in TABLES.items() for line in table_lines(title, kind))
    return (
        f"{SETTINGS_HEAD}{core}\n{PLUGINS_HEAD}"
        + "\n".join(line for plugin in chosen for line in settings_lines(plugin))
        + "\n"
    )


def table_lines(title: str, kind: type) -> Iterator[str]:
    """Yield the section of a table of the core."""
    yield f"## {title}\n"
    yield "| setting | what it does | type | default |"
    yield "|---|---|---|---|"
    for one in declarations(kind):
        yield f"| `{one.name}` | {one.help} | {_words(one)} | {_default(one)} |"
    yield ""


def shipped() -> list[type[Plugin[Any]]]:
    """Return the plugin classes that come with pluq itself, by name."""
    entries = installed()
    ours = [name for name, entry in entries.items() if entry.dist is not None and entry.dist.name == "pluq"]
    return [entries[name].load() for name in sorted(ours)]


def settings_lines(plugin: type[Plugin[Any]]) -> Iterator[str]:
    """Yield the section of one plugin: its summary and a table of its settings."""
    yield f"## {plugin.name}\n"
    yield f"{summary(plugin)}\n"
    declared = declarations(plugin.settings_class)
    if not declared:
        yield "No settings.\n"
        return
    yield "| setting | what it does | type | default | in qmail's files |"
    yield "|---|---|---|---|---|"
    for one in declared:
        yield _row(one)
    yield ""


def _row(one: Declaration) -> str:
    names = ", ".join(f"`{name}`" for name in (one.control, one.env) if name)
    return f"| `{one.name}` | {one.help} | {_words(one)} | {_default(one)} | {names} |"


def _words(one: Declaration) -> str:
    words = " or ".join(f"`{word}`" for word in one.choices if word) or VALUE_KINDS[one.kind].words
    return f"{words}, {one.unit}" if one.unit else words


def _default(one: Declaration) -> str:
    if one.default is None or one.default in ((), "", {}):
        return "none"
    if isinstance(one.default, bool):
        return str(one.default).lower()
    return f"`{', '.join(map(str, one.default)) if isinstance(one.default, tuple) else one.default}`"
