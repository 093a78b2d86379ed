"""Parsers of what users, administrators and other programs write: queue files, envelopes, the spawn protocol, .qmail, control files, cdb, TOML."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable
from io import BytesIO

from tests.fuzz.streams import decoded, pieces

from pluq.config.site import parse_site
from pluq.errors import ConfigError, PluqError, ProtocolError, TemporaryFailure
from pluq.local import instructions, packets
from pluq.mail import aliases, forwarding
from pluq.queue import records
from pluq.queue.lease_server import envelope_fault
from pluq.remote.tcpto import parse_records
from pluq.store import control, tcprules, users
from pluq.store.cdb import Cdb
from pluq.wire import spawn

DEFAULTS = aliases.Defaults(b"me.example.org", b"example.org", b"org")


def envelopes(data: bytes) -> None:
    """What is read of an envelope can be written and read again."""
    with contextlib.suppress(ProtocolError):
        sender, recipients = records.parse_envelope(data)
        assert records.parse_envelope(records.encode_envelope(sender, recipients)) == (sender, recipients)
    with contextlib.suppress(ProtocolError):
        todo = records.parse_todo(data)
        assert records.parse_todo(records.encode_todo(todo)) == todo
    with contextlib.suppress(ProtocolError):
        records.parse_info(data)
    for one in records.parse_recipients(data):
        assert data[one.offset : one.offset + 1] == (b"D" if one.done else b"T")
    if not envelope_fault(data):
        records.parse_envelope(data)


def spawn_protocol(data: bytes) -> None:
    """Commands are the same however they are cut, and no name of a message leaves the queue."""
    for width in (1, 2):
        whole = spawn.CommandDecoder(width).feed(data)
        if len(data) < spawn.COMMAND_MAX:
            assert whole == decoded(spawn.CommandDecoder(width).feed, pieces(data))[0]
        for command in whole:
            if spawn.complaint(command, 1000) is None:
                assert not set(command.message) - set(b"0123456789/")
                assert not command.message.startswith(b"/")
        decoded(spawn.ReportDecoder(width).feed, pieces(data))


def workers_packets(data: bytes) -> None:
    """Workers run as users; qmail-lspawn, which hears them, runs as root."""
    with contextlib.suppress(ProtocolError):
        packets.decode_answers(data)
    with contextlib.suppress(ValueError):
        users.parse_account(data)
    parse_records(data)


def dot_qmail(data: bytes) -> None:
    with contextlib.suppress(TemporaryFailure):
        list(instructions.parse(data))
    for name, _ in instructions.file_names(b"-", data[:100]):
        assert b".." not in name


def control_files(data: bytes) -> None:
    control.first_line(data)
    for line in control.list_lines(data):
        control.leading_int(line)
    tcprules.decode(data)
    with contextlib.suppress(ConfigError):
        tcprules.parse_rules(data)
    with contextlib.suppress(ConfigError):
        list(users.assignments(BytesIO(data), "assign"))


def alias_files(data: bytes) -> None:
    makers: tuple[Callable[[], Iterable[object]], ...] = (
        lambda: aliases.compile_aliases(BytesIO(data), DEFAULTS),
        lambda: aliases.compile_include(BytesIO(data), DEFAULTS),
        lambda: forwarding.compile_forward(data),
        lambda: forwarding.compile_maillist(BytesIO(data)),
    )
    for make in makers:
        with contextlib.suppress(PluqError):
            list(make())
    forwarding.split_commands(data)


def cdb(data: bytes) -> None:
    """A file that is no cdb, or half of one: found, not found, or said to be broken."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        found = Cdb(file.name)
        for key in (b"", b"joe", data[-8:]):
            with contextlib.suppress(ConfigError):
                found.get(key)
        with contextlib.suppress(ConfigError):
            for _ in found:
                continue
        found.close()


def site_file(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        site = parse_site("pluq.toml", data)
        for name in site.profiles:
            with contextlib.suppress(ConfigError):
                site.profile(name)
