"""What is warned of, as a table of small sites, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluq.migrate import rules, values
from pluq.migrate.survey import Control
from pluq.migrate.tree import Entry
from pluq.store.cdb import write_cdb
from pluq.store.tcprules import parse_rules

SMTPD = "/var/qmail/bin/qmail-smtpd"
SMTP = "var/qmail/supervise/smtp/run"
CONTROL = "var/qmail/control/"


def script(*lines: str, tail: str = "", user: str = "-u 7791 -g 2108") -> str:
    return "\n".join(["#!/bin/sh", *lines, f"exec tcpserver -x /etc/tcp.smtp.cdb {user} 0 25 {SMTPD} {tail}", ""])


PLAIN = {SMTP: script()}
# warning, a word of its detail, fork, files
TABLE = [
    ("open-relay", "tcp.smtp", "netqmail", {"etc/tcp.smtp": ':allow,RELAYCLIENT=""\n'}),
    ("open-relay", "RELAYCLIENT", "netqmail", {SMTP: script("export RELAYCLIENT=")}),
    ("relay-wide", "8.8.", "netqmail", {"etc/tcp.smtp": '8.8.:allow,RELAYCLIENT=""\n:allow\n'}),
    ("auth-no-checker", "25", "sagredo", {SMTP: script("export SMTPAUTH=")}),
    ("weak-tls", "tlsserverciphers", "sagredo", {CONTROL + "tlsserverciphers": "ALL:RC4\n"}),
    ("key-readable", "servercert.pem", "sagredo", {CONTROL + "servercert.pem": "PRIVATE KEY"}),
    ("cert-unreadable", "servercert.pem", "sagredo", {CONTROL + "servercert.pem": "PRIVATE KEY"}),
    ("credentials-in-file", "smtproutes", "sagredo", {CONTROL + "smtproutes": ":relay:587|user|word\n"}),
    ("pop-before-smtp", "open-smtp", "netqmail", {"home/vpopmail/etc/open-smtp": "192.0.2.1\t1\n"}),
    ("bare-lf", "ALLOW_BARELF", "sagredo", {SMTP: script("export ALLOW_BARELF=1")}),
    ("runs-as-root", "smtp", "netqmail", {SMTP: script(user="")}),
    ("runs-as-root", "smtp", "netqmail", {SMTP: script(user="-u 0 -g 0")}),
    ("dead-dnsbl", "ordb", "sagredo", {CONTROL + "dnsbllist": "-relays.ordb.org\n"}),
    ("regex-risk", "badrcptto:1", "sagredo", {CONTROL + "badrcptto": "(a+)+$\n"}),
    ("domainkeys-obsolete", "DKVERIFY", "qmailtoaster", {"etc/tcp.smtp": ':allow,DKVERIFY="DEGIJKfh"\n'}),
    ("crlf", "locals", "netqmail", {CONTROL + "locals": "example.org\r\n"}),
    ("bad-value", "queuelifetime", "netqmail", {CONTROL + "queuelifetime": "week\n"}),
    ("bad-value", "virtualdomains:2", "netqmail", {CONTROL + "virtualdomains": "a:b\nexample.org\n"}),
    ("bad-value", "users/assign", "netqmail", {"var/qmail/users/assign": "=a:b:c\n.\n"}),
    ("bad-value", "badhelo:1", "sagredo", {CONTROL + "badhelo": "[open\n"}),
    ("rules-syntax", "tcp.smtp:1", "netqmail", {"etc/tcp.smtp": "192.0.2:allow\n"}),
    ("rules-syntax", "tcp.smtp:1", "netqmail", {"etc/tcp.smtp": "192.0.2. allow\n"}),
    ("cdb-invalid", "tcp.smtp.cdb", "netqmail", {"etc/tcp.smtp.cdb": "no cdb"}),
    ("unparsable", "smtp", "netqmail", {SMTP: "exec tcpserver '0 25\n"}),
    ("unknown-control", "databites", "netqmail", {CONTROL + "databites": "1\n"}),
    ("unknown-env", "MADE_UP", "netqmail", {SMTP: script("export MADE_UP=1")}),
    ("program-missing", "gone", "netqmail", {SMTP: script("export QMAILQUEUE=/var/qmail/bin/gone")}),
    ("contradiction", "25", "netqmail", {"var/qmail/supervise/smtp2/run": script()}),
    (
        "contradiction",
        "example.org",
        "netqmail",
        {CONTROL + "locals": "example.org\n", CONTROL + "virtualdomains": "example.org:x\n"},
    ),
    ("contradiction", "smtpplugins", "sagredo", {SMTP: script("export ENABLE_SPP=1")}),
    ("contradiction", "VALIDRCPTTO_CDB", "jms1", {SMTP: script("export VALIDRCPTTO_CDB=/var/qmail/none.cdb")}),
    ("no-effect", "authsender", "sagredo", {CONTROL + "authsender": "a:b\n"}),
    ("no-effect", "SMTPAUTH", "sagredo", {SMTP: script("SMTPAUTH=!")}),
    ("no-effect", "DROP_PRE_GREET", "sagredo", {SMTP: script("export DROP_PRE_GREET=1")}),
    ("defect-fixed", "maxrcpt", "sagredo", {CONTROL + "maxrcpt": "50\n"}),
    ("srs-incomplete", "srs_secrets", "sagredo", {CONTROL + "srs_domain": "srs.example.org\n"}),
    ("queue-not-empty", "1", "netqmail", {"var/qmail/queue/mess/3/26": "x"}),
    ("queue-layout", "todo", "netqmail", {"var/qmail/queue/todo/3/x": "x"}),
    ("wrapper-not-carried", "recordio", "netqmail", {SMTP: script().replace(SMTPD, f"recordio {SMTPD}")}),
    ("not-supported", "ETRN", "indimail", {CONTROL + "etrnhosts": "a:b\n"}),
    ("service-down", "smtp", "netqmail", {"var/qmail/supervise/smtp/down": ""}),
    ("link-outside", "helohost", "netqmail", {CONTROL + "helohost": "-> ../../../../secret"}),
    ("unreadable", "helohost", "netqmail", {CONTROL + "helohost": "-> /none"}),
    ("not-a-file", "helohost", "netqmail", {CONTROL + "helohost/x": ""}),
    ("large-file", "badmailfrom", "netqmail", {CONTROL + "badmailfrom": "a@example.com\n" * 80_000}),
]


@pytest.mark.parametrize(("warning", "word", "fork", "files"), TABLE)
def test_it_is_warned_of(migrate, warning, word, fork, files):
    found = migrate({**PLAIN, **files}, fork)
    assert word in found.details(warning)


@pytest.mark.parametrize("fork", ["netqmail", "sagredo", "qmailtoaster", "jms1", "notqmail"])
def test_a_sound_site_is_left_in_peace(migrate, fork):
    assert migrate(PLAIN, fork).warnings == set()


def test_a_plugin_that_is_not_installed_is_left_out_and_named(migrate):
    found = migrate({**PLAIN, CONTROL + "spfbehavior": "3\n"}, "sagredo", plugins=["size"])
    assert found.profile(25)["plugins"] == ["size"]
    assert "spf" in found.details("plugin-missing")
    assert found.status("control", "spfbehavior") == "not_carried"


@pytest.mark.parametrize(
    ("fork", "name", "text", "status"),
    [
        ("sagredo", "spfbehavior", "3\n", "carried"),
        ("sagredo", "spfbehavior", "strict\n", "not_carried"),
        ("netqmail", "spfbehavior", "3\n", "unused"),
        ("netqmail", "locals~", "x\n", "unused"),
        ("netqmail", "rsa512.pem", "x\n", "unused"),
        ("netqmail", "concurrencyincoming", "20\n", "unused"),
        ("sagredo", "badmailfrom", "@example\\.com$\n", "carried"),
        ("netqmail", "badmailfrom", "@example.com\n", "carried"),
        ("indimail", "etrnhosts", "a\n", "not_carried"),
    ],
)
def test_each_control_file_has_its_fate(migrate, fork, name, text, status):
    assert migrate({**PLAIN, CONTROL + name: text}, fork).status("control", name) == status


def test_what_no_child_sees_is_unused(migrate):
    run = f"#!/bin/sh\nexport RCPTCHECK=/bin/x\nexec env - PATH=/bin tcpserver -u 1 0 25 {SMTPD}\n"
    assert migrate({SMTP: run}).status("env", "RCPTCHECK") == "unused"


def test_secrets_are_never_told(migrate):
    files = {
        CONTROL + "smtproutes": ":relay:587|user|made-up-word-1\n",
        CONTROL + "srs_domain": "srs.example.org\n",
        CONTROL + "srs_secrets": "made-up-word-2\n",
        CONTROL + "host.mysql": "localhost:u:made-up-word-3:db:t\n",
        CONTROL + "authsenders": "a@b:relay|u|made-up-word-4\n",
        CONTROL + "servercert.pem": "-----BEGIN PRIVATE KEY-----\nmade-up-word-5\n",
    }
    assert "made-up-word" not in str(migrate({**PLAIN, **files}, "sagredo").report)


def test_a_cdb_that_differs_from_its_text_is_stale(migrate, build_site):
    site = build_site(PLAIN)
    path = str(site / "etc/tcp.smtp.cdb")
    write_cdb(path, parse_rules(b"192.0.2.:deny\n"), f"{path}.tmp")
    assert "tcp.smtp.cdb" in migrate({}).details("stale-cdb")
    write_cdb(path, parse_rules((site / "etc/tcp.smtp").read_bytes()), f"{path}.tmp")
    assert "stale-cdb" not in migrate({}).warnings


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_bytes_break_the_reader_of_rules(data):
    rules.parse_text(data)


@given(st.sampled_from(sorted(values.CHECKS) + values.PATTERN_FILES), st.binary(max_size=200))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_break_the_checks_of_values(name, data):
    control = Control(name, f"/c/{name}", Entry(f"/c/{name}", f"/c/{name}", "file"), data)
    values.faults(control, regular_expressions=True)
    values.risky(control)


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_reader_of_users(text):
    values.assign_faults(text)
