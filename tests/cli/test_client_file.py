"""Members of a client file that are spelled almost like one that counts."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path

import pytest

from ciba_adapters.cli import client_file
from ciba_adapters.cli.client_file import READ, read_client_file
from ciba_adapters.cli.text import Unusable

CLIENT = {"client_id": "a", "client_secret": "MARKER"}


def write(tmp_path: Path, members: dict[str, object]) -> str:
    path = tmp_path / "client.json"
    path.write_text(json.dumps(members), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("near", "meant"),
    [
        ("client_secet", "client_secret"),
        ("clientSecret", "client_secret"),
        ("client-id", "client_id"),
        ("token_endpoint_auth_methods", "token_endpoint_auth_method"),
        ("backchannel_token_delivery_modes", "backchannel_token_delivery_mode"),
        ("id_token_signing_response_alg", "id_token_signed_response_alg"),
        ("dpop_bound_access_token", "dpop_bound_access_tokens"),
        ("JWKS", "jwks"),
    ],
)
def test_a_member_that_is_nearly_one_we_know(near: str, meant: str, tmp_path: Path) -> None:
    """It would count for nothing, in silence; the message names both, and no value."""
    with pytest.raises(Unusable, match=rf": {near}: did you mean {meant}\?$") as caught:
        read_client_file(write(tmp_path, {**CLIENT, near: "MARKER"}))
    assert "MARKER" not in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        "client_name", "client_uri", "jwks_uri", "redirect_uris", "grant_types", "scope", "contacts", "id_token",
        "userinfo_signed_response_alg", "userinfo_encrypted_response_enc", "request_object_signing_alg",
        "tls_client_auth_subject_dn", "client_secret_expires_at", "x",
    ],
)  # fmt: skip
def test_other_members_are_passed_over(other: str, tmp_path: Path) -> None:
    """Registration knows many members that are of no use here."""
    assert read_client_file(write(tmp_path, {**CLIENT, other: "x"})).config.client_id == "a"


def test_what_is_read_is_listed() -> None:
    """The list of members that count is that of the members that are looked up."""
    read = {
        node.args[1].value
        for node in ast.walk(ast.parse(inspect.getsource(client_file)))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("_string", "_flag")
        and isinstance(node.args[1], ast.Constant)
    }
    assert len(read) > 8
    assert read <= {*READ}
