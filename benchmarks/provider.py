"""A canned provider in a process of its own, cheaper than any client: ``python -m benchmarks.provider``."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import trustme
from attrs import frozen

from benchmarks.subject import ANSWER_HEADERS, PENDING_BODY, acknowledgement_body

__all__ = ["Canned", "running"]


@frozen
class Canned:
    """Where the provider is."""

    url: str
    """Origin for everything, by plain HTTP."""
    tls_origin: str
    """Host and port at which metadata is served by HTTPS, for clients that insist."""
    ca_certificate: str
    """PEM text of the authority that vouches for it."""


@contextmanager
def running() -> Generator[Canned]:
    """Run the provider for the time of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.provider"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Canned(**json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()  # the sign to end
            process.wait(timeout=10)


def _message(status: str, body: bytes) -> bytes:
    headers = (*ANSWER_HEADERS, ("Content-Length", str(len(body))))
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode() + body


class _Connection(asyncio.Protocol):
    """Looks for the end of each request and at its path, and for nothing else."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            _, found, rest = head.partition(b"\r\ncontent-length:")
            length = int(rest.partition(b"\r\n")[0]) if found else 0
            if len(self._received) < end + 4 + length:
                return
            self._received = self._received[end + 4 + length :]
            self._transport.write(self._answers[head.split(b" ", 2)[1]])


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # takes a context of pyOpenSSL too
    answers = {
        b"/token": _message("400 Bad Request", PENDING_BODY),
        b"/bc-authorize": _message("200 OK", acknowledgement_body()),
    }
    plain = await loop.create_server(lambda: _Connection(answers), "127.0.0.1")
    tls = await loop.create_server(lambda: _Connection(answers), "127.0.0.1", ssl=context)
    url = f"http://127.0.0.1:{plain.sockets[0].getsockname()[1]}"
    tls_origin = f"127.0.0.1:{tls.sockets[0].getsockname()[1]}"
    metadata = {
        "issuer": f"https://{tls_origin}/",
        "token_endpoint": f"{url}/token",
        "backchannel_authentication_endpoint": f"{url}/bc-authorize",
    }
    answers[b"/.well-known/openid-configuration"] = _message("200 OK", json.dumps(metadata).encode())
    certificate = authority.cert_pem.bytes().decode()
    print(json.dumps({"url": url, "tls_origin": tls_origin, "ca_certificate": certificate}), flush=True)
    # Until standard input ends: the parent is done, or dead.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
