from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import pytest

from ciba_core import Secret

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
