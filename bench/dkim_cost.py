"""What DKIM costs: CPU time of signing and verifying one message, in one process.

    python bench/dkim_cost.py [--rounds N]

Best and median of the rounds, for messages of 4 KiB and 1 MiB: text with runs of blanks, and base64 lines. Keys are loaded, key records
known. dkimpy is measured beside it where it is installed. The limit that the tests hold: RSA-2048 over 4 KiB in 0.7 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import statistics
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from pluq.hookspecs import Message
from pluq.signatures.canon import sum_body
from pluq.signatures.keys import SigningKey, load_key
from pluq.signatures.outgoing import read_outgoing
from pluq_dkim.commands import new_key
from pluq_dkim.options import Options
from pluq_dkim.settings import OVERSIGNED
from pluq_dkim.sign import make_signature
from pluq_dkim.verify import Policy, verify_message

HEADER = (
    b"Received: from a.example (192.0.2.1)\n  by b.example with SMTP; 21 Nov 2026 13:00:00 -0000\n"
    b"From: Joe <joe@example.org>\nTo: Ann <ann@example.net>\nSubject: the minutes of yesterday\n"
    b"Date: Sat, 21 Nov 2026 13:00:00 +0000\nMessage-ID: <1@example.org>\nMIME-Version: 1.0\n"
    b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
)
NOW = 1795262400
SIZES = {"4 KiB": 4096, "1 MiB": 1 << 20}


def text(size: int) -> bytes:
    line = b"The quick brown fox  jumps over the lazy dog,\tand runs away. \n"
    return (line * (size // len(line) + 1))[:size] + b"\n"


def encoded(size: int) -> bytes:
    return base64.encodebytes(os.urandom(size * 3 // 4))


class Known:
    """A resolver that has the answer."""

    def __init__(self, record: bytes) -> None:
        self.record = record

    async def txt(self, name: str, budget: Any = None) -> tuple[bytes, ...]:
        return (self.record,)


def sign(key: SigningKey, message: bytes) -> bytes:
    """Return the signed message; this is all that is done for one message but for finding the key."""

    async def run() -> bytes:
        outgoing = await read_outgoing(Message.from_bytes(message), {("relaxed", None)})
        assert outgoing is not None
        return make_signature(outgoing, key, "example.org", Options(oversigned=OVERSIGNED), NOW)

    field: bytes = drive(run)
    return field + message


def verify(known: Known, message: bytes) -> None:
    found = drive(lambda: verify_message(Message.from_bytes(message), known, Policy(), NOW))  # type: ignore[arg-type]
    assert [one.code.result for one in found] == ["pass"]


RUNNER = asyncio.Runner()  # makes its event loop when it is first used


def drive(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Return what a coroutine returns. One for a small message never waits; a large body is hashed in a thread, which takes a loop."""
    coroutine = make()
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    except RuntimeError:
        return RUNNER.run(make())
    raise AssertionError("it waits for something without an event loop")


def measure(work: Callable[[], object], rounds: int) -> str:
    """Return best and median CPU milliseconds."""
    spent = []
    for _ in range(rounds):
        begun = time.process_time_ns()
        work()
        spent.append((time.process_time_ns() - begun) / 1e6)
    return f"{min(spent):8.3f} {statistics.median(spent):8.3f}"


def record_of(key: SigningKey) -> bytes:
    return f"v=DKIM1; k={key.kind}; p={base64.b64encode(key.public_octets()).decode()}".encode()


def measure_dkimpy(pem: bytes, message: bytes, record: bytes, rounds: int) -> dict[str, str]:
    try:
        import dkim
    except ImportError:
        return {}
    relaxed = (b"relaxed", b"relaxed")

    def signed() -> bytes:
        field: bytes = dkim.sign(message, b"s", b"example.org", pem, canonicalize=relaxed)
        return field.replace(b"\r\n", b"\n") + message

    done = signed()
    return {
        "dkimpy sign": measure(signed, rounds),
        "dkimpy verify": measure(lambda: dkim.verify(done, dnsfunc=lambda *_, **__: record), rounds),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    pems = {kind: new_key(kind, 2048) for kind in ("rsa", "ed25519")}
    print(f"{'CPU ms':40} {'best':>8} {'median':>8}")
    for size_name, size in SIZES.items():
        count = rounds if size < 100_000 else max(5, rounds // 10)
        for body_name, body in (("text", text(size)), ("base64", encoded(size))):
            message = HEADER + body
            print(
                f"{'relaxed body alone, ' + body_name + ' ' + size_name:40}",
                measure(partial(sum_body, [body], [("relaxed", None)]), count),
            )
            for kind, pem in pems.items():
                key = load_key("/s", pem)
                known = Known(record_of(key))
                done = sign(key, message)
                name = f"{kind} {body_name} {size_name}"
                print(f"{'sign ' + name:40}", measure(partial(sign, key, message), count))
                print(f"{'verify ' + name:40}", measure(partial(verify, known, done), count))
            for what, found in measure_dkimpy(
                pems["rsa"], message, record_of(load_key("/s", pems["rsa"])), max(3, count // 10)
            ).items():
                print(f"{what + ' rsa ' + body_name + ' ' + size_name:40}", found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
