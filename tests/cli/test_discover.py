from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey

from ciba_adapters.cli.key_report import key_findings
from ciba_adapters.cli.metadata_report import findings, usable
from ciba_core.testing import Answer, LoopbackServer, Reply
from ciba_core.values.http import HttpResponse

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


def key(alg: str, **members: Any) -> dict[str, Any]:
    """Return a public key of a provider, with these members besides."""
    made = ECKey.generate_key("P-256")
    return {**made.as_dict(private=False), "alg": alg, **members}


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
        ("id_token_signing_alg_values_supported", ["none", "ES256K"], "warning", "has none of those"),
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
    members["jwks_uri"] = f"{world.provider.issuer}/jwks"
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
    with LoopbackServer() as server:
        # A document that is both: the metadata and the key set.
        both = {**COMPLETE, "jwks_uri": server.url, "keys": [key("ES256")]}
        server.handler = always(Reply(200, JSON, json.dumps(both).encode()))
        place = f"{server.url}/oidcdiscovery"
        ran = world.run("discover", issuer, "--metadata-url", place, "--allow-loopback-http")
    assert ran.status == status
    assert "https://op.example" in ran.out + ran.err


# --- the key set -----------------------------------------------------------------------------------------

GOOD = key("ES256")


def keys(*entries: object, status: int = 200, kind: str = "application/json") -> HttpResponse:
    return HttpResponse(status, {"Content-Type": kind}, json.dumps({"keys": entries}).encode())


@pytest.mark.parametrize(
    ("answer", "severity", "message"),
    [
        ("timed out", "error", "gives no answer (timed out): logins would fail after the approval"),
        (keys(GOOD, status=406), "error", "status 406"),
        (HttpResponse(200, {}, b"<p>"), "error", "gives no key set"),
        (HttpResponse(200, {}, b'{"keys": {}}'), "error", "keys is not an array"),
        (keys(), "error", "has no key that a signature can be checked with"),
        (keys({"kty": "oct", "k": "AAAA"}), "error", "has no key that a signature can be checked with"),
        (keys(GOOD, {**GOOD, "d": "AAAA"}), "warning", "publishes 1 secret or private keys"),
        (keys(GOOD, {"kty": "XYZ"}, 5), "warning", "has 2 of 3 keys that no signature is checked with"),
        (keys(GOOD, kind="text/html"), "warning", "deviates, and is read all the same"),
    ],
)
def test_key_set(answer: HttpResponse | str, severity: str, message: str) -> None:
    """What is wrong with a key set, which a client would meet after the approval only, is one finding."""
    (found,) = key_findings(COMPLETE, answer)
    assert (found.severity, found.member) == (severity, "jwks_uri")
    assert message in found.message


def test_nothing_is_missed_in_a_good_key_set() -> None:
    """Keys for the algorithms that the metadata names have no finding; nor has a set that nobody asked for."""
    names = {**COMPLETE, "id_token_signing_alg_values_supported": ["ES256", "HS256", "x"]}
    assert key_findings(names, keys(GOOD)) == key_findings(names, None) == []


def test_algorithm_without_a_key() -> None:
    """An algorithm that the provider says to sign with, and has no key for, is named."""
    names = {**COMPLETE, "id_token_signing_alg_values_supported": ["ES256", "PS256"]}
    (found,) = key_findings(names, keys(GOOD))
    assert "has no key for PS256" in found.message


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (500, 1)])
def test_key_set_is_fetched(status: int, exit_status: int, world: World) -> None:
    """`ciba discover` fetches the key set; one that cannot be had makes the provider unusable."""
    if status != 200:
        world.provider.inject("jwks", Answer(status, b""))
    ran = world.run("discover", world.provider.issuer, "--allow-loopback-http")
    assert ran.status == exit_status
    assert [entry.endpoint for entry in world.provider.journal] == ["metadata", "jwks"]
    assert ("error   jwks_uri gives no key set" in ran.out) == (exit_status == 1)


def test_both_issuers_and_every_place(world: World) -> None:
    """Another issuer is said beside the one that was asked for; so is each place without a document."""
    other = Reply(200, JSON, b'{"issuer": "https://other.example"}')
    with LoopbackServer(always(other)) as server:
        ran = world.run("discover", server.url, "--allow-loopback-http")
        assert "'https://other.example'" in ran.err
        assert repr(server.url) in ran.err
    with LoopbackServer(always(Reply(404))) as server:
        issuer = f"{server.url}/tenant"
        ran = world.run("discover", issuer, "--allow-loopback-http")
    for place in (
        f"{issuer}/.well-known/openid-configuration: status 404",
        f"{server.url}/.well-known/oauth-authorization-server/tenant: status 404",
    ):
        assert place in ran.err


@pytest.mark.parametrize("command", ["discover", "login"])
@pytest.mark.parametrize(
    ("url", "advised"), [("http://localhost:1", True), ("http://[::1]:1", True), ("http://op.example", False)]
)
def test_option_for_this_machine(url: str, advised: bool, command: str, world: World) -> None:
    """Plain http to this machine is refused with the option that allows it; to another one without."""
    where = (
        (url,) if command == "discover" else ("--issuer", url, "--client", world.client, "--login-hint", "a")
    )
    ran = world.run(command, *where)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "must use https" in ran.err
    assert ("--allow-loopback-http" in ran.err) is advised


def test_option_for_endpoints_on_this_machine() -> None:
    """The finding about an endpoint on this machine names the option, too."""
    (found,) = findings({**COMPLETE, "token_endpoint": "http://127.0.0.1/token"})
    assert found.message.endswith("give --allow-loopback-http")
