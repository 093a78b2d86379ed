"""The validation cases of the public ARC test suite, where its file is at hand.

    PLUQ_ARC_SUITE=.../tests/arc-draft-validation-tests.yml     (github.com/ValiMail/arc_test_suite)

In three of its 171 cases it wants a pass that RFC 8617 with RFC 6376 does not give: see DIFFERENT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from pluq import Message
from pluq.dns import Budget, Resolver
from pluq.testing.dns import FakeDns
from pluq_arc.verify import verify_chain

SUITE = os.environ.get("PLUQ_ARC_SUITE")
NOW = 1_800_000_000.0

DIFFERENT = {
    "ams_fields_c_na": "without c= the form is simple, as in DKIM; the suite means relaxed",
    "ams_fields_h_empty": "an empty h= covers no From",
    "ams_fields_h_mis_hdr": "a name in h= is empty",
}


def cases() -> list[Any]:
    if SUITE is None:
        return []
    yaml = pytest.importorskip("yaml")
    with open(SUITE, encoding="utf-8") as file:
        scenarios = list(yaml.safe_load_all(file))
    return [
        pytest.param(test.get("message") or "", scenario.get("txt-records") or {}, (test["cv"] or "").lower(), id=name)
        for scenario in scenarios
        for name, test in scenario["tests"].items()
        if name not in DIFFERENT and test["cv"]
    ]


@pytest.mark.skipif(SUITE is None, reason="PLUQ_ARC_SUITE names no file")
@pytest.mark.parametrize(("text", "records", "expected"), cases())
async def test_a_case_of_the_suite(text: str, records: Mapping[str, str], expected: str) -> None:
    with FakeDns({name: [("TXT", record)] for name, record in records.items()}) as server:
        resolver = Resolver([server.address])
        outcome = await verify_chain(Message.from_bytes(text.encode()), resolver, Budget(200, 60.0), NOW)
        await resolver.close()
    assert outcome.result == expected
