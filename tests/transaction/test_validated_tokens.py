"""From an answer with tokens to tokens that are handed out: validation, and the keys for it."""

from __future__ import annotations

from typing import Any, Final

import attrs
import pytest

from ciba_core import (
    AuthenticationRequest,
    Begin,
    Cancel,
    ClientConfig,
    ClientSecretPost,
    Delivery,
    HttpResponse,
    IdTokenPolicy,
    Limits,
    ProviderMetadata,
    Purpose,
    ResponseReceived,
    Resumed,
    Revocation,
    Secret,
    Shared,
    SignaturesMade,
    Step,
    TimerFired,
    Transaction,
    step,
)
from ciba_core.errors import (
    AuthenticationCancelled,
    Endpoint,
    KeysUnavailable,
    LocalProtocolError,
    TokensRejected,
)
from ciba_core.events import (
    KeyRequestFailed,
    KeyRequestSent,
    PollFailed,
    TokensHeld,
    TokensIssued,
    TokensReceived,
    TokensUntrusted,
)
from ciba_core.jose.key_import import derive_p256
from ciba_core.jose.keys import KeySet
from ciba_core.jose.signing import half_hash
from ciba_core.states import Authenticated, AwaitingKeys, Cancelled, Failed, FetchingKeys, Pending
from ciba_core.transaction.key_search import REFETCH_COOLDOWN
from tests.made_keys import hmac_key, import_key
from tests.samples import (
    ACKNOWLEDGEMENT,
    AUTH_REQ_ID,
    CLIENT,
    JWKS,
    NOW,
    PROVIDER,
    PROVIDER_JWK,
    PUBLIC_JWK,
    SHARED,
    TOKENS,
    Json,
    answer,
    awaiting,
    awaiting_keys,
    fail,
    fetching,
    fire,
    id_token,
    ones,
    polling,
    reply,
    sent,
    without,
)

UNKNOWN: Shared = Shared()
ON_ANOTHER_CURVE: Final = derive_p256(b"a key of the provider").public_jwk()
ROTATED = {**TOKENS, "id_token": id_token(kid="new")}
"""Signed with a key under a name that the key set does not have."""
NEW_JWKS = {"keys": [PUBLIC_JWK, {**PUBLIC_JWK, "kid": "new"}]}


def known(age: float, *, fresh_for: float = 300.0) -> Shared:
    """The provider's keys, fetched some seconds ago."""
    fetched = NOW - age
    return Shared(
        keys=KeySet(keys=(import_key(PUBLIC_JWK),), fetched_at=fetched, fresh_until=fetched + fresh_for)
    )


def received(
    tokens: Json = TOKENS, *, shared: Shared = UNKNOWN, client: ClientConfig = CLIENT, now: float = NOW
) -> Step:
    """The answer to a poll, with tokens in it."""
    return answer(polling(client=client), reply(200, tokens), shared=shared, now=now)


def rejection(current: Step) -> TokensRejected:
    error = current.transaction.error
    assert isinstance(error, TokensRejected)
    assert current.events == (TokensUntrusted(error),)
    assert current.request is None
    assert current.transaction.tokens is None
    assert current.transaction.is_finished
    return error


def waiting(tx: Transaction) -> AwaitingKeys:
    assert isinstance(tx.state, AwaitingKeys)
    return tx.state


# ---- the way through


def test_tokens_are_validated_with_keys_at_hand() -> None:
    """TOK-09, IDT-07: with a fresh key set nothing is sent, and the claims are those that were signed."""
    found = received(shared=SHARED)
    assert isinstance(found.transaction.state, Authenticated)
    assert found.request is None
    assert found.shared is SHARED
    tokens = found.transaction.tokens
    assert tokens is not None
    assert tokens.id_token_claims is not None
    assert tokens.id_token_claims["sub"] == "248289761001"


def test_keys_are_fetched_when_they_are_not_known() -> None:
    """IDT-07, IDT-20: tokens wait; the key set comes from the provider's metadata, and is there for all."""
    found = received()
    assert isinstance(found.transaction.state, FetchingKeys)
    assert found.transaction.tokens is None
    (event,) = found.events
    assert isinstance(event, TokensReceived)
    assert event.search.give_up_at == NOW + 120
    request = sent(found)
    assert (request.id, request.purpose, request.method) == (3, Purpose.KEYS, "GET")
    assert (request.url, request.body) == ("https://server.example.com/jwks", b"")
    assert request.headers == (("Accept", "application/jwk-set+json, application/json, */*;q=0.1"),)
    assert (request.connect_timeout, request.timeout, request.response_limit) == (10, 40, 1 << 20)
    assert (found.transaction.requests, found.transaction.polls) == (3, 1)
    assert found.transaction.deadline is None

    fetched = answer(found.transaction, reply(200, JWKS, ("Cache-Control", "max-age=600")), shared=UNKNOWN)
    tokens = fetched.transaction.tokens
    assert tokens is not None
    assert fetched.events == (TokensIssued(tokens),)
    assert fetched.shared.keys is not None
    assert (fetched.shared.keys.fetched_at, fetched.shared.keys.fresh_until) == (NOW, NOW + 600)
    # The next transaction of this provider need not ask.
    assert received(shared=fetched.shared).transaction.tokens is not None


