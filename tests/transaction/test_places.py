"""What real providers need beside the standard: places in the request for it, and in what comes back."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    ClientConfig,
    HeaderContext,
    PrivateKeyJwt,
    RemoteSigner,
    Secret,
    SignaturesMade,
    TokenResponse,
    Transaction,
    hints,
    step,
)
from ciba_core.client.hints import LoginHintSigning, SubjectIdentifier
from ciba_core.errors import (
    AccessDenied,
    GrantDiffers,
    LocalProtocolError,
    RemoteProtocolError,
    TokensRejected,
)
from ciba_core.events import AnswerHeaders, AuthReqIdIssued
from ciba_core.jose.unsigned_jwt import signed
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.provider.shared import NOTHING_SHARED
from ciba_core.values.http import Purpose
from tests.jwt_samples import FAPI_SIGNER
from tests.samples import (
    ACKNOWLEDGEMENT,
    CLIENT,
    NOW,
    PROVIDER,
    REQUEST,
    TOKENS,
    answer,
    awaiting,
    fire,
    id_token,
    pending,
    polling,
    reply,
    sent,
)

SUBJECT = "248289761001"


def restored(tx: Transaction) -> Transaction:
    return Transaction.from_json(tx.to_json(), client=tx.client, provider=tx.provider)


def asked(
    request: AuthenticationRequest,
    *,
    client: ClientConfig = CLIENT,
    provider: ProviderMetadata = PROVIDER,
    **claims: Any,
) -> Transaction:
    """An authentication by that request that has come to its end, its ID Token with these claims."""
    tx = step(Transaction(client=client, provider=provider), Begin(request), NOW).transaction
    tx = fire(answer(tx, reply(200, ACKNOWLEDGEMENT)).transaction).transaction
    return answer(tx, reply(200, {**TOKENS, "id_token": id_token(**claims)})).transaction


# ---- the acknowledgement


def test_members_of_the_acknowledgement_stay() -> None:
    """CIBA-7.3-08, promise 5: on the event, on the transaction to its end, and in the snapshot."""
    more = {"auth_url": "https://op.example/approve?id=7"}
    current = answer(awaiting(), reply(200, {**ACKNOWLEDGEMENT, **more}))
    (event,) = current.events
    assert isinstance(event, AuthReqIdIssued)
    assert event.extra == more
    assert current.transaction.acknowledgement_extra == more
    assert "approve" not in repr(current)
    assert "approve" not in current.transaction.to_json_parts()[0]
    end = answer(fire(restored(current.transaction)).transaction, reply(200, TOKENS)).transaction
    assert end.tokens is not None
    assert restored(end).acknowledgement_extra == more
    assert restored(pending()).acknowledgement_extra == {}


# ---- parameters of the token request


def test_token_parameters_go_with_each_poll() -> None:
    """RFC 8707 2.2: ``resource`` on the token request; each value by itself, after a restart too."""
    request = attrs.evolve(
        REQUEST,
        token_parameters={
            "resource": ["https://a.example/", "urn:b"],
            "audience": "x y",
            "level": {"n": [1]},
        },
    )
    begun = step(Transaction(client=CLIENT, provider=PROVIDER), Begin(request), NOW)
    assert b"audience" not in sent(begun).body
    tx = answer(restored(begun.transaction), reply(200, ACKNOWLEDGEMENT)).transaction
    for _ in range(2):
        polled = fire(restored(tx))
        assert parse_qsl(sent(polled).body.decode())[2:] == [
            ("resource", "https://a.example/"),
            ("resource", "urn:b"),
            ("audience", "x y"),
            ("level", '{"n":[1]}'),
        ]
        tx = answer(polled.transaction, reply(400, {"error": "authorization_pending"})).transaction
    assert "a.example" not in repr(tx)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ([], "token_parameters must be a mapping"),
        ({"grant_type": "x"}, "token_parameters must not contain grant_type"),
        ({"auth_req_id": "x"}, "token_parameters must not contain auth_req_id"),
        ({"client_assertion": "x"}, "token_parameters must not contain client_assertion"),
        ({"a": None}, "token_parameters: a has no value"),
        ({"a": ""}, "token_parameters: a has no value"),
        ({"resource": []}, "token_parameters: resource has no value"),
        ({"": "x"}, "token_parameters: a parameter name must not be empty"),
        ({"a": b"x"}, "token_parameters: bytes is not a JSON value"),
        ({"resource": "not absolute"}, "token_parameters must be absolute URIs"),
        ({"resource": [1]}, "token_parameters must be str or a sequence of str"),
    ],
    ids=str,
)
def test_wrong_token_parameters(parameters: Any, problem: str) -> None:
    """RFC 6749 3.1: what could only lead to an error, or is not the caller's to set, is refused by name."""
    with pytest.raises((TypeError, ValueError), match=f"^{problem}"):
        attrs.evolve(REQUEST, token_parameters=parameters)


