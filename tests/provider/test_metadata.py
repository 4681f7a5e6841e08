from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from ciba_core import (
    ClientSecretPost,
    Discovery,
    HttpResponse,
    Limits,
    MetadataDocument,
    NoClientAuthentication,
    ProviderMetadata,
    Purpose,
    metadata_urls,
)
from ciba_core.errors import Endpoint, LocalProtocolError, ProviderUnavailable, RemoteProtocolError
from ciba_core.provider.fit import check_fit
from ciba_core.values.json import freeze_object
from tests.samples import CLIENT, NOW, REQUEST, reply, without

ISSUER = "https://server.example.com"
DOCUMENT: dict[str, object] = {
    "issuer": ISSUER,
    "token_endpoint": f"{ISSUER}/token",
    "backchannel_authentication_endpoint": f"{ISSUER}/bc-authorize",
    "jwks_uri": f"{ISSUER}/jwks",
    "backchannel_token_delivery_modes_supported": ["poll", "ping"],
    "backchannel_user_code_parameter_supported": True,
    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    "authorization_details_types_supported": ["payment_initiation"],
    "claims_parameter_supported": True,
    "unknown_member": {"a": [1]},
}
SIGNING = "backchannel_authentication_request_signing_alg_values_supported"
REQUIRED = ("issuer", "token_endpoint", "backchannel_authentication_endpoint")


@pytest.mark.parametrize(
    ("issuer", "openid", "oauth"),
    [
        ("https://example.com", "https://example.com/{o}", "https://example.com/{a}"),
        ("https://example.com/", "https://example.com/{o}", "https://example.com/{a}"),
        ("https://example.com/issuer1", "https://example.com/issuer1/{o}", "https://example.com/{a}/issuer1"),
        ("https://example.com/a/b/", "https://example.com/a/b/{o}", "https://example.com/{a}/a/b"),
        ("https://example.com:8443/t", "https://example.com:8443/t/{o}", "https://example.com:8443/{a}/t"),
        ("https://example.com/a//", "https://example.com/a//{o}", "https://example.com/{a}/a/"),
    ],
)
def test_metadata_urls(issuer: str, openid: str, oauth: str) -> None:
    """VEC-DER-08, DISC-01, -02: append for OpenID, insert for RFC 8414, one terminating slash removed."""
    names = {"o": ".well-known/openid-configuration", "a": ".well-known/oauth-authorization-server"}
    assert metadata_urls(issuer)[:2] == (openid.format(**names), oauth.format(**names))


def test_the_openid_document_may_be_inserted_too() -> None:
    """DISC-03: for an issuer with a path both forms of the OpenID document are tried; without one, no more."""
    assert metadata_urls("https://example.com/a/")[2:] == (
        "https://example.com/.well-known/openid-configuration/a",
    )
    assert len(metadata_urls("https://example.com/")) == 2


def test_document_to_metadata() -> None:
    """OPM-01..09: members of the document are taken over, arrays as tuples, unknown members ignored."""
    assert ProviderMetadata.from_document(DOCUMENT) == ProviderMetadata(
        issuer=ISSUER,
        token_endpoint=f"{ISSUER}/token",
        backchannel_authentication_endpoint=f"{ISSUER}/bc-authorize",
        jwks_uri=f"{ISSUER}/jwks",
        backchannel_token_delivery_modes_supported=("poll", "ping"),
        backchannel_user_code_parameter_supported=True,
        token_endpoint_auth_methods_supported=("client_secret_basic",),
        authorization_details_types_supported=("payment_initiation",),
        claims_parameter_supported=True,
        backchannel_authentication_request_signing_alg_values_supported=(),
        tls_client_certificate_bound_access_tokens=False,
    )


def test_every_field_is_a_member_of_the_document() -> None:
    """DISC: what `ProviderMetadata` has a field for is read; whether plain ``http`` will do is not the document's."""
    values: dict[str, Any] = {"bool": True, "str": "https://op.example/x", "tuple": ["a"], "Mapping": {}}
    whole = {
        each.name: values[next(kind for kind in values if str(each.type).startswith(kind))]
        for each in attrs.fields(ProviderMetadata)
    }
    assert len(whole) > 15
    metadata = ProviderMetadata.from_document(whole)
    for name, value in whole.items():
        read = getattr(metadata, name)
        assert read == (False if name == "allow_loopback_http" else tuple(value) if value == ["a"] else value)


