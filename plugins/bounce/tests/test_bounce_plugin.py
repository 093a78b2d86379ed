"""bounce: where the copy of a message ends, and which bounces are not sent."""

from __future__ import annotations

import pytest

from pluq import Draft, Verdict
from pluq.config.settings import resolve
from pluq.store.control import ControlFiles
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq_bounce import DOUBLE_BOUNCE, Bounce, Settings


def ask(draft: Draft, **settings: object) -> Verdict | None:
    chain = plan_of(make_plugin(Bounce, role="send", **settings)).send_bounce
    assert chain is not None
    return chain(draft=draft)


@pytest.mark.parametrize(("limit", "copied"), [(50000, 50000), (1, 1), (0, None)])
def test_the_copy_has_a_limit_and_0_is_none(limit: int, copied: int | None) -> None:
    draft = Draft(1, b"joe@src.example")
    assert ask(draft, bouncemaxbytes=limit) is None
    assert draft == Draft(1, b"joe@src.example", copied)


@pytest.mark.parametrize(("sender", "verdict"), [(b"", DOUBLE_BOUNCE), (b"joe@src.example", None)])
def test_only_double_bounces_are_thrown_away(sender: bytes, verdict: Verdict | None) -> None:
    assert ask(Draft(1, sender), discard_double=True) == verdict
    assert ask(Draft(1, sender), discard_double=False) is None


@pytest.mark.parametrize(
    ("content", "discard"),
    [(b"\n", True), (b"", True), (b" \t\npostmaster\n", True), (b"postmaster\n", False), (None, False)],
)
def test_an_empty_first_line_of_doublebounceto_throws_them_away(tmp_path, content, discard) -> None:  # type: ignore[no-untyped-def]
    if content is not None:
        (tmp_path / "doublebounceto").write_bytes(content)
    assert resolve(Settings, ControlFiles(str(tmp_path)), []).settings.discard_double is discard


class TestConformance(Conformance):
    plugin = Bounce
