"""The interpreter of run scripts: what it follows, what it refuses, and that no text breaks it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluq.migrate.accounts import parse_passwd
from pluq.migrate.filters import UNKNOWN
from pluq.migrate.shell import MAX_FAULTS, Shell

FILES = {
    "/c/me": "mail.example.org\n",
    "/c/number": "40\n# more\n",
    "/c/delivery": "# comment\n./Maildir/\n",
    "/c/empty": "",
    "/c/fragment": 'HOST=192.0.2.1\nOPTS="-p -v"\n[ -z "$MAX" ] && MAX=7\n',
    "/c/loop": ". /c/loop\n",
}
USERS = parse_passwd("root:x:0:0::/root:/bin/sh\nqmaild:x:7791:2108::/var/qmail:/bin/false\n")


class World:
    def text(self, path):
        return FILES.get(path)

    def kind(self, path):
        return "file" if path in FILES else "folder" if path in ("/c", "/service/x") else ""

    def names(self, path):
        return sorted(name.rpartition("/")[2] for name in FILES if name.rpartition("/")[0] == path)

    def executable(self, path):
        return path == "/c/me"

    def user(self, name):
        return USERS.get(name)

    def group_id(self, name):
        return {"nofiles": 2108}.get(name)

    def hostname(self):
        return None


def run(text: str):
    return Shell(World(), "/service/x").run(text, "/service/x/run")


def argv(text: str) -> list[str]:
    outcome = run(text)
    assert outcome.faults == []
    return list(outcome.started[-1].argv)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exec p a 'b c' \"d $X\" \\\n  e\\ f", ["p", "a", "b c", "d ", "e f"]),
        ("X=1; Y=${X}2; exec p $Y ${Z:-z} ${X:+set} ${Z}", ["p", "12", "z", "set"]),
        ("X='a b'; exec p $X \"$X\"", ["p", "a", "b", "a b"]),
        ("X='  '; exec p $X.", ["p", "."]),
        ("exec p `id -u qmaild` $(id -g qmaild) ~qmaild/bin", ["p", "7791", "2108", "/var/qmail/bin"]),
        ('exec p "$(head -1 /c/number)" `cat /c/me`', ["p", "40", "mail.example.org"]),
        ("exec p \"$(grep -v '^#' /c/delivery)\"", ["p", "./Maildir/"]),
        ("D=$(getent passwd qmaild | cut -d: -f6); exec p $D", ["p", "/var/qmail"]),
        (". /c/fragment\nexec p $OPTS $HOST $MAX", ["p", "-p", "-v", "192.0.2.1", "7"]),
        ("if [ -f /c/me ] && [ ! -d /c/me ]; then exec p yes; else exec p no; fi", ["p", "yes"]),
        ("if [ -f /c/none ]; then X=1\nelif [ -x /c/me ]; then X=2\nelse X=3; fi; exec p $X", ["p", "2"]),
        ('[ -n "$X" -o -r /c/me ] || exit 1\nexec p', ["p"]),
        ('for i in a b \'c d\'; do X="$X$i,"; done; exec p "$X"', ["p", "a,b,c d,"]),
        ("case $1 in stop) exec p no;; *) exec p other;; esac", ["p", "other"]),
        ("f() { Y=$1; }\nf word\nexec p $Y", ["p", "word"]),
        ("# exec p comment\nexec p a#b # c", ["p", "a#b"]),
        ("cat <<END\nexec p no\nEND\nexec p yes 2>&1 >/dev/null </dev/null", ["p", "yes"]),
        ("X=/a/b/c; exec p ${X##*/} ${X%/*} ${X#/}", ["p", "c", "/a/b", "a/b/c"]),
        ("true || exec p no; ! false && exec p yes", ["p", "yes"]),
        ("(X=1; exec p $X)", ["p", "1"]),
        ("exec p a\r\n", ["p", "a"]),
        ("export A=1 B; exec env - A=$A p", ["env", "-", "A=1", "p"]),
        ("exec 2>&1\nexec p", ["p"]),
    ],
)
def test_scripts_mean_what_they_mean_to_a_shell(text, words):
    assert argv(text) == words


@pytest.mark.parametrize(
    "text",
    [
        'exec p "open',
        "exec p 'open",
        "exec p `open",
        "exec p $(open",
        "exec p ${open",
        "if true; then exec p",
        "while true; do exec p; done",
        "for in",
        "case x in",
        "exec p $((1 + 1))",
        "eval exec p",
        ". /c/none",
        ". /c/loop",
        "if grep -q '[a-z]*' /c/me; then exec p; fi",
        "if some-program; then exec p; fi",
        "exec p $(some-program)",
        "fi",
        ")",
        "<<",
        "(" * 500,
    ],
)
def test_what_is_not_understood_is_a_fault_and_no_guess(text):
    outcome = run(text)
    assert outcome.faults
    assert not any(one.argv[0] == "p" and UNKNOWN not in " ".join(one.argv) for one in outcome.started)


def test_a_broken_end_does_not_undo_what_came_before():
    outcome = run('export A=1\nexec p "')
    assert outcome.assigned["A", "/service/x/run"].exported
    assert [fault.line for fault in outcome.faults] == [2]


def test_each_value_knows_the_line_that_set_it():
    outcome = run("#!/bin/sh\nA=1\nexport A\n\nexport B=2\nexec p\n")
    assert {name: (one.line, one.exported) for (name, _), one in outcome.assigned.items()} == {
        "A": (2, True),
        "B": (5, True),
    }


def test_an_early_exit_starts_nothing():
    outcome = run("[ -f /c/none ] || exit 1\nexec p\n")
    assert outcome.started == []
    assert outcome.stopped == ("/service/x/run", 1)


def test_work_is_bounded():
    doubling = "X=aaaaaaaaaaaaaaaa\n" + "X=$X$X\n" * 60 + "exec p $X\n"
    loops = "".join(f"for a{n} in 1 2 3 4 5 6 7 8 9 10; do " for n in range(8)) + ": ;" + "done;" * 8
    begun = time.monotonic()
    assert run(doubling).faults
    assert run(loops).faults
    assert len(run("eval x\n" * 1000).faults) <= MAX_FAULTS
    assert time.monotonic() - begun < 10


PIECES = [
    "if",
    "then",
    "fi",
    "else",
    "for",
    "in",
    "do",
    "done",
    "case",
    "esac",
    "[",
    "]",
    "$(",
    ")",
    "`",
    "'",
    '"',
    "${",
    "}",
    "A=1",
    ";",
    ";;",
    "&&",
    "||",
    "|",
    "&",
    "<<",
    ">",
    "exec",
    "export",
    ".",
    "/c/fragment",
    "p",
    "$A",
    "~",
    "\\",
    "#",
    "!",
    "f()",
    "{",
    "(",
]
WORDS = st.lists(st.sampled_from([*PIECES, "\n"]), max_size=40)


@given(WORDS)
@settings(max_examples=300, deadline=None)
def test_no_sequence_of_words_breaks_it(words):
    run(" ".join(words))


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_it(text):
    run(text)