def test_no_aliases_written_as_an_empty_array() -> None:
    """RFC 8705 5: some languages write an object without members so; one with something in it is no object."""
    empty = ProviderMetadata.from_document({**DOCUMENT, "mtls_endpoint_aliases": []})
    assert empty == ProviderMetadata.from_document(DOCUMENT)
    assert (
        MetadataDocument(
            "https://op.example", freeze_object({**DOCUMENT, "mtls_endpoint_aliases": []}), False
        ).provider()
        == empty
    )
    with pytest.raises(RemoteProtocolError, match="mtls_endpoint_aliases must be an object"):
        ProviderMetadata.from_document({**DOCUMENT, "mtls_endpoint_aliases": ["https://op.example"]})


def test_the_least_document() -> None:
    """DISC-09, -10, -11, OPM-04, AUTH-03, CLM-03, MTLS-06: three members are enough; what the standards have a
    default for has it, and nothing else is said."""
    least = {name: DOCUMENT[name] for name in REQUIRED}
    metadata = ProviderMetadata.from_document(least)
    assert metadata == ProviderMetadata.from_document(least | dict.fromkeys(without(DOCUMENT, *REQUIRED)))
    defaults: dict[str, object] = {
        SIGNING: (),
        "allow_loopback_http": False,
        "backchannel_user_code_parameter_supported": False,
        "claims_parameter_supported": False,
        "mtls_endpoint_aliases": {},
        "tls_client_certificate_bound_access_tokens": False,
        "token_endpoint_auth_methods_supported": ("client_secret_basic",),
    }
    known = {
        name: value for name, value in attrs.asdict(metadata, recurse=False).items() if value is not None
    }
    assert known == least | defaults


def test_no_method_but_the_default_where_none_is_listed() -> None:
    """AUTH-03, AUTH-05, DISC-09: neither an unlisted method nor ``none`` is used unless the provider names it."""
    least = ProviderMetadata.from_document({name: DOCUMENT[name] for name in (*REQUIRED, "jwks_uri")})
    check_fit(REQUEST, CLIENT, least)
    for method in (NoClientAuthentication(), ClientSecretPost("x")):
        client = attrs.evolve(CLIENT, authentication=method)
        with pytest.raises(LocalProtocolError, match=r"^authentication: the provider does not support"):
            check_fit(REQUEST, client, least)
        named = attrs.evolve(least, token_endpoint_auth_methods_supported=[method.method])
        check_fit(REQUEST, client, named)


def test_metadata_given_by_hand_says_nothing_about_what_is_left_out() -> None:
    """OPM-07: nothing is refused on account of what a hand-written configuration does not mention."""
    metadata = ProviderMetadata(
        issuer=ISSUER, token_endpoint=f"{ISSUER}/t", backchannel_authentication_endpoint=f"{ISSUER}/b"
    )
    assert metadata.backchannel_user_code_parameter_supported is None
    assert metadata.backchannel_token_delivery_modes_supported is None


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("members", [{}, None], ids=["absent", "null"])
def test_required_members(name: str, members: dict[str, object] | None) -> None:
    """OPM-02, DISC-10: without issuer and the two endpoints there is no CIBA; the message names the member."""
    document = without(DOCUMENT, name) if members is not None else {**DOCUMENT, name: None}
    with pytest.raises(RemoteProtocolError, match=f"{name} is missing") as caught:
        ProviderMetadata.from_document(document)
    assert caught.value.endpoint is Endpoint.METADATA
    assert caught.value.rule == ("CIBA Core 4" if name.startswith("backchannel") else "RFC 8414 2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in REQUIRED for value in ("http://server.example.com/", "/token", 5, ["x"])),
        ("issuer", "https://server.example.com?a=b"),
        ("issuer", "https://server.example.com#f"),
        ("jwks_uri", "http://server.example.com/"),
        ("jwks_uri", 5),
        *(
            (name, value)
            for name in (
                "backchannel_token_delivery_modes_supported",
                "token_endpoint_auth_methods_supported",
                "authorization_details_types_supported",
            )
            for value in ("poll", 5, True, {"poll": 1}, ["poll", 1], [None])
        ),
        ("backchannel_user_code_parameter_supported", "true"),
        ("backchannel_user_code_parameter_supported", 1),
        ("claims_parameter_supported", "no"),
    ],
    ids=str,
)
def test_wrong_members(name: str, value: object) -> None:
    """OPM-08, RFC 8414 2: a member of the wrong type or scheme is the provider's fault, and named."""
    with pytest.raises(RemoteProtocolError, match=f"provider metadata: {name} ") as caught:
        ProviderMetadata.from_document({**DOCUMENT, name: value})
    assert caught.value.rule == "RFC 8414 2"
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("token_endpoint", "http://server.example.com", ValueError),
        ("token_endpoint", None, ValueError),
        ("jwks_uri", "ftp://server.example.com", ValueError),
        ("claims_parameter_supported", 1, TypeError),
        ("token_endpoint_auth_methods_supported", "none", TypeError),
        ("allow_loopback_http", 1, TypeError),
    ],
)
def test_wrong_arguments(name: str, value: Any, error: type[Exception]) -> None:
    """Metadata given by hand is checked like a document, with the exceptions of a constructor."""
    arguments: dict[str, Any] = dict.fromkeys(REQUIRED, ISSUER)
    with pytest.raises(error, match=f"^{name} must"):
        ProviderMetadata(**(arguments | {name: value}))


