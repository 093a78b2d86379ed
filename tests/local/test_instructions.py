"""The .qmail parser: what each line means, and which file is looked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import TemporaryFailure
from pluq.local.instructions import Kind, file_names, parse, safe_extension


def parsed(text, forward_only=False):
    return [(kind, argument) for kind, argument, _ in parse(text, forward_only)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"# comment", []),
        (b"&bob@x.example", [(Kind.FORWARD, b"bob@x.example")]),
        (b"bob@x.example", [(Kind.FORWARD, b"bob@x.example")]),
        (b"& bob@x.example", [(Kind.FORWARD, b" bob@x.example")]),
        (b" bob@x.example", [(Kind.FORWARD, b" bob@x.example")]),
        (b"&", [(Kind.FORWARD, b"")]),
        (b"&&x", [(Kind.FORWARD, b"&x")]),
        (b"./Mailbox", [(Kind.MBOX, b"./Mailbox")]),
        (b"/var/mail/joe \t ", [(Kind.MBOX, b"/var/mail/joe")]),
        (b"./Maildir/", [(Kind.MAILDIR, b"./Maildir/")]),
        (b"./Maildir/\t", [(Kind.MAILDIR, b"./Maildir/")]),
        (b"./Maildir/\r", [(Kind.MBOX, b"./Maildir/\r")]),
        (b"/", [(Kind.MAILDIR, b"/")]),
        (b".", [(Kind.MBOX, b".")]),
        (b"|cat > /dev/null", [(Kind.PROGRAM, b"cat > /dev/null")]),
        (b"|", [(Kind.PROGRAM, b"")]),
        (b"+list", []),
        (b"+anything", []),
        (b"\xc3\xa4@x", [(Kind.FORWARD, b"\xc3\xa4@x")]),
    ],
)
def test_the_first_character_says_what_a_line_is(line, expected):
    assert parsed(line + b"\n") == expected
    assert parsed(line) == expected


def test_blank_lines_count_only_at_the_beginning():
    assert parsed(b"a@b\n\n  \nc@d\n") == [(Kind.FORWARD, b"a@b"), (Kind.FORWARD, b"c@d")]
    for text in (b"", b"\n", b" \t\na@b\n", b"\0junk\n"):
        with pytest.raises(TemporaryFailure, match="first line"):
            parsed(text)


def test_a_line_ends_at_its_first_nul_but_is_shown_whole():
    (forward, maildir) = parse(b"&bob\0junk\n./Mail\0dir/\n")
    assert forward == (Kind.FORWARD, b"bob", b"bob\0junk")
    assert maildir == (Kind.MAILDIR, b"./Mail", b"./Mail\0dir/")
    assert parsed(b"a@b\n\0./Mailbox\n") == [(Kind.FORWARD, b"a@b")]


@pytest.mark.parametrize(("line", "what"), [(b"|x", "prog"), (b"./x", "file"), (b"/x/", "file")])
def test_a_list_only_forwards(line, what):
    for text, forward_only in ((b"a@b\n+list\n" + line, False), (b"a@b\n" + line, True)):
        found = parse(text, forward_only)
        assert next(found).argument == b"a@b"
        with pytest.raises(TemporaryFailure, match=f"has {what} delivery but has x bit set"):
            next(found)


def test_what_stands_above_the_list_mark_is_free():
    assert [kind for kind, _ in parsed(b"|x\n+list\na@b\n")] == [Kind.PROGRAM, Kind.FORWARD]


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_instructions_or_a_temporary_failure(text, forward_only):
    try:
        found = list(parse(text, forward_only))
    except TemporaryFailure:
        return
    for kind, argument, shown in found:
        assert b"\0" not in argument
        assert b"\n" not in shown
        assert shown.startswith(argument)
        assert not shown.endswith((b" ", b"\t"))
        assert forward_only is False or kind is Kind.FORWARD


@pytest.mark.parametrize(
    ("dash", "ext", "names"),
    [
        (b"", b"", [b".qmail", b".qmaildefault"]),
        (b"-", b"", [b".qmail-", b".qmail-default"]),
        (b"-", b"a", [b".qmail-a", b".qmail-default"]),
        (b"-", b"a-", [b".qmail-a-", b".qmail-a-default", b".qmail-default"]),
        (b"-", b"a-b", [b".qmail-a-b", b".qmail-a-default", b".qmail-default"]),
        (b"-/", b"A.b-C", [b".qmail-/a:b-c", b".qmail-/a:b-default", b".qmail-/default"]),
    ],
)
def test_one_look_up_for_each_dash(dash, ext, names):
    assert [name for name, _ in file_names(dash, ext)] == names


def test_the_default_part_is_what_the_name_does_not_say():
    assert [start for _, start in file_names(b"-", b"a-b")] == [None, 2, 0]
    assert next(iter(file_names(b"-", b"foo-default")))[1] == 4


@pytest.mark.parametrize("ext", [b"../../etc/passwd", b"..", b"a/../b", b".%2f", b"A/../../B"])
def test_no_extension_leaves_the_home(ext):
    for name, _ in file_names(b"-", ext):
        assert b".." not in name
    assert b"." not in safe_extension(ext)