def until_the_end(tx: Transaction, response: HttpResponse | None) -> tuple[Step, list[float]]:
    """Every request for the key set is answered alike, or fails; with the waits in between."""
    waits: list[float] = []
    now = NOW
    while True:
        current = fail(tx, now=now) if response is None else answer(tx, response, shared=UNKNOWN, now=now)
        if current.transaction.is_finished:
            return current, waits
        state = waiting(current.transaction)
        (event,) = current.events
        assert isinstance(event, KeyRequestFailed)
        assert (event.next_try_at, event.search) == (state.next_try_at, state.search)
        assert current.transaction.deadline == state.next_try_at
        waits.append(state.next_try_at - now)
        now = state.next_try_at
        again = fire(current.transaction, shared=UNKNOWN)
        assert [type(sent) for sent in again.events] == [KeyRequestSent]
        assert sent(again).purpose is Purpose.KEYS
        tx = again.transaction


def test_the_whole_way_to_giving_up() -> None:
    """A failed fetch is repeated with growing waits until the deadline, and then the error has the tokens."""
    ended, waits = until_the_end(fetching(), None)
    assert waits == [1, 2, 4, 8, 15, 15, 15, 15, 15, 15, 15]
    error = ended.transaction.error
    assert isinstance(error, KeysUnavailable)
    assert ended.events == (TokensUntrusted(error),)
    assert str(error) == "the keys to validate the tokens could not be had (ReadTimeout)"
    assert error.untrusted.reveal_untrusted().access_token == Secret(str(TOKENS["access_token"]))
    assert ended.transaction.tokens is None