# ---- who is expected


ISS_SUB = hints.iss_sub(PROVIDER.issuer, SUBJECT)


def hint_token(identifier: SubjectIdentifier) -> str:
    signing = LoginHintSigning(FAPI_SIGNER, client_id="me", audience="op")
    unsigned = signing.token(identifier, now=NOW, entropy=bytes)
    token = signed(unsigned, FAPI_SIGNER.sign(unsigned.octets))
    assert isinstance(token, str)
    return token


ALIASES = SubjectIdentifier.aliases(
    SubjectIdentifier.email("a@b.example"), SubjectIdentifier.iss_sub(PROVIDER.issuer, SUBJECT)
)


@pytest.mark.parametrize(
    "named",
    [
        {"login_hint": "alice", "expected_subject": SUBJECT},
        {"login_hint": "alice", "expected_subject": Secret(SUBJECT)},
        {"login_hint": ISS_SUB},
        {"login_hint_token": hint_token(SubjectIdentifier.iss_sub(PROVIDER.issuer, SUBJECT))},
        {"login_hint_token": hint_token(ALIASES)},
    ],
    ids=["a subject", "a secret subject", "a hint", "a token", "one of several in a token"],
)
def test_tokens_about_somebody_else(named: dict[str, Any]) -> None:
    """OIDC Core 3.1.3.7: that u1 was asked and u2 approved does not pass; the names show nowhere."""
    request = AuthenticationRequest(scope="openid", **named)
    assert asked(request, sub=SUBJECT).tokens is not None
    tx = asked(request, sub="somebody-else")
    assert isinstance(tx.error, TokensRejected)
    assert "sub is not the one that was asked for" in str(tx.error)
    assert SUBJECT not in str(tx.error) + repr(request) + repr(tx)


@pytest.mark.parametrize(
    "hint",
    [
        hints.iss_sub("https://elsewhere.example", SUBJECT),
        hints.iss_sub(PROVIDER.issuer + "/", SUBJECT),
        '{"format":"opaque","id":"1"}',
        f'{{"format":"iss_sub","iss":"{PROVIDER.issuer}","sub":5}}',
        f'{{"iss":"{PROVIDER.issuer}","sub":"u1"}}',
        "[1]",
        "alice",
    ],
    ids=str,
)
def test_hints_that_name_no_subject_of_the_issuer(hint: Any) -> None:
    """RFC 9493 3.2.3: a subject of another issuer, or in another form, says nothing of the ID Token's."""
    assert asked(AuthenticationRequest(scope="openid", login_hint=hint), sub="x").tokens is not None


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        hint_token(SubjectIdentifier.opaque("1")),
        hint_token(SubjectIdentifier.aliases(SubjectIdentifier.opaque("1"))),
        hint_token(SubjectIdentifier({"format": "aliases", "identifiers": "x"})),
    ],
    ids=["opaque", "another format", "others in it", "nothing in it"],
)
def test_hint_tokens_that_name_no_subject_of_the_issuer(token: str) -> None:
    """RFC 9493: nothing is read out of a token that does not say it."""
    assert asked(AuthenticationRequest(scope="openid", login_hint_token=token), sub="x").tokens is not None


