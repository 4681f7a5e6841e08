from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from ciba_core import Delivery, Resumed, Secret, TokenResponse, Transaction, step
from ciba_core.errors import (
    AuthenticationCancelled,
    AuthenticationExpired,
    AuthenticationRequestDenied,
    CibaError,
    Endpoint,
    ErrorResponse,
    ProviderUnavailable,
    SnapshotError,
)
from ciba_core.states import (
    Authenticated,
    AwaitingAcknowledgement,
    Cancelled,
    Denied,
    Expired,
    Failed,
    New,
    Pending,
    Polling,
    Refused,
    State,
)

from .samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
    NOW,
    PROVIDER,
    TOKENS,
    answer,
    awaiting,
    fail,
    fire,
    pending,
    pending_state,
    polling,
    reply,
    without,
)
from .test_errors import EXAMPLES
from .test_states import NO, REFUSED, STATES

DETAILED = {**TOKENS, "authorization_details": [{"type": "a", "n": [1, None]}], "device_secret": "hush-extra"}
ECHO = {
    "error": "access_denied",
    "error_description": "hush-description",
    "error_uri": "https://hush-uri.example/",
}

JOURNEY: dict[str, Transaction] = {
    "new": Transaction(client=CLIENT, provider=PROVIDER),
    "awaiting": awaiting(),
    "pending": pending(),
    "pending after faults": fail(polling()).transaction,
    "pending, slower": answer(polling(), reply(400, {"error": "slow_down"})).transaction,
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
    "cancelled": attrs.evolve(pending(), state=Cancelled(AuthenticationCancelled("cancelled"))),
}
HUSH = (
    AUTH_REQ_ID,
    *(str(TOKENS[name]) for name in ("access_token", "refresh_token", "id_token")),
    "hush",
    "7Fjfp0ZBr1KtDRbnfVdmIw",
    "janedoe",
)


def restored(text: str, secrets: str | None = None) -> Transaction:
    return Transaction.from_json(text, client=CLIENT, provider=PROVIDER, secrets=secrets)


def test_the_journey_visits_every_state() -> None:
    """The cases below leave out no state."""
    assert {type(tx.state) for tx in JOURNEY.values()} == {type(state) for state in STATES}


@pytest.mark.parametrize("tx", JOURNEY.values(), ids=JOURNEY)
def test_restored_in_one_part_and_in_two(tx: Transaction) -> None:
    """Promise 5: what comes back is equal, with everything that the caller can read from it."""
    for other in (restored(tx.to_json()), restored(*tx.to_json_parts())):
        assert other == tx
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
    for literal in HUSH:
        assert literal not in public
    for literal in ("7Fjfp0ZBr1KtDRbnfVdmIw", "janedoe", "bc-authorize"):
        assert literal not in secrets
    assert json.loads(tx.to_json()) == {**json.loads(public), "secrets": json.loads(secrets)}


def test_the_secret_part_has_them_all() -> None:
    """Each secret stands in the secret part under the name of the standard."""
    _, secrets = JOURNEY["tokens"].to_json_parts()
    assert json.loads(secrets) == {
        "version": 1,
        "access_token": TOKENS["access_token"],
        "refresh_token": TOKENS["refresh_token"],
        "id_token": TOKENS["id_token"],
        "extra": {"device_secret": "hush-extra"},
    }
    assert json.loads(JOURNEY["pending"].to_json_parts()[1]) == {"version": 1, "auth_req_id": AUTH_REQ_ID}
    assert json.loads(JOURNEY["denied"].to_json_parts()[1]) == {
        "version": 1,
        "error_description": "hush-description",
        "error_uri": "https://hush-uri.example/",
    }


