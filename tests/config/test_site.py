"""control/pluq.toml: what listeners speak, and what makes no sense with it."""

import pytest

from pluq.config.home import Home
from pluq.config.site import CHECKPASSWORD, parse_site
from pluq.errors import ConfigError


def parse(text: str):
    return parse_site("pluq.toml", text.encode())


@pytest.mark.parametrize(
    ("protocol", "role"), [("smtp", "smtpd"), ("qmtp", "qmtpd"), ("qmqp", "qmtpd"), ("pop3", "pop3d")]
)
def test_a_protocol_has_its_role_and_its_rules(protocol, role):
    profile = parse(f'[profile.x]\nprotocol = "{protocol}"\n').profiles["x"]
    assert (profile.role, profile.rules_path(Home("/h"))) == (role, f"/h/control/tcp.{protocol}")


def test_a_profile_speaks_smtp_unless_it_says_otherwise():
    profile = parse("[profile.x]\n").profiles["x"]
    assert (profile.protocol, profile.checkpassword) == ("smtp", CHECKPASSWORD)


def test_an_empty_list_of_programs_for_logins_is_the_default() -> None:
    profile = parse('[profile.x]\nprotocol = "pop3"\ncheckpassword = []\n').profiles["x"]
    assert profile.checkpassword == CHECKPASSWORD


def test_a_protocol_is_inherited():
    site = parse('[profile.pop]\nprotocol = "pop3"\ncheckpassword = ["c", "p"]\n[profile.pops]\nextends = "pop"\n')
    assert (site.profiles["pops"].protocol, site.profiles["pops"].checkpassword) == ("pop3", ("c", "p"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[profile.x]\nprotocol = "pop"\n', "pluq.toml:2: profile.x.protocol: 'pop' is none of smtp, qmtp, qmqp, pop3"),
        (
            '[profile.x]\nprotocol = "qmtp"\nplugins = ["spf"]\n',
            "pluq.toml:3: profile.x.plugins: a profile with protocol",
        ),
        ('[profile.x]\ncheckpassword = ["c"]\n', "pluq.toml:2: profile.x.checkpassword: only a profile with"),
    ],
)
def test_what_makes_no_sense_is_told_with_file_and_line(text, fault):
    with pytest.raises(ConfigError) as told:
        parse(text)
    assert str(told.value).startswith(fault)


@pytest.mark.parametrize("key", ["concurrency", "workers"])
def test_a_listener_that_could_serve_nobody_is_refused(key):
    with pytest.raises(ConfigError, match=rf"pluq.toml:2: profile.x.{key}: expected a number of 1 or more"):
        parse(f"[profile.x]\n{key} = 0\n")
    assert getattr(parse(f"[profile.x]\n{key} = 1\n").profiles["x"], key) == 1


def test_a_byte_order_mark_is_told_by_its_name():
    with pytest.raises(ConfigError, match=r"pluq\.toml:1: begins with a byte order mark"):
        parse_site("pluq.toml", b"\xef\xbb\xbf[profile.x]\n")
