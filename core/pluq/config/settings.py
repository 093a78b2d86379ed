"""Settings: each is declared once, and everything else is read off the declaration.

The settings of a plugin, and those of the core in [core], [log], [status] and a profile, are a frozen dataclass whose fields are made
by `setting()`:

    @dataclass(frozen=True)
    class Settings:
        limit: int = setting(50, unit="recipients", control="maxrcpt", env="MAXRCPT", help="Recipients in one message.")

A value is looked for in layers; the later wins:

    default < control file < [plugin.NAME] < [profile.P.NAME] < the connection's environment (tcprules)

The environment wins because that is qmail's tradition. A value that does not fit its type is a ConfigError that names the
file, the line and the setting; in the environment of a connection it is ignored only where qmail would ignore it too, that is,
never silently: the connection gets the configured value and the log says why.

Source: qmail-control(5); docs/configuration.md, "Where a value comes from".
"""

from __future__ import annotations

import dataclasses
from collections import abc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pluq.config.table import Table, nearest
from pluq.errors import ConfigError
from pluq.store.control import ControlFiles, first_line, leading_int, list_lines, read_file

S = TypeVar("S")
META = "pluq"
# What every plugin has beside its own.
COMMON_PLUGIN_KEYS = ("on_error", "mode", "timeout")


@dataclass(frozen=True)
class Declaration:
    """What is known of one setting. `kind` is one of KINDS; `choices` for a Literal; `optional`: None is a value."""

    name: str
    kind: str
    default: Any
    unit: str
    control: str | None
    env: str | None
    help: str
    choices: tuple[str, ...]
    optional: bool
    secret: bool
    parse: Callable[[Any], Any] | None
    parse_control: Callable[[bytes], Any] | None
    parse_env: Callable[[str], Any] | None


@dataclass(frozen=True)
class Value:
    """A value and where it came from: "default", "control/NAME", "pluq.toml:LINE" or "$VARIABLE"."""

    value: Any
    source: str


def setting(
    default: Any,
    *,
    help: str,  # noqa: A002 - the word that authors of command lines know
    unit: str = "",
    control: str | None = None,
    env: str | None = None,
    secret: bool = False,
    parse: Callable[[Any], Any] | None = None,
    parse_control: Callable[[bytes], Any] | None = None,
    parse_env: Callable[[str], Any] | None = None,
) -> Any:
    """Declare a setting; the annotation beside it is its type (see KINDS, a Literal of texts, or one of them | None).

    `control` names a control file, `env` a variable of the connection, `unit` what a number counts, `secret` a value that is
    never shown. `parse` makes a value of any type, or looks at it: it gets each text of a list and of a table, and else the value
    itself. `parse_control` gets the whole file, `parse_env` the variable, where the plain reading is not enough. All three raise
    ValueError with a sentence for a person.
    """
    if isinstance(default, list | set):
        raise TypeError(f"setting({default!r}): a list of texts is a tuple[str, ...], its default ()")
    meta = {
        "help": help,
        "unit": unit,
        "control": control,
        "env": env,
        "secret": secret,
        "default": default,
        "parse": parse,
        "parse_control": parse_control,
        "parse_env": parse_env,
    }
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: default, metadata={META: meta})
    return dataclasses.field(default=default, metadata={META: meta})


def switch(
    default: bool,
    *,
    help: str,  # noqa: A002 - as above
    control: str | None = None,
    env: str | None = None,
) -> Any:
    """Declare a switch that qmail reads as a number: on if it is not 0; text that begins with no number is 0 ("yes" is off)."""
    return setting(
        default,
        help=help,
        control=control,
        env=env,
        parse_control=lambda data: bool(leading_int(first_line(data))),
        parse_env=lambda text: bool(number_or_zero(text)),
    )


def number_or_zero(text: str) -> int:
    """Return the number that a variable begins with, 0 where it begins with none: how patches of qmail read their variables."""
    return leading_int(text.encode("utf-8", "surrogateescape")) or 0


# -- kinds of values: TOML, control file, environment


def _toml_bool(value: Any) -> bool:
    return _expect(value, bool, "true or false")


def _toml_int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    number = _expect(value, int, "a whole number")
    if number < 0:
        raise ValueError("expected a number that is not negative")
    return number