def test_an_id_token_hint_that_cannot_be_read() -> None:
    """IDT-24: what is encrypted for the provider names nobody to the client."""
    assert asked(AuthenticationRequest(scope="openid", id_token_hint="a.b.c.d.e"), sub="x").tokens is not None


@pytest.mark.parametrize(
    ("registered", "listed", "compared"),
    [
        (None, None, True),
        (None, ["public"], True),
        (None, ["public", "pairwise"], True),
        (None, ["pairwise"], False),
        ("pairwise", ["public", "pairwise"], False),
        ("public", ["pairwise"], True),
    ],
)
def test_pairwise_subjects(registered: Any, listed: Any, compared: bool) -> None:
    """OIDC Core 8: a pairwise identifier is not the one by which others know the user."""
    tx = asked(
        AuthenticationRequest(scope="openid", login_hint=ISS_SUB),
        client=attrs.evolve(CLIENT, subject_type=registered),
        provider=attrs.evolve(PROVIDER, subject_types_supported=listed),
        sub="pairwise-1",
    )
    assert (tx.tokens is None) is compared


def test_the_subject_that_is_named_goes_before_that_of_the_hint() -> None:
    """Who gives a subject knows which; only two that are given and differ are a mistake."""
    request = AuthenticationRequest(scope="openid", login_hint=ISS_SUB, expected_subject="other")
    assert asked(request, sub="other").tokens is not None
    claims = {"id_token": {"sub": {"value": "u1"}}}
    both = AuthenticationRequest(scope="openid", login_hint="a", claims=claims, expected_subject="u1")
    assert both.requested().subject == Secret("u1")
    hinted = {"login_hint": None, "id_token_hint": id_token(sub="u1")}
    for wrong in ({"claims": claims}, hinted, {**hinted, "claims": claims}):
        with pytest.raises(LocalProtocolError, match=r"^expected_subject must be that of"):
            attrs.evolve(REQUEST, expected_subject="u2", **wrong).requested()


def test_an_expected_subject_needs_an_id_token() -> None:
    """Without ``openid`` nothing says who approved, so that the wish could not be kept."""
    with pytest.raises(ValueError, match=r"^expected_subject: without openid"):
        AuthenticationRequest(scope="payments", openid=False, login_hint="a", expected_subject="u1")
    for wrong, error in ((5, TypeError), ("", ValueError), ("a\n", ValueError)):
        with pytest.raises(error, match=r"^expected_subject"):
            AuthenticationRequest(login_hint="a", expected_subject=wrong)  # type: ignore[arg-type]


# ---- claims


CLAIMS = {
    "id_token": {
        "txn": {"essential": True},
        "acr": {"values": ["loa-3"]},
        "auth_time": {"essential": True},
        "verified_claims": [
            {
                "verification": {"trust_framework": {"value": "au_connectid"}},
                "claims": {"over18": {"essential": True}},
            }
        ],
    }
}
GOOD: dict[str, Any] = {
    "acr": "loa-3",
    "auth_time": int(NOW),
    "txn": "1",
    "verified_claims": {"verification": {"trust_framework": "au_connectid"}, "claims": {"over18": True}},
}


def granted(**claims: Any) -> TokenResponse:
    request = AuthenticationRequest(scope="openid", login_hint="a", claims=CLAIMS)
    tokens = asked(request, **GOOD | claims).tokens
    assert tokens is not None
    return tokens


def test_claims_as_they_were_asked_for() -> None:
    """OIDC Core 5.5.1: nothing differs when all of it came."""
    tokens = granted()
    assert tokens.differs_in == ()
    tokens.require_as_requested()
    item = tokens.grant.item("claims")
    assert item is not None
    way = "verified_claims.verification.trust_framework", "verified_claims.claims.over18"
    assert item.requested == item.granted == ("txn", *way)


