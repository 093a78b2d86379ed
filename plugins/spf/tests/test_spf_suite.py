"""The openspf test suite of RFC 7208, over real DNS packets.

The suite is a file of pyspf's source distribution (test/rfc7208-tests.yml); PLUQ_SPF_SUITE names it. A scenario is a zone and
the clients to be judged; SPF records stand for TXT where a name has no TXT of its own, as the suite's drivers do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.name
import pytest

from pluq.dns import Resolver
from pluq.testing.dns import FakeDns, Fault
from pluq_spf.evaluate import Client, evaluate

SUITE = os.environ.get("PLUQ_SPF_SUITE", "")


def scenarios() -> Iterator[Any]:
    if not Path(SUITE).is_file():
        yield pytest.param(None, marks=pytest.mark.skip("PLUQ_SPF_SUITE names no rfc7208-tests.yml"), id="absent")
        return
    import yaml

    for document in yaml.safe_load_all(Path(SUITE).read_text("utf-8")):
        yield pytest.param(document, id=document["description"].replace(" ", "-"))


def zone_of(document: dict[str, Any]) -> dict[str, Any]:
    return {escaped(str(name)): records_of(entries) for name, entries in document["zonedata"].items()}


def escaped(name: str) -> str:
    """Return a name as dnspython writes one, with blanks and the like escaped; the server compares that form."""
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    return dns.name.Name([*labels, b""]).to_text(omit_final_dot=True)


def records_of(entries: list[Any]) -> Any:
    pairs = [next(iter(entry.items())) for entry in entries if isinstance(entry, dict)]
    own_txt = any(kind == "TXT" for kind, _ in pairs)
    found = [record(kind, value) for kind, value in pairs if value != "NONE" and (kind != "SPF" or not own_txt)]
    has_txt = any(kind == "TXT" for kind, _ in found)
    return Fault.TIMEOUT if "TIMEOUT" in entries and not has_txt else found


def record(kind: str, value: Any) -> tuple[str, Any]:
    if kind in ("SPF", "TXT"):
        parts = value if isinstance(value, list) else [value]
        return "TXT", [str(part).encode("latin-1", "replace") for part in parts or [""]]
    return kind, tuple(value) if isinstance(value, list) else str(value)


@pytest.mark.parametrize("document", list(scenarios()))
async def test_every_client_gets_the_result_that_the_suite_asks_for(document: dict[str, Any]) -> None:
    wrong = []
    with FakeDns(zone_of(document)) as server:
        resolver = Resolver([server.address], timeout=0.2, attempts=1)
        for name, test in document["tests"].items():
            client = Client(str(test["host"]), test["mailfrom"] or "", str(test["helo"]), "receiver.example.org")
            outcome = await evaluate(client, resolver)
            wanted = test["result"] if isinstance(test["result"], list) else [test["result"]]
            if outcome.result not in wanted:
                wrong.append((name, outcome.result, wanted))
            explanation = test.get("explanation", "DEFAULT")
            if outcome.result == "fail" and explanation != "DEFAULT" and outcome.explanation != explanation:
                wrong.append((name, outcome.explanation, explanation))
        await resolver.close()
    assert wrong == []
