"""What plugins cost: a hook that abstains, and the server's part of a TLS handshake; CPU time of one process.

    python bench/plugin_cost.py [--rounds N]

Best of the rounds. The limits of the project: 5 microseconds for a hook that abstains, 1000 handshakes a second on new connections with an
ECDSA key. The client's part of the handshake is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import ssl
import tempfile
import time
from collections.abc import Callable

from pluq import Plugin, Recipient, Session, Transaction, hook
from pluq.hookspecs import NoSettings
from pluq.plan import Plan
from pluq.testing.plugins import make_plugin, plan_of
from pluq_tls.contexts import server_context
from pluq_tls.selfsigned import make_certificate

CALLS = 50_000
HANDSHAKES = 200


class Silent(Plugin[NoSettings]):
    """Abstain, at once."""

    name = "silent"

    @hook
    def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> None:
        return None


class SilentLater(Plugin[NoSettings]):
    """Abstain, as a coroutine that does not wait."""

    name = "silentlater"

    @hook
    async def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> None:
        return None


async def call_cost(plan: Plan) -> float:
    """Return the microseconds of one question to the chain of smtp_rcpt."""
    session, transaction, recipient = Session(), Transaction(b"a@b.example"), Recipient(b"joe@example.org")
    chain = plan.smtp_rcpt
    assert chain is not None
    began = time.process_time()
    for _ in range(CALLS):
        await chain(session=session, transaction=transaction, recipient=recipient)
    return (time.process_time() - began) / CALLS * 1e6


def handshake_cost(server: ssl.SSLContext, client: ssl.SSLContext) -> float:
    """Return the microseconds that the server works for one new connection."""
    spent = 0
    for _ in range(HANDSHAKES):
        to_server, to_client, from_client = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
        began = time.process_time_ns()
        from_server = ssl.MemoryBIO()
        serving = server.wrap_bio(to_server, from_server, server_side=True)
        spent += time.process_time_ns() - began
        asking = client.wrap_bio(to_client, from_client)
        is_served = is_asked = False
        while not (is_served and is_asked):
            is_asked = is_asked or advanced(asking.do_handshake)
            to_server.write(from_client.read())
            began = time.process_time_ns()
            is_served = is_served or advanced(serving.do_handshake)
            spent += time.process_time_ns() - began
            to_client.write(from_server.read())
    return spent / HANDSHAKES / 1000


def advanced(step: Callable[[], None]) -> bool:
    """Go on with a handshake; return whether it is done."""
    try:
        step()
    except ssl.SSLWantReadError:
        return False
    return True


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server with an ECDSA key, and a client that takes whatever it is shown."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(make_certificate(["mx.example.org"], 100, datetime.datetime.now(datetime.UTC)))
        file.flush()
        server = server_context(file.name, "", "TLSv1.2", "", read)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = range(parser.parse_args().rounds)
    for plugin in (Silent, SilentLater):
        cost = min(asyncio.run(call_cost(plan_of(make_plugin(plugin)))) for _ in rounds)
        print(f"hook that abstains ({plugin.name}): {cost:.2f} us")
    server, client = contexts()
    cost = min(handshake_cost(server, client) for _ in rounds)
    print(f"TLS handshake of the server: {cost:.0f} us, {1e6 / cost:.0f}/s")


if __name__ == "__main__":
    main()
