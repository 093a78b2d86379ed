"""[core] local_dates: the zone of the date in our Received field."""

import time

import pytest

from pluq.config import Home
from pluq.errors import ConfigError
from pluq.smtpd.policy import read_policy
from pluq.testing.smtp_session import Talk


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "control").mkdir()
    (tmp_path / "control/me").write_text("mx.example.org\n")
    monkeypatch.setenv("TZ", "XXX-5:30")
    time.tzset()
    yield Home(str(tmp_path))
    monkeypatch.undo()
    time.tzset()


def received(home):
    talk = Talk(policy=read_policy(home))
    talk.send(b"HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n")
    return talk.queue.messages[0].message.split(b"\n")[1]


@pytest.mark.parametrize(
    ("toml", "zone"),
    [
        (None, b"-0000"),
        ("", b"-0000"),
        ("[core]\nlocal_dates = false\n", b"-0000"),
        ("[core]\nlocal_dates = true\n", b"+0530"),
    ],
)
def test_dates_are_in_local_time_where_the_site_wants_it(home, toml, zone):
    if toml is not None:
        with open(home.control("pluq.toml"), "w") as file:
            file.write(toml)
    assert received(home).endswith(zone)


def test_a_setting_that_is_no_switch_is_an_error(home):
    with open(home.control("pluq.toml"), "w") as file:
        file.write('[core]\nlocal_dates = "yes"\n')
    with pytest.raises(ConfigError, match="true or false"):
        read_policy(home)
