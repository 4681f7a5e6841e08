"""`ciba login` with keys: what the client file and the options say is what goes over the wire."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import pytest
import trustme
from attrs import evolve, field, frozen
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc import jwe, jws, jwt
from joserfc.jwk import ECKey, RSAKey

from ciba_adapters.cli import display
from ciba_adapters.cli.client_file import AUTHENTICATION_METHODS, read_client_file
from ciba_adapters.cli.login import authenticate
from ciba_adapters.cli.masking import Masking
from ciba_adapters.cli.stacks import ADAPTERS, Job, Network
from ciba_adapters.cli.text import Unusable
from ciba_core import AuthenticationRequest, PollingPolicy, TokenResponse, profiles
from ciba_core.events import (
    DpopNonceRequired,
    Event,
    KeyRequestFailed,
    KeyRequestSent,
    TokensHeld,
)
from ciba_core.testing import LoopbackServer, Reply
from ciba_core.transaction.key_search import KeySearch
from ciba_core.values.secret import Guarded, Secret

from .conftest import World

JSON: Final = (("Content-Type", "application/json"),)
PROVIDER_KEY: Final = ECKey.generate_key("P-256", {"kid": "op", "use": "sig", "alg": "ES256"})
SIGNING: Final = ECKey.generate_key("P-256", {"kid": "signing", "use": "sig", "alg": "ES256"})
RSA: Final = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
DECRYPTION: Final = RSAKey.generate_key(2048, {"kid": "decryption", "use": "enc"})
PUBLIC: Final = SIGNING.as_dict(private=False)
JWKS: Final[dict[str, list[dict[str, Any]]]] = {"keys": [key.as_dict(private=True) for key in (DECRYPTION, RSA, SIGNING)]}  # fmt: skip
LONG_SECRET: Final = "hush-hush-" * 7


@frozen
class Sent:
    """A request as it came to the provider."""

    target: str
    headers: dict[str, str]
    form: dict[str, list[str]]

    def jwt(self, parameter: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return header and claims of a JWT in the form."""
        token = jws.extract_compact(self.form[parameter][0].encode())
        return token.headers(), json.loads(token.payload)


@frozen
class Provider:
    """A provider that approves at once, and believes whatever a client says of itself."""

    server: LoopbackServer
    encrypted: bool = False
    sent: list[Sent] = field(factory=list[Sent])

    def handle(self, _method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> Reply:
        named = {name.lower(): value for name, value in headers}
        self.sent.append(Sent(target, named, parse_qs(body.decode())))
        return Reply(200, JSON, json.dumps(self._answer(target.rpartition("/")[2], named)).encode())

    def _answer(self, endpoint: str, headers: dict[str, str]) -> dict[str, Any]:
        url = self.server.url
        if endpoint == "openid-configuration":
            members: dict[str, Any] = {
                name: f"{url}/{name}"
                for name in ("token_endpoint", "backchannel_authentication_endpoint", "jwks_uri")
            }
            members["mtls_endpoint_aliases"] = {
                name: f"{url}/mtls/{name}"
                for name in ("token_endpoint", "backchannel_authentication_endpoint")
            }
            members["backchannel_authentication_request_signing_alg_values_supported"] = ["PS256"]
            members["id_token_signing_alg_values_supported"] = ["ES256", "PS256"]
            members["token_endpoint_auth_signing_alg_values_supported"] = ["ES256", "HS256", "HS512"]
            members["token_endpoint_auth_methods_supported"] = [
                "client_secret_basic",
                "client_secret_jwt",
                "private_key_jwt",
                "tls_client_auth",
                "self_signed_tls_client_auth",
            ]
            members["tls_client_certificate_bound_access_tokens"] = True
            return {"issuer": url, **members}
        if endpoint == "jwks_uri":
            return {"keys": [PROVIDER_KEY.as_dict(private=False)]}
        if endpoint == "backchannel_authentication_endpoint":
            return {"auth_req_id": "1c266114", "expires_in": 60}
        return {
            "access_token": "a-token",
            "token_type": "DPoP" if "dpop" in headers else "Bearer",
            "id_token": self._id_token(),
        }

    def _id_token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.server.url, "sub": "alice", "aud": "c", "iat": now, "exp": now + 60}
        token = jwt.encode({"alg": "ES256", "kid": "op"}, claims, PROVIDER_KEY)
        if not self.encrypted:
            return token
        protected = {"alg": "RSA-OAEP-256", "enc": "A256GCM", "cty": "JWT"}
        algorithms = ["RSA-OAEP-256", "A256GCM"]
        return jwe.encrypt_compact(protected, token.encode(), DECRYPTION, algorithms=algorithms)

    def posted(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.form]


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a client file with such members."""

    def write(**members: Any) -> str:
        path = tmp_path / "client.json"
        path.write_text(json.dumps({"client_id": "c", "id_token_signed_response_alg": "ES256", **members}))
        return str(path)

    return write


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider over plain HTTP."""
    with LoopbackServer() as server:
        provider = Provider(server)
        server.handler = provider.handle
        yield provider


