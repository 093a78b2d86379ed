"""ipv6: which addresses of a host are tried, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from pluq import Delivery
from pluq.dns import Answer, NoRecords, Status
from pluq.errors import TemporaryFailure
from pluq.testing.plugins import make_plugin
from pluq_ipv6 import Ipv6, interleave

DELIVERY = Delivery("remote", 1, b"a@b", [b"c@d"])
V4 = ["192.0.2.1", "192.0.2.2"]


class Resolver:
    """Answers every AAAA question with what it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def aaaa(self, name: bytes) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def addresses(answer: Any, found: list[str], **settings: Any) -> list[str]:
    plugin = make_plugin(Ipv6, role="remote", resolver=lambda: Resolver(answer), **settings)
    return await plugin.remote_addresses(DELIVERY, b"mx.example", found)


async def test_the_families_are_tried_alternately_with_ipv6_first() -> None:
    assert await addresses(("2001:db8::1",), V4) == ["2001:db8::1", "192.0.2.1", "192.0.2.2"]


async def test_a_site_may_prefer_ipv4() -> None:
    assert await addresses(("2001:db8::1",), V4, prefer="ipv4") == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]


async def test_a_host_without_ipv6_is_tried_as_before() -> None:
    assert await addresses(NoRecords(Answer(b"mx.example", "AAAA", Status.NO_DATA)), V4) == V4


async def test_a_failing_lookup_does_not_delay_mail_that_ipv4_can_carry() -> None:
    assert await addresses(TemporaryFailure("no answer"), V4) == V4


async def test_a_failing_lookup_is_temporary_for_a_host_without_ipv4() -> None:
    with pytest.raises(TemporaryFailure):
        await addresses(TemporaryFailure("no answer"), [])


def test_what_is_left_of_the_longer_family_comes_last() -> None:
    assert interleave(["a", "b", "c"], ["1"]) == ["a", "1", "b", "c"]