def test_the_longest_waits() -> None:
    """The waits are spread by chance, twice as long at most, and half a minute is the longest."""
    _, waits = until_the_end(fetching(client=attrs.evolve(CLIENT, entropy=ones)), None)
    assert waits == [2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize("faults", [5, 1023, 1024, 10**6])
def test_any_number_of_faults(faults: int) -> None:
    """Where a provider grants days, keys may be asked for thousands of times."""
    tx = fetching()
    assert isinstance(tx.state, FetchingKeys)
    search = attrs.evolve(tx.state.search, faults=faults)
    failed = waiting(fail(attrs.evolve(tx, state=attrs.evolve(tx.state, search=search))).transaction)
    assert (failed.search.faults, failed.next_try_at - NOW) == (faults + 1, 15)


@pytest.mark.parametrize(("late", "give_up_at"), [(0, 120), (59, 120), (61, 121), (500, 560)])
def test_there_is_always_a_minute_for_the_keys(late: float, give_up_at: float) -> None:
    """The user decided in time; what is left of that time is no measure for the time that keys take."""
    found = received(now=NOW + late)
    assert isinstance(found.transaction.state, FetchingKeys)
    assert found.transaction.state.search.give_up_at == NOW + give_up_at


@pytest.mark.parametrize("set_by", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize("step_by_step", [True, False])
def test_a_wall_clock_that_is_set(set_by: float, step_by_step: bool) -> None:
    """Waits are trusted as they were made, and answers by the time they took, whatever the clock says."""
    tx, spent, now, tries = fetching(), 0.0, NOW, 0
    while True:
        # It is set while the request is under way, or in the middle of a wait.
        now += set_by if tries == 2 or step_by_step else 0.0
        tries += 1
        spent += 3
        now += 3
        current = fail(tx, elapsed=3.0, now=now).transaction
        if current.is_finished:
            break
        wait = waiting(current).next_try_at - now
        spent += wait
        now += wait + (set_by if tries == 3 or step_by_step else 0.0)
        again = fire(current, now=now, shared=UNKNOWN)
        assert again.request is not None
        tx = again.transaction
    assert isinstance(current.error, KeysUnavailable)
    assert (tries, spent) == (10, 120)


@pytest.mark.parametrize("tx", [fetching(), awaiting_keys()], ids=["fetching", "awaiting"])
def test_a_restart_after_the_deadline(tx: Transaction) -> None:
    """Promise 5: however late the next process is, the tokens are not given up without another try."""
    restored = Transaction.from_json(tx.to_json(), client=CLIENT, provider=PROVIDER)
    resumed = step(restored, Resumed(), NOW + 6000, UNKNOWN).transaction
    again = fire(resumed, now=NOW + 6001, shared=UNKNOWN)
    assert sent(again).purpose is Purpose.KEYS
    assert answer(again.transaction, reply(200, JWKS), shared=UNKNOWN, now=NOW + 6002).transaction.tokens


@pytest.mark.parametrize(
    ("response", "wait"),
    [
        (reply(503, b"", ("Retry-After", "25")), 25),
        (reply(429, b"", ("Retry-After", "25")), 25),
        (
            reply(
                503,
                b"",
                ("Retry-After", "Mon, 24 Sep 2018 20:05:00 GMT"),
                ("Date", "Mon, 24 Sep 2018 20:04:46 GMT"),
            ),
            14,
        ),
        (reply(503, b"", ("Retry-After", "0")), 1),
        (reply(503, b"", ("Retry-After", "3600")), 120),
        (reply(503, b"", ("Retry-After", "soon")), 1),
        (reply(404, b"", ("Retry-After", "25")), 1),
    ],
)
def test_retry_after_of_the_key_set(response: HttpResponse, wait: float) -> None:
    """Promise 4, RFC 9110 10.2.3: a provider that is busy says when to come again; the deadline stays."""
    failed = answer(fetching(), response, shared=UNKNOWN)
    assert waiting(failed.transaction).next_try_at == NOW + wait


# ---- a key set that is no help

GARBAGE = {
    "html": reply(200, "<html>Please log in</html>", media_type="text/html"),
    "html as json": reply(200, "<html>Please log in</html>"),
    "10 MB": reply(200, b" " * 10_000_000 + b'{"keys":[]}'),
    "10 000 keys": reply(200, {"keys": [{"kty": "oct"}] * 10_000}),
    "no array": reply(200, {"keys": {}}),
    "no keys member": reply(200, {}),
    "an array": reply(200, "[]"),
    "cut short": reply(200, '{"keys":[{"kty":"OKP"'),
    "repeated member": reply(200, '{"keys":[],"keys":[]}'),
    "empty": reply(200, b""),
    "redirect": reply(302, b"", ("Location", "https://elsewhere.example/jwks")),
    "not found": reply(404),
    "busy": reply(503, b"", ("Retry-After", "5")),
    "broken": reply(500, "<html>", media_type="text/html"),
}


@pytest.mark.parametrize("response", GARBAGE.values(), ids=GARBAGE)
def test_garbage_for_a_key_set_is_asked_for_again(response: Any) -> None:
    """What is no key set is retried inside the deadline; the tokens are kept, and nothing is remembered."""
    tx = fetching()
    failed = answer(tx, response, shared=UNKNOWN)
    state = waiting(failed.transaction)
    (event,) = failed.events
    assert isinstance(event, KeyRequestFailed)
    assert event.reason
    assert "log in" not in event.reason
    assert failed.shared is UNKNOWN
    assert (state.search.faults, state.next_try_at) == (1, NOW + (5 if response.status == 503 else 1))
    again = fire(failed.transaction, shared=UNKNOWN)
    found = answer(again.transaction, reply(200, JWKS), shared=UNKNOWN).transaction
    assert found.tokens is not None
    assert found.tokens.access_token == Secret(str(TOKENS["access_token"]))


ENDS = {
    "html": "key set: not JSON [RFC 7517 5]",
    "html as json": "key set: not JSON [RFC 7517 5]",
    "10 MB": "key set: answer larger than 1048576 octets [size limit]",
    "10 000 keys": "key set: more than 100 keys [size limit]",
    "no array": "key set: keys is not an array [RFC 7517 5.1]",
    "no keys member": "key set: keys is not an array [RFC 7517 5.1]",
    "an array": "key set: JSON, but not an object [RFC 7517 5]",
    "cut short": "key set: not JSON [RFC 7517 5]",
    "repeated member": "key set: a JSON object with a repeated member name [RFC 7517 5]",
    "empty": "key set: not JSON [RFC 7517 5]",
    "redirect": "key set: status 302 [OpenID Connect Discovery 3: jwks_uri]",
    "not found": "key set: status 404 [OpenID Connect Discovery 3: jwks_uri]",
    "busy": "key set: status 503 [OpenID Connect Discovery 3: jwks_uri]",
    "broken": "key set: status 500 [OpenID Connect Discovery 3: jwks_uri]",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_how_garbage_for_a_key_set_ends(name: str) -> None:
    """Bad input: each has an error of its own within the deadline, which says what was wrong at last."""
    ended, waits = until_the_end(fetching(), GARBAGE[name])
    assert sum(waits) == 120
    error = ended.transaction.error
    assert isinstance(error, KeysUnavailable)
    assert error.reason == ENDS[name]
    assert error.untrusted.reveal_untrusted().access_token == Secret(str(TOKENS["access_token"]))


def test_limits_of_the_configuration_hold_for_key_sets() -> None:
    """HTTP-05: the bound on bodies is that of the client."""
    client = attrs.evolve(CLIENT, limits=Limits(body=1024))
    tx = fetching(client=client)
    body = '{"keys":[]}'.ljust(1025)
    assert isinstance(answer(tx, reply(200, body), shared=UNKNOWN).transaction.state, AwaitingKeys)


@pytest.mark.parametrize(
    "key_set",
    [
        {"keys": []},
        JWKS,
        {"keys": [{**PUBLIC_JWK, "kid": "new", "use": "enc"}]},
        {"keys": [{**ON_ANOTHER_CURVE, "kid": "new"}]},
        {"keys": [{**PUBLIC_JWK, "kid": "new", "crv": "X25519"}]},
        {"keys": [{**PUBLIC_JWK, "kid": "new", "key_ops": ["sign"]}]},
        {"keys": [{**PUBLIC_JWK, "kid": "new", "alg": "ES256"}]},
        {"keys": [5, {"kty": "oct"}]},
    ],
    ids=[
        "empty",
        "another kid",
        "for encryption",
        "on another curve",
        "on a curve for encryption",
        "for another operation",
        "for another algorithm",
        "of other kinds",
    ],
)
def test_a_key_set_that_lacks_the_key_twice(key_set: Json) -> None:
    """JWKS-02, JWKS-03: one refetch for a new key, and no more: then the tokens are rejected."""
    found = received(ROTATED, shared=known(REFETCH_COOLDOWN))
    assert isinstance(found.transaction.state, FetchingKeys)
    error = rejection(answer(found.transaction, reply(200, key_set), shared=found.shared))
    assert error.rule == "OpenID Connect Core 10.1.1"
    assert (
        str(error) == "token endpoint: no key of the provider fits the ID Token [OpenID Connect Core 10.1.1]"
    )
    assert error.endpoint is Endpoint.TOKEN


def test_a_rotated_key_is_found_by_one_refetch() -> None:
    """JWKS-02, OpenID Connect Core 10.1.1: the provider signs with a new key, which its key set has by now."""
    found = received(ROTATED, shared=known(100))
    assert sent(found).url == PROVIDER.jwks_uri
    fetched = answer(found.transaction, reply(200, NEW_JWKS), shared=found.shared)
    assert fetched.transaction.tokens is not None
    # Now it is known, and the old key still is.
    for tokens in (ROTATED, TOKENS):
        assert received(tokens, shared=fetched.shared).transaction.tokens is not None


@pytest.mark.parametrize("age", [0.0, 1.0, REFETCH_COOLDOWN - 0.25])
def test_a_rotation_a_moment_after_the_keys_were_fetched(age: float) -> None:
    """JWKS-02, JWKS-03, promise 7: good tokens wait until the set may be fetched again; then it is decided."""
    found = received(ROTATED, shared=known(age))
    state = waiting(found.transaction)
    assert found.events == (TokensHeld(state.untrusted, state.search, state.next_try_at),)
    assert found.request is None
    assert found.transaction.deadline == NOW - age + REFETCH_COOLDOWN
    again = fire(found.transaction, shared=found.shared)
    assert [type(event) for event in again.events] == [KeyRequestSent]
    assert sent(again).purpose is Purpose.KEYS
    fetched = answer(again.transaction, reply(200, NEW_JWKS), shared=again.shared, now=NOW + 9)
    assert fetched.transaction.tokens is not None


def test_bad_tokens_do_not_make_the_client_hammer() -> None:
    """JWKS-03: however many come, the key set is asked for once in a while, and that decides about them all."""
    assert REFETCH_COOLDOWN == 10
    shared = known(3)
    held = [received(ROTATED, shared=shared).transaction for _ in range(5)]
    first, *others = held
    again = fire(first, shared=shared)
    assert sent(again).purpose is Purpose.KEYS
    decided = answer(again.transaction, reply(200, JWKS), shared=shared, now=NOW + 7.5)
    assert rejection(decided).rule == "OpenID Connect Core 10.1.1"
    for tx in others:
        found = fire(tx, now=NOW + 7.5, shared=decided.shared)
        assert rejection(found).rule == "OpenID Connect Core 10.1.1"
    # Those that come from now on wait for their turn.
    assert received(ROTATED, shared=decided.shared, now=NOW + 8).transaction.deadline == NOW + 17.5


@pytest.mark.parametrize("age", [REFETCH_COOLDOWN, 299.0])
def test_a_key_set_of_some_age_may_be_asked_for_again(age: float) -> None:
    """The cooldown is over."""
    assert sent(received(ROTATED, shared=known(age))).purpose is Purpose.KEYS


@pytest.mark.parametrize("directive", ["no-store", "no-cache", "max-age=0", "max-age=60"])
def test_a_key_set_that_is_hardly_fresh(directive: str) -> None:
    """JWKS-02: a set is fresh for longer than it is not fetched again, whatever its age is to be."""
    first = answer(fetching(), reply(200, JWKS, ("Cache-Control", directive)), shared=UNKNOWN)
    for later in range(60):
        found = received(ROTATED, shared=first.shared, now=NOW + later)
        if found.request is None:
            assert later < REFETCH_COOLDOWN
            found = fire(found.transaction, shared=first.shared)
        assert sent(found).purpose is Purpose.KEYS


def test_the_clock_is_put_back_while_tokens_wait_for_the_cooldown() -> None:
    """The wait was made: that the set looks young again is no reason for another one, or for a decision."""
    found = received(ROTATED, shared=known(3))
    for now in (NOW + 2, NOW - 3, NOW - 3600):
        assert sent(fire(found.transaction, now=now, shared=found.shared)).purpose is Purpose.KEYS


def test_a_set_from_the_future_is_no_news_once_it_is_fresh() -> None:
    """The clock was put back a little; the set that was there before the tokens does not decide about them."""
    ahead = known(-5)
    found = received(ROTATED, shared=ahead)
    failed = fail(found.transaction, now=NOW + 1)
    again = fire(failed.transaction, now=NOW + 8, shared=ahead)
    assert sent(again).purpose is Purpose.KEYS


@pytest.mark.parametrize("age", [300.0, 1e6, -1.0, -1e6])
def test_a_stale_key_set_is_fetched_anew(age: float) -> None:
    """A key that was withdrawn vouches for nothing: past its age, or from the future, the set is not used."""
    found = received(shared=known(age))
    assert isinstance(found.transaction.state, FetchingKeys)
    assert answer(found.transaction, reply(200, JWKS), shared=found.shared).transaction.tokens is not None
    withdrawn = {"keys": [{**PUBLIC_JWK, "kid": "another"}]}
    rejection(answer(found.transaction, reply(200, withdrawn), shared=found.shared))


def test_a_token_without_kid_may_be_by_a_new_key() -> None:
    """OpenID Connect Core 10.1: without a name for the key, a signature that does not fit asks once as well."""
    other = import_key({**PROVIDER_JWK, "kid": None})
    tokens = {**TOKENS, "id_token": id_token(other, kid=None)}
    found = received(tokens, shared=known(100))
    assert found.transaction.tokens is not None
    stranger = {**TOKENS, "id_token": tampered(id_token(kid=None))}
    again = received(stranger, shared=known(100))
    assert sent(again).purpose is Purpose.KEYS
    rejection(answer(again.transaction, reply(200, JWKS), shared=again.shared))
    assert isinstance(received(stranger, shared=known(1)).transaction.state, AwaitingKeys)


def tampered(token: str) -> str:
    """The token with one bit of its signature changed."""
    head, _, signature = token.rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


# ---- what is wrong with tokens

OF_ANOTHER: dict[str, Any] = {"urn:openid:params:jwt:claim:auth_req_id": "another"}
OF_THIS: dict[str, Any] = {"urn:openid:params:jwt:claim:auth_req_id": AUTH_REQ_ID}
WRONG: dict[str, tuple[str, str]] = {
    "signature": (tampered(id_token()), "OpenID Connect Core 3.1.3.7 (6)"),
    "garbage": ("a.b.c", "RFC 7515 5.2"),
    "five parts": ("a.b.c.d.e", "RFC 7515 5.2"),
    "algorithm none": ("eyJhbGciOiJub25lIn0.e30.", "OpenID Connect Core 3.1.3.7 (7)"),
    "issuer": (id_token(iss="https://evil.example"), "OpenID Connect Core 3.1.3.7 (2): iss"),
    "audience": (id_token(aud="another"), "OpenID Connect Core 3.1.3.7 (3): aud"),
    "one audience more": (id_token(aud=["s6BhdRkqt3", "another"]), "OpenID Connect Core 3.1.3.7 (3): aud"),
    "no subject": (id_token(sub=None), "OpenID Connect Core 2: sub"),
    "expired": (id_token(exp=int(NOW) - 61), "OpenID Connect Core 3.1.3.7 (9): exp"),
    "of last week": (id_token(iat=int(NOW) - 7 * 86400), "OpenID Connect Core 3.1.3.7 (10): iat"),
    "hash": (id_token(at_hash="AAAAAAAAAAAAAAAAAAAAAA"), "OpenID Connect Core 3.1.3.6: at_hash"),
    "transaction": (
        id_token(**OF_ANOTHER),
        "CIBA Core 10.3.1: auth_req_id",
    ),
}


@pytest.mark.parametrize(("token", "rule"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("fetched", [False, True])
def test_tokens_that_fail_validation(token: str, rule: str, fetched: bool) -> None:
    """Promise 7, IDT-01..18: the rule is named, the tokens are not handed out, and are there when asked for."""
    tokens = {**TOKENS, "id_token": token}
    found = received(tokens, shared=UNKNOWN if fetched else SHARED)
    if isinstance(found.transaction.state, FetchingKeys):
        found = answer(found.transaction, reply(200, JWKS), shared=found.shared)
    error = rejection(found)
    assert error.rule == rule
    untrusted = error.untrusted.reveal_untrusted()
    assert untrusted.id_token == Secret(token)
    assert untrusted.refresh_token == Secret(str(TOKENS["refresh_token"]))
    assert untrusted.id_token_claims is None
    shown = repr(found) + str(error) + repr(error) + repr(vars(error))
    for name in ("access_token", "refresh_token", "id_token"):
        assert str(tokens[name]) not in shown


def test_a_token_of_this_transaction() -> None:
    """CIBA Core 10.3.1: where the ID Token says which transaction and which access token it is for, that fits."""
    access_token = str(TOKENS["access_token"])
    bound = id_token(
        at_hash=half_hash("Ed25519", access_token),
        **OF_THIS,
    )
    assert received({**TOKENS, "id_token": bound}, shared=SHARED).transaction.tokens is not None


def asked(**changes: Any) -> Transaction:
    """A transaction with a poll under way, whose request had something more."""
    arguments: dict[str, Any] = {"scope": "openid", "login_hint": "x"} | changes
    tx = answer(awaiting(AuthenticationRequest(**arguments)), reply(200, ACKNOWLEDGEMENT)).transaction
    return fire(tx).transaction


ESSENTIAL = {"id_token": {"acr": {"essential": True, "values": ["high"]}, "auth_time": {"essential": True}}}
SUBJECT = "CIBA Core 7.1: id_token_hint; OpenID Connect Core 5.5.1: sub"
FITTING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"extra": {"nonce": "n-1"}}, {"nonce": "n-1"}),
    ({"extra": {"max_age": 60}}, {"auth_time": int(NOW) - 100}),
    ({"claims": ESSENTIAL}, {"acr": "high", "auth_time": int(NOW)}),
    ({"login_hint": None, "id_token_hint": id_token(sub="s-1")}, {"sub": "s-1"}),
    ({"acr_values": "high"}, {"acr": "low"}),
    ({"claims": {"id_token": {"acr": {"values": ["high"]}}}}, {"acr": "low"}),
    ({"claims": {"id_token": {"acr": {"essential": True}}}}, {"acr": "low"}),
    ({"claims": {"id_token": {"acr": None, "auth_time": None}}}, {}),
    ({"claims": {"id_token": {"sub": {"value": "s-1"}}}}, {"sub": "s-1"}),
    # Missing claims are no error, essential ones included.
    ({"claims": {"id_token": {"email": {"essential": True, "value": "a@b.example"}}}}, {}),
]
NOT_FITTING: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"extra": {"nonce": "n-1"}}, {}, "OpenID Connect Core 3.1.3.7 (11): nonce"),
    ({"extra": {"nonce": "n-1"}}, {"nonce": "n-2"}, "OpenID Connect Core 3.1.3.7 (11): nonce"),
    ({"extra": {"max_age": 60}}, {}, "OpenID Connect Core 3.1.3.7 (13): auth_time"),
    (
        {"extra": {"max_age": 60}},
        {"auth_time": int(NOW) - 200},
        "OpenID Connect Core 3.1.3.7 (13): auth_time",
    ),
    ({"claims": ESSENTIAL}, {"acr": "high"}, "OpenID Connect Core 3.1.3.7 (13): auth_time"),
    ({"claims": ESSENTIAL}, {"acr": "low", "auth_time": int(NOW)}, "OpenID Connect Core 3.1.3.7 (12): acr"),
    ({"claims": ESSENTIAL}, {"auth_time": int(NOW)}, "OpenID Connect Core 3.1.3.7 (12): acr"),
    ({"claims": {"id_token": {"acr": {"essential": True}}}}, {}, "OpenID Connect Core 3.1.3.7 (12): acr"),
    ({"login_hint": None, "id_token_hint": id_token(sub="s-1")}, {}, SUBJECT),
    ({"claims": {"id_token": {"sub": {"value": "s-1"}}}}, {}, SUBJECT),
]


