"""Members of a client file that are spelled almost like one that counts."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from ciba_adapters.cli import client_file
from ciba_adapters.cli.client_file import READ, read_client_file
from ciba_adapters.cli.text import Unusable
from ciba_core import (
    Audience,
    ClientConfig,
    ClientSecretBasic,
    Limits,
    PollingPolicy,
    PrivateKeyJwt,
    RequestSigning,
    Secret,
)
from tests.jwt_samples import FAPI_JWK

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


# ---- what is no metadata of a registration

SETTINGS_GIVEN: dict[str, Any] = {
    "headers": {"Ocp-Apim-Subscription-Key": "MARKER-KEY"},
    "headers_to": ["keys.example"],
    "answer_headers": ["x-request-id"],
    "connect_timeout": 5,
    "timeout": 60,
    "polling": {"first_poll_after": 9, "interval_counts_from": "sending", "ping_fallback": None},
    "client_assertion": {
        "audience": ["called_endpoint", "urn:x"],
        "lifetime": 30,
        "typ": "jwt",
        "backdate": 5,
    },
    "request_object": {"audience": "token_endpoint", "lifetime": 100},
    "id_token": {"leeway": 10, "max_age": None, "trusted_audiences": ["issuer"]},
    "limits": {"body": 2048, "string": 1000},
    "profile": {"send_client_id": True, "assertion_audience": "issuer", "scope": ["openid", "x"]},
}
SIGNED = {
    "client_id": "a",
    "token_endpoint_auth_method": "private_key_jwt",
    "backchannel_authentication_request_signing_alg": "ES256",
    "subject_type": "pairwise",
    "jwks": {"keys": [FAPI_JWK]},
}


def test_settings_reach_the_configuration(tmp_path: Path) -> None:
    """Whatever a provider can force on a client can be said in its file."""
    read = read_client_file(write(tmp_path, {**SIGNED, "settings": SETTINGS_GIVEN}))
    config = read.config
    assert isinstance(config.authentication, PrivateKeyJwt)
    assert isinstance(config.request_signing, RequestSigning)
    assert config.headers == {"Ocp-Apim-Subscription-Key": Secret("MARKER-KEY")}
    assert "MARKER-KEY" in read.secrets
    assert (config.headers_to, config.answer_headers) == (("keys.example",), ("x-request-id",))
    assert (config.connect_timeout, config.timeout, config.subject_type) == (5, 60, "pairwise")
    assert config.polling == PollingPolicy(
        first_poll_after=9, interval_counts_from="sending", ping_fallback=None
    )
    assert config.authentication.audience == (Audience.CALLED_ENDPOINT, "urn:x")
    assert (config.authentication.lifetime, config.authentication.typ) == (30, "jwt")
    assert config.request_signing.audience is Audience.TOKEN_ENDPOINT
    assert config.id_token.trusted_audiences == ("issuer",)
    assert (config.id_token.leeway, config.id_token.max_age) == (10, None)
    assert config.limits == Limits(body=2048, string=1000)
    assert config.profile.send_client_id
    assert config.profile.assertion_audience is Audience.ISSUER
    assert config.profile.scope == ("openid", "x")
    later = read_client_file(write(tmp_path, {**SIGNED, "settings": SETTINGS_GIVEN}), first_poll_after=0)
    assert later.config.polling == attrs.evolve(config.polling, first_poll_after=0)


def test_settings_have_all_there_is() -> None:
    """Everything of the configuration and of the polling policy has its place in a client file."""
    elsewhere = {
        "client_id", "authentication", "backchannel_token_delivery_mode", "userinfo", "request_signing",
        "dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens", "subject_type", "entropy",
    }  # fmt: skip
    names = {each.name for each in attrs.fields(ClientConfig)}
    assert names - elsewhere - {*client_file.PLAIN_SETTINGS} <= {*client_file.SETTINGS} | {
        "dpop_proof_claims"
    }
    assert {*client_file.SETTINGS["polling"]} == {each.name for each in attrs.fields(PollingPolicy)}


def test_basic_without_form_encoding(tmp_path: Path) -> None:
    """Some providers do not decode what RFC 6749 2.3.1 has encoded."""
    settings = {"client_secret_basic": {"raw": True}}
    read = read_client_file(write(tmp_path, {**CLIENT, "settings": settings}))
    assert read.config.authentication == ClientSecretBasic("MARKER", raw=True)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ([], "settings is not an object"),
        ({"poling": {}}, "settings has no member poling; known: polling, "),
        ({"polling": 5}, "settings: polling is not an object"),
        (
            {"polling": {"first_poll": 5}},
            "settings: polling has no member first_poll; known: first_poll_after, ",
        ),
        ({"polling": {"first_poll_after": "5"}}, "settings: polling: first_poll_after must be a number"),
        ({"polling": {"first_poll_after": -1}}, "settings: polling: first_poll_after must be from 0"),
        ({"id_token": {"signed_response_alg": "x"}}, "settings: id_token has no member signed_response_alg"),
        ({"profile": {"scope": ["x"]}}, "settings: profile: scope must have openid"),
        ({"client_assertion": {"typ": "x"}}, "settings: client_assertion: client_secret_basic has none"),
        ({"request_object": {"typ": "x"}}, "settings: request_object: requests are not signed"),
        ({"headers": {"Cookie": "MARKER"}}, "headers: Cookie belongs to the protocol"),
        ({"headers": {"X-Key": "MARKER\n"}}, "headers: the value of X-Key must be printable ASCII"),
        ({"timeout": "long"}, "timeout must be a number of seconds"),
    ],
    ids=str,
)
def test_wrong_settings(settings: Any, problem: str, tmp_path: Path) -> None:
    """The message names the place, and shows nothing of a value."""
    with pytest.raises(Unusable, match=rf": {problem}") as caught:
        read_client_file(write(tmp_path, {**CLIENT, "settings": settings}))
    assert "MARKER" not in str(caught.value)


def test_settings_of_another_method(tmp_path: Path) -> None:
    """A setting that nothing would come of is a mistake."""
    settings = {"client_secret_basic": {"raw": True}}
    with pytest.raises(Unusable, match="settings: client_secret_basic: the method is private_key_jwt"):
        read_client_file(write(tmp_path, {**SIGNED, "settings": settings}))
    with pytest.raises(Unusable, match="subject_type must be one of public, pairwise"):
        read_client_file(write(tmp_path, {**CLIENT, "subject_type": "x"}))
