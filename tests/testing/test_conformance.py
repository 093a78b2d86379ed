"""The conformance tests fail for plugins that break their promises."""

from __future__ import annotations

from typing import Any

import pytest

from pluq import Plugin, hook
from pluq.testing.conformance import Conformance


class Leaking(Plugin[Any]):
    """Keeps every session for ever."""

    name = "leaking"

    def __init__(self) -> None:
        self.kept: list[Any] = []

    @hook
    def smtp_connect(self, session: Any) -> None:
        self.kept.append([session, object(), []])


class Remembering(Plugin[Any]):
    """Keeps what a client said over TLS."""

    name = "remembering"

    def __init__(self) -> None:
        self.names: set[bytes] = set()

    @hook
    def smtp_capabilities(self, session: Any) -> list[bytes]:
        known = session.helo in self.names
        self.names.add(session.helo)
        return [b"XAGAIN"] if known else []


def conformance_of(cls: type[Plugin[Any]]) -> Conformance:
    return type("Checked", (Conformance,), {"plugin": cls})()


async def test_a_plugin_that_leaks_is_found() -> None:
    with pytest.raises(AssertionError):
        await conformance_of(Leaking).test_a_thousand_sessions_leave_no_objects()


async def test_a_plugin_that_remembers_what_tls_makes_forgotten_is_found() -> None:
    with pytest.raises(AssertionError):
        await conformance_of(Remembering).test_what_tls_makes_forgotten_is_forgotten()


def test_a_plugin_without_a_docstring_is_found() -> None:
    silent = type("Silent", (Plugin,), {"name": "silent", "__doc__": None})
    with pytest.raises(AssertionError):
        conformance_of(silent).test_the_class_can_be_loaded_and_says_what_it_is()
