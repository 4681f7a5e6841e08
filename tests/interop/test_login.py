"""`ciba login` against the npm package `oidc-provider`, with a client that does all of it by keys.

The client authenticates by private_key_jwt, signs its requests, gets its ID Tokens encrypted, and its access
tokens bound by DPoP.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from ciba_adapters.cli import main

from .provider import REGISTRATIONS
from .test_keys import told_by

pytestmark = pytest.mark.interop


@frozen
class Ran:
    """What the command did."""

    status: int
    result: dict[str, Any]


Login = Callable[..., Ran]


@pytest.fixture(params=["httpx", "trio"])
def login(
    request: pytest.FixtureRequest, issuer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Login:
    """Log alice in, with members of the client file changed: over a sync stack and an async one."""

    def login(*arguments: str, **changed: Any) -> Ran:
        client = tmp_path / "client.json"
        client.write_text(json.dumps({**REGISTRATIONS["high-security"], **changed}))
        status = main(
            [
                *("login", "--issuer", issuer, "--client", str(client), "--login-hint", "alice"),
                *("--allow-loopback-http", "--first-poll-after", "0", "--adapter", request.param, "--json"),
                *arguments,
            ]
        )
        captured = capsys.readouterr()
        assert captured.err == ""
        return Ran(status, json.loads(captured.out))

    return login


def test_the_claims_are_those_of_the_validated_id_token(issuer: str, login: Login) -> None:
    """Every key of the client file is used for what it is there for, and the claims come out."""
    told_by(issuer, "/proofs")
    ran = login("--binding-message", "W4SCT", "--show-tokens")
    assert (ran.status, ran.result["outcome"]) == (0, "authenticated")
    claims, tokens = ran.result["id_token_claims"], ran.result["token_response"]
    assert (claims["iss"], claims["sub"], claims["aud"]) == (issuer, "alice", "high-security")
    assert tokens["token_type"] == "DPoP"
    assert tokens["id_token"].count(".") == 4
    assert told_by(issuer, "/proofs") == [["/token", 200, False]]


def test_an_id_token_by_another_algorithm_than_the_client_file_names(login: Login) -> None:
    """Without a validated ID Token there are neither claims nor tokens: exit status 1."""
    ran = login(id_token_signed_response_alg="ES256")
    assert (ran.status, ran.result["outcome"], ran.result["error"]) == (1, "failed", "tokens_rejected")
    assert "not signed with ES256" in ran.result["error_description"]
    assert ran.result["id_token_claims"] is None
    assert ran.result["token_response"] is None
