"""The common part of all transports: header fields to send, octets to read, the answer as a value."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

from ciba_adapters.transport import SendFailed
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse

__all__ = [
    "CHUNK",
    "Body",
    "answer",
    "has_more",
    "latin1",
    "message_headers",
    "read_body",
    "reason_of",
    "require_final",
]

CHUNK: Final = 16 * 1024
"""Octets to ask of a stack at a time."""

_POOL_FULL: Final = {"PoolTimeout", "EmptyPoolError"}
_TELLING: Final = {errno.EMFILE, errno.ENFILE, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}
"""Errors of the system whose message says more than the class of the exception."""
_INFLATE_ANY: Final = zlib.MAX_WBITS | 32
"""zlib's window setting that recognises gzip and zlib by their headers."""


def message_headers(request: HttpRequest, user_agent: str | None) -> list[tuple[str, str]]:
    """Return the header fields to send: those of the request, and the two that a stack would choose itself.

    `user_agent` is the session's (some gateways turn requests away that have none). Content codings are
    declined, so that an answer is as large in memory as it is on the wire.
    """
    headers = list(request.headers)
    present = {name.lower() for name, _ in headers}
    if "accept-encoding" not in present:
        headers.append(("Accept-Encoding", "identity"))
    if user_agent and "user-agent" not in present:
        headers.append(("User-Agent", user_agent))
    return headers


def reason_of(error: BaseException) -> str:
    """Return why an exchange failed, alike for all stacks, without anything of the request but the host."""
    # Stacks use this class name when the proxy, not the provider, was not reached.
    return f"proxy: {_cause_of(error)}" if "Proxy" in type(error).__name__ else _cause_of(error)


def _cause_of(error: BaseException) -> str:
    for cause in reversed([*_causes(error)]):  # the innermost exception says most
        name = type(cause).__name__
        match cause:
            case ssl.SSLWantReadError() | ssl.SSLWantWriteError():
                pass  # no failure: OpenSSL waits for more octets
            case ssl.SSLCertVerificationError():
                # OpenSSL's text names the certificate's fault, and the host that the certificate is not for.
                return f"certificate not accepted: {cause.verify_message.rstrip('.')}"
            case ssl.SSLError():
                return f"TLS failed: {cause.reason or name}"
            case _ if name in _POOL_FULL:
                return "timed out waiting for a free connection"
            case TimeoutError():
                return "timed out"
            case _ if "Timeout" in name or name == "TooSlowError":
                return "timed out"
            case socket.gaierror():
                return "host name not resolved"
            case ConnectionRefusedError():
                return "connection refused"
            case ConnectionError():
                return name
            case OSError(errno=int(code)) if code in _TELLING:
                return os.strerror(code).lower()
            case _:
                pass
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):  # one for each address of the host
            cause = cast("BaseExceptionGroup[BaseException]", cause).exceptions[0]
        else:
            # Look at a context hidden by `from None`, too: httpcore hides the cause of all its errors in this
            # way.
            cause = cause.__cause__ or cause.__context__


class Body:
    """The octets of a body as they come in: at most one more than the limit."""

    def __init__(self, limit: int) -> None:
        self._wanted = limit + 1
        self._octets = bytearray()

    def add(self, chunk: bytes) -> bool:
        """Keep the octets that fit; return whether to stop reading."""
        self._octets += chunk[: self._wanted - len(self._octets)]
        return self.full

    @property
    def full(self) -> bool:
        """Whether the body is larger than the limit."""
        return len(self._octets) == self._wanted

    def __bytes__(self) -> bytes:
        return bytes(self._octets)


def read_body(chunks: Iterable[bytes], request: HttpRequest, go_on: Callable[[], object]) -> bytes:
    """Read a body for the sync transports; `go_on` raises when the call has ended."""
    body = Body(request.response_limit)
    for chunk in chunks:
        if body.add(chunk):
            break
        go_on()
    return bytes(body)


def has_more(tls: object) -> bool:
    """Tell whether a TLS object had an unread record. This takes the record: do not use the connection then.

    Only a TLS object that does not read by itself, such as those of the event loops, can have one.
    """
    if not isinstance(tls, ssl.SSLObject):
        return False
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        pass
    return True


def require_final(status: int) -> None:
    """Raise `SendFailed` for a 1xx status, which some stacks return before the final answer has come."""
    if status < 200:
        raise SendFailed(Delivery.UNKNOWN, "InterimStatus")


def latin1(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Decode header fields as HTTP has them (RFC 9110 5.5)."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def answer(
    request: HttpRequest, status: int, headers: Iterable[tuple[str, str]], body: bytes
) -> HttpResponse:
    """Return the answer as a value, its content coding removed.

    Raises:
        SendFailed: the status is an interim one, or the content coding is unknown or broken.

    """
    require_final(status)
    pairs = tuple(headers)
    codings = [value for name, value in pairs if name.lower() == "content-encoding"]
    return HttpResponse(status, pairs, _decoded(", ".join(codings), body, request.response_limit))


def _decoded(coding: str, octets: bytes, limit: int) -> bytes:
    """Undo a content coding, used although it was declined; stop one octet above the limit."""
    coding = coding.strip().lower()
    if not octets or coding in {"", "identity"}:
        return octets
    if coding not in {"gzip", "x-gzip", "deflate"}:
        raise SendFailed(Delivery.UNKNOWN, "UnknownContentCoding")
    inflater = zlib.decompressobj(_INFLATE_ANY)
    try:
        plain = inflater.decompress(octets, limit + 1)
    except zlib.error:
        plain = b""
    if len(plain) <= limit and not inflater.eof:
        raise SendFailed(Delivery.UNKNOWN, "BrokenContentCoding")
    return plain
