"""The transports against a real server that behaves, misbehaves, or is not there."""

from __future__ import annotations

import gzip
import socket
import ssl
import zlib
from pathlib import Path

import pytest

from ciba_adapters.transport import SendFailed
from ciba_core.values.http import FORM_HEADERS, Delivery, HttpRequest, Purpose

from .server import Peer, Received, Script, Server, answering, chunked, response, silent
from .stacks import DEFAULT_TRUST, SESSION_SECRET, AsyncStack, Session, Stack

SHORT = 0.2
"""Seconds of a timeout that is meant to run out."""
BODY = b"grant_type=urn%3Aopenid%3Aparams%3Agrant-type%3Aciba&auth_req_id=secret-1c26"
AUTHORIZATION = ("Authorization", "Basic czZCaGRSa3F0MzpjbGllbnQtc2VjcmV0")
ANSWER = b'{"error": "authorization_pending"}'


def post(url: str, *, timeout: float = 5.0, connect_timeout: float = 5.0, limit: int = 1000) -> HttpRequest:
    headers = (*FORM_HEADERS, AUTHORIZATION)
    return HttpRequest(1, Purpose.TOKEN, "POST", url, headers, BODY, connect_timeout, timeout, limit)


def get(url: str) -> HttpRequest:
    return HttpRequest(1, Purpose.METADATA, "GET", url, FORM_HEADERS[:1], b"", 5.0, 5.0, 1000)


def assert_untouched(received: Received) -> None:
    """The request as the core made it: nothing of the session, nothing twice, nothing lost."""
    assert received.method == "POST"
    assert received.body == BODY
    for name, value in (*FORM_HEADERS, AUTHORIZATION, ("Accept-Encoding", "identity")):
        assert received.values(name) == [value]
    assert received.values("Content-Length") == [str(len(BODY))]
    known = {"host", "user-agent", "connection", "content-length", "accept-encoding"}
    known |= {name.lower() for name, _ in (*FORM_HEADERS, AUTHORIZATION)}
    assert {name.lower() for name, _ in received.headers} <= known
    assert SESSION_SECRET not in repr(received)


# The request


def test_post_arrives_as_it_is(stack: Stack) -> None:
    """Method, target, header fields and body reach the server exactly as the core made them."""
    with Server(answering(response(ANSWER))) as server:
        path = "/a%2Fb/~c/token?tenant=a%20b+c&x=%7E&empty=&x='y'"
        [answer] = stack.send(post(server.url(path)))
    [received] = server.requests
    assert received.target == path
    assert received.values("Host") == [server.url("").removeprefix("http://")]
    assert_untouched(received)
    assert (answer.status, answer.body) == (200, ANSWER)


def test_get_has_no_body(stack: Stack) -> None:
    """A GET carries neither body nor a header field about one."""
    with Server(answering(response(b"{}"))) as server:
        stack.send(get(server.url("/.well-known/openid-configuration")))
    [received] = server.requests
    assert (received.method, received.target) == ("GET", "/.well-known/openid-configuration")
    assert received.body == b""
    assert not received.values("Content-Length") + received.values("Transfer-Encoding")


