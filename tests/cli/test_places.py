"""What real providers need beside the standard, by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from attrs import evolve

from ciba_adapters.cli.masking import MASK, only_secrets
from ciba_core.testing import LoopbackServer, NoReply, Reply

from .conftest import SECRET, World, simulated_provider


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("session_state", "8f2b3a5e-6f0a-4c0c-9d3e-0a1b2c3d4e5f", True),
        ("not-before-policy", 0, True),
        ("refresh_expires_in", 1800, True),
        ("issued_token_type", "urn:ietf:params:oauth:token-type:access_token", True),
        ("auth_url", "https://op.example/approve?id=7", True),
        ("consent", {"ids": ["a", None], "until": "2026-11-28T00:00:00Z"}, True),
        ("flag", True, True),
        ("device_secret", "short", False),
        ("api-key", "short", False),
        ("sessionToken", "short", True),
        ("actor_token", ["x"], False),
        ("x", "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN", False),
        ("x", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", False),
        ("x", "deadbeef0123456789deadbeef", False),
    ],
)
def test_which_members_are_secrets(name: str, value: Any, shown: bool) -> None:
    """By the end of its name, or since it looks like one; numbers, addresses and sentences are none."""
    assert only_secrets(name, value) == (value if shown else MASK)
    assert only_secrets("deep", {"list": [{name: value}]}) == {"list": [{name: value if shown else MASK}]}


Seen = list[tuple[str, dict[str, str], dict[str, list[str]]]]


@pytest.fixture
def seen(world: World) -> Iterator[tuple[str, Seen]]:
    """Another address of a provider that adds to its acknowledgement, and what came to it."""
    requests: Seen = []
    with LoopbackServer() as server:
        provider = simulated_provider(server.url)

        def handle(
            method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
        ) -> Reply | NoReply:
            sent = {name.lower(): value for name, value in headers}
            requests.append((target, sent, parse_qs(body.decode())))
            reply = provider.handle(method, target, headers, body)
            if isinstance(reply, Reply) and b'"auth_req_id"' in reply.body:
                more = {"auth_url": f"{server.url}/approve?{SECRET}", "ticket": "MARKER"}
                reply = evolve(reply, body=json.dumps(json.loads(reply.body) | more).encode())
            return reply

        server.handler = handle
        yield server.url, requests


def test_headers_and_parameters_of_token_requests(world: World, seen: tuple[str, Seen]) -> None:
    """Those of the client file and those of the command line are sent; their values show nowhere."""
    issuer, requests = seen
    path = Path(world.client)
    settings = {"headers": {"X-Key": "hush-file"}, "polling": {"safety_margin": 0}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": settings}))
    arguments = ("--header", "X-Address=hush-line", "--token-param", "resource=https://a.example/")
    ran = world.login("alice", *arguments, "--token-param", "resource=urn:b", "--json", issuer=issuer)
    assert ran.status == 0
    by_target = {target.rpartition("/")[2]: (headers, form) for target, headers, form in requests}
    for target in ("openid-configuration", "bc-authorize", "token", "jwks"):
        assert by_target[target][0]["x-key"] == "hush-file"
    assert by_target["token"][0]["x-address"] == by_target["bc-authorize"][0]["x-address"] == "hush-line"
    assert by_target["token"][1]["resource"] == ["https://a.example/", "urn:b"]
    assert "resource" not in by_target["bc-authorize"][1]
    assert "hush" not in ran.out + ran.err


def test_members_of_the_acknowledgement(world: World, seen: tuple[str, Seen]) -> None:
    """They are shown as soon as they come, and stand in the result; what is secret in them does not."""
    issuer, _ = seen
    ran = world.login("alice", "--json", issuer=issuer)
    url = f"{issuer}/approve?{MASK}"
    assert ran.json["acknowledgement_extra"] == {"auth_url": url, "ticket": MASK}
    ran = world.login("alice", issuer=issuer)
    assert f"auth_url: {url}" in ran.err
    assert "ticket: ***" in ran.err
    assert SECRET not in ran.out + ran.err
    assert "MARKER" not in ran.out + ran.err


def test_another_user_than_the_expected_one(world: World) -> None:
    """Tokens about somebody else are refused; exit 1."""
    assert world.login("alice", "--expected-subject", "alice").status == 0
    ran = world.login("alice", "--expected-subject", "bob", "--json")
    assert (ran.status, ran.json["error"], ran.json["token_response"]) == (1, "tokens_rejected", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--header", "X-Key: MARKER"), "--header: not of the form name=value"),
        (("--header", "=MARKER"), "--header: not of the form name=value"),
        (("--header", "X-A=1", "--header", "X-A=MARKER"), "--header X-A: can be given only once"),
        (("--header", "Cookie=MARKER"), "headers: Cookie belongs to the protocol, or to HTTP itself"),
        (("--token-param", "x"), "--token-param x: not of the form name=value"),
        (("--token-param", "a=1", "--token-param", "a=2"), "--token-param a: only resource can be given"),
        (("--token-param", "grant_type=x"), "--token-param must not contain grant_type"),
        (("--token-param", "a={"), "--token-param a: not JSON"),
    ],
)
def test_wrong_options(arguments: tuple[str, ...], message: str, world: World) -> None:
    """One line names the option; exit 2."""
    ran = world.login("alice", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    assert "MARKER" not in ran.err
