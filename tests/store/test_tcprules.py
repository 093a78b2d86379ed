"""Rules as tcpserver finds them, and text as tcprules compiles it; both are asked for their opinion."""

import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluq.errors import ConfigError
from pluq.store.cdb import Cdb
from pluq.store.tcprules import Instructions, candidates, decode, find, parse_rules, rules_from_cdb, rules_from_text

needs_ucspi = pytest.mark.skipif(not shutil.which("tcprules"), reason="needs Debian's ucspi-tcp")

RULES = b"""# comment
joe@127.0.0.1:allow,A="first"
18.23.0.32:allow,A="second"
:allow,A="third"
127.:allow,A="fourth"
10.2-3.:deny
=.example.net:allow,A="suffix"
=mx.example.net:allow,A=/exact/,B="two"
=:allow,A="named"
joe@=mx.example.net:deny
"""


def value(text, ip, host=None, info=None):
    first = {}
    for address, data in parse_rules(text):
        first.setdefault(address, data)
    found = find(first.get, ip, host, info)
    return "deny" if found.deny else dict(found.environment).get("A")


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ((b"10.119.75.38",), "third"),
        ((b"18.23.0.32",), "second"),
        ((b"127.0.0.1", None, b"bill"), "fourth"),
        ((b"127.0.0.1", None, b"joe"), "first"),
        ((b"10.2.0.1",), "deny"),
        ((b"192.0.2.1", b"mx.example.net"), "exact"),
        ((b"192.0.2.1", b"mx.example.net", b"joe"), "deny"),
        ((b"192.0.2.1", b"a.b.example.net"), "suffix"),
        ((b"192.0.2.1", b"else.example"), "named"),
        ((b"127.0.0.9", b"a.b.example.net"), "fourth"),
    ],
)
def test_the_first_rule_in_tcpservers_order_counts(client, expected):
    assert value(RULES, *client) == expected


def test_no_rule_allows_without_variables():
    assert find({}.get, b"192.0.2.1") == Instructions()


def test_addresses_are_asked_for_in_the_order_of_the_manual():
    assert list(candidates(b"1.2.3.4", b"a.b.c", b"joe")) == [
        b"joe@1.2.3.4",
        b"joe@=a.b.c",
        b"1.2.3.4",
        b"=a.b.c",
        b"1.2.3.",
        b"1.2.",
        b"1.",
        b"=.b.c",
        b"=.c",
        b"=",
        b"",
    ]


def test_ipv6_prefixes_end_with_a_colon():
    assert list(candidates(b"2001:db8::1", None, None)) == [b"2001:db8::1", b"2001:db8::", b"2001:db8:", b"2001:", b""]
    assert value(b'2001:db8::1:allow,A="v6"\n', b"2001:db8::1") == "v6"


@pytest.mark.parametrize(
    "line", [b"1.2.3.4:denyx", b'1:allow,A="x', b"1:allow,A=", b"x-y:allow", b"1:allowB", b"1: deny"]
)
def test_a_rule_that_cannot_be_parsed_names_its_line(line):
    with pytest.raises(ConfigError) as caught:
        parse_rules(b":allow\n" + line + b"\n", "control/tcp.smtp")
    assert str(caught.value).startswith("control/tcp.smtp:2: ")


def test_variables_may_hold_anything_but_their_quote():
    assert decode(parse_rules(b':allow,A=/x"=,y/,B=""\n')[0][1]).environment == (("A", 'x"=,y'), ("B", ""))


def test_a_missing_file_is_no_rules(tmp_path):
    assert rules_from_text(str(tmp_path / "none")) is None
    assert rules_from_cdb(str(tmp_path / "none")) is None


lines = st.builds(
    lambda address, verdict, variables: address + verdict + variables,
    st.sampled_from(
        [b"1.2.3.4", b"1.", b"1.2-4.", b"1.2.9-11", b"a@1.2.3.4", b"=a.b", b"=.b", b"=", b"", b"x-y", b"5-3.", b"9-", b"-4",
         b"1-2-3.", b"1.a2-3", b"1.2b-3", b"1.2-3b.4"]
    ),
    st.sampled_from([b":allow", b":deny", b":", b"", b":denyx"]),
    st.lists(st.sampled_from([b',A="1"', b",B=/2/", b',C=""', b",", b'D="x"', b',E="', b',="f"', b",A=xqx", b" "])).map(b"".join),
)  # fmt: skip


def compiled(tmp_path, text):
    path = str(tmp_path / "rules.cdb")
    done = subprocess.run(["tcprules", path, path + ".tmp"], input=text, capture_output=True)
    return list(Cdb(path)) if done.returncode == 0 else None


@needs_ucspi
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.lists(lines, max_size=3).map(b"\n".join))
def test_text_compiles_as_by_tcprules(tmp_path, text):
    try:
        ours = parse_rules(text)
    except ConfigError:
        ours = None
    assert ours == compiled(tmp_path, text)


@needs_ucspi
@pytest.mark.parametrize("ip", ["1.2.3.4", "1.2.3.9", "1.2.9.9", "10.3.1.1", "127.0.0.1"])
@pytest.mark.parametrize("host", [None, "mx.example.net", "a.example.net", "else.example"])
@pytest.mark.parametrize("info", [None, "joe", "bill"])
def test_rules_are_found_as_by_tcprulescheck(tmp_path, ip, host, info):
    text = RULES.replace(b':allow,A="third"\n', b'1.2.3.:allow,A="p3"\n1.2.:allow,A="p2"\n', 1)
    assert compiled(tmp_path, text)
    path = str(tmp_path / "rules.cdb")
    given_values = {"TCPREMOTEIP": ip, "TCPREMOTEHOST": host, "TCPREMOTEINFO": info}
    environment = {"PATH": os.environ["PATH"]} | {name: text for name, text in given_values.items() if text is not None}
    said = subprocess.run(["tcprulescheck", path], env=environment, capture_output=True, check=True).stdout.decode()
    found = find(rules_from_cdb(path), ip.encode(), host and host.encode(), info and info.encode())
    assert ("deny connection" in said) == found.deny
    for name, content in found.environment:
        assert f"set environment variable {name}={content}\n" in said
    assert said.count("set environment variable") == len(found.environment)
