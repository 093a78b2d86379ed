"""users/assign and users/cdb: what qmail-newu accepts, and whom qmail-lspawn finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ConfigError
from pluq.store.cdb import Cdb, write_cdb
from pluq.store.users import Account, assignments, compile_assign, encode_account, find_record, parse_account

ASSIGN = b"""\
=joe:joe:507:100:/home/joe:::
+joe-:joe:507:100:/home/joe:-::
+joe-list-:lists:508:100:/home/lists:-:joe-:
=joe-x-y:ann:509:100:/home/ann:-:xy:
+:alias:7790:2108:/var/qmail/alias:-::
.
"""


@pytest.fixture
def cdb(tmp_path):
    (tmp_path / "assign").write_bytes(ASSIGN)
    compile_assign(f"{tmp_path}/assign", f"{tmp_path}/cdb")
    return Cdb(f"{tmp_path}/cdb")


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (b"joe", Account(b"joe", 507, 100, b"/home/joe", b"", b"")),
        (b"JOE", Account(b"joe", 507, 100, b"/home/joe", b"", b"")),
        (b"joe-Foo.Bar", Account(b"joe", 507, 100, b"/home/joe", b"-", b"Foo.Bar")),
        (b"joe-x-y", Account(b"ann", 509, 100, b"/home/ann", b"-", b"xy")),
        (b"joe-x-z", Account(b"joe", 507, 100, b"/home/joe", b"-", b"x-z")),
        (b"joe-list-help", Account(b"lists", 508, 100, b"/home/lists", b"-", b"joe-help")),
        (b"joey", Account(b"alias", 7790, 2108, b"/var/qmail/alias", b"-", b"joey")),
        (b"joe@x", Account(b"alias", 7790, 2108, b"/var/qmail/alias", b"-", b"joe@x")),
    ],
)
def test_the_longest_assignment_wins_and_an_exact_one_beats_all(cdb, local, expected):
    assert parse_account(find_record(cdb, local)) == expected


def test_a_prefix_counts_only_at_a_character_that_some_wildcard_ends_in(tmp_path):
    (tmp_path / "assign").write_bytes(b"+ab:u:1:1:/h:-::\n+zz:v:1:1:/h:-::\n.\n")
    compile_assign(f"{tmp_path}/assign", f"{tmp_path}/cdb")
    cdb = Cdb(f"{tmp_path}/cdb")
    assert cdb.get(b"") == b"bz"
    assert find_record(cdb, b"abc") == b"u\x001\x001\0/h\0-\0c\0"
    assert find_record(cdb, b"axc") is None


def test_nobody_is_found_where_there_is_no_catch_all(tmp_path):
    (tmp_path / "assign").write_bytes(b"=joe:joe:1:1:/h:::\n.\n")
    compile_assign(f"{tmp_path}/assign", f"{tmp_path}/cdb")
    assert find_record(Cdb(f"{tmp_path}/cdb"), b"ann") is None


def test_a_cdb_that_is_none_of_ours_is_refused(tmp_path):
    write_cdb(f"{tmp_path}/cdb", [(b"!joe\0", b"x")])
    with pytest.raises(ConfigError) as caught:
        find_record(Cdb(f"{tmp_path}/cdb"), b"joe")
    assert "qmail-newu" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"=joe:joe:1:1:/h:::\n", None),
        (b"=joe:joe:1:1:/h:::", 1),
        (b"=a:a:1:1:/h:::\n=joe:joe:1:1:/h::\n.\n", 2),
        (b":joe:1:1:/h:::\n.\n", 1),
        (b"=j\0:joe:1:1:/h:::\n.\n", 1),
        (b"\n.\n", 1),
        (b"", None),
    ],
)
def test_a_bad_assign_file_names_its_line_and_leaves_the_old_cdb(tmp_path, text, line):
    write_cdb(f"{tmp_path}/cdb", [(b"", b"old")])
    (tmp_path / "assign").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        compile_assign(f"{tmp_path}/assign", f"{tmp_path}/cdb")
    assert caught.value.line == line
    assert Cdb(f"{tmp_path}/cdb").get(b"") == b"old"


@pytest.mark.parametrize("record", [b"", b"joe\x001\x001\0/h\0-\0ext", b"joe\0"])
def test_a_record_without_six_fields_is_no_account(record):
    with pytest.raises(ValueError, match="six"):
        parse_account(record)


@pytest.mark.parametrize(("text", "uid"), [(b"0", 0), (b"", 0), (b"x", 0), (b"4294967296", 0), (b"12abc", 12)])
def test_numbers_are_read_as_qmail_reads_them(text, uid):
    assert parse_account(b"u\0%b\x001\0/h\0\0\0" % text).uid == uid


def test_an_account_survives_its_printed_form():
    account = Account(b"joe", 507, 100, b"/home/joe", b"-", b"ext")
    assert parse_account(encode_account(account)) == account


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_file_is_records_or_an_error_with_its_name(lines):
    try:
        records = list(assignments([line + b"\n" for line in lines], "assign"))
    except ConfigError as error:
        assert error.file == "assign"
    else:
        assert records[-1][0] == b""