@pytest.mark.parametrize(("changes", "claims"), FITTING, ids=str)
def test_claims_that_fit_what_was_requested_for(changes: dict[str, Any], claims: dict[str, Any]) -> None:
    """IDT-14, -16, -17, CLM-04: the answer is measured against the request, from its beginning to the tokens."""
    response = reply(200, {**TOKENS, "id_token": id_token(**claims)})
    assert answer(asked(**changes), response).transaction.tokens is not None


@pytest.mark.parametrize(("changes", "claims", "rule"), NOT_FITTING, ids=str)
def test_claims_that_do_not_fit(changes: dict[str, Any], claims: dict[str, Any], rule: str) -> None:
    """IDT-14, -16, -17, CLM-04: another nonce, another user, another time or a lesser way of authentication."""
    response = reply(200, {**TOKENS, "id_token": id_token(**claims)})
    assert rejection(answer(asked(**changes), response)).rule == rule


# ---- tokens without keys


def test_without_openid_no_keys_are_needed() -> None:
    """TOK-03: plain OAuth tokens are handed out without a key set, from a provider that has none."""
    provider = attrs.evolve(PROVIDER, jwks_uri=None)
    found = unasked(without(TOKENS, "id_token"), provider)
    assert found.request is None
    assert found.transaction.tokens is not None
    assert found.transaction.tokens.id_token_claims is None


