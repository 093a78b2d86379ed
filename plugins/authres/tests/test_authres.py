"""authres: the field that a variable asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ConfigError
from pluq.hookspecs.message import check_field
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_authres import VARIABLE, Authres, field


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("spf=pass smtp.mailfrom=a.example", b";\n\tspf=pass smtp.mailfrom=a.example\n"),
        ("spf=pass;\n\tdkim=none", b";\n\tspf=pass;\n\tdkim=none\n"),
        ("", b"; none\n"),
        (" \n", b"; none\n"),
        ("a=b\nBcc: x", b";\n\ta=b\n\tBcc: x\n"),
        ("a=b\r\n\r\n\0x", b";\n\ta=b\n\tx\n"),
    ],
)
def test_the_field_holds_the_variable_and_stays_one_field(value: str, text: bytes) -> None:
    assert field("mx.example.org", value) == b"Authentication-Results: mx.example.org" + text


@given(value=st.text(max_size=300))
def test_whatever_the_variable_holds_it_is_a_field(value: str) -> None:
    raw = field("mx.example.org", value)
    assert check_field(raw) == raw


def test_without_the_variable_there_is_no_field() -> None:
    assert make_plugin(Authres, role="queue").queue_fields({}) == []


def test_the_name_is_the_settings_or_the_sites() -> None:
    for settings, name in (({}, b"mx.example.org"), ({"authserv_id": "other"}, b"other")):
        [raw] = make_plugin(Authres, role="queue", **settings).queue_fields({VARIABLE: ""})
        assert raw == b"Authentication-Results: %b; none\n" % name


def test_without_any_name_mail_waits() -> None:
    with pytest.raises(ConfigError):
        make_nameless().queue_fields({VARIABLE: ""})


def make_nameless() -> Authres:
    made = make_plugin(Authres, role="queue")
    made.context = replace(made.context, authserv_id="")
    return made


class TestConformance(Conformance):
    plugin = Authres