def test_private_key_jwt(world: World, provider: Provider, write: Write) -> None:
    """The key that is meant for signing with the algorithm makes the assertion of every request."""
    client = write(
        token_endpoint_auth_method="private_key_jwt", token_endpoint_auth_signing_alg="ES256", jwks=JWKS
    )
    ran = world.login("alice", "--json", client=client, issuer=provider.server.url)
    assert (ran.status, ran.json["id_token_claims"]["sub"]) == (0, "alice")
    for sent in provider.posted():
        header, claims = sent.jwt("client_assertion")
        assert (header["alg"], header["kid"], claims["iss"]) == ("ES256", "signing", "c")


def test_the_first_key_that_tells_its_algorithm_signs(world: World, provider: Provider, write: Write) -> None:
    """Without `token_endpoint_auth_signing_alg` the key decides; an RSA key without `alg` cannot."""
    client = write(token_endpoint_auth_method="private_key_jwt", jwks=JWKS)
    assert world.login("alice", client=client, issuer=provider.server.url).status == 0
    assert provider.posted()[0].jwt("client_assertion")[0]["kid"] == "signing"


def test_client_secret_jwt(world: World, provider: Provider, write: Write) -> None:
    """The secret makes the assertion, with HS256 or the algorithm that is named."""
    for alg in ({}, {"token_endpoint_auth_signing_alg": "HS512"}):
        client = write(token_endpoint_auth_method="client_secret_jwt", client_secret=LONG_SECRET, **alg)
        assert world.login("alice", client=client, issuer=provider.server.url).status == 0
    used = [sent.jwt("client_assertion")[0]["alg"] for sent in provider.posted()]
    assert used == ["HS256", "HS256", "HS512", "HS512"]


def test_signed_requests(world: World, provider: Provider, write: Write) -> None:
    """The authentication request is a JWT by `backchannel_authentication_request_signing_alg`."""
    client = write(client_secret="s", backchannel_authentication_request_signing_alg="PS256", jwks=JWKS)
    assert world.login("alice", client=client, issuer=provider.server.url).status == 0
    header, claims = provider.posted()[0].jwt("request")
    assert (header["alg"], header["kid"], claims["login_hint"]) == ("PS256", "rsa", "alice")


def test_encrypted_id_tokens(world: World, write: Write) -> None:
    """An ID Token that is encrypted to a key of the file is read; without that key it is refused."""
    client = write(
        client_secret="s",
        id_token_encrypted_response_alg="RSA-OAEP-256",
        id_token_encrypted_response_enc="A256GCM",
        jwks=JWKS,
    )
    with LoopbackServer() as server:
        server.handler = Provider(server, encrypted=True).handle
        ran = world.login("alice", "--json", client=client, issuer=server.url)
        refused = world.login("alice", "--json", client=write(client_secret="s"), issuer=server.url)
    assert (ran.status, ran.json["id_token_claims"]["sub"]) == (0, "alice")
    assert (refused.status, refused.json["outcome"]) == (1, "failed")
    assert (refused.json["error"], refused.json["token_response"]) == ("tokens_rejected", None)


