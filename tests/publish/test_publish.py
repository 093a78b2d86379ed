"""pluq dns: what a domain should publish and does, asked of a real name server over real packets."""

import json
import os
import subprocess

import pytest

from pluq.config import Home, current_ids
from pluq.dns import Resolver
from pluq.hookspecs.plugin import DnsRecord
from pluq.publish import policies, spf
from pluq.publish.finding import State
from pluq.publish.hosts import Exchangers, Us
from pluq.publish.survey import survey
from pluq.supervisor.hier import make_home, mark_single_user
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.stack import BIN

US = Us("mx.example.org", ["192.0.2.1"])
POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: 604800\r\n"
WHOLE = {
    "example.org": [("MX", (10, "mx.example.org")), ("TXT", "v=spf1 mx -all"), ("TXT", "unrelated")],
    "mx.example.org": [("A", "192.0.2.1")],
    "1.2.0.192.in-addr.arpa": [("PTR", "mx.example.org")],
    "_dmarc.example.org": [("TXT", "v=DMARC1; p=reject; rua=mailto:dmarc@example.org")],
    "_mta-sts.example.org": [("TXT", "v=STSv1; id=20261121")],
    "_smtp._tls.example.org": [("TXT", "v=TLSRPTv1; rua=mailto:tls@example.org")],
    "key._domainkey.example.org": [("TXT", "right")],
}
KEY = DnsRecord(
    "key._domainkey.example.org", "TXT", "DKIM", "right", lambda found: "" if b"right" in found else "wrong key"
)


async def look(zone, us=US, records=(KEY,), fetch=lambda host: POLICY, domain="example.org"):
    with FakeDns(zone) as server:
        resolver = Resolver([server.address])
        try:
            return await survey(resolver, domain, us, records, fetch)
        finally:
            await resolver.close()


def states(findings):
    return {finding.what.partition(":")[0]: finding.state for finding in findings}


async def test_a_site_that_publishes_everything_is_all_right():
    findings = await look(WHOLE)
    assert [finding.state for finding in findings] == [State.OK] * 8, findings
    assert not any(finding.publish or finding.why for finding in findings)


async def test_what_is_missing_comes_with_the_record_to_publish():
    findings = await look({"example.org": [("A", "192.0.2.1")]})
    told = {finding.name: (finding.state, finding.publish) for finding in findings}
    assert told["example.org"] == (State.MISSING, 'example.org. TXT "v=spf1 a:mx.example.org -all"')
    assert findings[0].publish == "example.org. MX 10 mx.example.org."
    assert told["1.2.0.192.in-addr.arpa"] == (State.MISSING, "1.2.0.192.in-addr.arpa. PTR mx.example.org.")
    assert told["key._domainkey.example.org"] == (State.MISSING, 'key._domainkey.example.org. TXT "right"')
    assert told["_dmarc.example.org"][0] is State.MISSING
    assert told["_mta-sts.example.org"][0] is State.OPTIONAL
    assert told["_smtp._tls.example.org"] == (
        State.OPTIONAL,
        '_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:postmaster@example.org"',
    )


@pytest.mark.parametrize(
    ("changes", "name", "why"),
    [
        ({"example.org": [("MX", (0, "."))]}, "example.org", "a null MX"),
        ({"example.org": [("MX", (5, "mx.elsewhere.example"))]}, "example.org", "none of these hosts is this one"),
        (
            {"mx.example.org": [("CNAME", "real.example.org")], "real.example.org": [("A", "192.0.2.1")]},
            "mx.example.org",
            "an MX must not be an alias",
        ),
        ({"mx.example.org": [("A", "192.0.2.77")]}, "mx.example.org", "none of these is an address of this host"),
        ({"mx.example.org": [("TXT", "no address")]}, "mx.example.org", "nobody can reach"),
        (
            {"1.2.0.192.in-addr.arpa": [("PTR", "dsl-77.isp.example")]},
            "1.2.0.192.in-addr.arpa",
            "none of these names leads back",
        ),
        ({"key._domainkey.example.org": [("TXT", "old")]}, "key._domainkey.example.org", "wrong key"),
        ({"_dmarc.example.org": [("TXT", "v=DMARC1; p=maybe")]}, "_dmarc.example.org", "p= must be one of"),
        (
            {"_dmarc.example.org": [("TXT", "v=DMARC1; p=none"), ("TXT", "v=DMARC1; p=reject")]},
            "_dmarc.example.org",
            "must be one record",
        ),
        (
            {"_dmarc.example.org": [("TXT", "v=DMARC1; p=none; rua=mailto:x@reports.example")]},
            "_dmarc.example.org",
            "reports.example does not say that it takes reports",
        ),
        ({"_mta-sts.example.org": [("TXT", "v=STSv1;")]}, "_mta-sts.example.org", "id= must be there"),
        ({"_smtp._tls.example.org": [("TXT", "v=TLSRPTv1; rua=postmaster")]}, "_smtp._tls.example.org", "rua= must be"),
    ],
)
async def test_what_will_not_do_is_told_with_the_reason(changes, name, why):
    findings = await look({**WHOLE, **changes})
    (told,) = [finding for finding in findings if finding.name == name and finding.state is not State.OK][:1]
    assert told.why.startswith(why) or why in told.why