def test_session_adds_nothing(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials, cookies, header fields and parameters of the session, and a netrc entry, stay at home."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login session password {SESSION_SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with Server(answering(response(ANSWER), response(b"{}"))) as server:
        stack.send(post(server.url()), get(server.url("/metadata")), session=Session(meddling=True))
    [with_credentials, without] = server.requests
    assert with_credentials.target == "/token"
    assert_untouched(with_credentials)
    assert without.target == "/metadata"
    assert SESSION_SECRET not in repr(without)
    assert not without.values("Authorization")


def test_what_the_request_says_itself_counts(stack: Stack) -> None:
    """Header fields that a stack has an opinion on are the request's own where it has them."""
    own = (("user-agent", "op-app/1"), ("Accept-Encoding", "gzip;q=0"), ("ACCEPT", "application/jwt"))
    with Server(answering(response(ANSWER))) as server:
        stack.send(HttpRequest(1, Purpose.TOKEN, "POST", server.url(), own, BODY, 5.0, 5.0, 1000))
    [received] = server.requests
    assert [received.values(name) for name, _ in own] == [[value] for _, value in own]


def test_session_speaks_for_the_user_agent(stack: Stack) -> None:
    """Where the request names no user agent the stack does: some gateways turn away who has none."""
    with Server(answering(response(ANSWER))) as server:
        stack.send(post(server.url()))
    [agent] = server.requests[0].values("User-Agent")
    assert agent


def test_cookies_are_not_sent_back(stack: Stack) -> None:
    """A cookie of one answer does not go along with the next request."""
    first = response(ANSWER, "Set-Cookie: sid=1; Path=/")
    with Server(answering(first, response(ANSWER))) as server:
        stack.send(post(server.url()), post(server.url()))
    assert [received.values("Cookie") for received in server.requests] == [[], []]


# Answers


def test_chunked_answer(stack: Stack) -> None:
    """A chunked body is put together."""
    with Server(answering(chunked(ANSWER[:5], ANSWER[5:]))) as server:
        [answer] = stack.send(post(server.url()))
    assert answer.body == ANSWER


def test_body_ended_by_closing(stack: Stack) -> None:
    """An HTTP/1.0 answer without a length ends with the connection."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + ANSWER)

    with Server(script) as server:
        [answer] = stack.send(post(server.url()))
    assert (answer.status, answer.body) == (200, ANSWER)


def test_continue_is_skipped(stack: Stack) -> None:
    """An interim answer is not the answer."""
    with Server(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + response(ANSWER, status="400 No"))) as server:
        [answer] = stack.send(post(server.url()))
    assert (answer.status, answer.body) == (400, ANSWER)


def test_early_hints(stack: Stack) -> None:
    """An interim answer of another kind is skipped; at the least it is never taken for the answer."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with Server(answering(early + response(ANSWER))) as server:
        if stack.name == "requests":  # http.client skips 100 only
            assert stack.fail(post(server.url())).delivery is Delivery.UNKNOWN
        else:
            assert [answer.body for answer in stack.send(post(server.url()))] == [ANSWER]


def test_no_content(stack: Stack) -> None:
    """204 has no body, and the connection remains usable."""
    with Server(answering(b"HTTP/1.1 204 No Content\r\n\r\n", response(ANSWER))) as server:
        answers = stack.send(post(server.url()), post(server.url()))
    assert [(answer.status, answer.body) for answer in answers] == [(204, b""), (200, ANSWER)]
    assert len(server.connections) == 1


def test_anything_but_json_passes_through(stack: Stack) -> None:
    """What the body means is the core's business: octets that are no JSON, nor text, arrive as they are."""
    octets = b"<html>\xff\x00</html>"
    sent = response(octets, "Content-Type: text/html", "X-Word: caf\xe9", status="503 Busy")
    with Server(answering(sent)) as server:
        [answer] = stack.send(post(server.url()))
    assert (answer.status, answer.media_type, answer.body) == (503, "text/html", octets)
    assert answer.header("X-Word") == "caf\xe9"


def test_repeated_header_fields_are_kept(stack: Stack) -> None:
    """A header field that comes twice stays two, in order."""
    sent = response(ANSWER, "Cache-Control: no-store", "WWW-Authenticate: a", "WWW-Authenticate: b")
    with Server(answering(sent)) as server:
        [answer] = stack.send(post(server.url()))
    assert [value for name, value in answer.headers if name.lower() == "www-authenticate"] == ["a", "b"]


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
def test_redirect_is_not_followed(stack: Stack, status: str) -> None:
    """A redirect is the answer, and the request with its credentials goes nowhere else."""
    with Server() as target, Server() as server:
        server.scripts = (answering(response(b"", f"Location: {target.url()}", status=status)),)
        [answer] = stack.send(post(server.url()))
    assert answer.status == int(status[:3])
    assert answer.header("Location") == target.url()
    assert not target.connections
    assert len(server.requests) == 1


# Limits


@pytest.mark.parametrize("status", ["200 OK", "302 Found"])
def test_endless_body_is_cut(stack: Stack, status: str) -> None:
    """Reading stops one octet above the limit and the connection is closed, also for a redirect."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(f"HTTP/1.1 {status}\r\nLocation: /\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        peer.send_for_ever(b"ff\r\n" + b"x" * 255 + b"\r\n")

    with Server(script) as server:
        [answer] = stack.send(post(server.url()))
    assert answer.body == b"x" * 1001
    assert server.connections[0].gone.is_set()


def test_long_body_is_cut(stack: Stack) -> None:
    """A body longer than the limit by its Content-Length is cut, and its connection not used again."""
    start = response(b"x" * 5000).replace(b": 5000", b": 5000000")
    with Server(answering(start), answering(response(ANSWER))) as server:
        answers = stack.send(post(server.url()), post(server.url()))
    assert [answer.body for answer in answers] == [b"x" * 1001, ANSWER]
    assert len(server.connections) == 2


def test_body_at_the_limit(stack: Stack) -> None:
    """A body of exactly the limit is whole, and its connection is used again."""
    with Server(answering(response(b"x" * 1000), chunked(b"x" * 1000), response(ANSWER))) as server:
        answers = stack.send(*[post(server.url())] * 3)
    assert [answer.body for answer in answers] == [b"x" * 1000, b"x" * 1000, ANSWER]
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("coding", "coded"), [("gzip", gzip.compress(ANSWER, mtime=0)), ("Deflate", zlib.compress(ANSWER))]
)
def test_content_coding_is_removed(stack: Stack, coding: str, coded: bytes) -> None:
    """A coded answer, which was not asked for, is understood all the same."""
    with Server(answering(response(coded, f"Content-Encoding: {coding}"))) as server:
        [answer] = stack.send(post(server.url()))
    assert answer.body == ANSWER


def test_compression_bomb(stack: Stack) -> None:
    """A coded answer is decoded no further than one octet above the limit."""
    bomb = gzip.compress(b"x" * 500_000, mtime=0)
    assert len(bomb) < 1000
    with Server(answering(response(bomb, "Content-Encoding: gzip"))) as server:
        [answer] = stack.send(post(server.url()))
    assert answer.body == b"x" * 1001


@pytest.mark.parametrize(
    ("coding", "coded", "reason"),
    [
        ("br", b"\x0b", "UnknownContentCoding"),
        ("gzip, gzip", gzip.compress(gzip.compress(ANSWER, mtime=0), mtime=0), "UnknownContentCoding"),
        ("gzip", gzip.compress(ANSWER, mtime=0)[:-9], "BrokenContentCoding"),
        ("gzip", ANSWER, "BrokenContentCoding"),
    ],
)
def test_content_coding_not_understood(stack: Stack, coding: str, coded: bytes, reason: str) -> None:
    """A coding that is unknown, repeated, cut short or a lie is a lost answer."""
    with Server(answering(response(coded, f"Content-Encoding: {coding}"))) as server:
        failure = stack.fail(post(server.url()))
    assert (failure.delivery, failure.reason) == (Delivery.UNKNOWN, reason)


@pytest.mark.parametrize(
    "field", [b"X-Long: " + b"x" * 200_000, b"\r\n".join(b"X-%d: %s" % (n, b"x" * 1000) for n in range(300))]
)
def test_header_block_is_limited(stack: Stack, field: bytes) -> None:
    """A header block out of all proportion is a lost answer."""

    def script(peer: Peer) -> None:
        peer.request()
        try:
            peer.send(b"HTTP/1.1 200 OK\r\n" + field + b"\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            return  # the client left while it came in
        peer.until_closed()

    with Server(script) as server:
        assert stack.fail(post(server.url())).delivery is Delivery.UNKNOWN


# Time


def test_no_answer_in_time(stack: Stack) -> None:
    """A server that does not answer within the timeout may have acted; the connection is closed."""
    with Server(silent) as server:
        assert stack.fail(post(server.url(), timeout=SHORT)).delivery is Delivery.UNKNOWN
    assert server.connections[0].gone.is_set()


def test_get_without_answer_in_time(stack: Stack) -> None:
    """The same for a request without a body."""
    with Server(silent) as server:
        message = HttpRequest(1, Purpose.METADATA, "GET", server.url(), (), b"", 5.0, SHORT, 1000)
        assert stack.fail(message).delivery is Delivery.UNKNOWN


def test_body_that_drips(stack: Stack) -> None:
    """Octets that come in time, one by one, do not prolong the exchange for ever."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        peer.send_for_ever(b"x", pause=SHORT / 10)

    with Server(script) as server:
        failure = stack.fail(post(server.url(), timeout=SHORT, connect_timeout=SHORT))
    assert failure.delivery is Delivery.UNKNOWN
    assert server.connections[0].gone.is_set()


# Broken connections


def test_connection_refused(stack: Stack) -> None:
    """Where nobody listens, nothing was sent."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        failure = stack.fail(post(f"http://127.0.0.1:{bound.getsockname()[1]}/token"))
    assert (failure.delivery, failure.reason) == (Delivery.NOT_SENT, "connection refused")


def test_unknown_host(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a name is not found, nothing was sent."""

    def getaddrinfo(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    failure = stack.fail(post("http://op.invalid/token"))
    assert (failure.delivery, failure.reason) == (Delivery.NOT_SENT, "host name not resolved")


@pytest.mark.parametrize("host", ["a..example", "a" * 64 + ".example", "xn--a.example"])
def test_a_host_name_that_cannot_be_one(stack: Stack, host: str) -> None:
    """A name that no resolver would take, which metadata can bring, is a failure like any other."""
    assert stack.fail(post(f"http://{host}/token")).delivery is Delivery.NOT_SENT


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/token", "http://[::1/token"])
def test_unusable_url(stack: Stack, url: str) -> None:
    """With a URL that is none, or of another scheme, nothing was sent."""
    assert stack.fail(post(url)).delivery is Delivery.NOT_SENT


@pytest.mark.parametrize("octets", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", response(b"x" * 100)[:-50]])
@pytest.mark.parametrize("ending", [Peer.reset, Peer.close])
def test_broken_answer(stack: Stack, octets: bytes, ending: Script) -> None:
    """A connection that ends before the answer, in its header or in its body: the server may have acted.

    The request is not repeated.
    """

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(octets)
        ending(peer)

    with Server(script) as server:
        assert stack.fail(post(server.url())).delivery is Delivery.UNKNOWN
    assert len(server.connections) == 1


def test_broken_chunks(stack: Stack) -> None:
    """A chunked body that ends without its last chunk is not taken for a whole one."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(chunked(ANSWER).removesuffix(b"0\r\n\r\n"))

    with Server(script) as server:
        assert stack.fail(post(server.url())).delivery is Delivery.UNKNOWN


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_not_http(stack: Stack, octets: bytes) -> None:
    """An answer that is not HTTP is a lost answer."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(octets)

    with Server(script) as server:
        assert stack.fail(post(server.url())).delivery is Delivery.UNKNOWN


def test_connection_closed_while_idle(stack: Stack) -> None:
    """A connection that the server closed after its answer is not used for the next request."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(ANSWER, "Connection: close"))

    with Server(script, script) as server:
        assert len(stack.send(post(server.url()), post(server.url()))) == 2
    assert len(server.connections) == 2


def test_connection_lost_with_the_next_request(stack: Stack) -> None:
    """A kept connection that ends just when the next request is there: that one is lost, not repeated."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(ANSWER))
        peer.request()

    with Server(script, answering(response(ANSWER))) as server:
        message = post(server.url())
        with pytest.raises(SendFailed) as caught:
            stack.send(message, message)
    assert caught.value.delivery is Delivery.UNKNOWN
    assert len(server.connections) == 1


def test_connection_is_used_again(stack: Stack) -> None:
    """Polls to one server share a connection."""
    with Server(answering(response(ANSWER), chunked(ANSWER), response(b""))) as server:
        answers = stack.send(*[post(server.url())] * 3)
    assert [answer.body for answer in answers] == [ANSWER, ANSWER, b""]
    assert len(server.connections) == 1


# TLS


def test_trusted_certificate(stack: Stack, trusting: Session, loopback_tls: ssl.SSLContext) -> None:
    """Over TLS with a certificate that the session trusts, all is as without; the connection is kept."""
    with Server(answering(response(ANSWER), chunked(ANSWER)), tls=loopback_tls) as server:
        answers = stack.send(post(server.url()), post(server.url()), session=trusting)
    assert [answer.body for answer in answers] == [ANSWER, ANSWER]
    assert len(server.connections) == 1
    assert_untouched(server.requests[0])


def test_untrusted_certificate(stack: Stack, loopback_tls: ssl.SSLContext) -> None:
    """A session as the stack makes it by default sends nothing to a server nobody vouches for."""
    with Server(silent, tls=loopback_tls) as server:
        failure = stack.fail(post(server.url()), DEFAULT_TRUST)
    assert failure.delivery is Delivery.NOT_SENT
    assert failure.reason.startswith("certificate not accepted: ")
    assert "issuer certificate" in failure.reason
    assert not server.requests


def test_wrong_host_name(stack: Stack, trusting: Session, foreign_tls: ssl.SSLContext) -> None:
    """A trusted certificate of another host is not good enough."""
    with Server(silent, tls=foreign_tls) as server:
        failure = stack.fail(post(server.url()), trusting)
    assert failure.delivery is Delivery.NOT_SENT
    assert failure.reason == (
        "certificate not accepted: IP address mismatch, certificate is not valid for '127.0.0.1'"
    )
    assert not server.requests


def test_not_tls(stack: Stack, trusting: Session) -> None:
    """What is not TLS at all ends the handshake: nothing was sent."""

    def script(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.until_closed()

    with Server(script) as server:
        failure = stack.fail(post(server.url().replace("http:", "https:")), trusting)
    assert failure.delivery is Delivery.NOT_SENT


@pytest.mark.parametrize("ending", [Peer.until_closed, Peer.reset, Peer.close])
def test_handshake_without_end(stack: Stack, trusting: Session, ending: Script) -> None:
    """A TLS handshake that is not answered in time, or broken off: nothing was sent."""

    def script(peer: Peer) -> None:
        peer.receive()
        ending(peer)

    with Server(script) as server:
        message = post(server.url().replace("http:", "https:"), connect_timeout=SHORT)
        assert stack.fail(message, trusting).delivery is Delivery.NOT_SENT


def test_broken_answer_over_tls(stack: Stack, trusting: Session, loopback_tls: ssl.SSLContext) -> None:
    """A connection reset over TLS, once the request is there: the server may have acted."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(response(b"x" * 100)[:-50])
        peer.reset()

    with Server(script, tls=loopback_tls) as server:
        assert stack.fail(post(server.url()), trusting).delivery is Delivery.UNKNOWN


# Cancellation


@pytest.mark.parametrize("start", [b"", response(b"x" * 100)[:-50]])
def test_cancellation_closes_the_connection(async_stack: AsyncStack, start: bytes) -> None:
    """A cancelled request ends at once, and leaves no socket open, whether or not its answer has begun."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(start)
        peer.until_closed()

    with Server(script) as server:
        assert async_stack.cancel(post(server.url()), server)


def test_cancellation_closes_the_connection_over_tls(
    async_stack: AsyncStack, trusting: Session, loopback_tls: ssl.SSLContext
) -> None:
    """The same over TLS, without a wait for the other side's farewell."""
    with Server(silent, tls=loopback_tls) as server:
        assert async_stack.cancel(post(server.url()), server, trusting)


def test_sleep_ends(async_stack: AsyncStack) -> None:
    """The wait of a transport ends, under whichever event loop it runs."""
    async_stack.sleep(0)