def test_loopback_for_development() -> None:
    """OPM-08: plain http to this machine has to be asked for, and is for this machine only."""
    local: dict[str, str] = dict.fromkeys(REQUIRED, "http://127.0.0.1:8080")
    assert ProviderMetadata.from_document(local, allow_loopback_http=True).issuer == "http://127.0.0.1:8080"
    with pytest.raises(RemoteProtocolError):
        ProviderMetadata.from_document(local)
    with pytest.raises(RemoteProtocolError):
        ProviderMetadata.from_document(local | {"jwks_uri": "http://op.example"}, allow_loopback_http=True)


# ---- discovery


def found(document: object = DOCUMENT, **changes: Any) -> HttpResponse:
    arguments: dict[str, Any] = {
        "status": 200,
        "body": json.dumps(document),
        "media_type": "application/json",
    }
    return reply(**(arguments | changes))


def test_request_for_metadata() -> None:
    """DISC-01: a GET without credentials, bounded in time and size."""
    request = Discovery(ISSUER, connect_timeout=3, timeout=4, limits=Limits(body=5000)).request
    assert request.id == 0
    assert request.purpose is Purpose.METADATA
    assert request.method == "GET"
    assert request.url == f"{ISSUER}/.well-known/openid-configuration"
    assert request.headers == (("Accept", "application/json"),)
    assert request.body == b""
    assert (request.connect_timeout, request.timeout, request.response_limit) == (3, 4, 5000)


def test_document_is_found() -> None:
    """DISC-04, OPM-11: every member as published, unknown ones included, and read-only."""
    document = Discovery(ISSUER).answered(found(), NOW)
    assert isinstance(document, MetadataDocument)
    assert document.issuer == ISSUER
    assert document.members["unknown_member"] == {"a": (1,)}
    assert document.provider() == ProviderMetadata.from_document(DOCUMENT)
    assert "unknown_member" not in repr(document)


def test_loopback_carries_over() -> None:
    """OPM-08: what was allowed for the discovery is allowed for what it finds, and only then."""
    issuer = "http://localhost:8080"
    document = Discovery(issuer, allow_loopback_http=True).answered(
        found(dict.fromkeys(REQUIRED, issuer)), NOW
    )
    assert isinstance(document, MetadataDocument)
    assert document.provider().allow_loopback_http


@pytest.mark.parametrize("status", [204, 301, 302, 400, 401, 403, 404, 405, 410])
def test_next_place_is_tried(status: int) -> None:
    """DISC-02, -03, -12: what is not there is looked for elsewhere; redirects are not followed."""
    current: Discovery | MetadataDocument = Discovery("https://example.com/a", timeout=4)
    urls: list[str] = []
    for number in range(2):
        assert isinstance(current, Discovery)
        assert current.request.id == number
        assert current.timeout == 4
        urls.append(current.request.url)
        current = current.answered(reply(status, b"", ("Location", "https://evil.example/")), NOW)
    assert isinstance(current, Discovery)
    urls.append(current.request.url)
    assert tuple(urls) == metadata_urls("https://example.com/a")
    with pytest.raises(RemoteProtocolError, match=rf"no document.* status {status}") as caught:
        current.answered(reply(status), NOW)
    assert caught.value.rule == "RFC 8414 3.2"


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
    with pytest.raises(ProviderUnavailable) as caught:
        Discovery(ISSUER).answered(reply(429, b"", *headers), NOW)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("connect_timeout", -1, ValueError),
        ("connect_timeout", None, TypeError),
        ("timeout", "x", TypeError),
        ("timeout", 3601, ValueError),
        ("limits", 5000, TypeError),
        ("attempt", 3, ValueError),
        ("attempt", "0", TypeError),
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
            assert isinstance(current.answered(answer, NOW), MetadataDocument)
        else:
            with pytest.raises(RemoteProtocolError, match="header fields larger than 1024 octets"):
                current.answered(answer, NOW)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_provider_is_busy(status: int) -> None:
    """A provider that cannot answer now has not answered "no"; nothing is looked for elsewhere."""
    with pytest.raises(ProviderUnavailable) as caught:
        Discovery(ISSUER).answered(reply(status), NOW)
    assert (caught.value.status, caught.value.reason) == (status, f"status {status}")
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    "issuer",
    [f"{ISSUER}/", "https://SERVER.example.com", f"{ISSUER}:443", "https://other.example", None, 5, [ISSUER]],
)
def test_issuer_has_to_be_the_same(issuer: object) -> None:
    """DISC-05: compared code point by code point; the document of another issuer is not used."""
    with pytest.raises(RemoteProtocolError, match="not the one that was asked for"):
        Discovery(ISSUER).answered(found({**DOCUMENT, "issuer": issuer}), NOW)
    with pytest.raises(RemoteProtocolError, match="not the one that was asked for"):
        Discovery(ISSUER).answered(found(without(DOCUMENT, "issuer")), NOW)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body": b"<html>"}, "not JSON"),
        ({"body": b"<html>", "media_type": "text/html"}, "not JSON"),
        ({"body": 2 * b"\xef\xbb\xbf" + b'{"issuer":"x"}'}, "not JSON"),
        ({"body": b"[]"}, "not an object"),
        ({"body": b'{"issuer":"a","issuer":"b"}'}, "repeated member"),
        ({"body": b'{"a":' * 33 + b"1" + b"}" * 33}, "nested too deeply"),
        ({"body": b" " * 5001}, "larger than 5000 octets"),
    ],
    ids=str,
)
def test_bad_documents(changes: dict[str, Any], message: str) -> None:
    """DISC-04, -12, HTTP-05: a document that breaks the rules is refused; the next place is not tried."""
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        Discovery(ISSUER, limits=Limits(body=5000)).answered(found(**changes), NOW)
    assert caught.value.endpoint is Endpoint.METADATA


