from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    Delivery,
    PrivateKeyJwt,
    Resumed,
    Secret,
    TokenResponse,
    Transaction,
    step,
)
from ciba_core.client.request import Requested
from ciba_core.errors import (
    AuthenticationCancelled,
    AuthenticationExpired,
    AuthenticationRequestDenied,
    CibaError,
    Endpoint,
    ErrorResponse,
    KeysUnavailable,
    ProviderUnavailable,
    SnapshotError,
    TokensRejected,
)
from ciba_core.provider.shared import NOTHING_SHARED
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Cancelled,
    Denied,
    Expired,
    Failed,
    FetchingKeys,
    New,
    Pending,
    Polling,
    Refused,
    SigningAuthentication,
    SigningPoll,
    State,
)
from tests.jwt_samples import CORE_SIGNER, counter
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
    JWKS,
    NOTIFICATION_TOKEN,
    NOW,
    OPENID,
    PING,
    PING_CLIENT,
    PROVIDER,
    PUSH_CLIENT,
    REQUEST,
    TOKENS,
    answer,
    awaiting,
    awaiting_keys,
    fail,
    fetching,
    fire,
    id_token,
    notification,
    notify,
    pending,
    pending_state,
    polling,
    pushed,
    reply,
    without,
)
from tests.values.test_errors import EXAMPLES

from .test_states import NO, REFUSED, STATES

DETAILED = {**TOKENS, "authorization_details": [{"type": "a", "n": [1, None]}], "device_secret": "hush-extra"}
ECHO = {
    "error": "access_denied",
    "error_description": "hush-description",
    "error_uri": "https://hush-uri.example/",
}

ASKING = AuthenticationRequest(
    scope="openid",
    login_hint="janedoe",
    authorization_details=[{"type": "a", "n": [1, None]}],
    claims={"id_token": {"acr": {"essential": True, "values": ["1", "2"]}, "auth_time": {"essential": True}}},
    extra={"nonce": "hush-nonce", "max_age": 300},
)
HINTING = AuthenticationRequest(scope="openid", id_token_hint=id_token(sub="hush-subject"))
"""Everything that a transaction remembers of what was asked for."""
REMOTE = attrs.evolve(CLIENT, authentication=PrivateKeyJwt(CORE_SIGNER))
BOUND = attrs.evolve(CLIENT, dpop_bound_access_tokens=True, entropy=counter())
SHORT = AuthenticationRequest(scope="openid", login_hint="janedoe", requested_expiry=30)
FORGED_PUSH = pushed(iss="https://hush-issuer.example")
HELD = {**pushed(), "hush": ["hush", {"n": None}]}
FORGED = {**DETAILED, "id_token": id_token(iss="https://hush-issuer.example")}


def without_keys() -> Transaction:
    """A transaction that got its tokens, and never the keys to validate them by."""
    return fail(fetching(DETAILED), elapsed=500).transaction


def refreshed() -> Transaction:
    """A session's tokens, for which all that was granted at first is kept."""
    tokens = answer(polling(), reply(200, DETAILED)).transaction.tokens
    assert tokens is not None
    state = Authenticated(attrs.evolve(tokens, scope="less", original=tokens.original_grant))
    return Transaction(client=CLIENT, provider=PROVIDER, state=state)


def validating(tx: Transaction) -> Transaction:
    """A push has come, and its keys are asked for."""
    return notify(tx, HELD, shared=NOTHING_SHARED).transaction


MORE = attrs.evolve(
    REQUEST,
    claims={"id_token": {"txn": {"value": "hush-txn"}}},
    token_parameters={"resource": ["https://hush.example/a", "https://hush.example/b"], "n": 1},
    headers={"x-fapi-customer-ip-address": "hush-address"},
)

