"""What is put in front of a message: dates, identity, author; and who the author is."""

import re

import pytest

from pluq.errors import ConfigError
from pluq.inject.message import Header
from pluq.inject.settings import Author, followup_lists, read_settings
from pluq.store.control import ControlFiles

WHEN = 1795195217  # 20 Nov 2026 17:20:17 UTC


@pytest.fixture
def controls(tmp_path):
    for name, value in (("me", "me.example"), ("defaulthost", "dh.example"), ("defaultdomain", "dd.example")):
        (tmp_path / name).write_text(value + "\n")
    return ControlFiles(str(tmp_path))


@pytest.fixture
def inject(controls):
    """Return a function that gives (header, sender, recipients) for an environment and fields."""

    def run(environment, *fields, lists=frozenset(), sender=None):
        settings = read_settings({b"USER": b"joe"} | environment, controls, lists)
        header = Header(settings, WHEN, 77, sender)
        header.add(field + b"\n" for field in fields)
        return header.finish().decode("latin-1"), header.sender, header.recipients

    return run


def test_an_empty_message_gets_date_id_author_and_a_cc(inject):
    assert inject({})[0].splitlines() == [
        "Date: 20 Nov 2026 17:20:17 -0000",
        "Message-ID: <20261120172017.77.qmail@me.example>",
        "From: joe@dh.example",
        "Cc: recipient list not shown: ;",
    ]


def test_a_nul_ends_the_host_of_message_ids(inject, controls):
    with open(controls.path("idhost"), "wb") as file:
        file.write(b"id.example\0more\n")
    assert "Message-ID: <20261120172017.77.qmail@id.example>\n" in inject({})[0]


def test_what_the_message_has_stays_where_it_is(inject):
    header, _, recipients = inject({}, b"Subject: x", b"From: f", b"DATE: d", b"Message-Id : i", b"Cc: c")
    assert header.splitlines() == ["Subject: x", "From: f@dh.example", "DATE: d", "Message-Id : i", "Cc: c@dh.example"]
    assert recipients == [b"c@dh.example"]


def test_one_resent_field_makes_it_a_resent_message(inject):
    header, _, recipients = inject({}, b"To: ann", b"Bcc: carl", b"Resent-Reply-To: r", b"Resent-Bcc: bob")
    assert header.splitlines() == [
        "Resent-Date: 20 Nov 2026 17:20:17 -0000",
        "Resent-Message-ID: <20261120172017.77.qmail@me.example>",
        "Resent-From: joe@dh.example",
        "Resent-Cc: recipient list not shown: ;",
        "To: ann@dh.example",
        "Resent-Reply-To: r@dh.example",
    ]
    assert recipients == [b"bob@dh.example"]


# environment, From field, envelope sender
AUTHORS = [
    ({}, "joe@dh.example", b"joe@dh.example"),
    ({b"MAILUSER": b"mu", b"MAILHOST": b"mh"}, "mu@mh.dd.example", b"mu@mh.dd.example"),
    ({b"QMAILUSER": b"qu", b"MAILUSER": b"mu"}, "qu@dh.example", b"qu@dh.example"),
    ({b"QMAILSUSER": b"s", b"QMAILSHOST": b"sh"}, "joe@dh.example", b"s@sh.dd.example"),
    ({b"QMAILHOST": b"h.example", b"QMAILSUSER": b"s"}, "joe@h.example", b"s@h.example"),
    ({b"QMAILHOST": b""}, "joe@dh.example", b"joe@dh.example"),
    ({b"USER": b""}, '""@dh.example', b"@dh.example"),
    ({b"USER": b"a b"}, '"a b"@dh.example', b"a b@dh.example"),
    ({b"USER": b"a.b"}, "a.b@dh.example", b"a.b@dh.example"),
    ({b"QMAILHOST": b"foo bar"}, "joe@foo.dd.example, bar@dh.example", b"bar@dh.example"),
    ({b"NAME": b"Joe"}, '"Joe" <joe@dh.example>', b"joe@dh.example"),
    ({b"MAILNAME": b"J (x)", b"NAME": b"n"}, '"J \\(x\\)" <joe@dh.example>', b"joe@dh.example"),
    ({b"QMAILNAME": b"", b"NAME": b"n"}, '"" <joe@dh.example>', b"joe@dh.example"),
    ({b"NAME": b"J", b"QMAILINJECT": b"c"}, "joe@dh.example (J)", b"joe@dh.example"),
    ({b"QMAILINJECT": b"r"}, "joe@dh.example", b"joe-@dh.example-@[]"),
    ({b"QMAILINJECT": b"m"}, "joe@dh.example", b"joe-1795195217.77@dh.example"),
    ({b"QMAILINJECT": b"mr"}, "joe@dh.example", b"joe-1795195217.77-@dh.example-@[]"),
    ({b"QMAILDEFAULTHOST": b"x", b"QMAILDEFAULTDOMAIN": b"y.z"}, "joe@x.y.z", b"joe@x.y.z"),
]


