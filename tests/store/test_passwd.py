"""The rules of qmail-getpw and qmail-pw2u."""

import os
import pwd

import pytest

from pluq.errors import TemporaryFailure
from pluq.store import passwd
from pluq.store.passwd import Assignments, BadHome, NoUser, candidates, find_account, mailnames_of
from pluq.store.users import Account


@pytest.fixture
def accounts(monkeypatch, tmp_path):
    """A password file with joe (home his own), thief (home of somebody else), root and alias."""
    home = os.fsencode(tmp_path)
    mine = os.stat(tmp_path).st_uid
    entries = {
        b"joe": Account(b"joe", mine or 4711, 100, home, b"", b""),
        b"joe-x": Account(b"joe-x", mine or 4711, 100, home, b"", b""),
        b"thief": Account(b"thief", 999999, 100, home, b"", b""),
        b"root": Account(b"root", 0, 0, b"/", b"", b""),
        b"alias": Account(b"alias", 7790, 2108, b"/var/qmail/alias", b"", b""),
    }
    monkeypatch.setattr(passwd, "system_account", entries.get)
    if not mine:
        os.chown(tmp_path, 4711, -1)
    return entries


@pytest.mark.parametrize(
    ("local", "user", "dash", "ext"),
    [
        (b"joe", b"joe", b"", b""),
        (b"JOE", b"joe", b"", b""),
        (b"Joe-Foo-Bar", b"joe", b"-", b"Foo-Bar"),
        (b"joe-", b"joe", b"-", b""),
        (b"joe-x", b"joe-x", b"", b""),
        (b"joe-x-y", b"joe-x", b"-", b"y"),
        (b"joey", b"alias", b"-", b"joey"),
        (b"thief-x", b"alias", b"-", b"thief-x"),
        (b"root", b"alias", b"-", b"root"),
        (b"", b"alias", b"-", b""),
        (b"-joe", b"alias", b"-", b"-joe"),
    ],
)
def test_a_user_controls_name_and_name_dash_anything(accounts, local, user, dash, ext):
    account = find_account(local)
    assert (account.user, account.dash, account.ext) == (user, dash, ext)


def test_without_alias_nobody_controls_the_rest(accounts):
    del accounts[b"alias"]
    assert find_account(b"nobody-here") is None


def test_a_home_that_cannot_be_examined_now_is_a_temporary_failure(accounts, monkeypatch):
    def stat(path):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(passwd.os, "stat", stat)
    with pytest.raises(TemporaryFailure) as caught:
        find_account(b"joe")
    assert caught.value.text == passwd.NFS


def test_names_of_32_characters_are_not_looked_for():
    names = [name for name, _, _ in candidates(b"a" * 32 + b"-" + b"b" * 40)]
    assert names == []
    assert next(candidates(b"a" * 31))[0] == b"a" * 31


def test_trouble_in_the_account_database_is_temporary(monkeypatch):
    monkeypatch.setattr(passwd, "database_fails", lambda name: True)
    with pytest.raises(TemporaryFailure) as caught:
        find_account(b"no-such-user-here")
    assert caught.value.text == passwd.SYSTEM


def test_an_unknown_name_is_no_trouble():
    assert not passwd.database_fails(b"no-such-user-here")


def test_the_real_database_knows_who_we_are():
    me = pwd.getpwuid(os.getuid())
    assert passwd.system_account(me.pw_name.encode()).uid == os.getuid()


LINE = b"joe:x:507:100:Joe:/home/joe:/bin/sh\n"
ALIAS = b"alias:x:7790:2108::/var/qmail/alias:/bin/true\n"


def test_an_account_becomes_a_name_and_its_extensions():
    rules = Assignments(homes=0)
    assert rules.account(LINE) == b"=joe:joe:507:100:/home/joe:::\n+joe-:joe:507:100:/home/joe:-::\n"


def test_alias_gets_everything_else():
    rules = Assignments(homes=0)
    assert rules.account(ALIAS).startswith(b"+:alias:7790:2108:/var/qmail/alias:-::\n=alias:")
    assert rules.has_alias


def test_options_change_dash_and_break():
    rules = Assignments(homes=0, dash=b"-/", break_character=b"+")
    assert rules.account(LINE).endswith(b"+joe+:joe:507:100:/home/joe:-/::\n")
    rules = Assignments(homes=0, break_character=b"")
    assert rules.account(LINE) == b"=joe:joe:507:100:/home/joe:::\n"


@pytest.mark.parametrize(
    "line",
    [
        b"root:x:0:0::/root:/bin/sh\n",
        b"Ann:x:5:5::/home/ann:/bin/sh\n",
        b"short:x:5:5::/home/ann\n",
        b"nul\0:x:5:5::/home/ann:/bin/sh\n",
        b"\n",
    ],
)
def test_what_is_no_mail_user_is_left_out(line):
    assert Assignments(homes=0).account(line) == b""


def test_a_missing_home_is_left_out_or_stops(tmp_path):
    line = b"joe:x:507:100::%b/none:/bin/sh\n" % os.fsencode(tmp_path)
    assert Assignments().account(line) == b""
    with pytest.raises(BadHome):
        Assignments(homes=1).account(line)


def test_the_home_of_somebody_else_is_left_out(tmp_path):
    line = b"joe:x:999999:100::%b:/bin/sh\n" % os.fsencode(tmp_path)
    assert Assignments().account(line) == b""


def test_mailnames_replace_the_account_name():
    rules = Assignments(homes=0, mailnames=mailnames_of([b"joe:joseph::jd", b"ann:x", b"nocolon"]))
    text = rules.account(LINE)
    assert [line.split(b":")[0] for line in text.splitlines()] == [b"=joseph", b"+joseph-", b"=jd", b"+jd-"]


def test_a_user_with_an_empty_list_of_names_gets_none():
    assert Assignments(homes=0, mailnames=mailnames_of([b"joe:"])).account(LINE) == b""


def test_include_and_exclude():
    assert Assignments(homes=0, include=frozenset({b"ann"})).account(LINE) == b""
    assert Assignments(homes=0, include=frozenset({b"joe"})).account(LINE) != b""
    assert Assignments(homes=0, exclude=frozenset({b"joe"})).account(LINE) == b""


def test_a_subuser_is_an_extension_under_another_name():
    rules = Assignments(homes=0)
    rules.account(LINE)
    assert rules.subuser(b"info:joe:inf:\n") == (
        b"=info:joe:507:100:/home/joe:-:inf:\n+info-:joe:507:100:/home/joe:-:inf-:\n"
    )
    assert rules.subuser(b"info:joe:inf\n") == b""
    with pytest.raises(NoUser):
        rules.subuser(b"info:ann:inf:\n")
