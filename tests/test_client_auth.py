from __future__ import annotations

import base64
from typing import Any

import pytest

from ciba_core import (
    ClientSecretBasic,
    ClientSecretPost,
    Credentials,
    CredentialsContext,
    NoClientAuthentication,
    Secret,
)

from .samples import NOW, zeros


def context(client_id: str = "s6BhdRkqt3") -> CredentialsContext:
    return CredentialsContext(client_id, "https://op.example", "https://op.example/token", NOW, zeros)


VECTORS = [
    ("s6BhdRkqt3", "gX1fBat3bV", "s6BhdRkqt3:gX1fBat3bV", "czZCaGRSa3F0MzpnWDFmQmF0M2JW"),
    (
        "s6BhdRkqt3",
        "7Fjfp0ZBr1KtDRbnfVdmIw",
        "s6BhdRkqt3:7Fjfp0ZBr1KtDRbnfVdmIw",
        "czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
    ),
    ("my client", "p@ss:w%rd+1", "my+client:p%40ss%3Aw%25rd%2B1", "bXkrY2xpZW50OnAlNDBzcyUzQXclMjVyZCUyQjE="),
    (
        "https://client.example.org/",
        "a b&c=d/e",
        "https%3A%2F%2Fclient.example.org%2F:a+b%26c%3Dd%2Fe",
        "aHR0cHMlM0ElMkYlMkZjbGllbnQuZXhhbXBsZS5vcmclMkY6YStiJTI2YyUzRGQlMkZl",
    ),
    (
        "klient-é",
        "£€-secret",
        "klient-%C3%A9:%C2%A3%E2%82%AC-secret",
        "a2xpZW50LSVDMyVBOTolQzIlQTMlRTIlODIlQUMtc2VjcmV0",
    ),
    ("a-b_c.d~e", "*-._~", "a-b_c.d%7Ee:*-._%7E", "YS1iX2MuZCU3RWU6Ki0uXyU3RQ=="),
]


@pytest.mark.parametrize(
    ("client_id", "secret", "pair", "token"), VECTORS, ids=[vector[0] for vector in VECTORS]
)
def test_basic(client_id: str, secret: str, pair: str, token: str) -> None:
    """VEC-DER-01, AUTH-10, -12: both parts form-encoded, then base64; nothing goes into the body."""
    credentials = ClientSecretBasic(secret).credentials(context(client_id))
    assert credentials == Credentials(headers=(("Authorization", f"Basic {token}"),))
    assert base64.b64decode(token).decode() == pair


def test_raw_basic() -> None:
    """AUTH-11: the switch for providers that do not decode leaves the octets as they are."""
    method = ClientSecretBasic("p@ss:w%rd €", raw=True)
    ((name, value),) = method.credentials(context("my client")).headers
    assert (name, value[:6]) == ("Authorization", "Basic ")
    assert base64.b64decode(value[6:]).decode() == "my client:p@ss:w%rd €"


def test_raw_makes_no_difference_for_plain_characters() -> None:
    """AUTH-11: letters, digits and ``*-._`` are the same with and without form-encoding."""
    assert ClientSecretBasic("aZ09*-._").credentials(context()) == ClientSecretBasic(
        "aZ09*-._", raw=True
    ).credentials(context())


def test_post() -> None:
    """AUTH-13: identifier and secret as form parameters, and in no header (AUTH-02)."""
    assert ClientSecretPost("p@ss").credentials(context()) == Credentials(
        parameters=(("client_id", "s6BhdRkqt3"), ("client_secret", "p@ss"))
    )


def test_none() -> None:
    """AUTH-05: without authentication only the identifier is sent."""
    assert NoClientAuthentication().credentials(context()) == Credentials(
        parameters=(("client_id", "s6BhdRkqt3"),)
    )


def test_methods_have_their_registered_names() -> None:
    """AUTH-04: the names of ``token_endpoint_auth_method``."""
    assert [ClientSecretBasic("x").method, ClientSecretPost("x").method, NoClientAuthentication().method] == [
        "client_secret_basic",
        "client_secret_post",
        "none",
    ]


@pytest.mark.parametrize("method", [ClientSecretBasic, ClientSecretPost])
@pytest.mark.parametrize(
    ("secret", "error"),
    [
        ("", ValueError),
        ("hush\n", ValueError),
        ("hush\x7f", ValueError),
        ("hush\ud800", ValueError),
        (Secret(""), ValueError),
        (None, TypeError),
        (b"hush", TypeError),
        (5, TypeError),
    ],
)
def test_bad_secrets(method: Any, secret: Any, error: type[Exception]) -> None:
    """AUTH-07: what cannot be a secret is refused when the method is made, and does not show."""
    with pytest.raises(error, match=r"^client_secret must") as caught:
        method(secret)
    assert "hush" not in str(caught.value)


def test_raw_is_a_flag() -> None:
    """A typo in the switch is an error, not a silent choice."""
    with pytest.raises(TypeError, match="raw must be bool"):
        ClientSecretBasic("x", raw="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("secret", ["hush", Secret("hush")])
def test_secrets_are_wrapped_and_hidden(secret: str | Secret) -> None:
    """AUTH-07: neither the method nor its credentials show the secret."""
    for method in (ClientSecretBasic(secret), ClientSecretPost(secret)):
        assert method.client_secret == Secret("hush")
        credentials = method.credentials(context())
        for shown in (repr(method), repr(credentials), str(method), str(credentials)):
            assert "hush" not in shown
            assert "Basic" not in shown.replace("ClientSecretBasic", "")


def test_context_hides_nothing_but_the_source_of_randomness() -> None:
    """The context of a request is for people to read."""
    assert repr(context()) == (
        "CredentialsContext(client_id='s6BhdRkqt3', issuer='https://op.example', "
        "endpoint_url='https://op.example/token', now=1537819486.0)"
    )