@pytest.mark.parametrize(("environment", "author", "sender"), AUTHORS)
def test_the_environment_says_who_writes(inject, environment, author, sender):
    header, found, _ = inject(environment)
    assert re.search(r"^From: (.*)$", header, re.MULTILINE)[1] == author
    assert found == sender


def test_without_any_user_the_author_is_anonymous():
    assert Author.from_environment({}).user == b"anonymous"
    assert Author.from_environment({b"LOGNAME": b"ln"}).user == b"ln"


def test_letters_drop_the_fields_that_only_the_host_should_set(inject):
    environment = {b"QMAILINJECT": b"fis-zX"}
    header, sender, _ = inject(environment, b"From: f", b"Message-ID: <m>", b"Return-Path: rp", b"To: t", b"X: -")
    assert "From: joe@dh.example\n" in header
    assert "<m>" not in header
    assert "X: -\n" in header
    assert sender == b"joe@dh.example"


@pytest.mark.parametrize(
    ("fields", "sender"),
    [
        ([b"Return-Path: <rp@h>"], b"rp@h.dd.example"),
        ([b"Return-Path: <a>", b"Return-Path: b"], b"a@dh.example"),
        ([b"Return-Path: a, b"], b"b@dh.example"),
        ([b"Return-Path: <>"], b""),
        ([b"Return-Path:"], b"joe@dh.example"),
    ],
)
def test_a_return_path_is_the_sender_and_is_taken_out(inject, fields, sender):
    header, found, _ = inject({}, *fields)
    assert found == sender
    assert "Return-Path" not in header


def test_a_given_sender_beats_the_return_path(inject):
    assert inject({}, b"Return-Path: rp", sender=b"given@x")[1] == b"given@x"


def test_a_nul_ends_an_envelope_address(inject):
    assert inject({}, b"To: a\0b@c.d")[2] == [b"a"]


LISTS = frozenset([b"list@lists.example"])


def test_writing_to_a_list_directs_followups_there(inject):
    header, _, _ = inject({}, b'To: List@lists.example, "a b"@c.d', b"Cc: bob", lists=LISTS)
    assert 'Mail-Followup-To: bob@dh.example,\n  List@lists.example,\n  "a b"@c.d\nTo: List' in header


@pytest.mark.parametrize(
    "fields",
    [
        [b"To: ann"],
        [b"To: list@lists.example", b"Mail-Followup-To: me"],
        [b"Bcc: list@lists.example"],
        [b"To: list@lists.example", b"Resent-To: x"],
    ],
)
def test_followups_stay_undirected_otherwise(inject, fields):
    assert "Mail-Followup-To: list" not in inject({}, *fields, lists=LISTS)[0]


def test_lists_are_read_from_the_file_that_the_author_names(tmp_path):
    file = tmp_path / "lists"
    file.write_bytes(b"List@lists.example \n#no\n\nb@c\n")
    assert followup_lists({b"QMAILMFTFILE": str(file).encode()}) == {b"list@lists.example", b"b@c"}
    assert followup_lists({b"QMAILMFTFILE": str(tmp_path / "none").encode()}) == frozenset()
    assert followup_lists({}) == frozenset()
    with pytest.raises(ConfigError):
        followup_lists({b"QMAILMFTFILE": str(tmp_path).encode()})


def test_without_control_files_the_names_of_the_settings_stand_in(tmp_path):
    settings = read_settings({b"USER": b"joe"}, ControlFiles(str(tmp_path)), frozenset())
    header = Header(settings, WHEN, 1)
    assert b"From: joe@defaulthost.defaultdomain\n" in header.finish()
    assert settings.id_host == b"idhost"


def test_a_header_of_a_hundred_thousand_addresses_is_linear(inject):
    import time

    start = time.process_time()
    _, _, recipients = inject({}, b"To: " + b"a b," * 50_000)
    assert len(recipients) == 100_000
    assert time.process_time() - start < 10  # seconds, on a slow and busy machine