def unasked(tokens: Json, provider: ProviderMetadata) -> Step:
    """The answer to a transaction that did not ask for an ID Token."""
    request = AuthenticationRequest(scope="email", login_hint="x", openid=False)
    tx = step(Transaction(client=CLIENT, provider=provider), Begin(request), NOW).transaction
    tx = answer(tx, reply(200, ACKNOWLEDGEMENT), shared=UNKNOWN).transaction
    return answer(fire(tx).transaction, reply(200, tokens), shared=UNKNOWN)


def test_an_id_token_that_was_not_asked_for() -> None:
    """Promise 7: it is validated all the same; where nobody can vouch for it, it is not handed out."""
    assert sent(unasked(TOKENS, PROVIDER)).purpose is Purpose.KEYS
    rejection(unasked(TOKENS, attrs.evolve(PROVIDER, jwks_uri=None)))


def test_keys_that_can_no_longer_be_asked_for() -> None:
    """Misuse: restored with metadata that has no ``jwks_uri`` any more; nothing is lost by it."""
    tx = attrs.evolve(awaiting_keys(), provider=attrs.evolve(PROVIDER, jwks_uri=None))
    with pytest.raises(LocalProtocolError, match=r"^jwks_uri: "):
        fire(tx, shared=UNKNOWN)
    assert fire(attrs.evolve(tx, provider=PROVIDER), shared=UNKNOWN).request is not None


