"""How a signature is made, and the option string in which qmail-dkim is told (DKIMSIGNOPTIONS).

    -c r|s|t|u   canonical forms: relaxed, simple, relaxed/simple, simple/relaxed
    -l           l=: only as much of the body is signed as there is now; text can be appended to it
    -i IDENTITY  i=; "-" for none         -x SECONDS  x=, so long after now; "-" for none
    -q           q=dns/txt
    -b -h -t -z  accepted and ignored: t= is always there, the key says which algorithm it is for, rsa-sha1 is not made any more

Source: RFC 6376 section 3.5; qmail-dkim(8).
"""

from __future__ import annotations

import getopt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

FORMS = {"r": ("relaxed", "relaxed"), "s": ("simple", "simple"), "t": ("relaxed", "simple"), "u": ("simple", "relaxed")}
LETTERS = "b:c:i:lqthx:z:"


@dataclass(frozen=True)
class Options:
    """`expire` is in seconds from now, 0 for no x=. `every_field`: sign all that qmail-dkim signs, not only what readers see."""

    header_form: str = "relaxed"
    body_form: str = "relaxed"
    identity: str = ""
    expire: int = 0
    length: bool = False
    query: bool = False
    every_field: bool = False
    oversigned: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


def parse_options(text: str, options: Options) -> Options:
    """Return options changed by an option string. Raises ValueError with a sentence for a person."""
    try:
        found, rest = getopt.getopt(text.split(), LETTERS)
    except getopt.GetoptError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if rest:
        raise ValueError(f"{text!r}: {rest[0]!r} is no option")
    for letter, value in found:
        options = replace(options, **_change(letter[1:], value))
    return options


def _change(letter: str, value: str) -> dict[str, Any]:
    if letter == "c":
        if value not in FORMS:
            raise ValueError(f"-c {value}: expected one of {', '.join(FORMS)}")
        return dict(zip(("header_form", "body_form"), FORMS[value], strict=True))
    if letter == "x":
        if value != "-" and not value.isdecimal():
            raise ValueError(f"-x {value}: expected seconds")
        return {"expire": 0 if value == "-" else int(value)}
    if letter == "i":
        return {"identity": "" if value == "-" else value}
    return {"l": {"length": True}, "q": {"query": True}}.get(letter, {})


# -- lists of variables, and lines that begin with a domain


def parse_variables(text: str) -> dict[str, str]:
    r"""Return the variables of a list such as A=1,B=x\,y. A variable without value is taken out, so it is not there."""
    variables = (item.partition("=") for item in _split(text))
    return {name: value for name, equals, value in variables if name and equals and value}


def _split(text: str) -> Iterator[str]:
    item = ""
    for index, part in enumerate(text.replace("\\,", "\0").split(",")):
        if index:
            yield item
        item = part.replace("\0", ",")
    yield item


@dataclass(frozen=True)
class KeyLine:
    """A line of control/dkimkeys: DOMAIN:KEYFILE[:VARIABLES]."""

    domain: str
    path: str
    variables: Mapping[str, str]


def parse_key_line(line: str) -> KeyLine:
    """Return a line of dkimkeys. Raises ValueError."""
    domain, colon, rest = line.partition(":")
    path, _, variables = rest.partition(":")
    if not colon or not domain or not path:
        raise ValueError(f"{line!r}: expected DOMAIN:KEYFILE[:VARIABLE=VALUE,...]")
    return KeyLine(domain.lower(), path, parse_variables(variables))


@dataclass(frozen=True)
class FilterLine:
    """A line of control/filterargs that has remote messages signed: DOMAIN:[remote:]PROGRAM[:VARIABLES]."""

    domain: str
    variables: Mapping[str, str]


def parse_filter_line(line: str) -> FilterLine | None:
    """Return a line of filterargs if its program is qmail-dkim and it is not for local deliveries only."""
    domain, _, rest = line.partition(":")
    channel, colon, behind = rest.partition(":")
    if channel in ("remote", "local") and colon:
        rest = behind
    program, _, variables = rest.partition(":")
    names = [word.rpartition("/")[2] for word in program.split()]
    if channel == "local" or "qmail-dkim" not in names:
        return None
    return FilterLine(domain.lower(), parse_variables(variables))
