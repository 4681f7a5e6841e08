"""Tokens that are bound to a key of the transaction, or to the client's certificate."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs

import attrs
import pytest

from ciba_core import (
    Begin,
    ClientConfig,
    Delivery,
    DpopKey,
    HttpRequest,
    NoClientAuthentication,
    PrivateKeyJwt,
    ProofClaims,
    ProviderMetadata,
    RemoteSigner,
    RequestSigning,
    Revocation,
    Secret,
    SelfSignedTlsClientAuth,
    Shared,
    SignaturesMade,
    Step,
    TlsClientAuth,
    Transaction,
    step,
)
from ciba_core.errors import ErrorResponse, LocalProtocolError, RemoteProtocolError, TokensRejected
from ciba_core.events import AuthorizationPending, DpopNonceRequired, TokensUntrusted
from ciba_core.provider.fit import check_fit
from ciba_core.states import Failed, Pending
from ciba_core.tokens.grant_audit import Verdict
from tests.jwt_samples import FAPI_SIGNER, counter, opened, verified
from tests.made_keys import import_key
from tests.samples import (
    ACKNOWLEDGEMENT,
    CLIENT,
    JWKS,
    NOW,
    PROVIDER,
    REQUEST,
    SHARED,
    TOKENS,
    Json,
    answer,
    awaiting,
    fail,
    fire,
    pending,
    polling,
    reply,
    sent,
)

ORIGIN = "https://server.example.com"
BOUND: Json = {**TOKENS, "token_type": "DPoP"}
PENDING: Json = {"error": "authorization_pending"}
NONCE_ASKED: Json = {"error": "use_dpop_nonce"}


def client(**changes: Any) -> ClientConfig:
    settings: dict[str, Any] = {"dpop_bound_access_tokens": True, "entropy": counter(), **changes}
    return attrs.evolve(CLIENT, **settings)


def proof(request: HttpRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of the one proof of a request, whose signature was made by the key in it."""
    (value,) = [value for name, value in request.headers if name == "DPoP"]
    header, claims = opened(value)
    assert verified(value, import_key(header["jwk"]), "ES256")
    return header, claims


def test_a_proof_in_every_token_request() -> None:
    """DPOP-01..05, -08, -22: a fresh proof for each poll, by one key, for the endpoint that is called."""
    tx = pending(client=client())
    key = tx.dpop_key
    assert key is not None
    seen: set[str] = set()
    for number in range(4):
        polled = fire(tx)
        header, claims = proof(sent(polled))
        assert header == {"typ": "dpop+jwt", "alg": "ES256", "jwk": header["jwk"]}
        assert import_key(header["jwk"]).thumbprint() == key.thumbprint
        assert not import_key(header["jwk"]).is_private
        assert {**claims, "jti": "x"} == {
            "jti": "x",
            "htm": "POST",
            "htu": "https://server.example.com/token",
            "iat": int(polled.transaction.polls * 2 + NOW),
        }
        seen.add(claims["jti"])
        done = polled.transaction
        now = NOW + 2 * polled.transaction.polls
        tx = (fail(done, now=now) if number == 1 else answer(done, reply(400, PENDING), now=now)).transaction
    assert len(seen) == 4
    assert all(len(jti) >= 16 for jti in seen)


def test_no_proof_at_the_backchannel_authentication_endpoint() -> None:
    """DPOP-21: in poll mode the key is shown where the tokens come from, and nowhere else."""
    begun = step(Transaction(client=client(), provider=PROVIDER), Begin(REQUEST), NOW)
    assert "DPoP" not in dict(sent(begun).headers)
    assert begun.transaction.dpop_key is not None
    waiting = answer(polling(client=client()), reply(200, BOUND, ("DPoP-Nonce", "n-1")), shared=Shared())
    # Nor where the keys come from.
    assert dict(sent(waiting).headers) == {"Accept": "application/jwk-set+json, application/json, */*;q=0.1"}
    assert answer(waiting.transaction, reply(200, JWKS), shared=waiting.shared).transaction.tokens is not None