SECRET = "a client secret that is long enough for HS256"
HMAC = attrs.evolve(
    CLIENT, authentication=ClientSecretPost(SECRET), id_token=IdTokenPolicy(signed_response_alg="HS256")
)


def test_tokens_that_are_signed_with_the_client_secret() -> None:
    """IDT-09: the client secret is the key; there is nothing to fetch, known or not."""
    token = id_token(hmac_key(SECRET, "HS256"), "HS256", kid=None)
    found = received({**TOKENS, "id_token": token}, client=HMAC)
    assert found.request is None
    assert found.transaction.tokens is not None
    wrong = id_token(hmac_key("another secret that is as long as the first", "HS256"), "HS256", kid=None)
    error = rejection(received({**TOKENS, "id_token": wrong}, client=HMAC))
    assert error.rule == "OpenID Connect Core 3.1.3.7 (6)"


# ---- everything else that may happen while the keys are on their way


def test_cancel_while_tokens_wait() -> None:
    """SM-22: whoever gives up gets no tokens, also when they were there already."""
    for tx in (fetching(), awaiting_keys()):
        cancelled = step(tx, Cancel(), NOW, UNKNOWN).transaction
        assert isinstance(cancelled.state, Cancelled)
        assert isinstance(cancelled.error, AuthenticationCancelled)
        assert cancelled.tokens is None
        # CAN-03, CAN-05: what came can be revoked.
        untrusted = cancelled.error.untrusted
        assert untrusted is not None
        revocation = Revocation.of(untrusted, client=CLIENT, provider=PROVIDER)
        assert revocation.token == Secret(str(TOKENS["refresh_token"]))
        restored = Transaction.from_json(cancelled.to_json(), client=CLIENT, provider=PROVIDER)
        assert restored.error == cancelled.error
        assert answer(cancelled, reply(200, JWKS), shared=UNKNOWN) == Step(cancelled)


