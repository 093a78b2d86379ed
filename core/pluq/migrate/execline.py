"""Run scripts in execline: one command line in which each program starts what follows it, read without running anything.

    fdmove -c 2 1  cd DIR  export NAME value  emptyenv  s6-envdir ./env  s6-tcpserver 0 25  qmail-smtpd

What only prepares the process (descriptors, folders, blocks whose result nobody uses) is passed over. Where a word depends on what
a program prints, on arguments or on another variable, the script is a fault and nothing is guessed.

Source: the documentation of skarnet's execline.
"""

from __future__ import annotations

import re

from pluq.migrate.outcome import Fault, Outcome, Started, Variable

MAX_WORDS = 5_000
_TOKEN = re.compile(r'\s+|#[^\n]*|(?P<brace>[{}])(?=\s|$)|(?P<word>(?:"(?:\\.|[^"\\])*"|\\.|[^\s"\\])+)', re.DOTALL)
_PIECE = re.compile(r'"((?:\\.|[^"\\])*)"|\\(.)|([^"\\]+)', re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}

# Programs that prepare the process and take so many words; options before them begin with "-".
_PASSED = {
    "fdmove": 2,
    "fdclose": 1,
    "fdswap": 2,
    "redirfd": 2,
    "umask": 1,
    "exec": 0,
    "wait": 0,
    "tryexec": 0,
    "s6-echo": 0,
}
# Programs that run a block first; what it prints and answers is used by nobody.
_BLOCKS = ("foreground", "background", "if")


class _Unfollowed(Exception):
    pass


def is_execline(text: str) -> bool:
    return bool(re.match(r"#! *\S*execlineb\b", text))


def run(text: str, path: str, folder: str) -> Outcome:
    """Return what a script would set and start; its faults are in the outcome."""
    outcome = Outcome()
    try:
        words = list(_words(text))
        _follow(words, outcome, path, folder)
    except _Unfollowed as fault:
        outcome.faults.append(Fault(path, 1, str(fault)))
    return outcome


def _words(text: str) -> list[tuple[str, int]]:
    """Return the words with their lines; a brace of a block is "{" or "}" on its own."""
    found: list[tuple[str, int]] = []
    at, line = 0, 1
    while at < len(text) and len(found) < MAX_WORDS:
        token = _TOKEN.match(text, at)
        if token is None:
            raise _Unfollowed(f'line {line}: a " that is not closed')
        if token["brace"] or token["word"]:
            found.append((token["brace"] or _unquoted(token["word"]), line))
        line += token[0].count("\n")
        at = token.end()
    return found


def _unquoted(word: str) -> str:
    def piece(found: re.Match[str]) -> str:
        if found[1] is not None:
            return re.sub(r"\\(.)", lambda one: _ESCAPES.get(one[1], one[1]), found[1], flags=re.DOTALL)
        return _ESCAPES.get(found[2], found[2]) if found[2] else found[3]

    return _PIECE.sub(piece, word)


def _follow(words: list[tuple[str, int]], outcome: Outcome, path: str, folder: str) -> None:
    variables: dict[str, Variable] = {}
    while words:
        (name, line), rest = words[0], words[1:]
        if name == "export" and len(rest) > 1:
            variables[rest[0][0]] = Variable(_plain(rest[1][0]), True, path, line)
            words = rest[2:]
        elif name == "unexport" and rest:
            variables.pop(rest[0][0], None)
            words = rest[1:]
        elif name == "cd" and rest:
            folder = rest[0][0] if rest[0][0].startswith("/") else f"{folder}/{rest[0][0]}"
            words = rest[1:]
        elif name == "emptyenv":
            variables.clear()
            words = _without_options(rest)
        elif name in _BLOCKS:
            words = _without_block(_without_options(rest), name)
        elif name in _PASSED:
            words = _without_options(rest)[_PASSED[name] :]
        else:
            _start(words, variables, outcome, path, folder)
            return


def _start(
    words: list[tuple[str, int]], variables: dict[str, Variable], outcome: Outcome, path: str, folder: str
) -> None:
    argv = [_plain(word) for word, _ in words]
    unfollowed = {"backtick", "importas", "define", "multisubstitute", "ifelse", "loopwhilex", "elgetpositionals"}
    name = next((word for word in argv if word in unfollowed or word in "{}"), None)
    if name is not None:
        raise _Unfollowed(f"line {words[0][1]}: {name!r} is not followed")
    for name_, variable in variables.items():
        outcome.assigned[name_, path] = variable
    outcome.started.append(Started(tuple(argv), variables, path, words[0][1], True, folder))


def _plain(word: str) -> str:
    if re.search(r"\$\{", word):
        raise _Unfollowed(f"{word[:40]!r} is not known")
    return word


def _without_options(words: list[tuple[str, int]]) -> list[tuple[str, int]]:
    while words and words[0][0].startswith("-"):
        words = words[1:]
    return words


def _without_block(words: list[tuple[str, int]], name: str) -> list[tuple[str, int]]:
    depth = 0
    for position, (word, _) in enumerate(words):
        depth += {"{": 1, "}": -1}.get(word, 0)
        if depth == 0:
            return words[position + 1 :]
    raise _Unfollowed(f"the block of {name!r} has no end")
