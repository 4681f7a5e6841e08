"""Turns arguments into values of the core; each fault in them is reported in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

import click

from ciba_adapters.cli.text import Unusable

__all__ = [
    "header_fields",
    "is_loopback",
    "issuer_url",
    "read_json",
    "request_parameters",
    "seconds",
    "token_parameters",
]


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


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def read_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: the text is not JSON; the message shows none of its values.

    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except _Repeated:
        raise
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):
        problem = "not JSON"
    raise ValueError(problem)


# --- --param ---------------------------------------------------------------------------------------------


def request_parameters(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn the values of ``--param`` into arguments of `AuthenticationRequest`.

    Raises:
        Unusable: one is not of the form ``name=value``, is there twice, or begins like JSON and is none.

    """
    resources, others = _parameters("--param", pairs)
    typed: dict[str, Any] = {"resource": resources, "extra": others}
    for name in ("authorization_details", "claims"):
        if name in others:
            typed[name] = others.pop(name)
    return typed


def token_parameters(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn the values of ``--token-param`` into `AuthenticationRequest.token_parameters`; as the above."""
    resources, others = _parameters("--token-param", pairs)
    return others | ({"resource": resources} if resources else {})


def header_fields(pairs: Iterable[str]) -> dict[str, str]:
    """Turn the values of ``--header`` into header fields.

    Raises:
        Unusable: one is not of the form ``name=value``, or is there twice.

    """
    fields: dict[str, str] = {}
    # If a colon stands in place of the equals sign, the message must not show the value.
    for name, text in _pairs("--header", (pair if "=" in pair else "" for pair in pairs)):
        if name in fields:
            raise Unusable(f"--header {name}: can be given only once")
        fields[name] = text
    return fields


def _pairs(option: str, pairs: Iterable[str]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            # Without a name, the whole argument may be a secret value.
            raise Unusable(f"{f'{option} {name}'.rstrip()}: not of the form name=value")
        yield name, text


def _parameters(option: str, pairs: Iterable[str]) -> tuple[list[str], dict[str, Any]]:
    resources: list[str] = []
    others: dict[str, Any] = {}
    for name, text in _pairs(option, pairs):
        if name == "resource":
            resources.append(text)
        elif name in others:
            raise Unusable(f"{option} {name}: only resource can be given more than once")
        else:
            others[name] = _parameter(option, name, text)
    return resources, others


def _parameter(option: str, name: str, text: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        return read_json(text)
    except ValueError as error:
        problem = str(error)
    raise Unusable(f"{option} {name}: {problem}")
