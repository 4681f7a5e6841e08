"""Whether a provider can do what a request asks for, as far as its metadata tells."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    ClientSecretPost,
    IdTokenPolicy,
    PrivateKeyJwt,
    ProviderMetadata,
    RemoteSigner,
    RequestSigning,
    Shared,
    Transaction,
    step,
)
from ciba_core.errors import LocalProtocolError
from ciba_core.jose.keys import KeySet
from ciba_core.provider.fit import check_fit
from tests.jwt_samples import FAPI_SIGNER, opened
from tests.made_keys import import_key
from tests.samples import CLIENT, NOW, PROVIDER, PUBLIC_JWK

ONE = {"type": "a"}


def request(**changes: Any) -> AuthenticationRequest:
    arguments: dict[str, Any] = {"scope": "openid", "login_hint": "alice"}
    return AuthenticationRequest(**(arguments | changes))


@pytest.mark.parametrize(
    ("provider", "changes"),
    [
        ({}, {"user_code": "1", "claims": {}, "authorization_details": [ONE]}),
        ({"backchannel_token_delivery_modes_supported": ["ping", "poll"]}, {}),
        ({"token_endpoint_auth_methods_supported": ["client_secret_basic"]}, {}),
        ({"backchannel_user_code_parameter_supported": False}, {}),
        ({"backchannel_user_code_parameter_supported": True}, {"user_code": "1"}),
        ({"claims_parameter_supported": False}, {}),
        ({"claims_parameter_supported": True}, {"claims": {}}),
        ({"authorization_details_types_supported": []}, {}),
        ({"authorization_details_types_supported": ["a", "b"]}, {"authorization_details": [ONE]}),
    ],
    ids=str,
)
def test_supported(provider: dict[str, Any], changes: dict[str, Any]) -> None:
    """OPM-07: what the metadata names, or does not speak of, is not refused."""
    check_fit(request(**changes), CLIENT, attrs.evolve(PROVIDER, **provider))


@pytest.mark.parametrize(
    ("provider", "changes", "name"),
    [
        ({"backchannel_token_delivery_modes_supported": ["ping"]}, {}, "backchannel_token_delivery_mode"),
        ({"backchannel_token_delivery_modes_supported": []}, {}, "backchannel_token_delivery_mode"),
        ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, {}, "authentication"),
        ({"backchannel_user_code_parameter_supported": False}, {"user_code": "hush"}, "user_code"),
        ({"claims_parameter_supported": False}, {"claims": {"hush": None}}, "claims"),
        (
            {"authorization_details_types_supported": ["b"]},
            {"authorization_details": [ONE]},
            "authorization_details",
        ),
        (
            {"authorization_details_types_supported": ["a"]},
            {"authorization_details": [ONE, {"type": "hush"}]},
            "authorization_details",
        ),
    ],
    ids=str,
)
def test_not_supported(provider: dict[str, Any], changes: dict[str, Any], name: str) -> None:
    """OPM-06, -07, CLM-03, RAR-09, CIBA-7.1-24: what the provider says it cannot do is refused before any I/O."""
    with pytest.raises(LocalProtocolError, match=f"^{name}: the provider does not support") as caught:
        check_fit(request(**changes), CLIENT, attrs.evolve(PROVIDER, **provider))
    assert "hush" not in str(caught.value)


JWT = attrs.evolve(CLIENT, authentication=PrivateKeyJwt(FAPI_SIGNER))
SIGNING = attrs.evolve(CLIENT, request_signing=RequestSigning(FAPI_SIGNER))
DPOP = attrs.evolve(CLIENT, dpop_bound_access_tokens=True)
HMAC = attrs.evolve(
    CLIENT,
    authentication=ClientSecretPost("a secret that is long enough for HS256"),
    id_token=IdTokenPolicy(signed_response_alg="HS256"),
)
ALGORITHMS = [
    (JWT, "token_endpoint_auth_signing_alg_values_supported", "ES256", "authentication"),
    (
        SIGNING,
        "backchannel_authentication_request_signing_alg_values_supported",
        "ES256",
        "request_signing",
    ),
    (DPOP, "dpop_signing_alg_values_supported", "ES256", "dpop_bound_access_tokens"),
    (CLIENT, "id_token_signing_alg_values_supported", "Ed25519", "id_token"),
    (CLIENT, "id_token_signing_alg_values_supported", "EdDSA", "id_token"),
    (HMAC, "id_token_signing_alg_values_supported", "HS256", "id_token"),
]


@pytest.mark.parametrize(("client", "member", "alg", "setting"), ALGORITHMS, ids=str)
def test_algorithms_are_those_of_the_provider(
    client: ClientConfig, member: str, alg: str, setting: str
) -> None:
    """CIBA-7.1.1-10, AUTH-22, DPOP-12, IDT-08: an algorithm that is not on the list is refused before any I/O."""
    good: tuple[Any, ...] = (None, (alg,), ("PS256", alg))
    for supported in good:
        check_fit(request(), client, attrs.evolve(PROVIDER, **{member: supported}))
    bad: tuple[Any, ...] = ((), ("PS256",), (alg.lower(),))
    for supported in bad:
        with pytest.raises(
            LocalProtocolError, match=rf"^{setting}: the provider does not support .*{member}"
        ):
            check_fit(request(), client, attrs.evolve(PROVIDER, **{member: supported}))


ED25519 = RemoteSigner("x", alg="Ed25519")


@pytest.mark.parametrize(
    ("listed", "name"), [(("EdDSA",), "EdDSA"), (("Ed25519",), "Ed25519"), (None, "Ed25519")]
)
def test_an_algorithm_goes_by_the_name_that_the_provider_knows(
    listed: tuple[str, ...] | None, name: str
) -> None:
    """AUTH-22, REG-07, CIBA-7.1.1-10: what was checked against the lists is what the headers say."""
    client = attrs.evolve(
        CLIENT, authentication=PrivateKeyJwt(ED25519), request_signing=RequestSigning(ED25519)
    )
    provider = attrs.evolve(
        PROVIDER,
        token_endpoint_auth_signing_alg_values_supported=listed,
        backchannel_authentication_request_signing_alg_values_supported=listed,
    )
    draft = step(Transaction(client=client, provider=provider), Begin(request()), NOW).draft
    assert draft is not None
    assert [of for of, _ in draft.unsigned] == ["request", "client_assertion"]
    assert [opened(jwt)[0]["alg"] for jwt in draft.jwts] == [name, name]


def test_keys_are_needed_for_id_tokens_only() -> None:
    """DISC-10, IDT-09: without ``jwks_uri`` an ID Token could not be validated, but for one that has no key."""
    provider = attrs.evolve(PROVIDER, jwks_uri=None, id_token_signing_alg_values_supported=("HS256",))
    check_fit(request(), HMAC, provider)
    check_fit(request(scope="email", openid=False), CLIENT, provider)
    with pytest.raises(LocalProtocolError, match=r"^id_token: "):
        check_fit(request(), CLIENT, provider)
    with pytest.raises(LocalProtocolError, match=r"^jwks_uri: "):
        check_fit(request(), CLIENT, attrs.evolve(PROVIDER, jwks_uri=None))


def test_authentication_method_is_the_clients_own() -> None:
    """OPM-06: the method that counts is that of the configuration."""
    provider = attrs.evolve(PROVIDER, token_endpoint_auth_methods_supported=["client_secret_post"])
    check_fit(request(), attrs.evolve(CLIENT, authentication=ClientSecretPost("x")), provider)
    with pytest.raises(LocalProtocolError, match="'client_secret_basic'"):
        check_fit(request(), CLIENT, provider)


def evolved(changes: dict[str, Any]) -> ProviderMetadata:
    return attrs.evolve(PROVIDER, **changes)


ENCRYPTED = attrs.evolve(
    CLIENT,
    id_token=IdTokenPolicy(
        signed_response_alg="Ed25519", encrypted_response_alg="A128KW", encrypted_response_enc="A128GCM"
    ),
)


@pytest.mark.parametrize(
    ("member", "alg"),
    [
        ("id_token_encryption_alg_values_supported", "A128KW"),
        ("id_token_encryption_enc_values_supported", "A128GCM"),
    ],
)
def test_encryption_that_the_provider_does_not_do(member: str, alg: str) -> None:
    """OpenID Connect Discovery 3: told before anybody is asked; what the metadata does not say is no matter."""
    no, yes, other = ({member: listed} for listed in (None, [alg, "other"], ["other"]))
    for listed in (no, yes):
        check_fit(request(), ENCRYPTED, evolved(listed))
    provider = evolved(other)
    with pytest.raises(
        LocalProtocolError, match=rf"^id_token: the provider does not support {alg} \({member}"
    ):
        check_fit(request(), ENCRYPTED, provider)
    check_fit(request(), CLIENT, provider)
    check_fit(request(scope="payments", openid=False), ENCRYPTED, provider)


def key_set(*jwks: Any, fresh_until: float = NOW + 60) -> KeySet:
    return KeySet(keys=tuple(map(import_key, jwks)), fetched_at=NOW, fresh_until=fresh_until)


def test_no_key_that_could_fit() -> None:
    """OIDC Core 10.1: of a key set that is known, one key has to go with the algorithm of the ID Tokens."""
    for alg in ("Ed25519", "EdDSA"):
        client = attrs.evolve(CLIENT, id_token=IdTokenPolicy(signed_response_alg=alg))
        check_fit(request(), client, PROVIDER, keys=key_set(PUBLIC_JWK))
        check_fit(request(), client, PROVIDER)
    other = attrs.evolve(CLIENT, id_token=IdTokenPolicy(signed_response_alg="RS256"))
    for keys in (key_set(PUBLIC_JWK), key_set()):
        with pytest.raises(LocalProtocolError, match=r"^id_token: the provider publishes no key for RS256"):
            check_fit(request(), other, PROVIDER, keys=keys)
        check_fit(request(scope="payments", openid=False), other, PROVIDER, keys=keys)
    secret = attrs.evolve(
        CLIENT, authentication=ClientSecretPost("x" * 32), id_token=IdTokenPolicy(signed_response_alg="HS256")
    )
    check_fit(request(), secret, PROVIDER, keys=key_set())


def test_a_transaction_looks_at_the_keys_that_are_fresh() -> None:
    """Keys that may have changed since rule nothing out; those that are known and fresh do, before the request."""
    tx = Transaction(client=CLIENT, provider=PROVIDER)
    stale = Shared(keys=key_set(fresh_until=NOW - 1))
    assert step(tx, Begin(request()), NOW, stale).request is not None
    with pytest.raises(LocalProtocolError, match=r"^id_token: the provider publishes no key"):
        step(tx, Begin(request()), NOW, Shared(keys=key_set()))