def test_without_the_setting_there_is_no_key() -> None:
    """DPOP-12: whoever did not ask for bound tokens sends no proof, and remembers no nonce."""
    tx = polling()
    assert tx.dpop_key is None
    assert "DPoP" not in dict(sent(fire(pending())).headers)
    found = answer(tx, reply(400, PENDING, ("DPoP-Nonce", "n-1")))
    assert found.shared is SHARED


def test_each_transaction_has_a_key_of_its_own() -> None:
    """DPOP-22: transactions cannot be linked by their keys."""
    config = client()
    keys = [awaiting(client=config).dpop_key for _ in range(3)]
    assert len({key.thumbprint for key in keys if key is not None}) == 3


def test_a_key_that_is_given() -> None:
    """DPOP-22: it is the one that is shown; without the setting it would be shown to nobody, which is misuse."""
    key = DpopKey.generate(counter())
    begun = step(Transaction(client=client(), provider=PROVIDER, dpop_key=key), Begin(REQUEST), NOW)
    assert begun.transaction.dpop_key is key
    with pytest.raises(LocalProtocolError, match=r"^dpop_key: "):
        step(Transaction(client=CLIENT, provider=PROVIDER, dpop_key=key), Begin(REQUEST), NOW)


def test_bound_tokens_come_with_their_key() -> None:
    """DPOP-09, -10: the tokens are of the type DPoP; the key stays at hand for their use."""
    found = answer(polling(client=client()), reply(200, BOUND)).transaction
    assert found.tokens is not None
    assert found.tokens.token_type == "DPoP"
    assert found.dpop_key is not None
    assert found.tokens.dpop_key == found.dpop_key


def test_bearer_where_dpop_was_requested_for() -> None:
    """DPOP-09: tokens that are not bound are not handed out."""
    found = answer(polling(client=client()), reply(200, TOKENS))
    error = found.transaction.error
    assert isinstance(error, TokensRejected)
    assert error.rule == "RFC 6749 7.1, RFC 9449 5"
    assert found.events == (TokensUntrusted(error),)
    assert found.transaction.tokens is None
    untrusted = error.untrusted.reveal_untrusted()
    assert (untrusted.token_type, untrusted.dpop_key) == ("Bearer", found.transaction.dpop_key)


def test_the_key_of_the_transaction_decides() -> None:
    """DPOP-22: whether tokens are bound was settled when the transaction began, whatever is configured now."""
    bound = attrs.evolve(polling(client=client()), client=CLIENT)
    asked = answer(bound, reply(400, NONCE_ASKED, ("DPoP-Nonce", "n-1"))).transaction
    assert proof(sent(fire(asked)))[1]["nonce"] == "n-1"
    tokens = answer(bound, reply(200, BOUND)).transaction.tokens
    assert tokens is not None
    assert (tokens.dpop_key, tokens.differs_in) == (bound.dpop_key, ())
    plain = attrs.evolve(polling(), client=client())
    tokens = answer(plain, reply(200, TOKENS)).transaction.tokens
    assert tokens is not None
    assert (tokens.token_type, tokens.dpop_key, tokens.differs_in) == ("Bearer", None, ())
    assert isinstance(answer(plain, reply(200, BOUND)).transaction.error, TokensRejected)
    assert isinstance(answer(plain, reply(400, NONCE_ASKED)).transaction.error, ErrorResponse)


def test_a_nonce_is_asked_for_and_shown() -> None:
    """CIBA-11-12, DPOP-06, -14: ``use_dpop_nonce`` is no end; the next poll shows the nonce, at its time."""
    first = polling(client=client())
    asked = answer(first, reply(400, NONCE_ASKED, ("DPoP-Nonce", "n-1")), elapsed=0.5, now=NOW + 2.5)
    assert asked.events == (DpopNonceRequired(2.0, NOW + 4.5, 0, False),)
    assert isinstance(asked.transaction.state, Pending)
    assert dict(asked.shared.dpop_nonces) == {ORIGIN: "n-1"}
    assert asked.shared.keys is SHARED.keys
    again = fire(asked.transaction, shared=asked.shared)
    assert proof(sent(again))[1]["nonce"] == "n-1"
    assert again.shared == asked.shared
    assert answer(again.transaction, reply(200, BOUND)).transaction.tokens is not None


