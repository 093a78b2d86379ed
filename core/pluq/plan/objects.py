"""What hooks are given, as documentation: read off the classes, their attributes' docstrings and their methods.

The text below an attribute is no object at run time; it is found in the source.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from pluq.dns import Resolver
from pluq.hookspecs import (
    AuthResult,
    Context,
    Delivery,
    Draft,
    Envelope,
    HeaderField,
    Login,
    Message,
    Plugin,
    Recipient,
    Session,
    Tls,
    Transaction,
)

OBJECTS: tuple[type, ...] = (
    Plugin,
    Context,
    Session,
    Tls,
    Login,
    Transaction,
    Recipient,
    Message,
    HeaderField,
    AuthResult,
    Envelope,
    Delivery,
    Draft,
    Resolver,
)
# Those of layers above, by name.
ABOVE = (("pluq.smtpd.connection", "Connection"), ("pluq.remote.route", "Route"))
HEAD = """## The objects

What hooks are given, in the words that an editor shows. What may be written says so; the rest is for reading. Addresses and header fields
are bytes, as they came; what people configure is str.
"""
# Made by the core for itself.
HIDDEN = frozenset({"Plugin.settings_class", "Plugin.resolved", "Message.original", "Message.prepended"})


def object_lines() -> Iterator[str]:
    """Yield the section on the objects."""
    yield HEAD
    for one in (*OBJECTS, *(getattr(import_module(module), name) for module, name in ABOVE)):
        yield f"### {one.__name__}\n"
        yield f"{inspect.getdoc(one)}\n"
        rows = [row for row in _rows(one) if f"{one.__name__}.{row[0].partition('(')[0]}" not in HIDDEN]
        if rows:
            yield "| | | |\n|---|---|---|"
            yield from (f"| `{name}` | {kind} | {' '.join(text.split())} |" for name, kind, text in rows)
            yield ""


def _rows(one: type) -> Iterator[tuple[str, str, str]]:
    """Yield (name, type, text) of each public attribute, property and method."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
    assert isinstance(tree, ast.ClassDef)
    texts = _texts(tree)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            yield node.target.id, _kind(node.annotation), texts.get(node.target.id, "")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            text = (ast.get_docstring(node) or "").partition("\n\n")[0]
            if any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list):
                yield node.name, _kind(node.returns), text
            else:
                yield _call(node), _kind(node.returns), text


def _texts(tree: ast.ClassDef) -> Mapping[str, str]:
    """Return the docstrings below attributes."""
    found: dict[str, str] = {}
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
            value: Any = getattr(after.value, "value", None)
            found[node.target.id] = value.strip() if isinstance(value, str) else ""
    return found


def _kind(annotation: ast.expr | None) -> str:
    words = "" if annotation is None else ast.unparse(annotation)
    words = words.removeprefix("ClassVar[").removesuffix("]") if words.startswith("ClassVar[") else words
    return f"`{words}`".replace("|", "\\|") if words not in ("", "None") else ""


def _call(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    given = ", ".join(argument.arg for argument in node.args.args if argument.arg not in ("self", "cls"))
    return f"{'await ' if isinstance(node, ast.AsyncFunctionDef) else ''}{node.name}({given})"