async def test_reports_may_go_to_whoever_says_that_he_takes_them():
    zone = {
        **WHOLE,
        "_dmarc.example.org": [("TXT", "v=DMARC1; p=none; rua=mailto:x@reports.example!10m")],
        "example.org._report._dmarc.reports.example": [("TXT", "v=DMARC1")],
    }
    assert states(await look(zone))["DMARC"] is State.OK


async def test_a_domain_below_has_the_dmarc_policy_of_the_one_above():
    findings = await look({**WHOLE, "lists.example.org": [("MX", (10, "mx.example.org"))]}, domain="lists.example.org")
    (dmarc,) = [finding for finding in findings if finding.what.startswith("DMARC")]
    assert (dmarc.state, dmarc.name) == (State.OK, "_dmarc.example.org")


async def test_without_known_addresses_those_of_our_exchanger_are_looked_at():
    findings = await look(WHOLE, us=Us("mx.example.org"))
    assert all(finding.state is State.OK for finding in findings)
    assert any(finding.rdtype == "PTR" for finding in findings)


async def test_a_name_server_in_trouble_is_no_missing_record():
    findings = await look({**WHOLE, "_dmarc.example.org": Fault.SERVFAIL, "example.org": Fault.SERVFAIL})
    found = states(findings)
    assert found["DMARC"] is State.UNKNOWN
    assert found["SPF"] is State.UNKNOWN
    assert found["TLSRPT"] is State.OK


async def test_without_a_key_nothing_is_missing_but_it_is_said():
    findings = await look(WHOLE, records=())
    (dkim,) = [finding for finding in findings if finding.what.startswith("DKIM")]
    assert (dkim.state, "pluq dkim keygen" in dkim.why) == (State.OPTIONAL, True)


# SPF


async def spf_of(record, *, us=US, zone=None, ours=True):
    texts = [record] if isinstance(record, str) else record
    whole = {**(zone or {}), "example.org": [("MX", (10, "mx.example.org")), *(("TXT", text) for text in texts)]}
    with FakeDns({"mx.example.org": [("A", "192.0.2.1")], **whole}) as server:
        resolver = Resolver([server.address])
        try:
            hosts = Exchangers({"mx.example.org": ["192.0.2.1"]}, ["mx.example.org"] if ours else [])
            return await spf.survey(resolver, "example.org", us, hosts)
        finally:
            await resolver.close()


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 mx -all",
        "V=SPF1 MX ~all",
        "v=spf1 ip4:192.0.2.0/24 -all",
        "v=spf1 a:mx.example.org -all",
        "v=spf1 a:other.example.org/24 -all",
        "v=spf1 include:provider.example ~all",
        "v=spf1 redirect=provider.example",
        "v=spf1 -ip4:198.51.100.1 mx/24 ?all exp=why.example.org",
    ],
)
async def test_a_record_that_lets_us_send_is_ok(record):
    zone = {"provider.example": [("TXT", "v=spf1 ip4:192.0.2.1 -all")], "other.example.org": [("A", "192.0.2.200")]}
    assert (await spf_of(record, zone=zone)).state is State.OK


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("v=spf1 +all", "it lets everybody send"),
        ("v=spf1 mx", "it does not say what becomes of others"),
        ("v=spf1 ip4:198.51.100.0/24 -all", "sends from 192.0.2.1, for which it says fail"),
        ("v=spf1 mxx -all", "'mxx' means nothing in SPF"),
        ("v=spf1 ip4:nonsense -all", "'nonsense' is no network"),
        ("v=spf1 include:nobody.example -all", "include:nobody.example has no SPF record"),
        (["v=spf1 mx -all", "v=spf1 a -all"], "there must be one record"),
        ("v=spf1 " + " ".join(f"a:h{n}.example" for n in range(11)) + " -all", "more than 10 terms"),
        ("v=spf1 include:loop.example -all", "more than 10 terms"),
    ],
)
async def test_a_record_that_makes_no_sense_is_told(record, why):
    zone = {"loop.example": [("TXT", "v=spf1 include:loop.example -all")]}
    told = await spf_of(record, zone=zone)
    assert told.state is State.DIFFERENT
    assert why in told.why