def _toml_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ValueError("expected a number that is not negative")
    return float(value)


def _toml_str(value: Any) -> str:
    return _expect(value, str, "text in quotes")


def _toml_list(value: Any) -> tuple[str, ...]:
    items = _expect(value, list, "a list of texts")
    if not all(isinstance(item, str) for item in items):
        raise ValueError("expected a list of texts")
    return tuple(items)


def _toml_table(value: Any) -> Mapping[str, str]:
    table = _expect(value, dict, "a table of texts")
    if not all(isinstance(item, str) for item in table.values()):
        raise ValueError("expected a table of texts")
    return MappingProxyType(dict(table))


def _pairs(lines: Iterable[str]) -> Mapping[str, str]:
    """Lines `key:value`, as in smtproutes."""
    return MappingProxyType({key: value for key, _, value in (line.partition(":") for line in lines)})


def _expect(value: Any, kind: type[S], words: str) -> S:
    if not isinstance(value, kind):
        raise ValueError(f"expected {words}")
    return value


def _items(data: bytes) -> list[str]:
    """The lines of a control file; what a NUL leaves empty is no item."""
    return [_text(line) for line in list_lines(data) if line]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class NoNumber(ValueError):
    """A control file that begins with no number says nothing, as in qmail: the default stands."""


def _control_int(data: bytes) -> int:
    number = leading_int(first_line(data))
    if number is None:
        raise NoNumber
    return number


def _line_bool(line: str) -> bool:
    """qmail's switches: a number that is not 0, or a file or variable that is there and not empty."""
    return line.strip().lower() not in ("", "0", "false", "no", "off")


def _env_int(text: str) -> int:
    number = leading_int(text.encode("utf-8", "surrogateescape"))
    if number is None:
        raise ValueError("expected a number")
    return number


@dataclass(frozen=True)
class Kind:
    """How one kind of value is read from each place, and what the documentation calls it."""

    words: str
    toml: Callable[[Any], Any]
    control: Callable[[bytes], Any]
    env: Callable[[str], Any]


KINDS: Mapping[str, Kind] = {
    "bool": Kind("true or false", _toml_bool, lambda data: _line_bool(_text(first_line(data))), _line_bool),
    "int": Kind("number", _toml_int, _control_int, _env_int),
    "float": Kind("number", _toml_float, lambda data: float(first_line(data)), float),
    "str": Kind("text", _toml_str, lambda data: _text(first_line(data)), str),
    "list": Kind("list", _toml_list, lambda data: tuple(_items(data)), lambda text: tuple(text.split())),
    "table": Kind("table", _toml_table, lambda data: _pairs(_items(data)), lambda text: _pairs(text.split())),
}


# -- declarations


def declarations(settings_class: type) -> list[Declaration]:
    """Return the declarations of a settings dataclass, in order. TypeError for a field that is no setting."""
    hints = get_type_hints(settings_class)
    return [_declaration(one, hints[one.name], settings_class) for one in dataclasses.fields(settings_class)]


def _declaration(one: dataclasses.Field[Any], hint: Any, owner: type) -> Declaration:
    meta = one.metadata.get(META)
    if meta is None:
        raise TypeError(f"{owner.__qualname__}.{one.name}: declare it with setting(...)")
    kind, choices, optional = _kind_of(hint, f"{owner.__qualname__}.{one.name}", meta["parse"] is not None)
    return Declaration(one.name, kind, choices=choices, optional=optional, **meta)


def _kind_of(hint: Any, where: str, is_parsed: bool) -> tuple[str, tuple[str, ...], bool]:
    """Return the kind, the choices, and whether None is a value; a type that only `parse` knows is written as text."""
    if get_origin(hint) in (Union, UnionType):
        inner = [arg for arg in get_args(hint) if arg is not NoneType]
        if len(inner) == 1:
            kind, choices, _ = _kind_of(inner[0], where, is_parsed)
            return kind, choices, True
    if get_origin(hint) is Literal:
        return "str", tuple(map(str, get_args(hint))), False
    if hint == tuple[str, ...] or (is_parsed and get_origin(hint) is tuple):
        return "list", (), False
    if hint in (Mapping[str, str], dict[str, str]) or (is_parsed and get_origin(hint) in (abc.Mapping, dict)):
        return "table", (), False
    if hint in (bool, int, float, str):
        return str(hint.__name__), (), False
    if is_parsed:
        return "str", (), False
    raise TypeError(
        f"{where}: a setting is bool, int, float, str, tuple[str, ...], Mapping[str, str], a Literal of texts, or one of them | None; "
        "any other type needs parse="
    )


