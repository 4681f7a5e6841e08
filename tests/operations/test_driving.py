"""One contract for all that is driven: each kind is fed every input, twice, before and after its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ciba_core import (
    Begin,
    Cancel,
    ClientConfig,
    Delivery,
    Discovery,
    Input,
    NotificationReceived,
    OperationStep,
    PrivateKeyJwt,
    Refresh,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Revocation,
    Secret,
    SignaturesMade,
    SigningFailed,
    Step,
    TimerFired,
    Transaction,
    UserInfo,
    proceed,
    step,
)
from ciba_core.errors import CibaError, LocalProtocolError, RequestNotSent
from ciba_core.jose.unsigned_jwt import RemoteSigner
from ciba_core.provider.shared import NOTHING_SHARED
from tests.jwt_samples import counter
from tests.operations.test_operations import CLAIMS, CLIENT, NEW, PROVIDER, SIGNED, TOKENS, jwt
from tests.samples import ACKNOWLEDGEMENT, NOW, REQUEST, notification, reply

Driven = Step | OperationStep[Any]
REMOTE: Final = evolve(CLIENT, authentication=PrivateKeyJwt(RemoteSigner("hsm", alg="ES256", kid="k")))


def fresh(client: ClientConfig = CLIENT) -> ClientConfig:
    """The same chance in every run."""
    return evolve(client, entropy=counter())


KINDS: Final[dict[str, Callable[[], Driven]]] = {
    "login": lambda: step(Transaction(client=fresh(), provider=PROVIDER), Begin(REQUEST), NOW),
    "login, signed elsewhere": lambda: step(
        Transaction(client=fresh(REMOTE), provider=PROVIDER), Begin(REQUEST), NOW
    ),
    "refresh": lambda: Refresh(TOKENS, client=fresh(), provider=PROVIDER).start(NOW),
    "refresh, signed elsewhere": lambda: Refresh(TOKENS, client=fresh(REMOTE), provider=PROVIDER).start(NOW),
    "revocation": lambda: Revocation(Secret("x"), client=fresh(), provider=PROVIDER).start(NOW),
    "userinfo": lambda: UserInfo(TOKENS, client=fresh(), provider=PROVIDER).start(NOW),
    "signed userinfo": lambda: UserInfo(TOKENS, client=fresh(SIGNED), provider=PROVIDER).start(NOW),
    "discovery": lambda: Discovery("https://op.example").start(NOW),
}
DOCUMENT: Final = {
    name: getattr(PROVIDER, name)
    for name in ("issuer", "token_endpoint", "backchannel_authentication_endpoint")
}
ANSWERS: Final = (
    reply(200, ACKNOWLEDGEMENT),
    reply(200, NEW),
    reply(200, {**NEW, "id_token": jwt(CLAIMS)}),
    reply(200, {"sub": "alice"}),
    reply(200, jwt(CLAIMS), media_type="application/jwt"),
    reply(200, DOCUMENT),
    reply(400, {"error": "authorization_pending"}),
    reply(400, {"error": "invalid_request"}),
    reply(404, b"<html>"),
    reply(503),
    reply(200, {"keys": []}),
)
NEVER: Final = (0, -1, 1000)
"""Numbers that no request and no draft has. A login takes one that is too small for an old one."""


def fitting(current: Driven) -> st.SearchStrategy[Input]:
    """What a step asks for, in any way that it can come out."""
    if current.draft is not None:
        number = current.draft.id
        return st.sampled_from(
            [SignaturesMade(number, (bytes(64),)), SignaturesMade(number, (b"",)), SigningFailed(number, "x")]
        )
    if current.request is not None:
        number = current.request.id
        failed = st.sampled_from([RequestFailed(number, delivery, "x", 0.1) for delivery in Delivery])
        answered = st.sampled_from([ResponseReceived(number, answer, 0.1) for answer in ANSWERS])
        return st.one_of(answered, failed, st.just(Cancel()))
    assert current.deadline is not None
    return st.sampled_from([TimerFired(current.deadline), Cancel()])


def value(current: Driven) -> object:
    return current.transaction if isinstance(current, Step) else current.operation


def changes_nothing(current: Driven, late: Input, now: float = NOW) -> None:
    after = proceed(current, late, now)
    assert value(after) == value(current)
    assert (after.request, after.draft) == (None, None)
    assert (after.deadline, after.is_finished) == (current.deadline, current.is_finished)
    assert (after.result, after.error) == (current.result, current.error)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_every_input_twice(kind: str, data: st.DataObject) -> None:
    """Promise 8, RT-07: what comes twice or late changes nothing; what was never issued is a wrong call."""
    current = KINDS[kind]()
    past: list[Input] = []
    for now in (NOW + second for second in range(12)):
        for number in NEVER[2:] if kind.startswith("login") else NEVER:
            for stray in (
                ResponseReceived(number, ANSWERS[0], 0.1),
                RequestFailed(number, Delivery.UNKNOWN, "x", 0.1),
                SignaturesMade(number, ()),
                SigningFailed(number, "x"),
            ):
                with pytest.raises(LocalProtocolError, match=f"no (request|draft) {number} was"):
                    proceed(current, stray, now)
        if current.draft is not None and not kind.startswith("login"):
            with pytest.raises(LocalProtocolError, match="no request"):
                proceed(current, ResponseReceived(current.draft.id, ANSWERS[0], 0.1), now)
        changes_nothing(current, TimerFired(NOW - 1000), now)
        for late in past:
            changes_nothing(current, late, now)
        if current.is_finished:
            break
        happened = data.draw(fitting(current))
        current = proceed(current, happened, now, NOTHING_SHARED)
        past.append(happened)
    if current.is_finished:
        changes_nothing(current, Cancel())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("login")])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("foreign", [Begin(REQUEST), NotificationReceived(notification()), Resumed()])
def test_what_only_a_login_takes(kind: str, foreign: Input, late: bool) -> None:
    """An operation is not stored, is begun by `start` and is not called back: told, before and after its end."""
    current = KINDS[kind]()
    if late:
        current = proceed(current, Cancel(), NOW)
    with pytest.raises(LocalProtocolError, match=f"no {type(foreign).__name__}"):
        proceed(current, foreign, NOW)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_has_one_shape(kind: str) -> None:
    """A loop needs no more than this, and sees the end in the step: either a result or an error."""
    current = KINDS[kind]()
    assert not current.is_finished
    assert (current.request is None) != (current.draft is None)
    assert (current.result, current.error, current.shared) == (None, None, NOTHING_SHARED)
    ended = proceed(current, Cancel(), NOW)
    assert (ended.is_finished, ended.deadline, ended.result) == (True, None, None)
    assert isinstance(ended.error, CibaError)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "elsewhere" in kind])
def test_the_wait_for_signatures_ends_at_the_deadline(kind: str) -> None:
    """AUTH-19: a draft has its deadline in the step; when it is over, nothing was sent."""
    current = KINDS[kind]()
    assert current.draft is not None
    assert current.deadline == current.draft.expires_at
    assert current.deadline is not None
    ended = proceed(current, TimerFired(current.deadline), current.deadline)
    assert isinstance(ended.error, RequestNotSent)
    assert ended.error.reason == "it was not signed in time"
    assert ended.is_finished


def test_the_last_step_knows_what_is_shared() -> None:
    """Without `shared`, a step goes on with what the one before it knew."""
    fetching = proceed(KINDS["refresh"](), ResponseReceived(1, ANSWERS[2], 0.1), NOW)
    assert fetching.request is not None
    keys = reply(200, {"keys": []})
    after = proceed(fetching, ResponseReceived(fetching.request.id, keys, 0.1), NOW)
    assert after.shared.keys is not None
    assert proceed(after, Cancel(), NOW).shared is after.shared
