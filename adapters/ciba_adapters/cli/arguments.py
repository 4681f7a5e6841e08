"""From arguments and files to the values of the core; whatever is wrong with them is said in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import click

from ciba_adapters.cli.text import Unusable
from ciba_core import (
    ClientAuthentication,
    ClientConfig,
    ClientSecretBasic,
    ClientSecretPost,
    NoClientAuthentication,
    PollingPolicy,
)

__all__ = ["AUTHENTICATION_METHODS", "issuer_url", "read_client_file", "request_parameters", "seconds"]

_SECRET_METHODS: Final[dict[str, type[ClientSecretBasic | ClientSecretPost]]] = {
    "client_secret_basic": ClientSecretBasic,
    "client_secret_post": ClientSecretPost,
}
AUTHENTICATION_METHODS: Final = (*_SECRET_METHODS, "none")
"""Values of ``token_endpoint_auth_method`` that a client file can have."""


def seconds(_context: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    """Check a number of seconds, where one is given."""
    if value is not None and not 0 <= value <= 366 * 86400:
        raise click.BadParameter("not a number of seconds from 0 to a year.")
    return value


def issuer_url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Catch the likely mistake of giving the URL of the metadata; the core checks the rest."""
    if "/.well-known/" in value:
        raise click.BadParameter("give the issuer, which is the part before '/.well-known/'.")
    return value


# --- JSON ------------------------------------------------------------------------------------------------


class _Repeated(ValueError):
    pass


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    names: set[str] = set()
    for name, _ in members:
        if name in names:
            raise _Repeated(f"member {name!r} is there twice")
        names.add(name)
    return dict(members)


def _no_constant(_name: str) -> Any:
    raise ValueError


def _read_json(text: str) -> Any:
    """Parse JSON; raise `ValueError` with a phrase that shows none of the values in it."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except _Repeated:
        raise
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        problem = "not JSON"
    raise ValueError(problem)


# --- the client file -------------------------------------------------------------------------------------


def read_client_file(path: str, *, first_poll_after: float | None = None) -> ClientConfig:
    """Read the client from a JSON object with the member names of OpenID Connect registration.

    Members that are of no use here are ignored.

    Args:
        path: the file.
        first_poll_after: seconds; as in `PollingPolicy`.

    Raises:
        Unusable: the file cannot be read, or a member is missing or wrong.

    """
    try:
        return _client(_members(path), PollingPolicy(first_poll_after=first_poll_after))
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise Unusable(f"--client {path}: {problem}")


def _members(path: str) -> Mapping[str, Any]:
    members = _read_json(Path(path).read_text(encoding="utf-8-sig"))
    if not isinstance(members, dict):
        raise TypeError("not a JSON object")
    return cast("dict[str, Any]", members)


def _client(members: Mapping[str, Any], polling: PollingPolicy) -> ClientConfig:
    mode = _string(members, "backchannel_token_delivery_mode") or "poll"
    if mode != "poll":
        raise ValueError(f"backchannel_token_delivery_mode: {mode!r} is not supported, only 'poll' is")
    client_id = _string(members, "client_id")
    if client_id is None:
        raise ValueError("client_id is missing")
    return ClientConfig(client_id=client_id, authentication=_authentication(members), polling=polling)


def _authentication(members: Mapping[str, Any]) -> ClientAuthentication:
    secret = _string(members, "client_secret")
    method = _string(members, "token_endpoint_auth_method")
    if method is None:
        method = "none" if secret is None else "client_secret_basic"
    if method == "none":
        return NoClientAuthentication()
    if method not in _SECRET_METHODS:
        supported = ", ".join(AUTHENTICATION_METHODS)
        raise ValueError(f"token_endpoint_auth_method: {method!r} is not supported; supported: {supported}")
    if secret is None:
        raise ValueError(f"client_secret is missing, which {method} needs")
    return _SECRET_METHODS[method](secret)


def _string(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if name in members and not isinstance(value, str):
        raise TypeError(f"{name} is not a string")
    return value


# --- --param ---------------------------------------------------------------------------------------------


def request_parameters(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn the values of ``--param`` into arguments of `AuthenticationRequest`.

    Raises:
        Unusable: one is not of the form ``name=value``, is there twice, or begins like JSON and is none.

    """
    resources: list[str] = []
    others: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise Unusable(f"--param {pair}: not of the form name=value")
        if name == "resource":
            resources.append(text)
        elif name in others:
            raise Unusable(f"--param {name}: only resource can be given more than once")
        else:
            others[name] = _parameter(name, text)
    typed: dict[str, Any] = {"resource": resources, "extra": others}
    for name in ("authorization_details", "claims"):
        if name in others:
            typed[name] = others.pop(name)
    return typed


def _parameter(name: str, text: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        return _read_json(text)
    except ValueError as error:
        problem = str(error)
    raise Unusable(f"--param {name}: {problem}")
