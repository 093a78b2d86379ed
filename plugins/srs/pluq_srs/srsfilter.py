"""srsfilter

For a line in the .qmail file that gets all mail of the SRS domain: sends a bounce on to the address that the rewritten one stands
for, and names that address in its To field. virtualdomains has `srs.example:srs`, alias/.qmail-srs-default has `|srsfilter`.

The rewritten address is EXT2@HOST. One that is wrong or too old, or a message that is no bounce, is refused for good.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pluq.commands.forwarding import forward_message, variable
from pluq.commands.terminal import complain, die, help_asked, or_die

if TYPE_CHECKING:
    from pluq_srs import Srs

FATAL = "srsfilter: fatal: "
PIECE = 65536
# Beyond this the header is taken to have ended, and the To field to stand above it.
HEADER_BYTES = 1 << 20


def main() -> int:
    if help_asked(__doc__):
        return 0
    if variable("SENDER", FATAL):
        die(100, FATAL, "this address takes bounces only. (#5.7.1)")
    recipient = original(variable("EXT2", FATAL) + b"@" + variable("HOST", FATAL))
    with or_die(FATAL, "unable to read message"):
        start = readdressed(read_start(), recipient)
    number = forward_message(FATAL, b"", [recipient], os.environb.get(b"DTLINE", b"") + start)
    complain("srsfilter: qp ", str(number))
    return 0


def original(address: bytes) -> bytes:
    """Return the address that the rewritten one stands for; ends the program where there is none."""
    from pluq.errors import ConfigError
    from pluq_srs.rewriter import SrsError

    try:
        plugin = make_plugin()
        if not plugin.settings.domain:
            die(100, FATAL, "unable to rewrite envelope")
        return plugin.rewriter.reverse(address)
    except SrsError as error:
        die(100 if error.permanent else 111, FATAL, "SRS: ", error.text)
    except ConfigError as error:
        die(111, FATAL, str(error))


def make_plugin() -> Srs:
    """Return the plugin with the settings of [local], enabled there or not. Raises ConfigError."""
    from pluq.config import Home
    from pluq.config.settings import resolve
    from pluq.config.site import read_site
    from pluq.plan.compile import plugin_tables
    from pluq_srs import Settings, Srs

    home = Home.from_environment()
    site = read_site(home)
    plugin = Srs()
    plugin.settings = resolve(Settings, home.controls, plugin_tables(site, site.role("local"), Srs.name)).settings
    return plugin


def read_start() -> bytes:
    """Return the beginning of the message on descriptor 0, the whole header at least."""
    text = b""
    while b"\n\n" not in text and len(text) < HEADER_BYTES and (piece := os.read(0, PIECE)):
        text += piece
    return text


def readdressed(text: bytes, recipient: bytes) -> bytes:
    """Return the beginning of a message with the recipient in its To field, in place of all that stood there, or behind the other fields."""
    from itertools import takewhile

    from pluq.hookspecs.message import split_fields
    from pluq.mail.address import quote

    header, end, body = text.partition(b"\n\n")
    header += end[:1]
    # As in qmail-inject, a line that is no field ends the header.
    fields = list(takewhile(lambda field: field.name, split_fields(header)))
    places = [index for index, field in enumerate(fields) if field.name == b"to"]
    kept = [field.raw for index, field in enumerate(fields) if index not in places[1:]]
    place = places[0] if places else len(kept)
    kept[place : place + len(places[:1])] = [b"To: %b\n" % quote(recipient)]
    return b"".join(kept) + header[sum(len(field.raw) for field in fields) :] + end[1:] + body
