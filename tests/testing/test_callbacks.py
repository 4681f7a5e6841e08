"""Callbacks of the simulated provider: pings and pushes, as they should be and as they should not."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from joserfc import jws
from joserfc.errors import BadSignatureError, InvalidKeyIdError
from joserfc.jwk import KeySet

from ciba_core.testing import (
    Approve,
    BadIdToken,
    BeforeAcknowledgement,
    Callback,
    CallbackFault,
    Delay,
    Deny,
    DropBefore,
    Forge,
    Forgery,
    Ignore,
    JournalEntry,
    Overtaken,
    Repeat,
    Reply,
    SimulatedClient,
    SimulatedProvider,
    User,
    VirtualClock,
)

from .world import (
    EC,
    ISSUER,
    START,
    World,
    access_hash,
    content,
    key_set,
    make_jwt,
    part,
    proof,
    public,
    refused,
    unique,
)

ENDPOINT = "https://client.example/cb?x=1"
TOKEN = "8d67dc78-7faa-4d41-aabd-67707b374255"
CLAIM = "urn:openid:params:jwt:claim:"
USERS: dict[str, User] = {
    "alice": Approve(after=10),
    "bob": Deny(after=10),
    "carol": Ignore(),
    "dave": Approve(),
    "erin": Deny(error="transaction_failed"),
    "frank": Approve(after_polls=1),
}


def client(mode: str, client_id: str = "me", **settings: Any) -> SimulatedClient:
    registered: dict[str, Any] = {
        "token_endpoint_auth_method": "none",
        "backchannel_token_delivery_mode": mode,
        "backchannel_client_notification_endpoint": ENDPOINT,
    }
    return SimulatedClient(client_id, **registered | settings)


class Callbacks(World):
    """A world with a client notification endpoint, which notes what comes and answers with `status`."""

    def __init__(self, mode: str, *more: SimulatedClient, **settings: Any) -> None:
        self.received: list[Callback] = []
        self.status: int | Future[int | None] | None = 204
        self.react: Callable[[Callback], object] = lambda callback: None
        registered = settings.pop("client", None) or client(mode)
        super().__init__(registered, *more, users=USERS, deliver=self.deliver, **settings)

    def deliver(self, callback: Callback) -> int | Future[int | None] | None:
        self.received.append(callback)
        self.react(callback)
        return self.status

    def begin_with(self, token: str | None, hint: str = "alice", scope: str = "openid") -> Reply:
        pairs = [("client_id", "me"), ("scope", scope), ("login_hint", hint)]
        if token is not None:
            pairs.append(("client_notification_token", token))
        return self.post("/bc-authorize", pairs)

    def start(self, hint: str = "alice", token: str = TOKEN, scope: str = "openid") -> str:
        return self.begin(("client_notification_token", token), hint=hint, scope=scope)

    def sleep(self, seconds: float = 0.0) -> None:
        self.clock.sleep(seconds)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(callback.body) for callback in self.received]

    @property
    def callbacks(self) -> list[JournalEntry]:
        return [entry for entry in self.provider.journal if entry.endpoint == "client_notification"]

    @property
    def outcomes(self) -> list[str]:
        return [entry.outcome for entry in self.callbacks]

    def open(self, token: str) -> dict[str, Any]:
        """The claims of an ID Token, after joserfc has verified it."""
        keys = KeySet.import_key_set({"keys": self.key_list()})
        claims: dict[str, Any] = json.loads(jws.deserialize_compact(token, keys).payload or b"")
        return claims


def left_half(value: str) -> str:
    return part(hashlib.sha256(value.encode()).digest()[:16])


def authorizations(callback: Callback) -> list[str]:
    return [value for name, value in callback.headers if name == "Authorization"]


# --- registration and authentication requests ------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "endpoint"),
    [
        ("ping", None),
        ("push", None),
        ("poll", ENDPOINT),
        ("ping", "http://client.example/cb"),
        ("push", "https://client.example/cb#x"),
        ("push", "/cb"),
        ("ping", "https://"),
    ],
)
def test_registration(mode: str, endpoint: str | None) -> None:
    """REG-02: ping and push need a notification endpoint with https; polling has none."""
    with pytest.raises(ValueError, match=r"^backchannel_client_notification_endpoint: "):
        client(mode, backchannel_client_notification_endpoint=endpoint)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:8080/cb", "http://[::1]/", "http://localhost", ENDPOINT]
)
def test_loopback_endpoints(endpoint: str) -> None:
    """REG-02: what listens on the same machine needs no TLS."""
    client("ping", backchannel_client_notification_endpoint=endpoint)


def test_unknown_mode() -> None:
    """REG-01: there are three delivery modes."""
    with pytest.raises(ValueError, match="backchannel_token_delivery_mode"):
        client("pull")


def test_what_callbacks_need() -> None:
    """Without a notifier, or with a clock that calls nobody, there can be no callbacks."""
    with pytest.raises(ValueError, match=r"^deliver: "):
        SimulatedProvider(VirtualClock(), clients=[client("ping")])
    with pytest.raises(ValueError, match=r"^clock: "):
        SimulatedProvider(time, clients=[client("push")], deliver=lambda callback: 204)
    with pytest.raises(ValueError, match="no client"):
        World().provider.inject_callback(DropBefore())
    assert World().provider.callback_faults == ()


def test_metadata() -> None:
    """OPM-01: the provider advertises the modes that its clients are registered for."""
    world = Callbacks("push", client("ping", "other"))
    document = content(world.get("/.well-known/openid-configuration"))
    assert document["backchannel_token_delivery_modes_supported"] == ["ping", "push"]


@pytest.mark.parametrize("mode", ["ping", "push"])
@pytest.mark.parametrize(
    ("token", "good"),
    [
        (TOKEN, True),
        ("a" * 22, True),
        ("a" * 1024, True),
        ("A.b_c~d+e/f-0123456789012==", True),
        (None, False),
        ("", False),
        ("a" * 21 + "=", False),
        ("a" * 1025, False),
        ("a" * 1022 + "===", False),
        ("=" * 30, False),
        ("a" * 22 + "=a", False),
        ("a" * 22 + " ", False),
        ("ö" * 30, False),
        ("a" * 22 + ":", False),
        ("a" * 22 + "\n", False),
    ],
)
def test_notification_token(mode: str, token: str | None, good: bool) -> None:
    """CIBA-7.1-08 to -11, VEC-DER-03: the token is there, a b64token, long enough and not too long."""
    reply = Callbacks(mode).begin_with(token)
    if good:
        assert reply.status == 200
    else:
        assert refused(reply) == (400, "invalid_request")


def test_polling_needs_no_token() -> None:
    """CIBA-7.1-13: a polling client sends no token; one that does is not called back."""
    world = Callbacks("ping", SimulatedClient("poller", token_endpoint_auth_method="none"))
    pairs = [("client_id", "poller"), ("scope", "openid"), ("login_hint", "dave")]
    for more in [], [("client_notification_token", "short")]:
        assert world.post("/bc-authorize", [*pairs, *more]).status == 200
    world.sleep(600)
    assert world.received == []


@pytest.mark.parametrize("token", [TOKEN, "short", None])
def test_notification_token_in_a_signed_request(token: str | None) -> None:
    """CIBA-7.1.1: in a signed request the token is a claim, and is held to the same rules."""
    signer = client("ping", jwks=key_set(public(EC)), backchannel_authentication_request_signing_alg="ES256")
    world = Callbacks("ping", client=signer)
    claims = {"iss": "me", "aud": ISSUER, "iat": START, "nbf": START, "exp": START + 60, "jti": unique()}
    claims |= {"scope": "openid", "login_hint": "dave"}
    if token is not None:
        claims["client_notification_token"] = token
    reply = world.post("/bc-authorize", [("client_id", "me"), ("request", make_jwt(claims))])
    if token != TOKEN:
        assert refused(reply) == (400, "invalid_request")
        return
    world.sleep()
    assert [authorizations(one) for one in world.received] == [[f"Bearer {TOKEN}"]]


def test_a_push_client_asks_for_nothing() -> None:
    """CIBA-7.3-06, REG-03: no interval, no CIBA grant needed, and no use for one; refreshing is another thing."""
    world = Callbacks("push", client=client("push", grant_types=()))
    reply = world.begin_with(TOKEN, scope="openid offline_access")
    assert content(reply).keys() == {"auth_req_id", "expires_in"}
    assert refused(world.poll(content(reply)["auth_req_id"])) == (400, "unauthorized_client")
    world.sleep(10)
    (tokens,) = world.bodies
    assert world.refresh(tokens["refresh_token"]).status == 200


def test_a_push_needs_an_id_token() -> None:
    """CIBA-10.3-03: what binds the tokens of a push is an ID Token, so openid is not optional."""
    world = Callbacks("push", client("ping", "other"), require_openid=False)
    assert refused(world.begin_with(TOKEN, scope="profile")) == (400, "invalid_scope")


# --- ping ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hint", "outcome"), [("alice", "tokens"), ("bob", "access_denied")])
def test_ping(hint: str, outcome: str) -> None:
    """CIBA-9-03, -10, CIBA-10.2-01, VEC-CORE-07: POST, JSON, the bearer token, the auth_req_id alone; then a poll."""
    world = Callbacks("ping")
    auth_req_id = world.start(hint)
    world.sleep(9.9)
    assert world.received == []
    world.sleep(50)
    (ping,) = world.received
    assert (ping.method, ping.url) == ("POST", ENDPOINT)
    assert ping.due == pytest.approx(START + 10)
    assert ping.headers == (("Authorization", f"Bearer {TOKEN}"), ("Content-Type", "application/json"))
    assert world.bodies == [{"auth_req_id": auth_req_id}]
    assert ping.auth_req_id == auth_req_id
    world.poll(auth_req_id)
    assert world.last.outcome == outcome
    sent = world.callbacks[0]
    assert (sent.outcome, sent.status, sent.client_id, sent.fault) == ("ping", 204, "me", None)
    assert sent.auth_req_id == auth_req_id
    assert sent.arrived == sent.answered == ping.due


def test_ping_by_hand() -> None:
    """CIBA-9-03: a decision made by hand is told as well, by the next sleep."""
    world = Callbacks("ping")
    world.provider.approve(world.start("carol"))
    assert world.received == []
    world.sleep()
    assert world.outcomes == ["ping"]
    second = world.start("carol")
    world.provider.deny(second)
    world.sleep()
    assert refused(world.poll(second)) == (400, "access_denied")


def test_the_poll_after_a_ping_is_not_early() -> None:
    """CIBA-10.1: after a ping the token request comes at once, whatever the interval says."""
    world = Callbacks("ping", throttle_first_poll=True)
    auth_req_id = world.start("carol")
    world.poll(auth_req_id)
    assert world.last.too_early
    world.provider.approve(auth_req_id)
    world.sleep()
    assert world.poll(auth_req_id).status == 200
    assert not world.last.too_early


def test_a_client_may_poll_when_it_is_called() -> None:
    """CIBA-10.2-05: the notifier may make requests; in the journal they come before the ping is answered."""
    world = Callbacks("ping")
    world.react = lambda callback: world.poll(callback.auth_req_id)
    world.start()
    world.sleep(10)
    assert [entry.outcome for entry in world.provider.journal] == ["acknowledged", "tokens", "ping"]


def test_a_ping_after_some_polls() -> None:
    """A user who waits for a poll decides after it, and the client is told."""
    world = Callbacks("ping")
    auth_req_id = world.start("frank")
    world.sleep(20)
    assert refused(world.poll(auth_req_id)) == (400, "authorization_pending")
    assert world.received == []
    world.sleep()
    assert world.outcomes == ["ping"]


@pytest.mark.parametrize("status", [200, 401, 500, None])
def test_the_answer_is_noted_and_nothing_else(status: int | None) -> None:
    """CIBA-9-08: whatever is answered, the callback is not repeated."""
    world = Callbacks("ping")
    world.status = status
    world.start()
    world.sleep(100)
    assert [entry.status for entry in world.callbacks] == [status]


@pytest.mark.parametrize(("answer", "status"), [(204, 204), (None, None), (OSError(), None)])
def test_an_answer_can_come_later(answer: int | OSError | None, status: int | None) -> None:
    """SM-05: what is answered when something else is done is noted then."""
    world = Callbacks("ping")
    world.status = later = Future[int | None]()
    world.start()
    world.sleep(10)
    assert len(world.received) == 1
    assert world.callbacks == []
    world.sleep(2)
    if isinstance(answer, OSError):
        later.set_exception(answer)
    else:
        later.set_result(answer)
    (entry,) = world.callbacks
    assert entry.status == status
    assert entry.answered - entry.arrived == pytest.approx(2)


def test_an_answer_can_be_given_up() -> None:
    """A future that is cancelled is no answer."""
    world = Callbacks("ping")
    world.status = later = Future[int | None]()
    world.start("dave")
    world.sleep()
    later.cancel()
    assert [entry.status for entry in world.callbacks] == [None]


# --- push ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["openid", "openid offline_access"])
def test_push(scope: str) -> None:
    """CIBA-10.3-01, -04 to -06, VEC-CORE-08: the token response with auth_req_id, bound by a signed ID Token."""
    world = Callbacks("push")
    auth_req_id = world.start("dave", scope=scope)
    world.sleep()
    (push,) = world.bodies
    refresh = {"refresh_token"} if "offline_access" in scope else set[str]()
    assert (
        push.keys()
        == {"auth_req_id", "access_token", "token_type", "id_token", "expires_in", "scope"} | refresh
    )
    assert push["auth_req_id"] == auth_req_id
    claims = world.open(push["id_token"])
    assert claims["at_hash"] == left_half(push["access_token"])
    assert claims[CLAIM + "auth_req_id"] == auth_req_id
    assert claims.get(CLAIM + "rt_hash") == (left_half(push["refresh_token"]) if refresh else None)
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, "me", "dave")
    assert world.outcomes == ["tokens"]
    bearer = ("Authorization", f"Bearer {push['access_token']}")
    assert content(world.get("/userinfo", bearer)) == {"sub": "dave"}


def test_push_of_bound_tokens() -> None:
    """CIBA-10.3-13, RFC 9449 5: what is pushed is bound to the key shown with the authentication request."""
    world = Callbacks("push", client=client("push", dpop_bound_access_tokens=True))
    assert refused(world.begin_with(TOKEN, "dave")) == (400, "invalid_dpop_proof")
    form = [("client_id", "me"), ("scope", "openid"), ("login_hint", "dave")]
    form.append(("client_notification_token", TOKEN))
    assert world.post("/bc-authorize", form, proof("/bc-authorize")).status == 200
    world.sleep()
    (push,) = world.bodies
    assert push["token_type"] == "DPoP"
    token = push["access_token"]
    good = proof("/userinfo", htm="GET", ath=access_hash(token))
    assert world.get("/userinfo", ("Authorization", f"DPoP {token}"), good).status == 200
    assert world.get("/userinfo", ("Authorization", f"Bearer {token}")).status == 401


@pytest.mark.parametrize(("hint", "error"), [("bob", "access_denied"), ("erin", "transaction_failed")])
def test_push_of_an_error(hint: str, error: str) -> None:
    """CIBA-12-01, -02, -04, VEC-DER-05: error and auth_req_id."""
    world = Callbacks("push")
    auth_req_id = world.start(hint)
    world.sleep(10)
    assert world.bodies == [{"auth_req_id": auth_req_id, "error": error}]
    assert world.outcomes == [error]


def test_push_of_an_error_by_hand() -> None:
    """CIBA-12-05: any code can be pushed."""
    world = Callbacks("push")
    world.provider.deny(world.start("carol"), error="other_code")
    world.sleep()
    assert world.outcomes == ["other_code"]


@pytest.mark.parametrize(("mode", "outcome"), [("ping", "ping"), ("push", "expired_token")])
def test_expiry(mode: str, outcome: str) -> None:
    """CIBA-10.2-02, CIBA-12-03: expiry is told if that is wanted, and only of what nobody has decided."""
    for wanted in False, True:
        world = Callbacks(mode, callback_on_expiry=wanted)
        world.start("carol")
        world.sleep(119)
        assert world.received == []
        world.sleep(1)
        assert world.outcomes == ([outcome] if wanted else [])
        world.start("dave")
        world.sleep(500)
        assert len(world.outcomes) == 1 + wanted


# --- faults ----------------------------------------------------------------------------------------------


def disturbed(mode: str, *faults: CallbackFault, hint: str = "alice", **settings: Any) -> Callbacks:
    world = Callbacks(mode, **settings)
    world.provider.inject_callback(*faults)
    assert [*world.provider.callback_faults] == [faults]
    world.start(hint)
    world.sleep(100)
    assert [*world.provider.callback_faults] == []
    return world


def test_repeated() -> None:
    """CIBA-9-16: the same callback more than once, at intervals."""
    world = disturbed("push", Repeat(2, every=5))
    assert [callback.due - START for callback in world.received] == pytest.approx([10, 15, 20])
    assert len({callback.body for callback in world.received}) == 1
    assert [entry.fault for entry in world.callbacks] == [None, Repeat(2, every=5), Repeat(2, every=5)]


def test_delayed() -> None:
    """A callback can be late, and even after expiry."""
    world = disturbed("push", Delay(90), expires_in=60)
    assert [callback.due - START for callback in world.received] == pytest.approx([100])


def test_dropped() -> None:
    """CIBA-10.2-07: a callback can be lost; the journal knows."""
    world = disturbed("ping", DropBefore())
    assert world.received == []
    (entry,) = world.callbacks
    assert (entry.outcome, entry.status, entry.fault) == ("dropped", None, DropBefore())


def test_overtaken() -> None:
    """Two callbacks in the wrong order."""
    world = Callbacks("ping")
    world.provider.inject_callback(Overtaken())
    first = world.start("dave")
    world.sleep(1)
    assert world.outcomes == []
    second = world.start("dave", token=TOKEN[::-1])
    world.sleep()
    assert [callback.auth_req_id for callback in world.received] == [second, first]
    assert [authorizations(one) for one in world.received] == [[f"Bearer {TOKEN[::-1]}"], [f"Bearer {TOKEN}"]]
    assert world.received[1].due == START + 1


def test_overtaken_by_a_late_one() -> None:
    """What is kept back comes after the next one, however late that is."""
    world = Callbacks("ping")
    world.provider.inject_callback(Overtaken())
    world.provider.inject_callback(Delay(7))
    first, second = world.start("dave"), world.start("dave")
    world.sleep(60)
    assert [(one.auth_req_id, one.due - START) for one in world.received] == [(second, 7), (first, 7)]


@pytest.mark.parametrize(("mode", "hint"), [("ping", "dave"), ("push", "alice"), ("push", "bob")])
def test_before_the_acknowledgement(mode: str, hint: str) -> None:
    """CIBA-7.4-05, SM-05: the callback is there before the answer to the authentication request."""
    world = Callbacks(mode)
    world.provider.inject_callback(BeforeAcknowledgement())
    auth_req_id = world.start(hint)
    assert [callback.auth_req_id for callback in world.received] == [auth_req_id]
    assert [entry.endpoint for entry in world.provider.journal] == [
        "client_notification",
        "backchannel_authentication",
    ]
    world.sleep(600)
    assert len(world.received) == 1


def test_before_the_acknowledgement_and_again() -> None:
    """Faults add up: ahead of the acknowledgement, and once more after it."""
    world = Callbacks("ping")
    world.provider.inject_callback(BeforeAcknowledgement(), Repeat(every=3))
    world.start("dave")
    assert len(world.received) == 1
    world.sleep(3)
    assert [callback.due - START for callback in world.received] == [0, 3]


def test_faults_wait_for_their_callback() -> None:
    """What cannot happen to a callback stays planned for a later one."""
    world = Callbacks("push")
    ahead, bad, foreign = BeforeAcknowledgement(), BadIdToken(without=("at_hash",)), Forge("foreign_token")
    for fault in ahead, bad, foreign:
        world.provider.inject_callback(fault)

    def left() -> list[tuple[CallbackFault, ...]]:
        return list(world.provider.callback_faults)

    world.provider.deny(world.start("carol"))
    world.sleep()
    assert world.outcomes == ["access_denied"]
    assert left() == [(ahead,), (bad,), (foreign,)]
    world.start("bob")
    assert left() == [(bad,), (foreign,)]
    world.start("bob")
    world.sleep(10)
    assert left() == [(bad,), (foreign,)]
    world.start("dave")
    world.sleep()
    assert left() == [(foreign,)]
    assert world.outcomes[-2:] == ["forged", "tokens"]
    lonely = Callbacks("ping")
    lonely.provider.inject_callback(Forge("foreign_token"), times=2)
    lonely.start("dave")
    lonely.sleep()
    assert lonely.outcomes == ["ping"]
    assert len(lonely.provider.callback_faults) == 2


def forged(what: Forgery, mode: str = "ping", hint: str = "dave") -> tuple[Callbacks, str, str, Callback]:
    """A forged callback, between its transaction and another one's."""
    world = Callbacks(mode)
    world.start("carol", token="older" + TOKEN)
    other = world.start("carol", token=TOKEN[::-1])
    world.provider.inject_callback(Forge(what))
    auth_req_id = world.start(hint)
    world.sleep()
    callback, right = world.received
    assert json.loads(right.body)["auth_req_id"] == auth_req_id
    assert world.outcomes[0] == "forged"
    assert world.callbacks[0].fault == Forge(what)
    assert callback.auth_req_id == auth_req_id
    return world, auth_req_id, other, callback


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("no_token", []),
        ("foreign_token", [f"Bearer {TOKEN[::-1]}"]),
        ("two_tokens", [f"Bearer {TOKEN}", f"Bearer {TOKEN}"]),
    ],
)
def test_forged_tokens(what: Forgery, expected: list[str]) -> None:
    """VEC-DER-06: everything is right but the bearer token."""
    _, auth_req_id, _, callback = forged(what)
    assert authorizations(callback) == expected
    assert json.loads(callback.body) == {"auth_req_id": auth_req_id}


