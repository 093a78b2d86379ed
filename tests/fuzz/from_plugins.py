"""Parsers of the plugins: signatures, seals and keys, SPF, DMARC and MTA-STS policies, certificates for DANE, SRS addresses, AUTH responses, files of
passwords, programs' output, links, milters, international addresses.
"""

from __future__ import annotations

import contextlib
import hashlib

from tests.fuzz.streams import Records, Responses, finish

from pluq.dns import Budget
from pluq.dns.codec import Tlsa
from pluq.errors import ConfigError, ProtocolError
from pluq.hookspecs import Recipient, Transaction
from pluq.hookspecs.message import Message, split_fields
from pluq.mail.idn import to_unicode
from pluq_arc.verify import verify_chain
from pluq_auth import mechanisms, scram
from pluq_auth.dialogue import Dialogue, Ended
from pluq_auth.dovecot import parse_fields
from pluq_auth.users import parse_users
from pluq_dane.records import proves, usable
from pluq_dkim.options import Options, parse_filter_line, parse_key_line, parse_options
from pluq_dkim.verify import Policy, verify_message
from pluq_dmarc.author import authors
from pluq_dmarc.record import parse_record
from pluq_eai.address import with_ascii_domain
from pluq_milter.conversation import parse_reply
from pluq_milter.edits import apply
from pluq_milter.packets import Body, MilterError, parse_change
from pluq_milter.packets import Options as MilterOptions
from pluq_mtasts.policy import parse_policy, policy_id
from pluq_spf.evaluate import Client, evaluate
from pluq_spp.output import commands, refusal
from pluq_srs.rewriter import Rewriter, SrsError
from pluq_surbl.links import hosts, question, registered

NOW = 1_700_000_000
ACCOUNTS = parse_users("users", b":a seed for the salts\n")


def dkim(data: bytes) -> None:
    """A signed message and the record of its key come from the same stranger."""
    record, _, text = data.partition(b"\0")
    resolver = Records({"TXT": (record,)})
    finish(verify_message(Message.from_bytes(text), resolver, Policy(), NOW))


def dkim_files(data: bytes) -> None:
    line = data.decode("latin-1")
    for parse in (parse_key_line, parse_filter_line, lambda text: parse_options(text, Options())):
        with contextlib.suppress(ValueError):
            parse(line)


def arc(data: bytes) -> None:
    """A message that was passed on, and the record of every key."""
    record, _, text = data.partition(b"\0")
    resolver = Records({"TXT": (record,)})
    finish(verify_chain(Message.from_bytes(text), resolver, Budget.of_message(), NOW))


def dmarc(data: bytes) -> None:
    """A stranger's policy, and the header whose author it is about."""
    parse_record(data)
    authors(data)


def mta_sts(data: bytes) -> None:
    policy_id(data.split(b"\0"))
    with contextlib.suppress(ProtocolError):
        parse_policy(data).covers("mx.example.org")


def dane(data: bytes) -> None:
    """A server's certificates, of which each TLSA record might mean one."""
    chain = data.split(b"-----")
    records = usable(
        [Tlsa(usage, selector, matching, data[:32]) for usage in (2, 3) for selector in (0, 1) for matching in (0, 1)]
    )
    records += [Tlsa(2, 0, 1, hashlib.sha256(one).digest()) for one in chain]
    proves(records, chain, ["mx.example.org"])


def spf(data: bytes) -> None:
    """A stranger's record, to which each of its includes and redirects leads again, and his name in its macros."""
    record, _, sender = data.partition(b"\0")
    resolver = Records({"TXT": (b"v=spf1 " + record,), "A": ("192.0.2.1",), "PTR": (b"mail.example.org",)})
    client = Client("192.0.2.7", sender.decode("latin-1") or "a@example.org", "helo.example", "mx.example.org")
    finish(evaluate(client, resolver, Budget.of_message()))


def srs(data: bytes) -> None:
    rewriter = Rewriter(b"example.org", [b"secret"], clock=lambda: NOW)
    for one in (data, b"SRS0=" + data, b"SRS1=" + data):
        with contextlib.suppress(SrsError):
            rewriter.reverse(one)
    if b"@" in data:
        with contextlib.suppress(SrsError):
            assert rewriter.forward(data).count(b"\n") <= data.count(b"\n")


def international_addresses(data: bytes) -> None:
    """The form with A-labels is ASCII behind the local part, has no line end, and is its own form."""
    found = with_ascii_domain(data)
    if found is not None:
        _box, at, domain = found.rpartition(b"@")
        assert data.isascii() or not at or (domain.isascii() and not set(found) & {10, 13, 0})
        assert with_ascii_domain(found) == found
    to_unicode(data.rpartition(b"@")[2])


def links(data: bytes) -> None:
    """Hosts of a message's links make questions that DNS can hold, or none."""
    for host in hosts(data):
        name = question(registered(host, {"co.uk"}, {"demon.co.uk"}), "list.test")
        assert not set(name) & set("\r\n\0 ")


def milter(data: bytes) -> None:
    """What a milter answers is carried out, or refused; the header stays one."""
    with contextlib.suppress(MilterError):
        parse_reply(data)
    with contextlib.suppress(MilterError):
        agreed = MilterOptions.decode(data)
        change = parse_change(data[12:13], data[13:], agreed.actions)
        message = Message.from_bytes(b"Subject: x\nX-A: 1\n\nbody\n")
        apply([change], message, Transaction(b"a@b", recipients=[Recipient(b"c@d")]), False)
        assert not split_fields(b"".join(message.header()))[-1].raw.startswith(b"\n")
        assert isinstance(change, Body) or message.as_bytes().endswith(b"\n\nbody\n")


def logins(data: bytes) -> None:
    """The responses to AUTH, one a line, to each mechanism in turn."""
    initial, *others = data.split(b"\n")
    for serve in (
        mechanisms.plain,
        mechanisms.login,
        lambda dialogue: mechanisms.cram(dialogue, b"<1@x>"),
        lambda dialogue: scram.serve(dialogue, ACCOUNTS),
    ):
        with contextlib.suppress(Ended):
            finish(serve(Dialogue(Responses(others), initial or None)))
    parse_fields(data.split(b"\t"))


def password_file(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse_users("users", data)


def programs_output(data: bytes) -> None:
    for _, text in commands(data):
        refusal(text)