@pytest.mark.parametrize("media_type", [None, "text/plain", "text/html", "application/octet-stream"])
@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_body_decides(media_type: str | None, status: int, mark: bytes) -> None:
    """DISC-04: what the document is said to be is no matter; it is JSON of this issuer, or it is not."""
    response = found(status=status, body=mark + json.dumps(DOCUMENT).encode(), media_type=media_type)
    document = Discovery(ISSUER).answered(response, NOW)
    assert document == Discovery(ISSUER).answered(found(), NOW)
    assert isinstance(document, MetadataDocument)


@pytest.mark.parametrize("name", ["jwks_uri", "userinfo_endpoint", "revocation_endpoint"])
@pytest.mark.parametrize("value", [None, ""])
def test_endpoints_that_are_empty(name: str, value: object) -> None:
    """RFC 8414 2: a member that is null or empty names no endpoint."""
    assert getattr(ProviderMetadata.from_document({**DOCUMENT, name: value}), name) is None


def test_size_limit_is_exact() -> None:
    """DISC-12: a document of just the allowed size passes."""
    body = json.dumps(DOCUMENT).ljust(5000)
    assert isinstance(
        Discovery(ISSUER, limits=Limits(body=5000)).answered(found(body=body), NOW), MetadataDocument
    )


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


@pytest.mark.parametrize(
    ("aliases", "error"),
    [
        ([], TypeError),
        ("https://mtls.example", TypeError),
        ({"token_endpoint": "http://mtls.example/token"}, ValueError),
        ({"token_endpoint": 5}, ValueError),
    ],
)
def test_bad_aliases(aliases: Any, error: type[Exception]) -> None:
    """MTLS-05: an alias is an endpoint like any other, and credentials are not sent in the clear."""
    with pytest.raises(error, match=r"^mtls_endpoint_aliases"):
        ProviderMetadata(
            issuer=ISSUER,
            token_endpoint=f"{ISSUER}/token",
            backchannel_authentication_endpoint=f"{ISSUER}/bc-authorize",
            mtls_endpoint_aliases=aliases,
        )


def test_aliases_of_what_is_not_known_do_no_harm() -> None:
    """MTLS-05: what a provider says of other endpoints is not looked at."""
    aliases = {"x_endpoint": "none", "token_endpoint": None}  # null is as good as none
    metadata = ProviderMetadata.from_document({**DOCUMENT, "mtls_endpoint_aliases": aliases})
    assert metadata.endpoint("token_endpoint", mutual_tls=True) == f"{ISSUER}/token"


def test_a_redirect_is_what_is_told() -> None:
    """A redirect is not followed, and not forgotten when the other places have no document either."""
    discovery = Discovery("https://op.example")
    following = discovery.answered(HttpResponse(301, (("Location", "https://elsewhere.example"),), b""), NOW)
    assert isinstance(following, Discovery)
    with pytest.raises(RemoteProtocolError, match="a redirect with status 301, which is not followed"):
        following.answered(HttpResponse(404, (), b""), NOW)