@pytest.mark.parametrize("bound", [True, "if_supported"])
def test_dpop(world: World, provider: Provider, write: Write, bound: object) -> None:
    """With `dpop_bound_access_tokens` polls carry a proof, and the type of the token is DPoP."""
    client = write(client_secret="s", dpop_bound_access_tokens=bound)
    ran = world.login("alice", "--json", client=client, issuer=provider.server.url)
    assert (ran.status, ran.json["token_response"]["token_type"]) == (0, "DPoP")
    assert "dpop" in provider.posted()[-1].headers


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates: `ca.pem`, and of the client `both.pem`, `cert.pem` with `key.pem`; other keys."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    client = authority.issue_cert("client.example")
    client.private_key_and_cert_chain_pem.write_to_path(directory / "both.pem")
    client.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    client.private_key_pem.write_to_path(directory / "key.pem")
    key = load_pem_private_key(client.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    (directory / "encrypted.pem").write_bytes(encrypted)
    server = authority.issue_cert("127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    trustme.CA().issue_cert("other.example").private_key_pem.write_to_path(directory / "other.pem")
    return directory


@pytest.fixture
def demanding(files: Path) -> Iterator[Provider]:
    """A provider that asks for a client certificate, and checks it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "server.pem")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with LoopbackServer(ssl_context=context) as server:
        provider = Provider(server)
        server.handler = provider.handle
        yield provider


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_client_certificates(
    adapter: str, world: World, demanding: Provider, files: Path, write: Write
) -> None:
    """`--cert` and `--key` reach the TLS settings of each stack; the endpoints for mutual TLS are called."""
    client = write(token_endpoint_auth_method="tls_client_auth")
    ran = world.login(
        "alice",
        *("--adapter", adapter, "--cacert", f"{files}/ca.pem", "--json"),
        *("--cert", f"{files}/cert.pem", "--key", f"{files}/key.pem"),
        client=client,
        issuer=demanding.server.url,
    )
    assert (ran.status, ran.err) == (0, "")
    assert [sent.target for sent in demanding.posted()] == [
        "/mtls/backchannel_authentication_endpoint",
        "/mtls/token_endpoint",
    ]
    assert all(sent.form["client_id"] == ["c"] for sent in demanding.posted())


@pytest.mark.parametrize("adapter", ["requests", "httpx"])
def test_certificate_and_key_in_one_file(
    adapter: str, world: World, demanding: Provider, files: Path, write: Write
) -> None:
    """`--cert` alone is a file with both, and goes with any method of authentication."""
    client = write(client_secret="s", tls_client_certificate_bound_access_tokens=True)
    ran = world.login(
        "alice",
        *("--adapter", adapter, "--cacert", f"{files}/ca.pem", "--cert", f"{files}/both.pem"),
        client=client,
        issuer=demanding.server.url,
    )
    assert ran.status == 0
    assert demanding.posted()[1].target == "/mtls/token_endpoint"


@pytest.mark.parametrize("arguments", [("--cert", "cert.pem"), ("--cert", "cert.pem", "--key", "other.pem")])
def test_wrong_keys_for_certificates(arguments: tuple[str, ...], world: World, files: Path) -> None:
    """A certificate without its own key is one line and exit 2; nobody is asked for a password."""
    named = [argument if argument.startswith("-") else f"{files}/{argument}" for argument in arguments]
    ran = world.login("alice", *named)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "no certificate with its unencrypted key" in ran.err
    assert "PRIVATE" not in ran.err


@pytest.mark.parametrize(
    "members",
    [
        {"token_endpoint_auth_method": "tls_client_auth"},
        {"token_endpoint_auth_method": "self_signed_tls_client_auth"},
        {"client_secret": "s", "tls_client_certificate_bound_access_tokens": True},
    ],
)
def test_a_certificate_is_missing(members: dict[str, Any], world: World, write: Write) -> None:
    """A client that is registered for mutual TLS needs `--cert`: one line and exit 2."""
    ran = world.login("alice", client=write(**members))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "--cert is missing" in ran.err


PRIVATE_KEY_JWT: Final[dict[str, Any]] = {"token_endpoint_auth_method": "private_key_jwt"}
WRONG: Final[list[tuple[dict[str, Any], str]]] = [
    (PRIVATE_KEY_JWT, "jwks has no private key for signing; token_endpoint_auth_signing_alg can name"),
    (
        PRIVATE_KEY_JWT | {"jwks": {"keys": [RSA.as_dict(private=True)]}},
        "jwks has no private key for signing; token_endpoint_auth_signing_alg can name",
    ),
    (
        PRIVATE_KEY_JWT | {"token_endpoint_auth_signing_alg": "ES256", "jwks": {"keys": [PUBLIC]}},
        "jwks has no private key for token_endpoint_auth_signing_alg 'ES256'",
    ),
    (
        PRIVATE_KEY_JWT | {"token_endpoint_auth_signing_alg": "HS256", "jwks": JWKS},
        "jwks has no private key for token_endpoint_auth_signing_alg 'HS256'",
    ),
    (PRIVATE_KEY_JWT | {"jwks": []}, "jwks is not an object with an array of keys"),
    (PRIVATE_KEY_JWT | {"jwks": {"keys": {}}}, "jwks is not an object with an array of keys"),
    (PRIVATE_KEY_JWT | {"jwks": {"keys": [1, None, {}]}}, "jwks has no private key for signing"),
    ({"token_endpoint_auth_method": "client_secret_jwt"}, "client_secret is missing"),
    (
        {"token_endpoint_auth_method": "client_secret_jwt", "client_secret": "hush"},
        "client_secret: ",
    ),
    (
        {
            "token_endpoint_auth_method": "client_secret_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "client_secret": LONG_SECRET,
        },
        "token_endpoint_auth_signing_alg: 'ES256' does not go with client_secret_jwt",
    ),
    (
        {"backchannel_authentication_request_signing_alg": "ES384", "jwks": JWKS},
        "jwks has no private key for backchannel_authentication_request_signing_alg 'ES384'",
    ),
    ({"id_token_signed_response_alg": "none"}, "id_token_signed_response_alg must be one of"),
    ({"id_token_signed_response_alg": 5}, "id_token_signed_response_alg is not a string"),
    (
        {"id_token_signed_response_alg": "HS256"},
        "client_secret is missing, which the algorithms that are registered for ID Tokens need",
    ),
    (
        {"id_token_encrypted_response_enc": "A256GCM"},
        "id_token_encrypted_response_enc needs id_token_encrypted_response_alg",
    ),
    (
        {"id_token_encrypted_response_alg": "RSA1_5", "jwks": JWKS},
        "id_token_encrypted_response_alg must be one of",
    ),
    ({"id_token_encrypted_response_alg": "RSA1_5"}, "id_token_encrypted_response_alg must be one of"),
    (
        {"id_token_encrypted_response_alg": "ECDH-ES", "jwks": JWKS},
        "no private key for id_token_encrypted_response_alg 'ECDH-ES'",
    ),
    ({"dpop_bound_access_tokens": "yes"}, "dpop_bound_access_tokens is neither true nor false"),
]


@pytest.mark.parametrize(("members", "message"), WRONG)
def test_wrong_combinations(members: dict[str, Any], message: str, world: World, write: Write) -> None:
    """What does not go together is one line that names the member, without anything of a key; exit 2."""
    ran = world.login("alice", client=write(**members))
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    secrets: list[str] = [key[name] for key in JWKS["keys"] for name in ("d", "x", "n") if name in key]
    assert not any(secret in ran.err for secret in [*secrets, "hush"])
    assert world.provider.journal == ()


PROFILED: Final[list[tuple[dict[str, Any], str]]] = [
    (
        {"client_secret": "s"},
        "token_endpoint_auth_method must be one of private_key_jwt, tls_client_auth, self_signed_tls_client_auth",
    ),
    ({"backchannel_authentication_request_signing_alg": None}, "_request_signing_alg must be set"),
    (
        {"backchannel_authentication_request_signing_alg": "RS256"},
        "backchannel_authentication_request_signing_alg must be PS256 or ES256, not RS256",
    ),
    (
        {"token_endpoint_auth_signing_alg": "RS256"},
        "token_endpoint_auth_signing_alg must be PS256 or ES256, not RS256",
    ),
    (
        {"id_token_signed_response_alg": "RS256"},
        "id_token_signed_response_alg must be PS256 or ES256, not RS256",
    ),
    ({"dpop_bound_access_tokens": False}, "dpop_bound_access_tokens or tls_client_certificate_bound"),
    ({"backchannel_token_delivery_mode": "push"}, "backchannel_token_delivery_mode must be poll or ping"),
]


@pytest.mark.parametrize(("changed", "message"), PROFILED)
def test_a_profile_rules_a_client_out(
    changed: dict[str, Any], message: str, world: World, write: Write
) -> None:
    """What `--profile` rules out names the member of the client file; exit 2."""
    members = {
        **PRIVATE_KEY_JWT,
        "token_endpoint_auth_signing_alg": "ES256",
        "backchannel_authentication_request_signing_alg": "PS256",
        "dpop_bound_access_tokens": True,
        "jwks": JWKS,
        **changed,
    }
    if "client_secret" in changed:
        del members["token_endpoint_auth_method"]
    client = write(**{name: value for name, value in members.items() if value is not None})
    ran = world.login("alice", "--profile", "FAPI-CIBA", client=client)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert f"--client {client}: " in ran.err
    assert message in ran.err
    assert "(profile FAPI-CIBA)" in ran.err


def test_a_profile_rules_a_request_out(world: World, write: Write, provider: Provider) -> None:
    """What `--profile` rules out names the option; exit 2."""
    for profile, arguments, message in (
        ("camara", ("--binding-message", "W4SCT"), "--binding-message must not be given"),
        ("okta", ("--param", "request_expiry=60"), "request_expiry: give it as --requested-expiry"),
        ("auth0", ("--requested-expiry", "300000"), "--binding-message must be given"),
    ):
        members = {**PRIVATE_KEY_JWT, "token_endpoint_auth_signing_alg": "ES256", "jwks": JWKS}
        client = write(**members)
        ran = world.login(
            "alice", "--profile", profile, *arguments, client=client, issuer=provider.server.url
        )
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert message in ran.err
    assert provider.posted() == []


def test_a_profile_changes_what_is_sent(world: World, provider: Provider, write: Write) -> None:
    """The audience of assertions, the names of parameters and the scope are those of `--profile`."""
    members = {**PRIVATE_KEY_JWT, "token_endpoint_auth_signing_alg": "ES256", "jwks": JWKS}
    arguments = ("--scope", "openid dpv:FraudPreventionAndDetection")
    url = provider.server.url
    ran = world.login(
        "tel:+34600000001", "--profile", "camara", *arguments, client=write(**members), issuer=url
    )
    assert ran.status == 0
    assert [sent.jwt("client_assertion")[1]["aud"] for sent in provider.posted()] == [
        f"{url}/backchannel_authentication_endpoint",
        f"{url}/token_endpoint",
    ]
    provider.sent.clear()
    ran = world.login(
        "alice", "--profile", "okta", "--requested-expiry", "60", client=write(**members), issuer=url
    )
    assert ran.status == 0
    asked = provider.posted()[0]
    assert (asked.form["request_expiry"], asked.form["scope"]) == (["60"], ["openid"])
    assert asked.jwt("client_assertion")[1]["aud"] == url


def test_how_a_profile_polls(write: Write) -> None:
    """Polls are as the profile has them, but for the first one where `--first-poll-after` is given."""
    path = write(client_secret="s")
    assert read_client_file(path, profile=profiles.AUTH0).config.polling == profiles.AUTH0.polling
    polling = read_client_file(path, profile=profiles.AUTH0, first_poll_after=0).config.polling
    assert polling == evolve(profiles.AUTH0.polling, first_poll_after=0)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"client_secret": "s" * 64, "id_token_signed_response_alg": "HS512"},
            "id_token_signed_response_alg: the provider does not support HS512",
        ),
        (
            {**PRIVATE_KEY_JWT, "token_endpoint_auth_signing_alg": "PS256", "jwks": JWKS},
            "token_endpoint_auth_signing_alg: the provider does not support PS256",
        ),
        ({}, "token_endpoint_auth_method: the provider does not support 'none'"),
        (
            {
                "client_secret": "s",
                "backchannel_authentication_request_signing_alg": "ES256",
                "jwks": JWKS,
            },
            "backchannel_authentication_request_signing_alg: the provider does not support ES256",
        ),
    ],
)
def test_what_the_provider_cannot_do(
    members: dict[str, Any], message: str, world: World, provider: Provider, write: Write
) -> None:
    """What the metadata rules out names the member of the client file; nothing is sent, exit 2."""
    ran = world.login("alice", client=write(**members), issuer=provider.server.url)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    assert provider.posted() == []


def test_an_error_code_that_repeats_a_secret(world: World, provider: Provider, write: Write) -> None:
    """A code that looks like one and is the client's secret is shown neither as it goes on nor at the end."""

    def refuse(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> Reply:
        if target.endswith("/token_endpoint"):
            return Reply(400, JSON, b'{"error": "hush_hush"}')
        return provider.handle(method, target, headers, body)

    provider.server.handler = refuse
    ran = world.login("alice", client=write(client_secret="hush_hush"), issuer=provider.server.url)
    assert ran.status == 1
    assert "failed: token endpoint answered 400 ***" in ran.err
    assert "hush_hush" not in ran.out + ran.err


def test_tokens_that_did_not_pass_are_masked_from_then_on(provider: Provider, write: Write) -> None:
    """Tokens are secrets, whether they could be validated or not."""
    client = read_client_file(write(client_secret="s", id_token_signed_response_alg="PS256")).config
    request, network = AuthenticationRequest(login_hint="alice"), Network(allow_loopback_http=True)
    masking = Masking()
    job = Job(
        provider.server.url, evolve(client, polling=PollingPolicy(first_poll_after=0)), request, network
    )
    assert authenticate("httpx", job, lambda _step: None, masking).error == "tokens_rejected"
    assert masking.masked({"a-token": ["an a-token", 1]}) == {"***": ["an ***", 1]}
    assert masking.masked("a-token", show_tokens=True) == "a-token"


def test_every_method_has_its_name(write: Write) -> None:
    """The names of the methods in a client file are those that the core registers."""
    for method in AUTHENTICATION_METHODS:
        path = write(token_endpoint_auth_method=method, client_secret=LONG_SECRET, jwks=JWKS)
        assert read_client_file(path).config.authentication.method == method


def test_a_client_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Whatever is wrong with the file is an `Unusable`."""
    with pytest.raises(Unusable, match="No such file"):
        read_client_file(str(tmp_path / "missing"))


def test_fetching_the_keys_is_told(world: World) -> None:
    """Tokens that wait for the provider's keys are told of, and of their validation."""
    ran = world.login("alice")
    lines = [line.partition(" s  ")[2] for line in ran.err.splitlines()]
    assert lines[-2:] == [
        "approved: tokens came; fetching the keys to validate them",
        "approved: tokens issued",
    ]


SEARCH: Final = KeySearch(since=100.0, as_of=100.0, give_up_at=160.0)
TOKENS: Final = TokenResponse(
    access_token=Secret("a"),
    token_type="Bearer",
    expires_at=None,
    refresh_token=None,
    id_token=None,
    scope="openid",
    authorization_details=None,
    extra={},
)
EVENTS: Final[list[tuple[Event, str]]] = [
    (
        DpopNonceRequired(interval=5, next_poll_at=105.0, faults=0, answer_lost=False),
        "use_dpop_nonce: the next poll, in 5.0 s, shows it",
    ),
    (
        KeyRequestFailed(SEARCH, next_try_at=102.0, reason="status 503"),
        "no keys (status 503); next try in 2.0 s",
    ),
    (KeyRequestSent(SEARCH), "fetching the keys again"),
    (
        TokensHeld(Guarded(TOKENS), SEARCH, next_try_at=107.0),
        "approved: tokens came, signed with a new key; fetching the keys in 7.0 s",
    ),
]


@pytest.mark.parametrize(("event", "line"), EVENTS)
def test_lines_of_events(event: Event, line: str) -> None:
    """Each event has a line of its own."""
    assert display._describe(event, 100.0)[0] == line  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"d": "hush"}, "key 1: jwk is a malformed key"),
        ({"kid": 7}, "key 1: jwk is a key with a malformed kid"),
        ({"use": "enc"}, "key 1: jwk must be a key for signing with ES256"),
        ({"key_ops": ["verify"]}, "key 1: jwk must be a key for signing with ES256"),
    ],
)
def test_why_no_key_fits(changed: dict[str, Any], fault: str, write: Write) -> None:
    """Where no key fits, what is wrong with each is told, and nothing of the key."""
    key = {**SIGNING.as_dict(private=True), **changed}
    path = write(
        jwks={"keys": [key]},
        token_endpoint_auth_method="private_key_jwt",
        token_endpoint_auth_signing_alg="ES256",
    )
    with pytest.raises(Unusable) as caught:
        read_client_file(path)
    assert fault in str(caught.value.message)
    assert "hush" not in caught.value.message