def test_forged_wrong_token() -> None:
    """VEC-DER-06: a token that nobody has ever issued."""
    _, _, _, callback = forged("wrong_token")
    (value,) = authorizations(callback)
    assert value.startswith("Bearer ")
    assert value not in {f"Bearer {TOKEN}", f"Bearer {TOKEN[::-1]}"}


@pytest.mark.parametrize("what", ["foreign_auth_req_id", "unknown_auth_req_id", "numeric_auth_req_id"])
def test_forged_auth_req_id(what: Forgery) -> None:
    """CIBA-9-04, VEC-DER-06: the right token with an auth_req_id that is another's, nobody's, or a number."""
    _, auth_req_id, other, callback = forged(what)
    assert authorizations(callback) == [f"Bearer {TOKEN}"]
    found = json.loads(callback.body)["auth_req_id"]
    assert (found == other) == (what == "foreign_auth_req_id")
    assert isinstance(found, int) == (what == "numeric_auth_req_id")
    assert found != auth_req_id


@pytest.mark.parametrize("mode", ["ping", "push"])
def test_forged_bodies(mode: str) -> None:
    """CIBA-9-13, HTTP-05: bodies that are no JSON, not UTF-8, or name a member twice."""
    _, _, _, callback = forged("broken_json", mode)
    with pytest.raises(json.JSONDecodeError):
        json.loads(callback.body)
    _, auth_req_id, _, callback = forged("repeated_member", mode)
    pairs: list[tuple[str, Any]] = json.loads(callback.body, object_pairs_hook=list)
    assert [value for name, value in pairs if name == "auth_req_id"] == [auth_req_id, "x"]
    _, _, _, callback = forged("not_utf8", mode)
    assert json.loads(callback.body.decode("latin-1"))["x"] == "ÿ"
    with pytest.raises(UnicodeDecodeError):
        callback.body.decode()