JOURNEY: dict[str, Transaction] = {
    "new": Transaction(client=CLIENT, provider=PROVIDER),
    "signing": step(Transaction(client=REMOTE, provider=PROVIDER), Begin(ASKING), NOW).transaction,
    "awaiting": awaiting(),
    "awaiting much": awaiting(ASKING),
    "awaiting one user": awaiting(HINTING),
    "awaiting, bound": awaiting(client=BOUND),
    "signing a poll": fire(attrs.evolve(fail(polling()).transaction, client=REMOTE)).transaction,
    "fetching keys": fetching(DETAILED),
    "fetching keys again": fire(awaiting_keys(DETAILED)).transaction,
    "waiting for keys": awaiting_keys(DETAILED),
    "rejected": answer(polling(), reply(200, FORGED)).transaction,
    "without keys": without_keys(),
    "bound": answer(polling(client=BOUND), reply(200, {**TOKENS, "token_type": "DPoP"})).transaction,
    "bound, with a nonce": answer(
        polling(client=BOUND), reply(400, {"error": "use_dpop_nonce"}, ("DPoP-Nonce", "n-1"))
    ).transaction,
    "tokens of a broken answer": answer(polling(), reply(200, {**DETAILED, "expires_in": "1"})).transaction,
    "refreshed": refreshed(),
    "pending": pending(),
    "pending after faults": fail(polling()).transaction,
    "pending, slower": answer(polling(), reply(400, {"error": "slow_down"})).transaction,
    "pending with more": pending({**ACKNOWLEDGEMENT, "auth_url": "https://hush-url.example/"}),
    "awaiting with more": awaiting(MORE),
    "refused with more": answer(
        awaiting(), reply(403, ECHO, ("X-FAPI-Interaction-Id", "hush-interaction"))
    ).transaction,
    "denied with more": answer(
        polling(), reply(403, {"error": "access_denied"}, ("x-fapi-interaction-id", "hush-interaction"))
    ).transaction,
    "polling": polling(),
    "polling after a loss": fire(fail(polling()).transaction).transaction,
    "tokens": answer(polling(), reply(200, DETAILED)).transaction,
    "few tokens": answer(polling(), reply(200, without(TOKENS, "refresh_token", "expires_in"))).transaction,
    "denied": answer(polling(), reply(403, ECHO)).transaction,
    "expired": fire(pending({**ACKNOWLEDGEMENT, "expires_in": 1})).transaction,
    "expired token": answer(polling(), reply(400, {"error": "expired_token"})).transaction,
    "refused": answer(awaiting(), reply(403, ECHO, ("Retry-After", "5"))).transaction,
    "busy": answer(awaiting(), reply(503)).transaction,
    "not acknowledged": fail(awaiting(), Delivery.NOT_SENT).transaction,
    "broken": answer(awaiting(), reply(200, {})).transaction,
    "lost": answer(
        fire(fail(polling()).transaction).transaction, reply(400, {"error": "invalid_grant"})
    ).transaction,
    "awaiting, called back": awaiting(client=PING_CLIENT),
    "holding a ping": notify(awaiting(ASKING, client=PING_CLIENT)).transaction,
    "holding a push": notify(awaiting(HINTING, client=PUSH_CLIENT), HELD).transaction,
    "waiting to be called back": fail(awaiting(SHORT, client=PING_CLIENT)).transaction,
    "recovered": notify(fail(awaiting(client=PUSH_CLIENT)).transaction, FORGED_PUSH).transaction,
    "pending, called back": pending(client=PUSH_CLIENT),
    "pinged": notify(pending(client=PING_CLIENT)).transaction,
    "pinged during a poll": notify(polling(client=PING_CLIENT)).transaction,
    "polling for a ping": fire(notify(pending(client=PING_CLIENT)).transaction).transaction,
    "pinged while signing": notify(
        attrs.evolve(
            fire(attrs.evolve(pending(client=PING_CLIENT), client=REMOTE)).transaction, client=PING_CLIENT
        )
    ).transaction,
    "validating a push": validating(pending(client=PUSH_CLIENT)),
    "validating a push again": fail(validating(pending(client=PUSH_CLIENT))).transaction,
    "pushed tokens": notify(pending(client=PUSH_CLIENT), HELD).transaction,
    "pushed error": notify(pending(client=PUSH_CLIENT), {**PING, **ECHO}).transaction,
    "cancelled late": step(fetching(DETAILED), Cancel(), NOW).transaction,
    "cancelled": attrs.evolve(pending(), state=Cancelled(AuthenticationCancelled("cancelled"))),
}
HUSH = (
    AUTH_REQ_ID,
    *(str(TOKENS[name]) for name in ("access_token", "refresh_token", "id_token")),
    "hush",
    "248289761001",
    '"d":',
    "7Fjfp0ZBr1KtDRbnfVdmIw",
    "janedoe",
    NOTIFICATION_TOKEN,
)


def restored(text: str, secrets: str | None = None) -> Transaction:
    """The transaction, for a client in the mode that the snapshot names."""
    named = re.search(r'"backchannel_token_delivery_mode":"(ping|push)"', text)
    return Transaction.from_json(
        text, client=in_mode("poll" if named is None else named[1]), provider=PROVIDER, secrets=secrets
    )


def in_mode(mode: Any) -> ClientConfig:
    return attrs.evolve(CLIENT, backchannel_token_delivery_mode=mode)


def whole(tx: Transaction) -> Transaction:
    """The transaction with the configuration that `restored` gives to it."""
    return attrs.evolve(tx, client=in_mode(tx.client.backchannel_token_delivery_mode))


def test_the_journey_visits_every_state() -> None:
    """The cases below leave out no state."""
    assert {type(tx.state) for tx in JOURNEY.values()} == {type(state) for state in STATES}


@pytest.mark.parametrize("tx", JOURNEY.values(), ids=JOURNEY)
def test_restored_in_one_part_and_in_two(tx: Transaction) -> None:
    """Promise 5: what comes back is equal, with everything that the caller can read from it."""
    for other in (restored(tx.to_json()), restored(*tx.to_json_parts())):
        assert other == whole(tx)
        assert type(other.state) is type(tx.state)
        assert (other.deadline, other.is_finished, other.tokens) == (tx.deadline, tx.is_finished, tx.tokens)
        assert type(other.error) is type(tx.error)
        assert other.error is None or vars(other.error) == vars(tx.error or object())
        assert str(other.error) == str(tx.error)
        assert other.to_json() == tx.to_json()


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_comes_back(error: CibaError) -> None:
    """Promise 5: each class of error, with all its attributes."""
    tx = Transaction(client=CLIENT, provider=PROVIDER, state=Failed(error), requests=1)
    assert restored(tx.to_json()) == tx
    assert restored(tx.to_json()).error is not error


