"""The conformance tests fail for plugins that break their promises."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest

from pluq import Plugin, Session, hook, setting
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
    silent = type("Silent", (Leaking,), {"name": "silent", "__doc__": None})
    with pytest.raises(AssertionError):
        conformance_of(silent).test_the_class_can_be_loaded_and_says_what_it_is()


class Sleeping(Plugin):
    """Waits where all sessions wait with it."""

    name = "sleeping"

    @hook
    def smtp_mail(self, session: Session) -> None:
        time.sleep(1)


class Dozing(Plugin):
    """Waits in a thread."""

    name = "dozing"

    @hook
    async def smtp_mail(self, session: Session) -> None:
        await asyncio.to_thread(time.sleep, 0.001)


async def test_a_plugin_that_holds_up_all_sessions_is_found() -> None:
    with pytest.raises(AssertionError, match=r"time\.sleep\(1\)"):
        await conformance_of(Sleeping).test_nothing_waits_where_all_sessions_would_wait_with_it()


async def test_a_plugin_that_waits_in_a_thread_passes() -> None:
    await conformance_of(Dozing).test_nothing_waits_where_all_sessions_would_wait_with_it()
    time.sleep(0.001)  # and nothing is refused afterwards


def test_a_setting_whose_help_is_no_sentence_is_found() -> None:
    @dataclass(frozen=True)
    class Terse:
        limit: int = setting(1, help="limit")

    terse = type("Terse", (Leaking,), {"name": "terse", "__doc__": "Terse.", "settings_class": Terse})
    with pytest.raises(AssertionError, match="limit"):
        conformance_of(terse).test_the_class_can_be_loaded_and_says_what_it_is()