@pytest.mark.parametrize("mode", ["ping", "push"])
@pytest.mark.parametrize("hint", ["dave", "erin"])
def test_forged_error_and_tokens(mode: str, hint: str) -> None:
    """CIBA-12-06: an error and tokens in one body."""
    _, _, _, callback = forged("error_and_tokens", mode, hint)
    assert json.loads(callback.body).keys() >= {"auth_req_id", "access_token", "error"}


def test_forged_modes() -> None:
    """CIBA-9-18: a bare ping for a push client; a push that is right in itself for a ping client."""
    _, auth_req_id, _, callback = forged("other_mode", "push")
    assert json.loads(callback.body) == {"auth_req_id": auth_req_id}
    world, auth_req_id, _, callback = forged("other_mode", "ping")
    push = json.loads(callback.body)
    assert world.open(push["id_token"])["at_hash"] == left_half(push["access_token"])
    assert world.poll(auth_req_id).status == 200
    _, auth_req_id, _, callback = forged("other_mode", "ping", "erin")
    assert json.loads(callback.body) == {"auth_req_id": auth_req_id, "error": "transaction_failed"}


def test_forged_instead() -> None:
    """With the right one dropped there is the forged one alone."""
    world = disturbed("ping", DropBefore(), Forge("no_token"))
    assert world.outcomes == ["forged", "dropped"]
    world = disturbed("ping", Forge("no_token"), Repeat())
    assert world.outcomes == ["forged", "ping", "forged", "ping"]