async def test_the_record_to_publish_names_the_addresses_that_are_not_an_exchangers():
    told = await spf_of(
        "v=spf1 ip4:198.51.100.0/24 -all", us=Us("mx.example.org", ["192.0.2.1", "192.0.2.9", "2001:db8::1"])
    )
    assert told.publish == 'example.org. TXT "v=spf1 mx ip4:192.0.2.9 ip6:2001:db8::1 -all"'


async def test_an_ipv6_address_is_looked_for_as_well():
    us = Us("mx.example.org", ["2001:db8::1"])
    assert (await spf_of("v=spf1 ip6:2001:db8::/32 -all", us=us)).state is State.OK
    assert (await spf_of("v=spf1 ip4:192.0.2.1 -all", us=us)).state is State.DIFFERENT
    assert (
        await spf_of("v=spf1 a:six.example//64 -all", us=us, zone={"six.example": [("AAAA", "2001:db8::9")]})
    ).state is State.OK


# MTA-STS


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (POLICY, ""),
        (POLICY.replace(b"mx.example.org", b"*.example.org"), ""),
        (POLICY.replace(b"STSv1", b"STSv2"), "no version"),
        (POLICY.replace(b"enforce", b"strict"), "mode must be one of"),
        (POLICY.replace(b"604800", b"long"), "no max_age"),
        (POLICY.replace(b"mx.example.org", b"*.mx.example.org"), "does not name the mail exchanger mx.example.org"),
        (b"\xff\xfe", "no version"),
    ],
)
def test_policies(policy, why):
    told = policies.policy_fault(policy, ["mx.example.org"])
    assert (told == "") if not why else (why in told)


async def test_a_policy_that_cannot_be_fetched_is_different():
    def refuse(host):
        raise OSError(f"nobody at {host}")

    (told,) = [one for one in await look(WHOLE, fetch=refuse) if one.what.startswith("MTA-STS")]
    assert (told.state, told.why) == (State.DIFFERENT, "the policy cannot be fetched: nobody at mta-sts.example.org")


# The command


@pytest.fixture
def home(tmp_path):
    made = Home(str(tmp_path / "home"))
    make_home(made, current_ids())
    mark_single_user(made, current_ids())
    with open(made.control("me"), "w") as file:
        file.write("mx.example.org\n")
    return made


def run(home, server, *arguments):
    command = [str(BIN / "pluq"), "dns", *arguments, "--home", home.path, "--no-fetch"]
    environment = {**os.environ, "PLUQ_DNS_SERVER": server.text}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_tells_each_record_and_ends_accordingly(home):
    with FakeDns(WHOLE) as server:
        told = run(home, server, "Example.org.", "--ip", "192.0.2.1")
        assert told.returncode == 0, told.stdout + told.stderr
        assert "ok         example.org MX   (where mail goes)\n" in told.stdout
        assert "              found    10 mx.example.org" not in told.stdout.splitlines()[0]
        del server.zone["_dmarc.example.org"]
        told = run(home, server, "example.org", "--ip", "192.0.2.1", "--json")
        assert told.returncode == 1
        found = {one["name"]: one for one in map(json.loads, told.stdout.splitlines())}
        assert found["_dmarc.example.org"]["state"] == "missing"
        server.zone["_dmarc.example.org"] = Fault.SERVFAIL
        assert run(home, server, "example.org", "--ip", "192.0.2.1").returncode == 111


def test_the_keys_that_sign_are_looked_for(home):
    pytest.importorskip("cryptography", reason="needs cryptography (the extra dkim)")
    environment = {**os.environ, "PLUQ_HOME": home.path}
    keygen = [str(BIN / "pluq"), "dkim", "keygen", "example.org", "--type", "ed25519"]
    record = subprocess.run(keygen, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    with open(home.control("pluq.toml"), "w") as file:
        file.write('[remote]\nplugins = ["dkim"]\n')
    with FakeDns(WHOLE) as server:
        told = run(home, server, "example.org", "--ip", "192.0.2.1")
        assert told.returncode == 1
        assert "missing    default._domainkey.example.org TXT" in told.stdout
        value = record.partition('"')[2].rstrip('"\n')
        assert f'publish  default._domainkey.example.org. TXT "{value}"' in told.stdout
        server.zone["default._domainkey.example.org"] = [("TXT", value)]
        assert run(home, server, "example.org", "--ip", "192.0.2.1").returncode == 0
        server.zone["default._domainkey.example.org"] = [("TXT", value.replace("p=", "p=AAAA"))]
        told = run(home, server, "example.org", "--ip", "192.0.2.1")
        assert (told.returncode, "different  default._domainkey.example.org TXT" in told.stdout) == (1, True)