@pytest.mark.parametrize("status", [200, 400, 401, 429, 503])
def test_the_newest_nonce_counts(status: int) -> None:
    """DPOP-15: any answer may bring another nonce, and it replaces the old one."""
    known = Shared(keys=SHARED.keys, dpop_nonces={ORIGIN: "old", "https://other.example": "kept"})
    polled = fire(pending(client=client()), shared=known)
    assert proof(sent(polled))[1]["nonce"] == "old"
    body = BOUND if status == 200 else PENDING
    found = answer(polled.transaction, reply(status, body, ("dpop-nonce", "new")), shared=known)
    assert dict(found.shared.dpop_nonces) == {ORIGIN: "new", "https://other.example": "kept"}
    # The old value is what it was.
    assert known.dpop_nonces[ORIGIN] == "old"


def test_a_nonce_is_shared_with_the_next_transaction() -> None:
    """DPOP-16: a nonce is the server's, not the transaction's; that of another server is not shown to it."""
    shared = answer(polling(client=client()), reply(400, PENDING, ("DPoP-Nonce", "n-1"))).shared
    assert proof(sent(fire(pending(client=client()), shared=shared)))[1]["nonce"] == "n-1"
    elsewhere = attrs.evolve(PROVIDER, token_endpoint="https://tokens.example.com/token")
    tx = attrs.evolve(pending(client=client()), provider=elsewhere)
    assert "nonce" not in proof(sent(fire(tx, shared=shared)))[1]


@pytest.mark.parametrize("nonce", [None, "", 'quoted"', "with space", "n" * 2049])
def test_a_nonce_that_is_none(nonce: str | None) -> None:
    """DPOP-14, -18: what cannot be a nonce is not remembered; asking without giving one is a violation."""
    headers = () if nonce is None else (("DPoP-Nonce", nonce),)
    tx = polling(client=client())
    assert answer(tx, reply(400, PENDING, *headers)).shared == SHARED
    found = answer(tx, reply(400, NONCE_ASKED, *headers))
    assert isinstance(found.transaction.state, Failed)
    assert isinstance(found.transaction.error, RemoteProtocolError)
    assert found.transaction.error.rule == "RFC 9449 8"
    assert found.shared == SHARED


def test_a_client_that_sends_no_proof_can_do_nothing_with_a_nonce() -> None:
    """CIBA-11-12: it is an error then, and not waited for until the end."""
    found = answer(polling(), reply(400, NONCE_ASKED, ("DPoP-Nonce", "n-1"))).transaction
    assert isinstance(found.state, Failed)
    assert str(found.error) == "token endpoint answered 400 use_dpop_nonce"


def test_faults_in_between_lose_neither_key_nor_nonce() -> None:
    """Promise 5: the key lives as long as the transaction, through faults and restarts."""
    tx = polling(client=client())
    shared = answer(tx, reply(503, b"", ("DPoP-Nonce", "n-1"))).shared
    failed = fail(tx, Delivery.UNKNOWN).transaction
    stored = Transaction.from_json(failed.to_json(), client=tx.client, provider=PROVIDER)
    assert stored.dpop_key == tx.dpop_key
    header, claims = proof(sent(fire(stored, shared=shared)))
    assert tx.dpop_key is not None
    assert import_key(header["jwk"]).thumbprint() == tx.dpop_key.thumbprint
    assert claims["nonce"] == "n-1"
    assert isinstance(answer(tx, reply(400, PENDING)).events[0], AuthorizationPending)


