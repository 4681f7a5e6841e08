from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import attrs
import pytest

from ciba_core import (
    Begin,
    Credentials,
    Draft,
    HttpRequest,
    HttpResponse,
    PrivateKeyJwt,
    Purpose,
    RemoteSigner,
    ResponseReceived,
    Secret,
    Transaction,
    step,
)
from ciba_core.jose.unsigned_jwt import unsigned_jwt
from tests.samples import CLIENT, NOW, PROVIDER, REQUEST

VALUE = "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN"


def test_reveal_returns_the_value() -> None:
    """The value is there for whoever asks for it by name."""
    assert Secret(VALUE).reveal() == VALUE


@pytest.mark.parametrize(
    "show", [repr, str, format, "{}".format, "{!r:>40}".format, "%s".__mod__, "%r".__mod__, ascii]
)
def test_no_way_of_showing_shows_the_value(show: Any) -> None:
    """Text made of a secret has a mask in its place."""
    text = show(Secret(VALUE))
    assert VALUE not in text
    assert "***" in text


def test_log_records_have_the_mask(caplog: pytest.LogCaptureFixture) -> None:
    """A secret as the argument of a log call stays hidden."""
    logging.getLogger("test").warning("got %s and %r", Secret(VALUE), [Secret(VALUE)])
    assert VALUE not in caplog.text
    assert caplog.text.count("***") == 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_refused(protocol: int) -> None:
    """A secret does not get into a pickle by accident, whatever the protocol."""
    with pytest.raises(TypeError, match="snapshot") as caught:
        pickle.dumps(Secret(VALUE), protocol)
    assert VALUE not in str(caught.value)


def test_equality_is_by_value_and_only_between_secrets() -> None:
    """Equal content makes equal secrets; a plain string is never equal to one."""
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret(VALUE.lower())
    assert Secret(VALUE) != VALUE
    assert Secret("\ud800") == Secret("\ud800")
    assert Secret("\ud800") != Secret("?")
    assert hash(Secret(VALUE)) == hash(Secret(VALUE))
    assert {Secret(VALUE): 1}[Secret(VALUE)] == 1
    assert hash(Secret(VALUE)) != hash(VALUE)


def test_truth_is_that_of_the_string() -> None:
    """An empty secret is false, as an empty string is."""
    assert Secret("0")
    assert not Secret("")


def test_it_cannot_be_changed() -> None:
    """No attribute can be set, added or deleted."""
    secret: Any = Secret(VALUE)
    for name in ("_value", "other"):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(secret, name, "x")
        with pytest.raises(AttributeError, match="cannot be changed"):
            delattr(secret, name)
    assert secret.reveal() == VALUE
    assert not hasattr(secret, "__dict__")


def test_copies_are_the_value_itself() -> None:
    """Values that hold secrets can be copied, shallow and deep."""
    secret = Secret(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


@pytest.mark.parametrize("value", [None, b"secret", 5, Secret("x")])
def test_only_strings_are_taken(value: Any) -> None:
    """Anything but a str is refused, and the message does not show it."""
    with pytest.raises(TypeError, match=r"^a Secret holds a str$"):
        Secret(value)


def test_fingerprint_is_short_and_stable() -> None:
    """A fingerprint tells values apart in a log: 12 hex digits of the SHA-256."""
    assert Secret("abc").fingerprint() == "ba7816bf8f01"  # FIPS 180-2 example
    assert Secret("abd").fingerprint() != Secret("abc").fingerprint()
    assert len(Secret("\udfff").fingerprint()) == 12


def carriers() -> list[Any]:
    """Values that carry secrets in plain text, and some that hold them."""
    secret = (("Authorization", VALUE),)
    url = "https://op.example/"
    jwt = unsigned_jwt({"sub": VALUE}, signer=RemoteSigner("key", alg="ES256"), typ=None)
    answer = HttpResponse(200, (), VALUE.encode())
    remote = attrs.evolve(CLIENT, authentication=PrivateKeyJwt(RemoteSigner("key", alg="ES256")))
    drafted = step(Transaction(client=remote, provider=PROVIDER), Begin(REQUEST), NOW)
    return [
        HttpRequest(1, Purpose.TOKEN, "POST", url, secret, VALUE.encode(), 1.0, 2.0, 3),
        jwt,
        Draft(1, (("request", jwt),), Purpose.TOKEN, url, secret, VALUE),
        answer,
        ResponseReceived(1, answer, 0.1),
        Credentials(headers=secret),
        drafted,
        drafted.transaction.state,
    ]


@pytest.mark.parametrize("carrier", carriers(), ids=lambda carrier: type(carrier).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_carries_secrets_is_not_pickled(carrier: Any, protocol: int) -> None:
    """Promise 6: requests, answers and drafts, and what holds them; a copy is the value itself."""
    with pytest.raises(TypeError, match="pickled") as caught:
        pickle.dumps(carrier, protocol)
    assert VALUE not in str(caught.value)
    assert copy.copy(carrier) == carrier
    assert copy.deepcopy(carrier) == carrier
