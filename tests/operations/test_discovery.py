"""Fetching the metadata of an issuer, as a value that is driven."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from ciba_core import (
    Cancel,
    Delivery,
    Discovery,
    HeaderContext,
    HttpRequest,
    HttpResponse,
    Limits,
    MetadataDocument,
    OperationStep,
    ProviderMetadata,
    Purpose,
    RequestFailed,
    ResponseReceived,
    Secret,
    metadata_urls,
)
from ciba_core.errors import (
    CibaError,
    Endpoint,
    LocalProtocolError,
    ProviderUnavailable,
    RemoteProtocolError,
    TransportError,
)
from tests.provider.test_metadata import DOCUMENT, ISSUER, REQUIRED
from tests.samples import NOW, reply, without


def feed(current: OperationStep[MetadataDocument], *answers: HttpResponse) -> OperationStep[MetadataDocument]:
    """Answer one request after the other; the last answer for all that follow."""
    remaining = list(answers)
    while not current.is_finished:
        answer = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        current = current.operation.proceed(ResponseReceived(sent(current).id, answer, 0.1), NOW)
    return current


def sent(current: OperationStep[MetadataDocument]) -> HttpRequest:
    assert current.request is not None
    assert current.deadline is None
    return current.request


def result(discovery: Discovery, *answers: HttpResponse) -> MetadataDocument:
    finished = feed(discovery.start(NOW), *answers)
    assert finished.error is None
    assert finished.result is not None
    return finished.result


def failure(discovery: Discovery, *answers: HttpResponse) -> CibaError:
    finished = feed(discovery.start(NOW), *answers)
    assert finished.result is None
    assert finished.error is not None
    return finished.error


def found(document: object = DOCUMENT, **changes: Any) -> HttpResponse:
    arguments: dict[str, Any] = {
        "status": 200,
        "body": json.dumps(document),
        "media_type": "application/json",
    }
    return reply(**(arguments | changes))


def test_request_for_metadata() -> None:
    """DISC-01: a GET without credentials, bounded in time and size."""
    request = sent(Discovery(ISSUER, connect_timeout=3, timeout=4, limits=Limits(body=5000)).start(NOW))
    assert request.id == 1
    assert request.purpose is Purpose.METADATA
    assert request.method == "GET"
    assert request.url == f"{ISSUER}/.well-known/openid-configuration"
    assert request.headers == (("Accept", "application/json"),)
    assert request.body == b""
    assert (request.connect_timeout, request.timeout, request.response_limit) == (3, 4, 5000)


def test_document_is_found() -> None:
    """DISC-04, OPM-11: every member as published, unknown ones included, and read-only."""
    document = result(Discovery(ISSUER), found())
    assert document.issuer == ISSUER
    assert document.members["unknown_member"] == {"a": (1,)}
    assert document.provider() == ProviderMetadata.from_document(DOCUMENT)
    assert "unknown_member" not in repr(document)


def test_loopback_carries_over() -> None:
    """OPM-08: what was allowed for the discovery is allowed for what it finds, and only then."""
    issuer = "http://localhost:8080"
    document = result(Discovery(issuer, allow_loopback_http=True), found(dict.fromkeys(REQUIRED, issuer)))
    assert document.provider().allow_loopback_http


@pytest.mark.parametrize("status", [204, 301, 302, 400, 401, 403, 404, 405, 410])
def test_next_place_is_tried(status: int) -> None:
    """DISC-02, -03, -12: what is not there is looked for elsewhere; redirects are not followed."""
    current = Discovery("https://example.com/a", timeout=4).start(NOW)
    urls: list[str] = []
    while not current.is_finished:
        request = sent(current)
        assert (request.id, request.timeout) == (len(urls) + 1, 4)
        urls.append(request.url)
        answer = reply(status, b"", ("Location", "https://evil.example/"))
        current = current.operation.proceed(ResponseReceived(request.id, answer, 0.1), NOW)
    assert tuple(urls) == metadata_urls("https://example.com/a")
    assert isinstance(current.error, RemoteProtocolError)
    assert all(f"{url}: " in str(current.error) for url in urls)
    assert str(current.error).count(f"status {status}") == 3
    assert current.error.rule == "RFC 8414 3.2"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([("Retry-After", "30")], 30.0),
        ([("Retry-After", "Mon, 24 Sep 2018 20:05:06 GMT")], 20.0),
        ([("Retry-After", "Mon, 26 Nov 2018 08:00:50 GMT"), ("Date", "Mon, 26 Nov 2018 08:00:00 GMT")], 50.0),
        ([("Retry-After", "soon")], None),
    ],
    ids=str,
)
def test_provider_says_when(headers: list[tuple[str, str]], seconds: float | None) -> None:
    """CIBA-10.1-11: ``Retry-After`` in both forms; a date is measured by the answer's own, if it has one."""
    error = failure(Discovery(ISSUER), reply(429, b"", *headers))
    assert isinstance(error, ProviderUnavailable)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("connect_timeout", -1, ValueError),
        ("connect_timeout", None, TypeError),
        ("timeout", "x", TypeError),
        ("timeout", 3601, ValueError),
        ("limits", 5000, TypeError),
    ],
)
def test_wrong_settings_of_a_discovery(name: str, value: Any, error: type[Exception]) -> None:
    """They fail when the value is made, and are named."""
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(error, match=f"^{name} must"):
        Discovery(ISSUER, **arguments)