def test_notes_on_an_error_are_left_out() -> None:
    """What somebody added to a raised exception neither gets stored nor stops the storing."""
    error = copy.copy(NO)
    error.add_note("hush")
    text = Transaction(client=CLIENT, provider=PROVIDER, state=Denied(error)).to_json()
    assert "hush" not in text
    assert restored(text).error == NO


@pytest.mark.parametrize("tx", JOURNEY.values(), ids=JOURNEY)
def test_the_public_part_has_no_secret(tx: Transaction) -> None:
    """Promise 6: identifiers, tokens and texts of the provider are in the other part; credentials in neither."""
    public, secrets = tx.to_json_parts()
    assert "ltacesbw" not in public + secrets
    for literal in HUSH:
        assert literal not in public
    for literal in ("7Fjfp0ZBr1KtDRbnfVdmIw", "janedoe", "bc-authorize"):
        assert literal not in secrets
    assert json.loads(tx.to_json()) == {**json.loads(public), "secrets": json.loads(secrets)}


def test_the_secret_part_has_them_all() -> None:
    """Each secret stands in the secret part under the name of the standard."""
    _, secrets = JOURNEY["tokens"].to_json_parts()
    assert json.loads(secrets) == {
        "version": 2,
        "access_token": TOKENS["access_token"],
        "refresh_token": TOKENS["refresh_token"],
        "id_token": TOKENS["id_token"],
        "id_token_claims": {
            "iss": "https://server.example.com",
            "sub": "248289761001",
            "aud": "s6BhdRkqt3",
            "iat": NOW,
            "exp": NOW + 7200,
        },
        "extra": {"device_secret": "hush-extra"},
    }
    nothing_more = {"version": 2, "nonce": None, "subject": None}
    nothing_held = {**nothing_more, "held": None}
    assert json.loads(JOURNEY["awaiting"].to_json_parts()[1]) == nothing_held
    assert json.loads(JOURNEY["awaiting much"].to_json_parts()[1]) == {**nothing_held, "nonce": "hush-nonce"}
    assert json.loads(JOURNEY["awaiting one user"].to_json_parts()[1]) == {
        **nothing_held,
        "subject": "hush-subject",
    }
    assert json.loads(JOURNEY["pending"].to_json_parts()[1]) == {**nothing_more, "auth_req_id": AUTH_REQ_ID}
    for name in ("fetching keys", "waiting for keys", "rejected", "without keys"):
        untrusted = json.loads(JOURNEY[name].to_json_parts()[1])["untrusted"]
        assert untrusted["access_token"] == TOKENS["access_token"]
        assert untrusted["extra"] == {"device_secret": "hush-extra"}
    assert json.loads(JOURNEY["awaiting, bound"].to_json_parts()[1])["dpop_key"]
    assert json.loads(JOURNEY["awaiting, called back"].to_json_parts()[1]) == {
        **nothing_held,
        "client_notification_token": NOTIFICATION_TOKEN,
    }
    assert json.loads(JOURNEY["holding a push"].to_json_parts()[1]) == {
        **nothing_more,
        "subject": "hush-subject",
        "held": HELD,
        "client_notification_token": NOTIFICATION_TOKEN,
    }
    assert json.loads(JOURNEY["denied"].to_json_parts()[1]) == {
        "version": 2,
        "error_description": "hush-description",
        "error_uri": "https://hush-uri.example/",
    }


def test_the_format() -> None:
    """The first version of the format stays readable: this text is not made by the code under test."""
    text = """{"version": 1, "client_id": "s6BhdRkqt3", "issuer": "https://server.example.com",
        "backchannel_token_delivery_mode": "poll", "requests": 3, "polls": 2, "state": "pending", "data": {"scope": "openid", "authorization_details": null,
        "acr_values": [], "acr_wanted": ["2"], "max_age": null, "auth_time": false, "expires_at": 1537819606, "interval": 5,
        "faults": 1, "answer_lost": true, "pinged": false, "next_poll_at": 1537819500.5}, "secrets": {"version": 1,
        "auth_req_id": "1c266114-a1be-4252-8ad1-04986c5b9ac1"}}"""
    assert restored(text) == Transaction(
        client=CLIENT,
        provider=PROVIDER,
        state=Pending(
            Secret(AUTH_REQ_ID),
            attrs.evolve(OPENID, acr_wanted=("2",)),
            1537819606.0,
            5.0,
            1537819500.5,
            1,
            True,
        ),
        requests=3,
        polls=2,
    )


@pytest.mark.parametrize(
    ("name", "state"),
    [
        *zip(
            (
                "new",
                "signing_authentication",
                "awaiting_acknowledgement",
                "awaiting_callback",
                "pending",
                "signing_poll",
                "polling",
                "fetching_keys",
                "awaiting_keys",
                "authenticated",
                "denied",
                "expired",
                "refused",
                "failed",
                "cancelled",
            ),
            STATES,
            strict=True,
        )
    ],
)
def test_names_of_states(name: str, state: State) -> None:
    """The name of a state is part of the format."""
    tx = Transaction(client=CLIENT, provider=PROVIDER, state=state)
    assert json.loads(tx.to_json())["state"] == name
    assert restored(tx.to_json()) == tx