@pytest.mark.parametrize("claim", ["at_hash", CLAIM + "rt_hash", CLAIM + "auth_req_id"])
@pytest.mark.parametrize("missing", [True, False])
def test_bad_bindings(claim: str, missing: bool) -> None:
    """CIBA-10.3-04 to -08: each binding claim can be missing or wrong, under a good signature."""
    bad = BadIdToken(without=(claim,)) if missing else BadIdToken(claims={claim: "x"})
    world = Callbacks("push")
    world.provider.inject_callback(bad)
    world.start("dave", scope="openid offline_access")
    world.sleep()
    first, right = (world.open(body["id_token"]) for body in world.bodies)
    assert first.get(claim) == (None if missing else "x")
    assert first.keys() | {claim} == right.keys()
    assert world.outcomes == ["forged", "tokens"]


def test_bad_signature() -> None:
    """CIBA-10.3-03: a push whose ID Token somebody else has signed, or with a kid that is not published."""
    world = disturbed("push", BadIdToken(signature="wrong_key"))
    with pytest.raises(BadSignatureError):
        world.open(world.bodies[0]["id_token"])
    world.open(world.bodies[1]["id_token"])
    world = disturbed("push", BadIdToken(header={"kid": "nobody's"}))
    with pytest.raises(InvalidKeyIdError):
        world.open(world.bodies[0]["id_token"])


def test_nothing_secret_shows() -> None:
    """Tokens and auth_req_id are not in a repr."""
    world = disturbed("push")
    shown = repr(world.received) + repr(world.callbacks)
    body = world.bodies[0]
    for secret in TOKEN, body["auth_req_id"], body["access_token"], body["id_token"]:
        assert secret not in shown
