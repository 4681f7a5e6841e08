from __future__ import annotations

import json
from typing import Any

import pytest

from ciba_adapters.cli.metadata_report import findings, usable
from ciba_core.testing import Answer, LoopbackServer, Reply

from .conftest import World, always

JSON = (("Content-Type", "application/json"),)
GRANT = "urn:openid:params:grant-type:ciba"
COMPLETE: dict[str, Any] = {
    "issuer": "https://op.example",
    "token_endpoint": "https://op.example/token",
    "backchannel_authentication_endpoint": "https://op.example/bc",
    "jwks_uri": "https://op.example/jwks",
    "backchannel_token_delivery_modes_supported": ["poll", "ping"],
    "grant_types_supported": ["authorization_code", GRANT],
    "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_post"],
    "scopes_supported": ["openid"],
}


def test_nothing_is_missed_in_complete_metadata() -> None:
    """Metadata as CIBA Core 4 wants it has no finding."""
    assert findings(COMPLETE) == []


@pytest.mark.parametrize(
    ("member", "value", "severity", "message"),
    [
        ("backchannel_authentication_endpoint", None, "error", "does not offer CIBA"),
        ("backchannel_authentication_endpoint", "http://op.example/bc", "error", "must use https"),
        ("backchannel_authentication_endpoint", 5, "error", "must be a URL"),
        ("token_endpoint", None, "error", "is missing"),
        ("token_endpoint", "http://127.0.0.1/token", "error", "must use https"),
        ("jwks_uri", "http://op.example/jwks", "error", "must use https"),
        ("jwks_uri", None, "warning", "is missing"),
        ("backchannel_token_delivery_modes_supported", ["pull"], "error", "has none of"),
        ("backchannel_token_delivery_modes_supported", "poll", "error", "must be an array of strings"),
        ("backchannel_token_delivery_modes_supported", None, "warning", "required (CIBA Core 4)"),
        ("grant_types_supported", ["authorization_code"], "warning", f"does not name {GRANT}"),
        ("grant_types_supported", None, "warning", f"does not name {GRANT}"),
        ("token_endpoint_auth_methods_supported", ["attest_jwt_client_auth"], "error", "has none of those"),
        ("scopes_supported", ["email"], "warning", "has no openid"),
    ],
)
def test_findings(member: str, value: Any, severity: str, message: str) -> None:
    """What a CIBA client would miss is named once, by its member; only errors make a provider unusable."""
    document = {**COMPLETE, member: value}
    if value is None:
        del document[member]
    (found,) = findings(document)
    assert (found.severity, found.member) == (severity, member)
    assert message in found.message
    assert usable([found]) == (severity == "warning")


@pytest.mark.parametrize("mode", ["poll", "ping", "push"])
def test_every_delivery_mode_is_enough(mode: str) -> None:
    """A provider needs to offer one of the modes only (CIBA Core 4)."""
    assert findings({**COMPLETE, "backchannel_token_delivery_modes_supported": [mode]}) == []


def test_loopback_endpoints_are_fine_where_allowed() -> None:
    """The one setting for plain HTTP holds for the report as it does for the client."""
    document = {**COMPLETE, "token_endpoint": "http://127.0.0.1/token"}
    assert findings(document, allow_loopback_http=True) == []


def test_table_of_a_usable_provider(world: World) -> None:
    """`ciba discover` lists the members, those of CIBA first, and exits with 0."""
    members = {**COMPLETE, "issuer": world.provider.issuer, "a_vendor_member": 1}
    world.provider.inject("metadata", Answer(200, json.dumps(members).encode(), JSON))
    ran = world.run("discover", world.provider.issuer, "--allow-loopback-http")
    assert (ran.status, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    assert ran.out.index("backchannel_authentication_endpoint") < ran.out.index("a_vendor_member")
    assert "✓ a CIBA client can work with this provider" in ran.out


def test_json_is_the_document(world: World) -> None:
    """`--json` writes the document as the provider published it, and nothing else."""
    members = {"issuer": world.provider.issuer, "nested": {"a": [1, None]}, "[bold]": "\x1b[2J"}
    world.provider.inject("metadata", Answer(200, json.dumps(members).encode(), JSON), times=2)
    ran = world.run("discover", world.provider.issuer, "--allow-loopback-http", "--json")
    assert (ran.status, ran.err, ran.json) == (1, "", members)
    assert "\x1b" not in ran.out


def test_unusable_provider_and_its_text(world: World) -> None:
    """Without CIBA the exit status is 1, and names and values of the document are shown, not obeyed."""
    members = {"issuer": world.provider.issuer, "[red]\x1b]0;x": "[/red]\x1b[2J", "list": ["\u202e", "[b]"]}
    world.provider.inject("metadata", Answer(200, json.dumps(members).encode(), JSON))
    ran = world.run("discover", world.provider.issuer, "--allow-loopback-http")
    assert ran.status == 1
    assert "✗ a CIBA client cannot work with this provider" in ran.out
    for shown in (r"[red]\x1b]0;x", r"[/red]\x1b[2J", r"\u202e", "[b]"):
        assert shown in ran.out
    assert "\x1b" not in ran.out


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(404), "no document"),
        (Reply(503), "cannot be had just now"),
        (
            Reply(200, (("Content-Type", "text/html"),), b"<p>"),
            "openid-configuration: status 200 with a body that is not JSON",
        ),
        (Reply(200, JSON, b'{"issuer": "https://other.example"}'), "'https://other.example'"),
    ],
)
def test_no_document(reply: Reply, message: str, world: World) -> None:
    """A document that cannot be had, or is another's, is one line and exit 1."""
    with LoopbackServer(always(reply)) as server:
        ran = world.run("discover", server.url, "--allow-loopback-http")
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert message in ran.err


@pytest.mark.parametrize(("issuer", "status"), [("https://op.example", 0), ("https://other.example", 1)])
def test_metadata_that_lies_elsewhere(issuer: str, status: int, world: World) -> None:
    """--metadata-url says where; the issuer in the document has to be the one that was given."""
    with LoopbackServer(always(Reply(200, JSON, json.dumps(COMPLETE).encode()))) as server:
        place = f"{server.url}/oidcdiscovery"
        ran = world.run("discover", issuer, "--metadata-url", place, "--allow-loopback-http")
    assert ran.status == status
    assert "https://op.example" in ran.out + ran.err