def test_nonces_survive_a_restart() -> None:
    """Promise 5, DPOP-15: with a process for each poll, the login ends where a nonce is demanded, too."""
    tx = polling(client=client())
    for nonce in ("n-1", "n-2"):
        tx = answer(
            tx, reply(400, NONCE_ASKED, ("DPoP-Nonce", nonce)), shared=Shared(), now=NOW + 60
        ).transaction
        public, secrets = tx.to_json_parts()
        assert json.loads(public)["dpop_nonces"] == {ORIGIN: nonce}
        again = Transaction.from_json(public, client=tx.client, provider=PROVIDER, secrets=secrets)
        assert again == tx
        polled = fire(again, shared=Shared())
        assert proof(sent(polled))[1]["nonce"] == nonce
        assert polled.shared.dpop_nonces == {ORIGIN: nonce}
        tx = polled.transaction


def test_newer_nonces_of_the_driver() -> None:
    """DPOP-15, -16: what the driver has learnt since goes before what a snapshot brings along."""
    tx = answer(polling(client=client()), reply(400, NONCE_ASKED, ("DPoP-Nonce", "old")))
    known = Shared(dpop_nonces={ORIGIN: "new"})
    polled = fire(tx.transaction, shared=known)
    assert proof(sent(polled))[1]["nonce"] == "new"
    assert polled.shared is known
    assert polled.transaction.dpop_nonces == {ORIGIN: "new"}
    other = Shared(dpop_nonces={"https://other.example": "kept"})
    assert fire(tx.transaction, shared=other).shared.dpop_nonces == {
        ORIGIN: "old",
        "https://other.example": "kept",
    }


# ---- mutual TLS

ALIASES = {
    "token_endpoint": "https://mtls.example.com/token",
    "backchannel_authentication_endpoint": "https://mtls.example.com/bc-authorize",
}
TLS = attrs.evolve(PROVIDER, mtls_endpoint_aliases=ALIASES)


def urls(config: ClientConfig, provider: Any) -> tuple[str, str]:
    """Where the two requests go."""
    begun = step(Transaction(client=config, provider=provider), Begin(REQUEST), NOW)
    tx = answer(begun.transaction, reply(200, ACKNOWLEDGEMENT)).transaction
    return sent(begun).url, sent(fire(tx)).url


@pytest.mark.parametrize(
    "changes",
    [
        {"authentication": TlsClientAuth()},
        {"authentication": SelfSignedTlsClientAuth()},
        {"tls_client_certificate_bound_access_tokens": True},
        {"authentication": NoClientAuthentication(), "tls_client_certificate_bound_access_tokens": True},
    ],
    ids=str,
)
def test_aliases_for_mutual_tls(changes: dict[str, Any]) -> None:
    """MTLS-05, -08: with a certificate the aliases are called, endpoint by endpoint; others stay as they are."""
    config = attrs.evolve(CLIENT, **changes)
    assert config.mutual_tls
    assert urls(config, TLS) == ("https://mtls.example.com/bc-authorize", "https://mtls.example.com/token")
    half = attrs.evolve(PROVIDER, mtls_endpoint_aliases={"token_endpoint": ALIASES["token_endpoint"]})
    assert urls(config, half) == ("https://server.example.com/bc-authorize", "https://mtls.example.com/token")
    assert urls(config, PROVIDER)[1] == "https://server.example.com/token"


def test_no_aliases_without_a_certificate() -> None:
    """MTLS-05: aliases are for who presents a certificate."""
    assert urls(CLIENT, TLS) == (
        "https://server.example.com/bc-authorize",
        "https://server.example.com/token",
    )


@pytest.mark.parametrize("method", [TlsClientAuth(), SelfSignedTlsClientAuth()])
def test_the_certificate_is_the_credential(method: Any) -> None:
    """MTLS-01, -02: ``client_id`` in each form, and no other credential."""
    config = attrs.evolve(CLIENT, authentication=method)
    for request in (sent(step(Transaction(client=config, provider=TLS), Begin(REQUEST), NOW)), poll(config)):
        assert request.body.endswith(b"&client_id=s6BhdRkqt3")
        assert [name for name, _ in request.headers] == ["Accept", "Content-Type"]


