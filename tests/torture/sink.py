"""The next hop: an SMTP server in the harness that keeps what it took, with the time of each final dot.

`refusal` set to a reply makes it answer every connection and every MAIL with that; `refused` has the times of these tries.
"""

from __future__ import annotations

import re
import socketserver
import threading
import time
from typing import Any

from tests.torture.ledger import Copy, read_copy

CLIENT_SECONDS = 30.0
PATH = re.compile(rb"<([^>]*)>")


class Sink:
    """Listens on a port of 127.0.0.1 from the start until `close`."""

    def __init__(self) -> None:
        self.copies: list[Copy] = []
        self.wire: list[bytes] = []
        self.refusal: bytes | None = None
        self.refused: list[float] = []
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = CLIENT_SECONDS

            def handle(self) -> None:
                try:
                    sink._serve(self.rfile, self.wfile)
                except OSError:
                    return  # a client that was killed

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._server.request_queue_size = 256
        self._server.socket.listen(256)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, reader: Any, writer: Any) -> None:
        if self._refuse(writer):
            return
        writer.write(b"220 sink ESMTP\r\n")
        recipients: list[str] = []
        while line := reader.readline(4096):
            verb = line[:4].upper()
            if verb == b"MAIL" and self._refuse(writer):
                return
            if verb == b"EHLO":
                writer.write(b"250-sink\r\n250 PIPELINING\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                if not self._take(reader, recipients):
                    return
                writer.write(b"250 taken\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                if verb in (b"MAIL", b"RSET"):
                    recipients = []
                found = PATH.search(line)
                if verb == b"RCPT" and found:
                    recipients.append(found[1].decode())
                writer.write(b"250 ok\r\n")

    def _refuse(self, writer: Any) -> bool:
        """Turn a client away if that is the order, one with a connection that it has kept too."""
        refusal = self.refusal
        if refusal is None:
            return False
        self.refused.append(time.time())
        writer.write(refusal)
        return True

    def _take(self, reader: Any, recipients: list[str]) -> bool:
        """Read a message up to its final dot; False if the client went away before. Then it took nothing."""
        lines: list[bytes] = []
        raw: list[bytes] = []
        while (line := reader.readline()) != b".\r\n":
            if not line:
                return False
            raw.append(line)
            lines.append(line.removeprefix(b".").removesuffix(b"\r\n") + b"\n")
        self.wire.append(b"".join(raw))
        text = b"".join(lines)
        self.copies += [read_copy(recipient, text, time.time()) for recipient in recipients]
        return True