def check_choice(one: Declaration, value: Any) -> Any:
    """Return `value`; ValueError with the nearest right word if the declaration lists choices and it is none of them."""
    if one.choices and value is not None and value not in one.choices:
        raise ValueError(f"{value!r} is none of {', '.join(one.choices)}{nearest(str(value), one.choices)}")
    return value


def finished(one: Declaration, value: Any) -> Any:
    """Return what was read as the plugin gets it. Raises ValueError."""
    checked = check_choice(one, value)
    if one.parse is None or checked is None:
        return checked
    if one.kind == "list":
        return tuple(map(one.parse, checked))
    if one.kind == "table":
        return MappingProxyType({key: one.parse(item) for key, item in checked.items()})
    return one.parse(checked)


def plain(value: Any) -> Any:
    """Return a value as JSON can have it, and as people read it: what `parse` made is text."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


# -- resolution


class Resolved:
    """The settings of one plugin in one profile: an instance of its dataclass, and where each value came from."""

    def __init__(self, settings_class: type, values: Mapping[str, Value], declared: list[Declaration]) -> None:
        self.settings_class = settings_class
        self.values = dict(values)
        self.settings: Any = settings_class(**{name: value.value for name, value in values.items()})
        self.by_env = {one.env: one for one in declared if one.env is not None}

    def overlay(self, environment: Mapping[str, str]) -> tuple[Any, list[str]]:
        """Return the settings with the connection's variables on top, and a complaint for each that does not fit."""
        changes: dict[str, Any] = {}
        complaints: list[str] = []
        for variable, one in self.by_env.items():
            text = environment.get(variable)
            if text is None:
                continue
            try:
                changes[one.name] = finished(one, (one.parse_env or KINDS[one.kind].env)(text))
            except ValueError as error:
                complaints.append(f"${variable}: {error}")
        if not changes:
            return self.settings, complaints
        try:
            return dataclasses.replace(self.settings, **changes), complaints
        except ValueError as error:  # each fits, and the class of the settings says that they do not together
            return self.settings, [*complaints, str(error)]


def resolve(settings_class: type, controls: ControlFiles, tables: list[Table]) -> Resolved:
    """Return a plugin's settings from the layers below the environment; `tables` weakest first. Raises ConfigError."""
    declared = declarations(settings_class)
    known = [*(one.name for one in declared), *COMMON_PLUGIN_KEYS]
    for table in tables:
        table.refuse_unknown(known)
    values = {one.name: _find(one, controls, tables) for one in declared}
    return Resolved(settings_class, values, declared)


def read_table(settings_class: type, tables: list[Table]) -> Resolved:
    """Return settings of the core from the tables that have them, weakest first. Raises ConfigError for a value that does not fit."""
    declared = declarations(settings_class)
    return Resolved(settings_class, {one.name: _find(one, None, tables) for one in declared}, declared)


def _find(one: Declaration, controls: ControlFiles | None, tables: list[Table]) -> Value:
    for table in reversed(tables):
        if one.name in table.values:
            return _from_toml(one, table)
    if one.control is not None and controls is not None:
        found = _from_control(one, controls)
        if found is not None:
            return found
    return Value(one.default, "default")


def _from_toml(one: Declaration, table: Table) -> Value:
    line = table.line(one.name)
    try:
        value = finished(one, KINDS[one.kind].toml(table.values[one.name]))
    except ValueError as error:
        raise ConfigError(table.file, str(error), line, f"{table.name}.{one.name}") from None
    return Value(value, f"{table.file}:{line}")


def _from_control(one: Declaration, controls: ControlFiles) -> Value | None:
    path = controls.path(one.control or "")
    data = read_file(path)
    if data is None:
        return None
    try:
        return Value(finished(one, (one.parse_control or KINDS[one.kind].control)(data)), f"control/{one.control}")
    except NoNumber:
        return None
    except ValueError as error:
        raise ConfigError(path, str(error), 1, one.name) from None
