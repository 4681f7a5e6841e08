from __future__ import annotations

from typing import Any

import attrs
import pytest

from ciba_core import (
    ClientSecretPost,
    MetadataDocument,
    NoClientAuthentication,
    ProviderMetadata,
    metadata_urls,
)
from ciba_core.errors import Endpoint, LocalProtocolError, RemoteProtocolError
from ciba_core.provider.fit import check_fit
from ciba_core.values.json import freeze_object
from tests.samples import CLIENT, REQUEST, without

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
    """DISC: what `ProviderMetadata` has a field for is read; what the client decides is not."""
    values: dict[str, Any] = {"bool": True, "str": "https://op.example/x", "tuple": ["a"], "Mapping": {}}
    whole = {
        each.name: values[next(kind for kind in values if str(each.type).startswith(kind))]
        for each in attrs.fields(ProviderMetadata)
    }
    assert len(whole) > 15
    metadata = ProviderMetadata.from_document(whole)
    for name, value in whole.items():
        read = getattr(metadata, name)
        by_hand: dict[str, object] = {"allow_loopback_http": False, "expected_issuer": None}
        assert read == by_hand.get(name, tuple(value) if value == ["a"] else value)


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


@pytest.mark.parametrize("name", ["jwks_uri", "userinfo_endpoint", "revocation_endpoint"])
@pytest.mark.parametrize("value", [None, ""])
def test_endpoints_that_are_empty(name: str, value: object) -> None:
    """RFC 8414 2: a member that is null or empty names no endpoint."""
    assert getattr(ProviderMetadata.from_document({**DOCUMENT, name: value}), name) is None