def test_header_fields_are_bounded() -> None:
    """DISC-12, HTTP-05: the header of a document counts like that of any answer."""
    response = found()
    for octets, passes in ((1024, True), (1025, False)):
        padding = octets - len("Content-Type") - len("application/json") - len("X")
        answer = attrs.evolve(response, headers=(*response.headers, ("X", "y" * padding)))
        current = Discovery(ISSUER, limits=Limits(headers=1024))
        if passes:
            assert result(current, answer).issuer == ISSUER
        else:
            assert "header fields larger than 1024 octets" in str(failure(current, answer))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_provider_is_busy(status: int) -> None:
    """A provider that cannot answer now has not answered "no"; nothing is looked for elsewhere."""
    error = failure(Discovery(ISSUER), reply(status))
    assert isinstance(error, ProviderUnavailable)
    assert (error.status, error.reason) == (status, f"status {status}")
    assert f"{metadata_urls(ISSUER)[0]}: status {status}" in str(error)
    assert error.retry_after is None


@pytest.mark.parametrize(
    "issuer",
    [f"{ISSUER}/", "https://SERVER.example.com", f"{ISSUER}:443", "https://other.example", 5, [ISSUER]],
)
def test_issuer_has_to_be_the_same(issuer: object) -> None:
    """DISC-05: compared code point by code point; the document of another issuer is not used."""
    error = failure(Discovery(ISSUER), found({**DOCUMENT, "issuer": issuer}))
    assert isinstance(error, RemoteProtocolError)
    assert "not the one that was asked for" in str(error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body": b"[]"}, "not an object"),
        ({"body": b'{"issuer":"a","issuer":"b"}'}, "repeated member"),
        ({"body": b'{"a":' * 33 + b"1" + b"}" * 33}, "nested too deeply"),
        ({"body": b" " * 5001}, "larger than 5000 octets"),
    ],
    ids=str,
)
def test_bad_documents(changes: dict[str, Any], message: str) -> None:
    """DISC-04, -12, HTTP-05: a document that breaks the rules is refused; the next place is not tried."""
    current = Discovery(ISSUER, limits=Limits(body=5000)).start(NOW)
    ended = current.operation.proceed(ResponseReceived(1, found(**changes), 0.1), NOW)
    assert isinstance(ended.error, RemoteProtocolError)
    assert message in str(ended.error)
    assert ended.error.endpoint is Endpoint.METADATA


@pytest.mark.parametrize("media_type", [None, "text/plain", "text/html", "application/octet-stream"])
@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_body_decides(media_type: str | None, status: int, mark: bytes) -> None:
    """DISC-04: what the document is said to be is no matter, and is noted."""
    response = found(status=status, body=mark + json.dumps(DOCUMENT).encode(), media_type=media_type)
    ended = feed(Discovery(ISSUER).start(NOW), response)
    assert ended.result == result(Discovery(ISSUER), found())
    assert len(ended.events) == 1 + (status != 200) + bool(mark)


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xef\xbb\xbf\xef\xbb\xbf{}"])
@pytest.mark.parametrize("media_type", ["text/html", "application/json", None])
def test_a_page_is_no_document(body: bytes, media_type: str | None) -> None:
    """DISC-12: a place that has a page, as some sites do everywhere, has no document; the next one may."""
    page = reply(200, body, media_type=media_type)
    assert result(Discovery(ISSUER), page, found()).issuer == ISSUER
    error = failure(Discovery(ISSUER), page)
    assert str(error).count("status 200 with a body that is not JSON") == 2


def test_metadata_that_lies_elsewhere() -> None:
    """DISC-05: one place, which is asked; the issuer in the document has to be the one all the same."""
    elsewhere = Discovery(ISSUER, metadata_url="https://internal.example/oidc?tenant=1")
    assert sent(elsewhere.start(NOW)).url == "https://internal.example/oidc?tenant=1"
    assert result(elsewhere, found()).issuer == ISSUER
    error = failure(elsewhere, found({**DOCUMENT, "issuer": "https://internal.example"}))
    assert isinstance(error, RemoteProtocolError)
    assert str(error).count("https://internal.example/oidc?tenant=1: status 404") == 0
    assert "https://internal.example/oidc?tenant=1: status 404" in str(failure(elsewhere, reply(404)))