def test_configuration_is_handed_in_and_not_stored() -> None:
    """A restored transaction goes on with the configuration that it is given."""
    client = attrs.evolve(CLIENT, timeout=50)
    provider = attrs.evolve(PROVIDER, token_endpoint="https://new.example/token")
    tx = Transaction.from_json(pending().to_json(), client=client, provider=provider)
    assert tx.client is client
    assert tx.provider is provider
    request = fire(tx).request
    assert request is not None
    assert (request.url, request.timeout) == ("https://new.example/token", 50)


def test_secrets_handed_in_go_before_those_in_the_text() -> None:
    """Whoever keeps the parts apart gets the secrets that were handed in."""
    text = pending().to_json()
    assert restored(text, '{"version":1,"auth_req_id":"other"}').state == attrs.evolve(
        pending_state(pending()), auth_req_id=Secret("other")
    )


@pytest.mark.parametrize("depth", [1, 100])
def test_deep_content_comes_back(depth: int) -> None:
    """A token answer that was taken can be stored and restored, as deep as the limit on it allows."""
    extra: Any = 1
    for _ in range(depth):
        extra = {"a": extra}
    tokens = TokenResponse(
        access_token=Secret("a"),
        token_type="Bearer",
        expires_at=None,
        refresh_token=None,
        id_token=None,
        scope="",
        authorization_details=(),
        extra={"x": extra},
    )
    tx = Transaction(client=CLIENT, provider=PROVIDER, state=Authenticated(tokens))
    assert restored(tx.to_json()) == tx


# ---- what is no snapshot


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the snapshot is not JSON"),
        ("{", "the snapshot is not JSON"),
        ("[]", "the snapshot is JSON, but not an object"),
        ('{"version":1,"version":1}', "repeated member"),
        ('{"version":NaN}', "NaN"),
        ('{"a":"\ud800"}', "not JSON"),
        ("[" * 1000, "nested too deeply"),
        ("{}", "not of version 1 or 2"),
    ],
    ids=ascii,
)
def test_text_that_is_no_snapshot(text: str, message: str) -> None:
    """Anything else than a snapshot is refused with the documented exception, in either part."""
    with pytest.raises(SnapshotError, match=message) as caught:
        restored(text)
    assert caught.value.__context__ is None
    with pytest.raises(SnapshotError, match=message.replace("the snapshot", "the secrets of the snapshot")):
        restored(pending().to_json_parts()[0], text)


@pytest.mark.parametrize("version", [0, 3, "1", 1.0, True, None])
@pytest.mark.parametrize("part", ["public", "secret"])
def test_versions(version: object, part: str) -> None:
    """A snapshot of another version is not guessed at."""
    public, secrets = map(json.loads, pending().to_json_parts())
    (public if part == "public" else secrets)["version"] = version
    with pytest.raises(SnapshotError, match="this snapshot is not of version 1 or 2"):
        restored(json.dumps(public), json.dumps(secrets))


@pytest.mark.parametrize(
    ("changes", "name"), [({"client_id": "other"}, "client_id"), ({"client_id": "S6BhdRkqt3"}, "client_id")]
)
def test_another_client(changes: dict[str, Any], name: str) -> None:
    """A transaction belongs to one client; another one does not get it by mistake."""
    with pytest.raises(SnapshotError, match=f"^the snapshot belongs to another {name}$"):
        Transaction.from_json(pending().to_json(), client=attrs.evolve(CLIENT, **changes), provider=PROVIDER)


@pytest.mark.parametrize("name", ["pending", "polling", "pinged", "validating a push", "holding a push"])
def test_another_delivery_mode(name: str) -> None:
    """CIBA-10.1-19, promise 7: what is under way is not taken up in a mode whose rules it was not begun by."""
    tx = JOURNEY[name]
    for mode in {"poll", "ping", "push"} - {tx.client.backchannel_token_delivery_mode}:
        other: Any = attrs.evolve(CLIENT, backchannel_token_delivery_mode=mode)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(
            SnapshotError, match=r"^the snapshot belongs to another backchannel_token_delivery_mode$"
        ):
            Transaction.from_json(tx.to_json(), client=other, provider=PROVIDER)


def test_an_outcome_outlives_the_delivery_mode() -> None:
    """Tokens that were stored are there after the client was registered for another mode."""
    pinged = in_mode("ping")
    for name in ("tokens", "denied", "cancelled"):
        tx = JOURNEY[name]
        assert Transaction.from_json(tx.to_json(), client=pinged, provider=PROVIDER).state == tx.state


def test_a_code_that_nobody_registered_is_no_public_text() -> None:
    """Promise 6: it may be an echo of what was sent."""
    refused = answer(awaiting(), reply(400, {"error": "janedoe@example.com"})).transaction
    public, secrets = refused.to_json_parts()
    assert "janedoe" not in public
    assert Transaction.from_json(public, client=CLIENT, provider=PROVIDER, secrets=secrets) == refused
    with pytest.raises(SnapshotError, match="error is missing"):
        Transaction.from_json(public, client=CLIENT, provider=PROVIDER)


@pytest.mark.parametrize("issuer", ["https://server.example.com/", "https://other.example"])
def test_another_issuer(issuer: str) -> None:
    """DISC-05: nor does it go to another provider."""
    with pytest.raises(SnapshotError, match=r"^the snapshot belongs to another issuer$"):
        Transaction.from_json(
            pending().to_json(), client=CLIENT, provider=attrs.evolve(PROVIDER, issuer=issuer)
        )


