"""The openspf test suite of RFC 7208, over real DNS packets, and over real SMTP with `pluq serve`.

The suite is a file of pyspf's source distribution (test/rfc7208-tests.yml); PLUQ_SPF_SUITE names it. A scenario is a zone and
the clients to be judged; SPF records stand for TXT where a name has no TXT of its own, as the suite's drivers do.
"""

from __future__ import annotations

import os
import re
import smtplib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.name
import pytest

from pluq import Transaction
from pluq.dns import Resolver
from pluq.testing.clock import virtual_time
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.stack import PATIENCE, Stack, wait_until
from pluq_spf.evaluate import Client, budget_of, evaluate

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
@virtual_time
async def test_every_client_gets_the_result_that_the_suite_asks_for(document: dict[str, Any]) -> None:
    wrong = []
    with FakeDns(zone_of(document)) as server:
        resolver = Resolver([server.address])
        for name, test in document["tests"].items():
            client = Client(str(test["host"]), test["mailfrom"] or "", str(test["helo"]), "receiver.example.org")
            outcome = await evaluate(client, resolver, budget_of(Transaction(b"")))
            wanted = test["result"] if isinstance(test["result"], list) else [test["result"]]
            if outcome.result not in wanted:
                wrong.append((name, outcome.result, wanted))
            explanation = test.get("explanation", "DEFAULT")
            if outcome.result == "fail" and explanation != "DEFAULT" and outcome.explanation != explanation:
                wrong.append((name, outcome.explanation, explanation))
        await resolver.close()
    assert wrong == []


# -- the same over SMTP: a verb says what client it is, the message that is delivered says what was found

AS_CLIENT = """
from pluq import Plugin, hook


class AsClient(Plugin):
    \"\"\"Take the address of the client, and how far SPF goes, from the client.\"\"\"

    name = "asclient"

    @hook
    def smtp_verbs(self):
        return {b"XCLIENT": self.xclient}

    async def xclient(self, session, argument, connection):
        session.remote_ip, session.environment["SPFBEHAVIOR"] = argument.decode().split()
        return b"250 ok\\r\\n"
"""
PROFILE = """
[profile.mx]
listen = ["127.0.0.1:{port}"]
plugins = ["asclient", "spf"]
"""


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Stack, FakeDns]]:
    if not Path(SUITE).is_file():
        pytest.skip("PLUQ_SPF_SUITE names no rfc7208-tests.yml")
    with FakeDns({}, ttl=0) as server, tempfile.TemporaryDirectory(prefix="pluq-test.") as folder:
        os.chmod(folder, 0o755)
        stack = Stack(folder)
        stack.listens_itself = True
        Path(f"{stack.home.path}/plugins").mkdir(exist_ok=True)
        Path(f"{stack.home.path}/plugins/asclient.py").write_text(AS_CLIENT)
        stack.control("pluq.toml", PROFILE.format(port=stack.port))
        stack.start({"PLUQ_DNS_SERVER": server.text})
        yield stack, server
        stack.stop()


def converse(stack: Stack, test: dict[str, Any], behavior: int, subject: str) -> str:
    """Send a message as the client of a test; return the reply to RCPT, with the code."""
    with smtplib.SMTP("127.0.0.1", stack.port, timeout=PATIENCE) as client:
        client.docmd(f"XCLIENT {test['host']} {behavior}")
        client.docmd(f"HELO {test['helo']}")
        client.docmd(f"MAIL FROM:<{as_path(test['mailfrom'] or '')}>")
        code, text = client.docmd("RCPT TO:<joe@example.org>")
        if code == 250:
            client.data(f"Subject: {subject}\r\n\r\nx\r\n")
    return f"{code} {text.decode('utf-8', 'replace')}"


def as_path(address: str) -> str:
    """Return an address for MAIL; a local part with signs of SMTP is quoted."""
    local, at, domain = address.rpartition("@")
    return f'"{local}"{at}{domain}' if re.search(r"[<>(),;: ]", local) else address


def received_spf(stack: Stack, subject: str) -> str:
    """Return the result that stands in the message with this subject."""

    def found() -> str | None:
        for path in (stack.maildir() / "new").iterdir():
            text = path.read_text(errors="replace")
            if f"Subject: {subject}\n" in text:
                result = re.search(r"^Received-SPF: (\w+)", text, re.MULTILINE)
                return result[1] if result else "no field"
        return None

    return wait_until(found, lambda: f"{subject}; {stack.told()}")


@pytest.mark.integration
@pytest.mark.parametrize("document", list(scenarios()))
def test_the_same_over_real_smtp(document: dict[str, Any], site: tuple[Stack, FakeDns]) -> None:
    stack, server = site
    server.zone = {name.lower().rstrip("."): value for name, value in zone_of(document).items()}

    # <@domain> is a source route without an address to qmail, and so the null sender: SMTP has no such mailbox.
    tests = {name: test for name, test in document["tests"].items() if not str(test["mailfrom"]).startswith("@")}

    def judge(item: tuple[str, dict[str, Any]]) -> list[Any]:
        name, test = item
        wanted = test["result"] if isinstance(test["result"], list) else [test["result"]]
        reply = converse(stack, test, 1, f"{document['description']} {name}")
        result = received_spf(stack, f"{document['description']} {name}") if reply.startswith("250") else reply
        wrong: list[Any] = [] if result in wanted else [(name, result, wanted)]
        explanation = test.get("explanation", "DEFAULT")
        if result == "fail" and explanation != "DEFAULT":
            refusal = converse(stack, test, 3, name)
            if not refusal.startswith(f"550 {explanation} "):
                wrong.append((name, refusal, explanation))
        return wrong

    with ThreadPoolExecutor(8) as pool:
        found = [wrong for all_wrong in pool.map(judge, tests.items()) for wrong in all_wrong]
    assert found == []