def poll(config: ClientConfig) -> HttpRequest:
    return sent(fire(pending(client=config)))


def test_the_audience_is_no_alias() -> None:
    """MTLS-09: an assertion and a signed request for an alias are for the issuer, as they always are."""
    config = attrs.evolve(
        CLIENT,
        authentication=PrivateKeyJwt(FAPI_SIGNER),
        request_signing=RequestSigning(FAPI_SIGNER),
        tls_client_certificate_bound_access_tokens=True,
    )
    begun = step(Transaction(client=config, provider=TLS), Begin(REQUEST), NOW)
    polled = fire(answer(begun.transaction, reply(200, ACKNOWLEDGEMENT)).transaction)
    revoked = Revocation(
        Secret("x"),
        client=config,
        provider=attrs.evolve(TLS, revocation_endpoint="https://mtls.example.com/r"),
    ).start(NOW)
    assert revoked.request is not None
    for request in (sent(begun), sent(polled), revoked.request):
        assert request.url.startswith("https://mtls.example.com/")
        form = parse_qs(request.body.decode())
        for name in {"request", "client_assertion"} & form.keys():
            assert opened(form[name][0])[1]["aud"] == "https://server.example.com"
        assert "client_assertion" in form


def test_bound_tokens_of_a_provider_that_binds_none() -> None:
    """MTLS-06, -07, REG-16: who is registered for bound tokens is not content with others; nothing is sent."""
    config = attrs.evolve(CLIENT, tls_client_certificate_bound_access_tokens=True)
    for supported in (True, None):
        provider = attrs.evolve(TLS, tls_client_certificate_bound_access_tokens=supported)
        check_fit(REQUEST, config, provider)
    unable = attrs.evolve(TLS, tls_client_certificate_bound_access_tokens=False)
    with pytest.raises(
        LocalProtocolError, match=r"^tls_client_certificate_bound_access_tokens: the provider"
    ):
        step(Transaction(client=config, provider=unable), Begin(REQUEST), NOW)
    check_fit(REQUEST, attrs.evolve(CLIENT, authentication=TlsClientAuth()), unable)


def test_dpop_over_mutual_tls() -> None:
    """MTLS-09: the proof is for the URL that is called, and the nonce that of the server behind it."""
    config = client(authentication=TlsClientAuth())
    tx = attrs.evolve(pending(client=config), provider=TLS)
    polled: Step = fire(tx)
    assert proof(sent(polled))[1]["htu"] == "https://mtls.example.com/token"
    found = answer(polled.transaction, reply(400, PENDING, ("DPoP-Nonce", "n-1")))
    assert dict(found.shared.dpop_nonces) == {"https://mtls.example.com": "n-1"}


# --- DPoP where the provider supports it


def opportunistic(**changes: Any) -> ClientConfig:
    return client(dpop_bound_access_tokens="if_supported", **changes)


UNLISTED = attrs.evolve(PROVIDER, dpop_signing_alg_values_supported=None)


def polled(provider: ProviderMetadata, token_type: str) -> Step:
    """Poll once, and let tokens of a type come."""
    tx = attrs.evolve(polling(client=opportunistic()), provider=provider)
    return answer(tx, reply(200, {**TOKENS, "token_type": token_type}), shared=SHARED)


@pytest.mark.parametrize("listed", [None, ()])
@pytest.mark.parametrize("token_type", ["Bearer", "bearer"])
def test_bearer_tokens_where_no_dpop_algorithm_is_listed(
    listed: tuple[str, ...] | None, token_type: str
) -> None:
    """CAM-18, RFC 9449 5: a proof is sent all the same, and tokens that are not bound have no key."""
    provider = attrs.evolve(PROVIDER, dpop_signing_alg_values_supported=listed)
    tx = attrs.evolve(pending(client=opportunistic()), provider=provider)
    proof(sent(fire(tx)))
    tokens = polled(provider, token_type).transaction.tokens
    assert tokens is not None
    assert (tokens.token_type.lower(), tokens.dpop_key) == ("bearer", None)
    assert [item.verdict for item in tokens.grant.items if item.name == "token_type"] == [
        Verdict.AS_REQUESTED
    ]