SECRET = {
    "pending": "auth_req_id",
    "pinged": "auth_req_id",
    "validating a push": "auth_req_id",
    "polling": "auth_req_id",
    "signing a poll": "auth_req_id",
    "fetching keys": "auth_req_id",
    "waiting for keys": "auth_req_id",
    "tokens": "access_token",
    "rejected": "untrusted",
    "without keys": "untrusted",
}


@pytest.mark.parametrize(("name", "secret"), SECRET.items())
def test_missing_secrets(name: str, secret: str) -> None:
    """The public part alone is not enough where there are secrets, and the message says what is missing."""
    public, _ = JOURNEY[name].to_json_parts()
    for secrets in (None, '{"version":1}'):
        with pytest.raises(SnapshotError, match=f"^the snapshot needs its secrets: {secret} is missing$"):
            restored(public, secrets)


def test_the_public_part_is_enough_where_nothing_is_secret() -> None:
    """States without secrets need none."""
    for name in ("new", "awaiting", "busy", "cancelled"):
        assert restored(JOURNEY[name].to_json_parts()[0]) == JOURNEY[name]


def places(value: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Every member of a JSON object that the format defines."""
    for name, member in value.items():
        yield (*path, name)
        if isinstance(member, dict) and name not in ("extra", "id_token_claims", "held"):
            yield from places(member, *path, name)


DAMAGE = [
    pytest.param(name, path, id=f"{name}-{'.'.join(path)}")
    for name in (
        "awaiting much",
        "awaiting one user",
        "awaiting, bound",
        "signing",
        "pending",
        "signing a poll",
        "polling",
        "fetching keys",
        "waiting for keys",
        "rejected",
        "without keys",
        "tokens",
        "bound",
        "holding a push",
        "pinged during a poll",
        "pinged while signing",
        "validating a push",
        "validating a push again",
        "pushed error",
        "refused",
        "busy",
        "not acknowledged",
        "broken",
        "expired",
    )
    for path in places(json.loads(JOURNEY[name].to_json()))
]
OPTIONAL = {
    ("data", "expires_at"),
    ("data", "authorization_details"),
    ("data", "attributes", "error_description"),
    ("data", "attributes", "error_uri"),
    ("data", "attributes", "retry_after"),
    ("data", "max_age"),
    # Since version 2.
    *((*where, "requested_expiry") for where in (("data",), ("data", "back_to"))),
    # None where nothing is planned, or nothing has come.
    ("data", "next_poll_at"),
    ("data", "sign_by"),
    ("data", "back_to"),
    *(("data", "back_to", name) for name in ("next_poll_at", "authorization_details", "max_age")),
    ("secrets", "held"),
    ("secrets", "client_notification_token"),
    # Of version 1, too, but later.
    ("dpop_nonces",),
    ("data", "original"),
    *(("data", "attributes", name) for name in ("faults", "last_polls", "push_rejected")),
    *((*where, "course") for where in (("data",), ("data", "back_to"))),
    *((*where, "course", "push_rejected") for where in (("data",), ("data", "back_to"))),
    ("data", "original", "authorization_details"),
    ("secrets", "original_id_token_claims"),
    *(
        (*where, name)
        for where in (("data",), ("data", "untrusted"), ("data", "attributes", "untrusted"))
        for name in ("expires_at", "authorization_details")
    ),
    *(
        (*where, name)
        for where in (("secrets",), ("secrets", "untrusted"))
        for name in ("refresh_token", "id_token", "id_token_claims", "dpop_key")
    ),
    ("data", "acr"),
    ("secrets", "nonce"),
    ("secrets", "subject"),
    ("secrets", "error_description"),
    ("secrets", "error_uri"),
    ("secrets", "claims"),
    ("secrets", "claims", "txn"),
    ("secrets", "claims", "txn", "value"),
    ("secrets", "headers"),
    ("secrets", "headers", "x-fapi-customer-ip-address"),
    ("secrets", "token_parameters"),
    ("secrets", "acknowledgement_extra"),
    ("secrets", "acknowledgement_extra", "auth_url"),
    ("secrets", "answer_headers"),
    ("secrets", "answer_headers", "x-fapi-interaction-id"),
}


@pytest.mark.parametrize(("name", "path"), DAMAGE)
def test_missing_members(name: str, path: tuple[str, ...]) -> None:
    """A member that is gone is noticed, or was one that may be absent; nothing but SnapshotError comes out."""
    document: Any = json.loads(JOURNEY[name].to_json())
    parent = document
    for step_down in path[:-1]:
        parent = parent[step_down]
    del parent[path[-1]]
    try:
        tx = restored(json.dumps(document))
    except SnapshotError as error:
        assert AUTH_REQ_ID not in str(error)  # noqa: PT017  # either outcome is fine
    else:
        assert path in OPTIONAL or (path == ("secrets",) and name not in {*SECRET, "bound"})
        assert isinstance(str(tx.error), str)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("bound, with a nonce", ("dpop_nonces",), ["n"]),
        ("bound, with a nonce", ("dpop_nonces",), {"https://server.example.com": 1}),
        ("bound, with a nonce", ("dpop_nonces",), {"https://server.example.com": "a b"}),
        ("refreshed", ("data", "original"), None),
        ("refreshed", ("data", "original", "scope"), 1),
        ("refreshed", ("secrets", "original_id_token_claims"), "x"),
        ("pending", ("data",), []),
        ("pending", ("data",), None),
        ("pending", ("secrets",), []),
        ("pending", ("secrets",), None),
        ("pending", ("requests",), "1"),
        ("pending", ("requests",), True),
        ("pending", ("requests",), 1.0),
        ("pending", ("polls",), None),
        ("pending", ("client_id",), 5),
        ("pending", ("issuer",), None),
        ("pending", ("state",), 5),
        ("pending", ("state",), "waiting"),
        ("pending", ("data", "scope"), None),
        ("pending", ("data", "expires_at"), "1537819606"),
        ("pending", ("data", "expires_at"), True),
        ("pending", ("data", "expires_at"), None),
        ("pending", ("data", "next_poll_at"), []),
        ("pending", ("data", "interval"), "5"),
        ("pending", ("data", "faults"), 1.5),
        ("pending", ("data", "answer_lost"), 1),
        ("pending", ("data", "answer_lost"), None),
        ("pending", ("secrets", "auth_req_id"), 5),
        ("pending", ("secrets", "auth_req_id"), None),
        ("pending", ("data", "pinged"), 1),
        ("pending", ("data", "pinged"), None),
        ("polling", ("data", "poll_again"), "no"),
        ("polling", ("data", "pinged"), 0),
        ("signing a poll", ("data", "pinged"), None),
        ("pinged", ("secrets", "client_notification_token"), 5),
        ("holding a ping", ("secrets", "held"), "ping"),
        ("holding a ping", ("secrets", "held"), {}),
        ("holding a ping", ("secrets", "held"), {"auth_req_id": 5}),
        ("validating a push", ("data", "back_to"), None),
        ("validating a push", ("data", "back_to"), {}),
        ("validating a push", ("data", "back_to", "expires_at"), "soon"),
        ("awaiting", ("data", "scope"), 5),
        ("awaiting", ("data", "authorization_details"), {}),
        ("awaiting", ("data", "acr"), 1),
        ("awaiting", ("data", "acr_values"), "1"),
        ("awaiting", ("data", "acr_values"), [1]),
        ("awaiting", ("data", "max_age"), "300"),
        ("awaiting", ("data", "max_age"), True),
        ("awaiting", ("data", "auth_time"), 1),
        ("awaiting", ("secrets", "nonce"), 5),
        ("awaiting", ("secrets", "subject"), ["x"]),
        ("awaiting, bound", ("secrets", "dpop_key"), None),
        ("awaiting, bound", ("secrets", "dpop_key"), "key"),
        ("awaiting, bound", ("secrets", "dpop_key"), '{"kty":"EC"}'),
        ("signing", ("data", "scope"), None),
        ("signing a poll", ("secrets", "auth_req_id"), 5),
        ("signing a poll", ("data", "faults"), "1"),
        ("fetching keys", ("data", "untrusted"), []),
        ("fetching keys", ("data", "untrusted", "token_type"), 5),
        ("fetching keys", ("data", "search", "give_up_at"), None),
        ("fetching keys", ("data", "search", "faults"), None),
        ("fetching keys", ("data", "search", "has_waited"), 1),
        ("fetching keys", ("data", "search"), None),
        ("fetching keys", ("secrets", "untrusted"), "tokens"),
        ("fetching keys", ("secrets", "untrusted", "access_token"), 5),
        ("waiting for keys", ("data", "next_try_at"), "soon"),
        ("waiting for keys", ("secrets", "auth_req_id"), None),
        ("rejected", ("data", "attributes", "untrusted"), None),
        ("rejected", ("data", "class"), "RequestNotSent"),
        ("rejected", ("secrets", "untrusted"), None),
        ("rejected", ("secrets", "untrusted", "id_token_claims"), []),
        ("without keys", ("data", "class"), "ProviderUnavailable"),
        ("tokens", ("secrets", "id_token_claims"), "claims"),
        ("tokens", ("data", "token_type"), 5),
        ("tokens", ("data", "expires_at"), "1"),
        ("tokens", ("data", "authorization_details"), {}),
        ("tokens", ("data", "grant"), {}),
        ("tokens", ("data", "grant"), ["scope"]),
        ("tokens", ("data", "grant"), [{"name": "scope", "requested": ["x"], "granted": ["x"]}]),
        (
            "tokens",
            ("data", "grant"),
            [{"name": "scope", "requested": ["x"], "granted": ["x"], "verdict": "fine"}],
        ),
        ("tokens", ("data", "grant"), [{"name": 5, "requested": ["x"], "granted": ["x"], "verdict": "less"}]),
        (
            "tokens",
            ("data", "grant"),
            [{"name": "scope", "requested": "x", "granted": ["x"], "verdict": "less"}],
        ),
        ("tokens", ("data", "grant"), [{"name": "scope", "requested": ["x"], "verdict": "less"}]),
        ("tokens", ("secrets", "access_token"), None),
        ("tokens", ("secrets", "refresh_token"), 5),
        ("tokens", ("secrets", "extra"), None),
        ("refused", ("data", "class"), 5),
        ("refused", ("data", "class"), "KeyError"),
        ("refused", ("data", "class"), "Endpoint"),
        ("refused", ("data", "class"), "enum"),
        ("refused", ("data", "class"), "_rebuild"),
        ("refused", ("data", "args"), "x"),
        ("refused", ("data", "args"), ["a", "b"]),
        ("refused", ("data", "attributes"), None),
        ("refused", ("data", "attributes"), {"endpoint": "TOKEN", "error": "x", "status": 1, "more": 1}),
        ("refused", ("data", "attributes", "endpoint"), "ELSEWHERE"),
        ("refused", ("data", "attributes", "endpoint"), 5),
        ("refused with more", ("secrets", "answer_headers"), []),
        ("refused with more", ("secrets", "answer_headers"), {"x": 1}),
        ("awaiting with more", ("secrets", "headers"), [["x", "y"]]),
        ("awaiting with more", ("secrets", "headers"), {"x": None}),
        ("awaiting with more", ("secrets", "claims"), []),
        ("awaiting with more", ("secrets", "token_parameters"), {"resource": "x"}),
        ("awaiting with more", ("secrets", "token_parameters"), [["resource"]]),
        ("awaiting with more", ("secrets", "token_parameters"), [["resource", 1]]),
        ("pending with more", ("secrets", "acknowledgement_extra"), "https://op.example"),
    ],
    ids=str,
)
def test_damaged_members(name: str, path: tuple[str, ...], value: object) -> None:
    """A member of the wrong type is refused with the documented exception."""
    document: Any = json.loads(JOURNEY[name].to_json())
    parent = document
    for step_down in path[:-1]:
        parent = parent[step_down]
    parent[path[-1]] = value
    with pytest.raises(SnapshotError):
        restored(json.dumps(document))


# ---- going on


def test_a_restored_poll_goes_on() -> None:
    """Promise 5: whatever was in flight is lost with its process; the authentication is not."""
    tx = restored(polling().to_json())
    resumed = step(tx, Resumed(), NOW + 10).transaction
    assert isinstance(resumed.state, Pending)
    assert resumed.state.answer_lost
    assert fire(resumed).request is not None


def test_states_are_stored_with_their_own_errors() -> None:
    """The classes that stand in terminal states are those that come back."""
    for state, cls in (
        (Refused(REFUSED), ErrorResponse),
        (
            Refused(AuthenticationRequestDenied("access_denied", endpoint=Endpoint.TOKEN, status=403)),
            ErrorResponse,
        ),
        (Expired(AuthenticationExpired("late")), AuthenticationExpired),
        (
            Failed(ProviderUnavailable("busy", reason="status 503", status=503, retry_after=None)),
            ProviderUnavailable,
        ),
    ):
        tx = Transaction(client=CLIENT, provider=PROVIDER, state=state)
        found = restored(tx.to_json())
        assert found == tx
        assert isinstance(found.error, cls)


def test_new_and_awaiting_hold_no_secret() -> None:
    """Without a nonce and a hint, nothing secret is known before the acknowledgement."""
    for state in (New(), AwaitingAcknowledgement(OPENID), SigningAuthentication(OPENID)):
        tx = Transaction(client=CLIENT, provider=PROVIDER, state=state)
        secrets = json.loads(tx.to_json_parts()[1])
        assert {name for name, value in secrets.items() if value is not None} == {"version"}


@pytest.mark.parametrize("name", ["signing", "signing a poll"])
def test_a_draft_is_not_stored(name: str) -> None:
    """A draft is made for its moment: neither its form nor what is to be signed is in a snapshot."""
    tx = JOURNEY[name]
    assert isinstance(tx.state, (SigningAuthentication, SigningPoll))
    draft = tx.state.draft
    assert draft is not None
    text = tx.to_json()
    for hidden in (draft.form, draft.jwts[0].octets.decode(), "client_assertion", "bc-authorize"):
        assert hidden not in text
    found = restored(text).state
    assert isinstance(found, type(tx.state))
    assert found.draft is None


def test_what_was_requested_for_comes_back() -> None:
    """IDT-14, -16, -17: a restored transaction measures the tokens by all that was asked for."""
    state = restored(JOURNEY["awaiting much"].to_json()).state
    assert state == AwaitingAcknowledgement(
        Requested(
            scope="openid",
            authorization_details=({"type": "a", "n": (1, None)},),
            nonce=Secret("hush-nonce"),
            acr=True,
            acr_values=("1", "2"),
            max_age=300,
            auth_time=True,
        )
    )
    before = json.loads(JOURNEY["awaiting much"].to_json())
    del before["data"]["acr"]  # there was a time when values alone made it essential
    assert restored(json.dumps(before)).state == state
    hinted = restored(JOURNEY["awaiting one user"].to_json()).state
    assert hinted == AwaitingAcknowledgement(Requested(scope="openid", subject=Secret("hush-subject")))


@pytest.mark.parametrize("name", ["fetching keys", "waiting for keys"])
def test_tokens_that_wait_for_keys_are_not_lost(name: str) -> None:
    """Promise 5: the process may end at any moment; the tokens are validated by the next one."""
    tx = restored(JOURNEY[name].to_json())
    assert isinstance(tx.state, (FetchingKeys, AwaitingKeys))
    resumed = step(tx, Resumed(), NOW + 10).transaction
    assert isinstance(resumed.state, AwaitingKeys)
    asked = fire(resumed, shared=NOTHING_SHARED)
    assert asked.request is not None
    found = answer(asked.transaction, reply(200, JWKS)).transaction
    assert found.tokens is not None
    assert found.tokens.access_token.reveal() == TOKENS["access_token"]


def test_a_dpop_key_survives() -> None:
    """DPOP-22: the key that the tokens get bound to is the same after a restart."""
    before, after = JOURNEY["awaiting, bound"], restored(JOURNEY["awaiting, bound"].to_json())
    assert before.dpop_key is not None
    assert after.dpop_key is not None
    assert after.dpop_key.thumbprint == before.dpop_key.thumbprint
    assert after.dpop_key.to_secret() == before.dpop_key.to_secret()


@pytest.mark.parametrize("name", ["fetching keys", "waiting for keys"])
@pytest.mark.parametrize("id_token", [None, 1])
def test_what_waits_for_a_key_is_an_id_token(name: str, id_token: object) -> None:
    """Promise 7: tokens without one are never validated by a key, so that no snapshot has them wait for it."""
    members = json.loads(JOURNEY[name].to_json())
    members["secrets"]["untrusted"]["id_token"] = id_token
    with pytest.raises(SnapshotError, match="the snapshot has a wrong id_token"):
        restored(json.dumps(members))


@pytest.mark.parametrize(("name", "cls"), [("rejected", TokensRejected), ("without keys", KeysUnavailable)])
def test_tokens_in_an_error_come_back_guarded(name: str, cls: type[TokensRejected | KeysUnavailable]) -> None:
    """Promise 7: what failed validation is there after a restart, and as guarded as before."""
    tx = restored(JOURNEY[name].to_json())
    assert isinstance(tx.error, cls)
    assert tx.tokens is None
    assert tx.error.untrusted.reveal_untrusted().access_token.reveal() == TOKENS["access_token"]


def test_what_ping_and_push_need_comes_back() -> None:
    """Promise 5: the token, the callback that is held, the ping that came, and where a bad push leads back to."""
    assert restored(JOURNEY["new"].to_json()).client_notification_token is None
    for name in ("awaiting, called back", "pinged", "pushed tokens", "pushed error"):
        assert restored(JOURNEY[name].to_json()).client_notification_token == Secret(NOTIFICATION_TOKEN)
    held = restored(JOURNEY["holding a push"].to_json()).state
    assert isinstance(held, AwaitingAcknowledgement)
    assert held.held == notification(HELD)
    validated = restored(JOURNEY["validating a push"].to_json()).state
    assert isinstance(validated, FetchingKeys)
    assert validated.back_to == pending(client=PUSH_CLIENT).state
    assert validated.back_to is not None
    assert validated.back_to.next_poll_at is None
    again = restored(JOURNEY["validating a push again"].to_json()).state
    assert isinstance(again, AwaitingKeys)
    assert again.back_to == validated.back_to
    polled = restored(JOURNEY["pinged during a poll"].to_json()).state
    assert isinstance(polled, Polling)
    assert (polled.pinged, polled.poll_again) == (True, True)
    signing = restored(JOURNEY["pinged while signing"].to_json()).state
    assert isinstance(signing, SigningPoll)
    assert signing.pinged


def test_polling_keeps_what_pending_had() -> None:
    """A poll under way is stored with the faults that led to it."""
    tx = JOURNEY["polling after a loss"]
    assert isinstance(tx.state, Polling)
    assert restored(tx.to_json()).state == attrs.evolve(tx.state, faults=1, answer_lost=True)


def test_authorization_details_as_large_as_they_are_accepted() -> None:
    """Promise 5: what is not refused when the request is made can be restored, wherever it stands."""
    value: Any = 10**64 - 1
    for _ in range(126):
        value = [value]
    request = attrs.evolve(REQUEST, authorization_details=[{"type": "a", "b": value}])
    tx = answer(awaiting(request), reply(200, ACKNOWLEDGEMENT)).transaction
    granted = {**TOKENS, "authorization_details": [{"type": "a"}]}
    for each in (
        tx,
        answer(fire(tx).transaction, reply(200, granted)).transaction,
        answer(fire(tx).transaction, reply(200, granted), shared=NOTHING_SHARED).transaction,
    ):
        assert restored(each.to_json()) == each
        assert restored(*each.to_json_parts()) == each


OWING = {"holding a push", "validating a push"}


@pytest.mark.parametrize("name", JOURNEY)
def test_whether_a_callback_waits_for_its_answer(name: str) -> None:
    """Promise 8: a push does, until its tokens are validated or have to wait for their key; a ping never does."""
    tx = JOURNEY[name]
    assert tx.owes_answer == (name in OWING)
    # What owes an answer has it in the step that ends the transaction.
    if not tx.is_finished:
        assert (step(tx, Cancel(), NOW).answer is not None) == tx.owes_answer


@pytest.mark.parametrize("name", JOURNEY)
def test_until_when_callbacks_matter(name: str) -> None:
    """Promise 8: until the authentication expires or, once tokens are there, until their keys are given up."""
    tx = JOURNEY[name]
    match tx.state:
        case Pending() | Polling() | SigningPoll():
            assert tx.callbacks_until == tx.state.expires_at == tx.expires_at
        case AwaitingCallback():
            assert tx.callbacks_until == tx.state.give_up_at == tx.expires_at == tx.deadline
        case FetchingKeys() | AwaitingKeys():
            assert tx.callbacks_until == tx.state.search.give_up_at
        case _:
            assert tx.callbacks_until is None
