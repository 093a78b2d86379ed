"""surbl: which links are seen, what is asked about them, and that no message can make it expensive."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluq import Message, Reject, Session, Transaction
from pluq.dns import Answer, NoRecords, Status
from pluq.errors import TemporaryFailure
from pluq.hookspecs import Recipient
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_surbl import CANNOT_ASK, Surbl, lists
from pluq_surbl.links import hosts, question, registered

ENCODED = base64.encodebytes(
    b"<a href='https://deep.spam.example/'>click here</a> and more text to fill the line up to its end"
)
LINKS = [
    (b"see http://WWW.Spam.Example/x?y", ["www.spam.example"]),
    (b"https://user:pw@spam.example:8080/", ["spam.example"]),
    (b"http:\\\\spam.example\\x http:/one.example", ["spam.example", "one.example"]),
    (b"http://sp%61m.example/", ["spam.example"]),
    (b'<a href="http&#58;//spam&#46;example">', ["spam.example"]),
    (b"http://spam.exa=\nmple/ =\n", ["spam.example"]),
    (b'href=3D"http://spam.example/"', ["spam.example"]),
    (b"Content-Transfer-Encoding: 8bit\n\n" + ENCODED, ["deep.spam.example"]),
    (b"http://192.0.2.1/ http://3221225985/ http://0xc0.0.2.1", ["192.0.2.1"]),
    ("http://b\u00fccher.example/".encode(), ["xn--bcher-kva.example"]),
    (b"http://spam.example./ http://spam.example", ["spam.example"]),
    (b"http://[2001:db8::1]/ http://localhost/ http:// ftp://x.example http://-/ http://a..b/", []),
    (b"", []),
]


@pytest.mark.parametrize(("text", "found"), LINKS)
def test_links_are_seen_however_they_are_written(text: bytes, found: list[str]) -> None:
    assert list(dict.fromkeys(hosts(text))) == found


LEVELS = [
    ("a.b.spam.example", "spam.example"),
    ("a.b.co.uk", "b.co.uk"),
    ("x.y.z.demon.co.uk", "z.demon.co.uk"),
    ("co.uk", "co.uk"),
    ("192.0.2.1", "192.0.2.1"),
]


@pytest.mark.parametrize(("host", "domain"), LEVELS)
def test_the_part_that_was_registered_is_asked_about(host: str, domain: str) -> None:
    assert registered(host, {"co.uk"}, {"demon.co.uk"}) == domain


def test_without_lists_the_usual_second_levels_are_known() -> None:
    assert registered("www.shop.com.au", (), ()) == "shop.com.au"
    assert registered("www.shop.example", (), ()) == "shop.example"


def test_addresses_are_asked_in_reverse() -> None:
    assert question("192.0.2.1", "list.example") == "1.2.0.192.list.example"


@pytest.mark.parametrize(
    ("answer", "listed"),
    [
        ("127.0.0.2", True),
        ("127.0.0.64", True),
        ("127.0.1.8", True),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("192.0.2.2", False),
    ],
)
def test_only_answers_of_the_list_itself_count(answer: str, listed: bool) -> None:
    assert lists(answer) is listed


NOTHING = NoRecords(Answer(b"x", "A", Status.NO_NAME))


class Lists:
    """A resolver of a table; everything else does not exist."""

    def __init__(self, **table: Any) -> None:
        self.table = {name.replace("_", "."): answer for name, answer in table.items()}
        self.asked: list[str] = []

    async def a(self, name: str, budget: Any) -> tuple[str, ...]:
        self.asked.append(name)
        budget.spend()
        answer = self.table.get(name.removesuffix(".multi.surbl.org"), NOTHING)
        if isinstance(answer, Exception):
            raise answer
        return (answer,)


async def judge(text: bytes, resolver: Lists, session: Session | None = None, **chosen: Any) -> Any:
    plugin = make_plugin(Surbl, resolver=lambda: resolver, **chosen)
    plugin.start()
    transaction = Transaction(b"s@x.example", recipients=[Recipient(b"joe@here.example")])
    return await plugin.message_decide(session or Session(), transaction, Message.from_bytes(b"Subject: x\n\n" + text))


LISTED = b"http://www.spam.example/"


async def test_a_message_with_a_listed_link_is_refused() -> None:
    resolver = Lists(spam_example="127.0.0.8")
    verdict = await judge(b"http://fine.example " + LISTED, resolver)
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.text) == (
        554,
        "message contains an URL listed in SURBL blocklist [spam.example] (#5.7.1)",
    )
    assert resolver.asked == ["fine.example.multi.surbl.org", "spam.example.multi.surbl.org"]


@pytest.mark.parametrize(
    ("session", "chosen"),
    [
        (Session(environment={"RELAYCLIENT": ""}), {}),
        (Session(environment={"SURBL": "0"}), {}),
        (Session(), {"white": ("Spam.Example",)}),
        (Session(), {"recipients": ("@here.example",)}),
        (Session(), {"recipients": ("JOE@here.example",)}),
        (Session(), {"bytes": 20}),
    ],
)
async def test_who_is_not_looked_at(session: Session, chosen: dict[str, Any]) -> None:
    resolver = Lists(spam_example="127.0.0.8")
    assert await judge(LISTED, resolver, session, **chosen) is None
    assert resolver.asked == []


async def test_a_message_for_somebody_else_as_well_is_looked_at() -> None:
    assert await judge(LISTED, Lists(spam_example="127.0.0.8"), recipients=("ana@here.example",)) is not None


async def test_a_list_that_does_not_answer_refuses_nobody() -> None:
    down = Lists(spam_example=TemporaryFailure("slow"))
    assert await judge(LISTED, down) is None
    assert await judge(LISTED, down, fail_closed=True) == CANNOT_ASK


async def test_a_hit_counts_though_the_rest_cannot_be_asked() -> None:
    resolver = Lists(spam_example="127.0.0.2", slow_example=TemporaryFailure("slow"))
    assert isinstance(await judge(b"http://slow.example " + LISTED, resolver), Reject)


async def test_no_message_costs_more_than_so_many_lookups() -> None:
    resolver = Lists()
    text = b"".join(b"http://d%d.example " % number for number in range(5000))
    assert await judge(text, resolver, lookups=7) is None
    assert len(resolver.asked) == 7


HOSTILE = [
    b"http://" * 40_000,
    b"=" * 260_000,
    b"A" * 260_000,
    b"&#" * 130_000,
    b"AAAA\n" * 52_000,
    b"http://" + b"a." * 130_000,
    b"=3" * 130_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:6]))
def test_no_text_takes_long(text: bytes) -> None:
    before = time.process_time()
    hosts(text)
    assert time.process_time() - before < 5


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet="htp:/\\.@%&#;=\n01axé[]", max_size=80).map(str.encode))
def test_no_bytes_break_it(text: bytes) -> None:
    for host in hosts(b"http://" + text):
        registered(host, (), ())


def test_the_check_names_a_zone_that_is_none(tmp_path: Path) -> None:
    assert make_plugin(Surbl).check() == []
    assert make_plugin(Surbl, zone="surbl").check() == ["zone: 'surbl' is no domain"]


class TestConformance(Conformance):
    plugin = Surbl