def test_resumed_while_tokens_wait() -> None:
    """Promise 5: the key request of a process that ended is repeated; a wait goes on."""
    resumed = step(fetching(), Resumed(), NOW + 5, UNKNOWN)
    (event,) = resumed.events
    assert isinstance(event, KeyRequestFailed)
    assert (event.next_try_at, event.search.faults, event.reason) == (
        NOW + 6,
        1,
        "interrupted before the answer came",
    )
    tx = awaiting_keys()
    assert step(tx, Resumed(), NOW, UNKNOWN) == Step(tx)


@pytest.mark.parametrize("delivery", list(Delivery))
def test_a_key_request_that_failed(delivery: Delivery) -> None:
    """A key set can be asked for as often as need be: it does not matter whether the request arrived."""
    failed = fail(fetching(), delivery)
    (event,) = failed.events
    assert isinstance(event, KeyRequestFailed)
    assert (event.next_try_at, event.search.faults, event.reason) == (NOW + 1, 1, "ReadTimeout")


def test_stray_inputs_while_tokens_wait() -> None:
    """Promise 2: answers to older requests, timers of another time and signatures change nothing."""
    tx = fetching()
    for given in (TimerFired(NOW), TimerFired(NOW + 120), SignaturesMade(3, (b"",))):
        assert step(tx, given, NOW, UNKNOWN) == Step(tx)
    assert step(tx, ResponseReceived(2, reply(200, TOKENS), 0.0), NOW, UNKNOWN) == Step(tx)
    waits = awaiting_keys()
    assert answer(waits, reply(200, JWKS), shared=UNKNOWN) == Step(waits)
    assert fail(waits).events == ()
    assert step(waits, TimerFired(NOW + 0.5), NOW, UNKNOWN) == Step(waits)