def test_bound_tokens_where_no_dpop_algorithm_is_listed() -> None:
    """CAM-18: a provider may support DPoP without saying so; then the tokens are bound."""
    done = polled(UNLISTED, "DPoP").transaction
    assert done.tokens is not None
    assert done.tokens.dpop_key == done.dpop_key
    assert done.dpop_key is not None


def test_no_downgrade_where_dpop_is_listed() -> None:
    """DPOP-09: a provider that lists an algorithm does not get away with bearer tokens."""
    listed = attrs.evolve(PROVIDER, dpop_signing_alg_values_supported=("ES256",))
    failed = polled(listed, "Bearer").transaction
    assert isinstance(failed.error, TokensRejected)
    assert failed.error.rule == "RFC 6749 7.1, RFC 9449 5"
    assert polled(listed, "DPoP").transaction.tokens is not None


def test_another_algorithm_than_the_one_of_proofs() -> None:
    """DPOP-12: a provider that lists other algorithms supports DPoP, and no proof of ours."""
    other = attrs.evolve(PROVIDER, dpop_signing_alg_values_supported=("RS256",))
    with pytest.raises(LocalProtocolError, match="dpop_bound_access_tokens: the provider does not support"):
        check_fit(REQUEST, opportunistic(), other)
    for none in (None, ()):
        check_fit(REQUEST, opportunistic(), attrs.evolve(PROVIDER, dpop_signing_alg_values_supported=none))


def test_bearer_tokens_are_no_choice_of_the_client_alone() -> None:
    """FAPI2-01, MTLS-06: never under a profile that binds tokens, nor beside a certificate that does."""
    with pytest.raises(ValueError, match="dpop_bound_access_tokens must be True or False"):
        opportunistic(authentication=TlsClientAuth(), tls_client_certificate_bound_access_tokens=True)
    with pytest.raises(ValueError, match="tokens have to be sender-constrained"):
        opportunistic(profile=attrs.evolve(CLIENT.profile, sender_constrained_tokens=True))


@pytest.mark.parametrize("value", ["yes", "", None, 1, 0])
def test_dpop_is_on_off_or_if_supported(value: Any) -> None:
    """Anything else is refused, and the message names the setting."""
    with pytest.raises(TypeError, match="dpop_bound_access_tokens must be True, False or 'if_supported'"):
        client(dpop_bound_access_tokens=value)


def test_claims_of_ones_own_in_proofs() -> None:
    """CAM-20: the proof of a poll has the hash of the form that is sent, also where a JWT in it is signed later."""
    hashes = ProofClaims(body_hash="camara:bh", query_hash="camara:qh")
    request = sent(fire(pending(client=client(dpop_proof_claims=hashes))))
    digest = base64.urlsafe_b64encode(hashlib.sha256(request.body).digest()).decode().rstrip("=")
    assert proof(request)[1]["camara:bh"] == digest
    assert "camara:qh" not in proof(request)[1]

    remote = PrivateKeyJwt(RemoteSigner("hsm", alg="ES256", kid="k"))
    tx = pending(client=client())
    drafted = fire(attrs.evolve(tx, client=client(dpop_proof_claims=hashes, authentication=remote)))
    assert drafted.draft is not None
    (jwt,) = drafted.draft.jwts
    signed = step(
        drafted.transaction,
        SignaturesMade(drafted.draft.id, (FAPI_SIGNER.sign(jwt.octets),)),
        NOW + 2,
    )
    body = sent(signed).body
    assert b"client_assertion=" in body
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
    assert proof(sent(signed))[1]["camara:bh"] == digest