@pytest.mark.parametrize(
    ("claims", "verdict", "missing"),
    [
        ({"txn": None}, "less", ("txn",)),
        (
            {"verified_claims": None},
            "less",
            ("verified_claims.verification.trust_framework", "verified_claims.claims.over18"),
        ),
        (
            {"verified_claims": {"verification": {"trust_framework": "x"}, "claims": {"over18": True}}},
            "different",
            ("verified_claims.verification.trust_framework",),
        ),
    ],
    ids=str,
)
def test_claims_that_did_not_come(claims: dict[str, Any], verdict: str, missing: tuple[str, ...]) -> None:
    """OIDC Core 5.5.1: the tokens are good; the audit says what is missing, and who insists is told by name."""
    tokens = granted(**claims)
    assert tokens.differs_in == ("claims",)
    item = tokens.grant.item("claims")
    assert item is not None
    assert (item.verdict.value, item.missing) == (verdict, missing)
    tokens.require_as_requested("scope", "acr")
    for names in ((), ("claims",)):
        with pytest.raises(GrantDiffers) as caught:
            tokens.require_as_requested(*names)
        assert str(caught.value) == f"granted otherwise than requested: claims ({', '.join(missing)})"


def test_claims_are_compared_after_a_restart() -> None:
    """Promise 5: what was asked for is measured against what comes, in whichever process that is."""
    request = AuthenticationRequest(scope="openid", login_hint="a", claims=CLAIMS)
    tx = fire(restored(answer(awaiting(request), reply(200, ACKNOWLEDGEMENT)).transaction)).transaction
    without_txn: dict[str, Any] = {**GOOD, "txn": None}
    tokens = answer(tx, reply(200, {**TOKENS, "id_token": id_token(**without_txn)})).transaction.tokens
    assert tokens is not None
    assert tokens.differs_in == ("claims",)


# ---- header fields


def interaction(context: HeaderContext) -> dict[str, Secret | str]:
    return {"x-fapi-interaction-id": f"{context.purpose.value}-{context.now:.0f}"}


def named(request: Any, name: str) -> list[str]:
    return [value for header, value in request.headers if header == name]


def test_headers_on_every_request_of_an_authentication() -> None:
    """A function runs once for each HTTP request; what the request brings is kept through restarts."""
    client = attrs.evolve(CLIENT, headers=interaction)
    request = attrs.evolve(REQUEST, headers={"x-fapi-customer-ip-address": "192.0.2.1"})
    current = step(Transaction(client=client, provider=PROVIDER), Begin(request), NOW)
    seen = [sent(current)]
    tx = answer(restored(current.transaction), reply(200, ACKNOWLEDGEMENT)).transaction
    current = fire(restored(tx))
    seen.append(sent(current))
    current = answer(restored(current.transaction), reply(200, TOKENS), shared=NOTHING_SHARED)
    seen.append(sent(current))
    assert [each.purpose for each in seen] == [Purpose.AUTHENTICATION, Purpose.TOKEN, Purpose.KEYS]
    assert [named(each, "x-fapi-customer-ip-address") for each in seen] == [["192.0.2.1"]] * 3
    ids = [named(each, "x-fapi-interaction-id") for each in seen]
    assert ids == [
        [f"backchannel authentication-{NOW:.0f}"],
        [f"token-{NOW + 2:.0f}"],
        [f"key set-{NOW:.0f}"],
    ]
    assert "192.0.2.1" not in repr(current)


def test_a_key_set_elsewhere_gets_none() -> None:
    """A subscription key is for the provider's gateway and not for the network that hosts its keys."""
    provider = attrs.evolve(PROVIDER, jwks_uri="https://cdn.example/keys")
    for hosts, goes in ((), []), (("cdn.example",), ["hush"]):
        client = attrs.evolve(CLIENT, headers={"X-Key": "hush"}, headers_to=hosts)
        tx = attrs.evolve(polling(client=client), provider=provider)
        current = answer(tx, reply(200, TOKENS), shared=NOTHING_SHARED)
        assert sent(current).url == "https://cdn.example/keys"
        assert named(sent(current), "X-Key") == goes