def test_keys_that_came_by_another_way() -> None:
    """What another transaction fetched is not overlooked: a failed answer of our own is no reason to."""
    failed = answer(fetching(), reply(503), shared=SHARED)
    assert failed.shared is SHARED
    assert isinstance(failed.transaction.state, Authenticated)
    for found in (
        fire(awaiting_keys(), shared=SHARED),
        fire(awaiting_keys(), shared=SHARED, now=NOW + 3600),
        step(awaiting_keys(), Resumed(), NOW + 1, SHARED),
    ):
        assert isinstance(found.transaction.state, Authenticated)
        assert found.request is None
        assert [type(event) for event in found.events] == [TokensIssued]


def test_what_others_fetched_since_decides() -> None:
    """JWKS-02, JWKS-03: a set that was given out after the tokens came need not be asked for once more."""
    other = known(-2)
    assert other.keys is not None
    for found in (
        fire(awaiting_keys(ROTATED), shared=other, now=NOW + 3),
        step(awaiting_keys(ROTATED), Resumed(), NOW + 3, other),
        answer(fetching(ROTATED), reply(500), shared=other, now=NOW + 3),
    ):
        assert rejection(found).rule == "OpenID Connect Core 10.1.1"
    # One that was on its way before the tokens came is no such set.
    earlier = Shared(keys=attrs.evolve(other.keys, issued_at=NOW - 1))
    assert sent(fire(awaiting_keys(ROTATED), shared=earlier, now=NOW + 3)).purpose is Purpose.KEYS


def test_an_answer_that_is_older_than_what_others_have() -> None:
    """JWKS-02: a cache on the way has an old set; what another transaction got is used, and stays."""
    found = received(ROTATED, shared=known(100))
    meanwhile = answer(fetching(), reply(200, NEW_JWKS), shared=found.shared, now=NOW + 1).shared
    old = reply(200, JWKS, ("Age", "290"))
    fetched = answer(found.transaction, old, shared=meanwhile, now=NOW + 2, elapsed=2.0)
    assert fetched.transaction.tokens is not None
    assert received(ROTATED, shared=fetched.shared, now=NOW + 3).transaction.tokens is not None
    # So it is the other way round: ours has the key, though another answer seems to be newer.
    slow = answer(found.transaction, reply(200, NEW_JWKS), shared=known(-1), now=NOW + 30, elapsed=30.0)
    assert slow.transaction.tokens is not None


def test_a_lost_answer_is_no_lost_token() -> None:
    """Promise 4: before tokens there may have been faults; they are of no account once tokens are there."""
    failed = fail(polling())
    assert isinstance(failed.events[0], PollFailed)
    assert isinstance(failed.transaction.state, Pending)
    again = answer(fire(failed.transaction).transaction, reply(200, TOKENS), shared=UNKNOWN)
    assert isinstance(again.transaction.state, FetchingKeys)
    assert again.transaction.state.search.faults == 0


def test_steps_with_shared_values_are_pure() -> None:
    """Two steps with equal arguments give equal results; the shared value is not changed in place."""
    tx = fetching()
    shared = known(100)
    first = answer(tx, reply(200, JWKS), shared=shared)
    second = answer(tx, reply(200, JWKS), shared=shared)
    assert first.transaction == second.transaction
    assert shared.keys is not None
    assert shared.keys.fetched_at == NOW - 100
    assert isinstance(answer(tx, reply(200, {"keys": []}), shared=shared).transaction.state, Failed)


# ---- what was granted, against what was asked for


DETAIL: Final = {"type": "payment_initiation", "amount": "25.00"}


@pytest.mark.parametrize(
    ("asked", "granted", "differs_in"),
    [
        ({}, {}, ()),
        ({"scope": "openid payments"}, {"scope": "payments openid"}, ()),
        ({"scope": "openid payments"}, {"scope": "openid"}, ("scope",)),
        ({"scope": "openid"}, {"scope": "openid admin"}, ("scope",)),
        ({"authorization_details": [DETAIL]}, {"authorization_details": [DETAIL]}, ()),
        ({"authorization_details": [DETAIL]}, {}, ("authorization_details",)),
        (
            {"authorization_details": [DETAIL]},
            {"authorization_details": [DETAIL | {"amount": "2500.00"}], "scope": "openid"},
            ("scope", "authorization_details"),
        ),
        ({}, {"authorization_details": [DETAIL]}, ("authorization_details",)),
    ],
)
def test_differences_are_reported(
    asked: dict[str, Any], granted: dict[str, Any], differs_in: tuple[str, ...]
) -> None:
    """TOK-06, RAR-06, RAR-10: what was granted counts, and where it is not what was asked for is said."""
    parameters: dict[str, Any] = {"scope": "openid payments", "login_hint": "alice"} | asked
    tx = answer(awaiting(AuthenticationRequest(**parameters)), reply(200, ACKNOWLEDGEMENT)).transaction
    answered = answer(fire(tx).transaction, reply(200, {**TOKENS, **granted})).transaction
    assert answered.tokens is not None
    assert answered.tokens.differs_in == differs_in
    restored = Transaction.from_json(answered.to_json(), client=CLIENT, provider=PROVIDER)
    assert restored.tokens == answered.tokens