@pytest.mark.parametrize("url", ["http://internal.example", "internal.example", "", 5])
def test_bad_places(url: Any) -> None:
    """DISC-06: as for the issuer: found out before anything is sent."""
    with pytest.raises(LocalProtocolError, match=r"^metadata_url must"):
        Discovery(ISSUER, metadata_url=url)


@pytest.mark.parametrize(
    ("issuer", "shown"),
    [
        (f"{ISSUER}/", f"'{ISSUER}/'"),
        ("https://op.example\nforged: line", "(no URL)"),
        (f"{ISSUER}/{257 * 'x'}", "(no URL)"),
        ("s3cret", "(no URL)"),
        (5, "(no URL)"),
    ],
)
def test_both_issuers_are_named(issuer: object, shown: str) -> None:
    """DISC-05: a slash too many is found by who sees both; what cannot be shown is not."""
    message = str(failure(Discovery(ISSUER), found({**DOCUMENT, "issuer": issuer})))
    assert f"{shown}, is not the one that was asked for, '{ISSUER}'" in message
    missing = str(failure(Discovery(ISSUER), found(without(DOCUMENT, "issuer"))))
    assert f"issuer is missing in the document; '{ISSUER}' was asked for" in missing


def test_another_issuer_in_id_tokens() -> None:
    """IDT-03: it is set by hand, exactly, and is no part of the document."""
    document = result(Discovery(ISSUER), found({**DOCUMENT, "expected_issuer": "https://evil.example"}))
    assert document.provider().token_issuer == ISSUER
    assert document.provider(expected_issuer="accounts.example").token_issuer == "accounts.example"
    assert document.provider(expected_issuer="accounts.example").issuer == ISSUER


def test_size_limit_is_exact() -> None:
    """DISC-12: a document of just the allowed size passes."""
    body = json.dumps(DOCUMENT).ljust(5000)
    assert result(Discovery(ISSUER, limits=Limits(body=5000)), found(body=body)).issuer == ISSUER


@pytest.mark.parametrize(
    "issuer",
    ["http://server.example.com", f"{ISSUER}?a", f"{ISSUER}#f", "server.example.com", "", "http://localhost"],
)
def test_bad_issuers(issuer: str) -> None:
    """DISC-06: https, no query, no fragment; found out before anything is sent."""
    with pytest.raises(LocalProtocolError, match=r"^issuer must"):
        Discovery(issuer)


def test_loopback_flag_is_a_flag() -> None:
    """OPM-08: only True switches the protection off."""
    with pytest.raises(TypeError, match="allow_loopback_http must be bool"):
        Discovery(ISSUER, allow_loopback_http="yes")  # type: ignore[arg-type]


def test_a_redirect_is_what_is_told() -> None:
    """A redirect is not followed, and not forgotten when the other places have no document either."""
    moved = HttpResponse(301, (("Location", "https://elsewhere.example"),), b"")
    error = failure(Discovery("https://op.example"), moved, HttpResponse(404, (), b""))
    assert isinstance(error, RemoteProtocolError)
    assert "a redirect with status 301, which is not followed" in str(error)


@pytest.mark.parametrize("delivery", list(Delivery))
def test_no_answer(delivery: Delivery) -> None:
    """DISC-12: what the network does ends the discovery; the error says at which place, and what came before."""
    first, second = metadata_urls(ISSUER)
    current = Discovery(ISSUER).start(NOW)
    current = current.operation.proceed(ResponseReceived(1, reply(404), 0.1), NOW)
    ended = current.operation.proceed(RequestFailed(2, delivery, "ConnectError", 0.1), NOW)
    assert isinstance(ended.error, TransportError)
    assert ended.error.reason == "ConnectError"
    assert f"{first}: status 404; {second}: " in str(ended.error)


def test_a_discovery_is_given_up() -> None:
    """Like every operation, at any point."""
    ended = Discovery(ISSUER).start(NOW).operation.proceed(Cancel(), NOW)
    assert isinstance(ended.error, TransportError)
    assert (ended.error.reason, ended.is_finished) == ("cancelled", True)


def test_header_fields_of_the_clients_own() -> None:
    """A gateway in front of the provider wants its key here, too; another host gets it only by name."""

    def fields(context: HeaderContext) -> dict[str, Secret | str]:
        return {"X-Key": f"{context.purpose.value} {context.url} {context.entropy(1).hex()}"}

    elsewhere = "https://elsewhere.example/metadata"
    for more, goes in (
        ({}, True),
        ({"metadata_url": elsewhere}, False),
        ({"metadata_url": elsewhere, "headers_to": ["elsewhere.example"]}, True),
    ):
        discovery = attrs.evolve(Discovery(ISSUER, headers=fields, entropy=bytes), **more)
        request = sent(discovery.start(NOW))
        own = [value for name, value in request.headers if name == "X-Key"]
        assert own == ([f"provider metadata {request.url} 00"] if goes else [])
    with pytest.raises(ValueError, match=r"^headers: Cookie belongs to"):
        Discovery(ISSUER, headers={"Cookie": "x"})