def test_headers_of_a_request_that_was_signed_elsewhere() -> None:
    """A draft becomes one HTTP request, for which the function runs once."""
    calls: list[Purpose] = []

    def fields(context: HeaderContext) -> dict[str, Secret | str]:
        calls.append(context.purpose)
        return {"X-Key": "hush"}

    client = attrs.evolve(
        CLIENT, authentication=PrivateKeyJwt(RemoteSigner("key", alg="ES256")), headers=fields
    )
    drafted = step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)
    assert drafted.draft is not None
    made = SignaturesMade(drafted.draft.id, (bytes(64),))
    current = step(drafted.transaction, made, NOW)
    assert named(sent(current), "X-Key") == ["hush"]
    assert calls == [Purpose.AUTHENTICATION]


def test_what_a_function_raises_passes_through() -> None:
    """An exception of the embedder's own is neither hidden nor made into an outcome; nothing was sent."""

    def fields(_context: HeaderContext) -> dict[str, Secret | str]:
        raise LookupError("hush")

    with pytest.raises(LookupError):
        awaiting(client=attrs.evolve(CLIENT, headers=fields))


# ---- header fields of answers

ECHOED = ("X-FAPI-Interaction-Id", "c770aef3-6784-41f7-8e0e-ff5f97bddb3a")
KEPT = {"x-fapi-interaction-id": ECHOED[1]}


def test_header_fields_of_answers_on_events() -> None:
    """FAPI: what finds the request in the provider's logs stands beside what happened."""
    for current in (
        answer(awaiting(), reply(200, ACKNOWLEDGEMENT, ECHOED)),
        answer(polling(), reply(400, {"error": "authorization_pending"}, ECHOED)),
        answer(polling(), reply(503, "", ECHOED)),
        answer(polling(), reply(200, TOKENS, ECHOED)),
    ):
        assert current.events[-1] == AnswerHeaders(KEPT)
        assert ECHOED[1] not in repr(current.events)
        assert current.transaction.error is None


def test_header_fields_of_answers_on_errors() -> None:
    """They are an attribute of any error that an answer brought, and come back with a snapshot."""
    for current, kind in (
        (answer(polling(), reply(403, {"error": "access_denied"}, ECHOED)), AccessDenied),
        (answer(awaiting(), reply(200, {}, ECHOED)), RemoteProtocolError),
        (answer(polling(), reply(200, {**TOKENS, "id_token": "x"}, ECHOED)), TokensRejected),
    ):
        error = current.transaction.error
        assert isinstance(error, kind)
        assert error.answer_headers == KEPT
        assert ECHOED[1] not in str(error) + repr(error)
        assert restored(current.transaction).error == error
        assert ECHOED[1] not in current.transaction.to_json_parts()[0]
        # An answer that comes once more says nothing, and changes no error that somebody has.
        again = answer(current.transaction, reply(403, {"error": "access_denied"}, (ECHOED[0], "other")))
        assert again.events == ()
        assert error.answer_headers == KEPT
    plain = answer(polling(), reply(403, {"error": "access_denied"})).transaction.error
    assert plain is not None
    assert plain.answer_headers == {}


@pytest.mark.parametrize("value", ["", "x" * 1025, "ä", "a\x01b"])
def test_header_fields_of_answers_are_bounded(value: str) -> None:
    """What is no such value, or too long for one, is not kept."""
    assert len(answer(polling(), reply(503, "", (ECHOED[0], value))).events) == 1


def test_which_header_fields_of_answers_are_kept() -> None:
    """The client's settings name them; of none is kept what nobody asked for."""
    client = attrs.evolve(CLIENT, answer_headers=["X-Request-Id"])
    current = answer(polling(client=client), reply(503, "", ECHOED, ("x-request-id", "r-1")))
    assert current.events[-1] == AnswerHeaders({"x-request-id": "r-1"})
    assert json.loads(current.transaction.to_json())["state"] == "pending"
