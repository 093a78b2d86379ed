"""fastforward's tables: text, records, and text again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.mail.forwarding import compile_forward, compile_maillist, print_forward, print_maillist, split_commands

WORD = st.binary(min_size=1, max_size=12).map(lambda word: word.replace(b"\0", b"n"))
COMMANDS = st.lists(
    st.tuples(st.sampled_from([b"&", b"|", b"!", b"/", b"."]), WORD).map(b"".join), min_size=1, max_size=4
)
TABLES = st.lists(st.tuples(WORD.map(bytes.lower), COMMANDS), max_size=5)


@pytest.mark.parametrize(
    ("table", "records"),
    [
        (b"Root@yp.to: god@heaven, staff;", [(b":root@yp.to", b"&god@heaven\0&staff\0")]),
        (b"a: ?owner@x, &b, |p\\ q, !r, /l.bin; # c ;\n", [(b"?a", b"owner@x"), (b":a", b"&b\0|p q\0!r\0/l.bin\0")]),
        (b"a\\:b:c\\;d;", [(b":a:b", b"&c;d\0")]),
        (b"a b:c d;", [(b":ab", b"&cd\0")]),
        (b"a:;", []),
        (b"a:?o;", [(b"?a", b"o")]),
        (b"", []),
        (b"# only\n", []),
    ],
)
def test_a_table_becomes_records(table, records):
    assert list(compile_forward(table)) == records


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (b"a:b", "semicolon"),
        (b"a", "semicolon"),
        (b"a:b:c;", "double colons"),
        (b"a,b:c;", "commas"),
        (b";", "commas"),
        (b"a\0:b;", "NUL"),
        (b"a:" + b"x" * 801 + b";", "800"),
    ],
)
def test_a_mistake_in_a_table_is_named(table, why):
    with pytest.raises(PermanentFailure, match=why):
        list(compile_forward(table))


@given(TABLES)
def test_a_printed_table_compiles_to_the_same_records(table):
    records = [(b":" + target, b"".join(command + b"\0" for command in commands)) for target, commands in table]
    assert list(compile_forward(b"".join(print_forward(records)))) == records


@given(st.binary(max_size=60))
def test_any_table_compiles_or_is_refused(table):
    try:
        records = list(compile_forward(table))
    except PermanentFailure:
        return
    assert list(compile_forward(b"".join(print_forward(records)))) == records


@pytest.mark.parametrize(
    "record", [(b"", b""), (b"x", b"&a\0"), (b":x", b"&a"), (b":x", b"zoo\0"), (b":x", b"&" + b"a" * 900 + b"\0")]
)
def test_a_database_of_another_kind_is_not_printed(record):
    with pytest.raises(PermanentFailure):
        list(print_forward([record]))


def test_a_mailing_list_goes_both_ways():
    data = b"".join(compile_maillist([b"ann@x \t\n", b"&bob\n", b"#c\n", b" \n", b"./more.bin\n", b"last"]))
    assert data == b"&ann@x\0&bob\0./more.bin\0&last\0"
    assert b"".join(print_maillist(data)) == b"&ann@x\n&bob\n./more.bin\n&last\n"


@pytest.mark.parametrize("line", [b"a\0b\n", b"x" * 801])
def test_a_mailing_list_is_checked(line):
    with pytest.raises(TemporaryFailure):
        list(compile_maillist([line]))


@pytest.mark.parametrize("data", [b"&a", b"zoo\0", b"\0", b"|p\0", b"&a\nb\0", b"&a \0", b"&" + b"x" * 900 + b"\0"])
def test_a_list_of_another_kind_is_not_printed(data):
    with pytest.raises(PermanentFailure):
        list(print_maillist(data))


def test_a_reader_leaves_out_what_it_does_not_know():
    assert split_commands(b"&a\0zoo\0\0|p\0rest") == [b"&a", b"|p"]