def test_the_format() -> None:
    """The first version of the format stays readable: this text is not made by the code under test."""
    text = """{"version": 1, "client_id": "s6BhdRkqt3", "issuer": "https://server.example.com", "requests": 3,
        "polls": 2, "state": "pending", "data": {"scope": "openid", "expires_at": 1537819606, "interval": 5,
        "faults": 1, "answer_lost": true, "next_poll_at": 1537819500.5}, "secrets": {"version": 1,
        "auth_req_id": "1c266114-a1be-4252-8ad1-04986c5b9ac1"}}"""
    assert restored(text) == Transaction(
        client=CLIENT,
        provider=PROVIDER,
        state=Pending(Secret(AUTH_REQ_ID), "openid", 1537819606.0, 5.0, 1537819500.5, 1, True),
        requests=3,
        polls=2,
    )


@pytest.mark.parametrize(
    ("name", "state"),
    [
        *zip(
            (
                "new",
                "awaiting_acknowledgement",
                "pending",
                "polling",
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
        ("{}", "not of version 1"),
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


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None])
@pytest.mark.parametrize("part", ["public", "secret"])
def test_versions(version: object, part: str) -> None:
    """A snapshot of another version is not guessed at."""
    public, secrets = map(json.loads, pending().to_json_parts())
    (public if part == "public" else secrets)["version"] = version
    with pytest.raises(SnapshotError, match="this snapshot is not of version 1"):
        restored(json.dumps(public), json.dumps(secrets))


@pytest.mark.parametrize(
    ("changes", "name"), [({"client_id": "other"}, "client_id"), ({"client_id": "S6BhdRkqt3"}, "client_id")]
)
def test_another_client(changes: dict[str, Any], name: str) -> None:
    """A transaction belongs to one client; another one does not get it by mistake."""
    with pytest.raises(SnapshotError, match=f"^the snapshot belongs to another {name}$"):
        Transaction.from_json(pending().to_json(), client=attrs.evolve(CLIENT, **changes), provider=PROVIDER)


@pytest.mark.parametrize("issuer", ["https://server.example.com/", "https://other.example"])
def test_another_issuer(issuer: str) -> None:
    """DISC-05: nor does it go to another provider."""
    with pytest.raises(SnapshotError, match=r"^the snapshot belongs to another issuer$"):
        Transaction.from_json(
            pending().to_json(), client=CLIENT, provider=attrs.evolve(PROVIDER, issuer=issuer)
        )


@pytest.mark.parametrize("name", ["pending", "polling", "tokens"])
def test_missing_secrets(name: str) -> None:
    """The public part alone is not enough where there are secrets, and the message says what is missing."""
    public, _ = JOURNEY[name].to_json_parts()
    secret = "access_token" if name == "tokens" else "auth_req_id"
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
        if isinstance(member, dict) and name != "extra":
            yield from places(member, *path, name)


DAMAGE = [
    pytest.param(name, path, id=f"{name}-{'.'.join(path)}")
    for name in (
        "awaiting",
        "pending",
        "polling",
        "tokens",
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
    ("secrets", "refresh_token"),
    ("secrets", "id_token"),
    ("secrets", "error_description"),
    ("secrets", "error_uri"),
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
        assert path in OPTIONAL or (path == ("secrets",) and name not in ("pending", "polling", "tokens"))
        assert isinstance(str(tx.error), str)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
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
        ("awaiting", ("data", "scope"), 5),
        ("tokens", ("data", "token_type"), 5),
        ("tokens", ("data", "expires_at"), "1"),
        ("tokens", ("data", "authorization_details"), {}),
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
    """Nothing secret is known before the acknowledgement."""
    for state in (New(), AwaitingAcknowledgement("openid")):
        tx = Transaction(client=CLIENT, provider=PROVIDER, state=state)
        assert json.loads(tx.to_json_parts()[1]) == {"version": 1}


def test_polling_keeps_what_pending_had() -> None:
    """A poll under way is stored with the faults that led to it."""
    tx = JOURNEY["polling after a loss"]
    assert isinstance(tx.state, Polling)
    assert restored(tx.to_json()).state == attrs.evolve(tx.state, faults=1, answer_lost=True)
