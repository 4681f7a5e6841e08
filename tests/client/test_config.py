from __future__ import annotations

import math
from typing import Any

import pytest

from ciba_core import (
    ClientConfig,
    ClientSecretBasic,
    Credentials,
    CredentialsContext,
    IdTokenPolicy,
    Limits,
    NoClientAuthentication,
    PollingPolicy,
    UserInfoPolicy,
    profiles,
)


def test_defaults() -> None:
    """CIBA-10.1-08: two arguments are enough; the time-out leaves room for a long poll of 30 s."""
    client = ClientConfig("s6BhdRkqt3", ClientSecretBasic("x"))
    assert client.backchannel_token_delivery_mode == "poll"
    assert client.polling == PollingPolicy()
    assert client.limits == Limits(body=1 << 20, headers=64 << 10, json_depth=32, string=64 << 10)
    assert client.connect_timeout == 10
    assert client.timeout == 40
    assert len(client.entropy(16)) == 16
    assert client.entropy(16) != client.entropy(16)


@pytest.mark.parametrize(
    ("mode", "beside_ping", "needed"),
    [
        ("poll", False, False),
        ("poll", True, False),
        ("ping", False, True),
        ("ping", True, False),
        ("push", False, True),
        ("push", True, True),
    ],
)
def test_who_needs_callbacks(mode: Any, beside_ping: bool, needed: bool) -> None:
    """CIBA-5-01: without callbacks, only those get along who poll anyway."""
    client = ClientConfig(
        "me",
        ClientSecretBasic("x"),
        backchannel_token_delivery_mode=mode,
        polling=PollingPolicy(beside_ping=beside_ping),
    )
    assert client.needs_callbacks is needed


def test_equality_leaves_out_the_source_of_randomness() -> None:
    """Two configurations of one client are equal, whatever function hands out random octets."""
    first = ClientConfig("x", NoClientAuthentication(), entropy=bytes)
    assert first == ClientConfig("x", NoClientAuthentication(), entropy=lambda n: b"x" * n)
    assert first != ClientConfig("y", NoClientAuthentication(), entropy=bytes)
    assert "entropy" not in repr(first)


@pytest.mark.parametrize("name", ["body", "headers", "json_depth", "string"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (1 << 40, ValueError),
        (None, TypeError),
        (True, TypeError),
        (2048.0, TypeError),
        ("4096", TypeError),
    ],
)
def test_limits_are_whole_numbers_in_their_range(name: str, value: Any, error: type[Exception]) -> None:
    """HTTP-05: no limit can be switched off; the message names the limit."""
    with pytest.raises(error, match=f"^{name} must be"):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("body", 1024, 1 << 30), ("headers", 1024, 1 << 24), ("json_depth", 4, 128), ("string", 256, 1 << 24)],
)
def test_limits_take_their_bounds(name: str, low: int, high: int) -> None:
    """HTTP-05: both ends of a range are allowed, and nothing beyond."""
    for value in (low, high):
        assert getattr(Limits(**{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"^{name} must be from {low} to {high}$"):
            Limits(**{name: value})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": ""}, ValueError),
        ({"client_id": "a\nb"}, ValueError),
        ({"client_id": "\udfff"}, ValueError),
        ({"client_id": None}, TypeError),
        ({"client_id": 5}, TypeError),
        ({"authentication": None}, TypeError),
        ({"authentication": "client-secret"}, TypeError),
        ({"authentication": ClientSecretBasic}, TypeError),
        ({"backchannel_token_delivery_mode": "pull"}, ValueError),
        ({"backchannel_token_delivery_mode": None}, ValueError),
        ({"id_token": None}, TypeError),
        ({"id_token": IdTokenPolicy(signed_response_alg="HS256")}, ValueError),
        ({"request_signing": "ES256"}, TypeError),
        ({"dpop_bound_access_tokens": 1}, TypeError),
        ({"tls_client_certificate_bound_access_tokens": None}, TypeError),
        ({"profile": None}, TypeError),
        ({"profile": "Auth0"}, TypeError),
        ({"profile": profiles.FAPI_CIBA}, ValueError),
        ({"polling": None}, TypeError),
        ({"polling": 5}, TypeError),
        ({"limits": {}}, TypeError),
        ({"connect_timeout": 0}, ValueError),
        ({"connect_timeout": 3601}, ValueError),
        ({"connect_timeout": None}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": 3601}, ValueError),
        ({"timeout": math.nan}, ValueError),
        ({"timeout": "40"}, TypeError),
        ({"entropy": b"x"}, TypeError),
    ],
    ids=str,
)
def test_bad_configuration(changes: dict[str, Any], error: type[Exception]) -> None:
    """A mistake in the configuration shows at once; the message names the setting and no value of a secret."""
    arguments: dict[str, Any] = {"client_id": "x", "authentication": NoClientAuthentication()}
    with pytest.raises(error, match=next(iter(changes))) as caught:
        ClientConfig(**(arguments | changes))
    assert "client-secret" not in str(caught.value)


@pytest.mark.parametrize("mode", ["poll", "ping", "push"])
def test_delivery_modes(mode: Any) -> None:
    """CIBA Core 5: the three modes; a client is registered for one."""
    client = ClientConfig("x", NoClientAuthentication(), backchannel_token_delivery_mode=mode)
    assert client.backchannel_token_delivery_mode == mode
    assert ClientConfig("x", NoClientAuthentication()).backchannel_token_delivery_mode == "poll"


def test_any_object_with_the_function_is_a_method() -> None:
    """Embedders write client authentication methods of their own without a base class."""

    class Mine:
        method = "mine"
        signing_alg = None
        mutual_tls = False

        def credentials(self, context: CredentialsContext, /) -> Credentials:
            return Credentials(headers=(("X", context.client_id),))

    client = ClientConfig("x", Mine())
    assert client.authentication.method == "mine"


@pytest.mark.parametrize(("alg", "octets"), [("HS256", 32), ("HS384", 48), ("HS512", 64)], ids=str)
@pytest.mark.parametrize("policy", ["id_token", "userinfo"])
def test_a_secret_that_is_no_key(alg: str, octets: int, policy: str) -> None:
    """RFC 7518 3.2: told before anybody is asked, since no answer would pass; the secret does not show."""
    kind: Any = IdTokenPolicy if policy == "id_token" else UserInfoPolicy
    settings: dict[str, Any] = {policy: kind(signed_response_alg=alg)}
    ClientConfig("me", ClientSecretBasic("\u00e4" * (octets // 2)), **settings)
    with pytest.raises(
        ValueError, match=rf"^{policy}: a client secret of at least {octets} octets is needed for {alg}"
    ) as caught:
        ClientConfig("me", ClientSecretBasic("M" * (octets - 1)), **settings)
    assert "MM" not in str(caught.value)


@pytest.mark.parametrize("value", ["Public", "", 5])
def test_subject_types(value: Any) -> None:
    """OpenID Connect Core 8: there are two."""
    with pytest.raises(ValueError, match=r"^subject_type must be one of public, pairwise$"):
        ClientConfig("me", ClientSecretBasic("x"), subject_type=value)
