"""The search for a key: each of its steps at its bounds, and many searches at a provider that rotates its keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ciba_core import (
    Delivery,
    HttpResponse,
    RequestFailed,
    ResponseReceived,
    Resumed,
    Shared,
    Step,
    Transaction,
    step,
)
from ciba_core.errors import KeysUnavailable, TokensRejected
from ciba_core.jose.keys import KeySet
from ciba_core.states import AwaitingKeys
from ciba_core.tokens.signed_jwt import BrokenRule, NoKey
from ciba_core.transaction.key_search import (
    KEYS_AT_LEAST,
    REFETCH_COOLDOWN,
    Fetch,
    KeySearch,
    Unavailable,
    Wait,
)
from tests.samples import (
    CLIENT,
    JWKS,
    NOW,
    PROVIDER,
    PUBLIC_JWK,
    TOKENS,
    answer,
    fire,
    id_token,
    ones,
    polling,
    reply,
    zeros,
)

POLLING: Final = polling()
TAKES: Final = st.sampled_from([0.125, 2.0, 30.0])


class KeySearches(RuleBasedStateMachine):
    """The transactions of one driver, whose requests follow each other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.shared = Shared()
        self.keys = 1
        self.waiting: list[tuple[Transaction, bool, float]] = []
        self.key_set_at: float | None = None

    def published(self) -> HttpResponse:
        return reply(200, {"keys": [{**PUBLIC_JWK, "kid": str(number)} for number in range(self.keys)]})

    @rule()
    def the_provider_rotates_its_keys(self) -> None:
        self.keys = min(self.keys + 1, 100)

    @rule(good=st.booleans(), takes=TAKES, fails=st.booleans())
    def tokens_come(self, good: bool, takes: float, fails: bool) -> None:
        """By the newest key, which is published; or by one that nobody will ever see."""
        self.now += 0.125
        kid = str(self.keys - 1) if good else "nobody"
        tokens = {**TOKENS, "id_token": id_token(kid=kid)}
        found = answer(POLLING, reply(200, tokens), now=self.now, shared=self.shared)
        self.go_on(found, good, self.now, takes, fails=fails)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 5), takes=TAKES, fails=st.booleans(), restarts=st.booleans())
    def a_wait_is_over(self, which: int, takes: float, fails: bool, restarts: bool) -> None:
        """The next try of one of them; its process may be another by now."""
        tx, good, since = self.waiting.pop(which % len(self.waiting))
        assert isinstance(tx.state, AwaitingKeys)
        self.now = max(self.now, tx.state.next_try_at)
        if restarts:
            tx = Transaction.from_json(tx.to_json(), client=CLIENT, provider=PROVIDER)
            resumed = step(tx, Resumed(), self.now, self.shared)
            tx = resumed.transaction
            if tx.is_finished:
                self.ended(resumed, good, since)
                return
        self.go_on(fire(tx, now=self.now, shared=self.shared), good, since, takes, fails=fails)

    def go_on(self, current: Step, good: bool, since: float, takes: float, *, fails: bool) -> None:
        if current.request is not None:
            if self.key_set_at is not None:
                assert self.now >= self.key_set_at + REFETCH_COOLDOWN, "hammered the provider"
            self.now += takes
            tx, response = current.transaction, reply(500) if fails else self.published()
            current = answer(tx, response, elapsed=takes, now=self.now, shared=self.shared)
            if not fails:
                self.key_set_at = self.now
                assert current.transaction.is_finished, "a key set decides"
        self.shared = current.shared
        if current.transaction.is_finished:
            self.ended(current, good, since)
        else:
            self.waiting.append((current.transaction, good, since))

    def ended(self, current: Step, good: bool, since: float) -> None:
        error = current.transaction.error
        if isinstance(error, KeysUnavailable):
            assert self.now >= since + KEYS_AT_LEAST, "gave up early"
        elif good:
            assert error is None, "good tokens were rejected, whose key is published"
        else:
            assert isinstance(error, TokensRejected)

    @invariant()
    def the_waits_are_bounded(self) -> None:
        for tx, _, _ in self.waiting:
            assert isinstance(tx.state, AwaitingKeys)
            assert tx.deadline == tx.state.next_try_at <= tx.state.search.give_up_at


TestKeySearches = KeySearches.TestCase
TestKeySearches.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# ---- the steps, one by one

JWKS_URI: Final = "https://server.example.com/jwks"
SEARCH: Final[Any] = KeySearch(since=NOW, as_of=NOW, give_up_at=NOW + 60)


def keys_of(fetched_at: float, **changes: Any) -> KeySet:
    return KeySet((), fetched_at, fetched_at + 300, **changes)


@attrs.frozen
class Found:
    """That a signature was verified, as the search hands it on, and by which keys."""

    keys: KeySet | None


@attrs.frozen
class Jwt:
    """Stands for a `SignedJwt` whose key is in some of the key sets."""

    is_in: Callable[[KeySet | None], bool]

    def opened(self, keys: KeySet | None, *, conclusive: bool = False) -> Found | NoKey:
        del conclusive
        return Found(keys) if self.is_in(keys) else NoKey()

    def without_key(self) -> BrokenRule:
        return WITHOUT_KEY


WITHOUT_KEY: Final = BrokenRule("no key", "")
LACKS: Final = Jwt(lambda _: False)
FINDS: Final = Jwt(lambda keys: keys is not None)
FINDS_IN_SOME: Final = Jwt(lambda keys: keys is not None and bool(keys.keys))
NEEDS_NONE: Final = Jwt(lambda _: True)
"""As with ``HS*``."""


def begun(jwt: Any, keys: KeySet | None, *, jwks_uri: str | None = JWKS_URI, give_up_at: float = NOW) -> Any:
    return KeySearch.begin(jwt, Shared(keys=keys), NOW, jwks_uri=jwks_uri, give_up_at=give_up_at)


def fetched(
    outcome: HttpResponse | str,
    jwt: Any = LACKS,
    *,
    search: KeySearch = SEARCH,
    keys: KeySet | None = None,
    elapsed: float | None = 0.0,
    entropy: Any = zeros,
) -> Any:
    client = attrs.evolve(CLIENT, entropy=entropy)
    happened = (
        RequestFailed(1, Delivery.UNKNOWN, outcome, elapsed)
        if isinstance(outcome, str)
        else ResponseReceived(1, outcome, elapsed)
    )
    return search.fetched(jwt, Shared(keys=keys), NOW, client=client, outcome=happened, noted=[])


def test_keys_at_hand_decide() -> None:
    """JWKS-02: while they are fresh; nothing is asked for then."""
    young, stale = keys_of(NOW), KeySet((), NOW - 300, NOW)
    assert begun(FINDS, young) == Found(young)
    assert isinstance(begun(FINDS, stale), Fetch)
    assert begun(NEEDS_NONE, None) == Found(None)
    assert begun(NEEDS_NONE, None, jwks_uri=None) == Found(None)


def test_nowhere_to_look() -> None:
    """JWKS-01: without a ``jwks_uri`` there is no key to be had."""
    assert begun(LACKS, None, jwks_uri=None) == WITHOUT_KEY
    assert begun(LACKS, keys_of(NOW), jwks_uri=None) == WITHOUT_KEY


@pytest.mark.parametrize(("age", "waits"), [(0.0, True), (9.75, True), (10.0, False), (10.25, False)])
def test_when_the_key_set_may_be_fetched_again(age: float, waits: bool) -> None:
    """JWKS-03: not within ten seconds after it was asked for last; a wait is told as one."""
    found = begun(LACKS, keys_of(NOW - age))
    assert isinstance(found, Wait if waits else Fetch)
    assert found.search == attrs.evolve(SEARCH, has_waited=waits)
    if isinstance(found, Wait):
        assert found.until == NOW - age + REFETCH_COOLDOWN
        assert found.reason == "the key is not known, and the key set was fetched a moment ago"


@pytest.mark.parametrize(("give_up_at", "at"), [(-1000, 60), (0, 60), (59, 60), (61, 61), (1000, 1000)])
def test_how_long_it_is_searched(give_up_at: float, at: float) -> None:
    """RT-07, CIBA-10.3-14: as long as is asked for, and a minute at least."""
    found = begun(LACKS, None, give_up_at=NOW + give_up_at)
    assert found == Fetch(KeySearch(since=NOW, as_of=NOW, give_up_at=NOW + at))


def test_news_is_what_was_given_out_since() -> None:
    """JWKS-02: a set of before is no proof that the key does not exist; one of after is."""
    for issued_at, found in ((NOW - 1, None), (NOW, None), (NOW + 1, WITHOUT_KEY)):
        shared = Shared(keys=keys_of(NOW + 2, issued_at=issued_at))
        assert SEARCH.at_hand(LACKS, shared, NOW + 2) == found
        assert SEARCH.at_hand(FINDS, shared, NOW + 2) == Found(shared.keys)
    assert SEARCH.at_hand(LACKS, Shared(keys=KeySet((), NOW + 1, NOW + 2)), NOW + 2) is None
    # The clock was put back: what came "later" by it was there before.
    late = begun(LACKS, keys_of(NOW + 100, issued_at=NOW + 90))
    assert isinstance(late, Fetch)
    assert late.search.since == NOW + 90


def test_waits_are_trusted_and_not_the_clock() -> None:
    """JOSE-01: a clock that is set while it is waited makes the rest neither longer nor shorter."""
    for now in (NOW - 3600, NOW + 15, NOW + 3600):
        found = SEARCH.waited(LACKS, Shared(), now, until=NOW + 15)
        assert found == Fetch(attrs.evolve(SEARCH, as_of=now, give_up_at=now + 45))
    shared = Shared(keys=keys_of(NOW + 14))
    assert SEARCH.waited(LACKS, shared, NOW + 15, until=NOW + 15) == WITHOUT_KEY
    assert SEARCH.waited(FINDS, shared, NOW + 15, until=NOW + 15) == Found(shared.keys)


def test_a_key_set_decides() -> None:
    """JWKS-02: one way or the other, and whichever of two sets has the key."""
    assert fetched(reply(200, JWKS))[0] == WITHOUT_KEY
    decided, shared = fetched(reply(200, JWKS), FINDS, elapsed=2.0)
    assert decided == Found(shared.keys)
    assert (shared.keys.fetched_at, shared.keys.issued_at) == (NOW, NOW - 2)
    # Another transaction has a newer one, which stays.
    newer = keys_of(NOW - 1)
    (decided, shared) = fetched(reply(200, JWKS), FINDS, keys=newer, elapsed=2.0)
    assert decided == Found(shared.keys)
    assert shared.keys.issued_at == NOW - 1
    (decided, shared) = fetched(reply(200, JWKS), FINDS_IN_SOME, keys=newer, elapsed=2.0)
    assert decided.keys.issued_at == NOW - 2
    assert shared.keys.issued_at == NOW - 1


def test_keys_that_others_fetched_while_a_request_failed() -> None:
    """JWKS-02, CIBA-10.3-14: they decide, though the request of this search brought nothing."""
    search, news, known = attrs.evolve(SEARCH, since=NOW - 10), keys_of(NOW - 1), keys_of(NOW - 11)
    for outcome in ("Reset", reply(500), reply(200, b"[]")):
        assert fetched(outcome, FINDS, search=search, keys=news)[0] == Found(news)
        assert fetched(outcome, search=search, keys=news)[0] == WITHOUT_KEY
        assert isinstance(fetched(outcome, search=search, keys=known)[0], Wait)


@pytest.mark.parametrize(
    ("faults", "least", "most"), [(0, 1, 2), (1, 2, 4), (2, 4, 8), (3, 8, 16), (4, 15, 30), (40, 15, 30)]
)
def test_back_off(faults: int, least: float, most: float) -> None:
    """JWKS-03, promise 4: each failure doubles the wait, up to half a minute, spread by chance."""
    search = attrs.evolve(SEARCH, faults=faults, give_up_at=NOW + 1000)
    for entropy, wait in ((zeros, least), (ones, most)):
        found, shared = fetched("Reset", search=search, entropy=entropy)
        assert found == Wait(attrs.evolve(search, faults=faults + 1, has_waited=True), NOW + wait, "Reset")
        assert shared == Shared()


@pytest.mark.parametrize(
    ("status", "value", "wait"),
    [(503, "25", 25), (429, "25", 25), (503, "0", 1), (503, "hush", 1), (404, "25", 1), (200, "25", 1)],
)
def test_retry_after(status: int, value: str, wait: float) -> None:
    """JWKS-03, RFC 9110 10.2.3: heeded where the provider is busy, unless it asks for less than the back-off."""
    found, _ = fetched(reply(status, b"[]", ("Retry-After", value)))
    assert isinstance(found, Wait)
    assert found.until == NOW + wait


@pytest.mark.parametrize(
    ("begun", "left"),
    [(NOW - 9.75, 100 - 9.75), (NOW, 100), (NOW - 3600, 100 - 50), (NOW + 3600, 100)],
    ids=["told by the wall clock", "at once", "clock set forward", "clock set back"],
)
def test_a_try_of_unknown_length(begun: float, left: float) -> None:
    """Promise 9: a try that nobody measured counts by the wall clock, for as much as an exchange can take."""
    search = attrs.evolve(SEARCH, as_of=begun, give_up_at=begun + 100)
    found, _ = fetched("Reset", search=search, elapsed=None)
    assert found.search.give_up_at == NOW + left


def test_the_last_try() -> None:
    """RT-07, CIBA-10.3-14: one more at the very end, and none after it."""
    near = attrs.evolve(SEARCH, give_up_at=NOW + 10)
    found, _ = fetched("Reset", search=near, elapsed=9.75)
    assert isinstance(found, Wait)
    assert found.until == found.search.give_up_at == NOW + 0.25
    for elapsed in (10.0, 10.25):
        assert fetched("Reset", search=near, elapsed=elapsed)[0] == Unavailable("Reset")
    reason = fetched(reply(503), search=near, elapsed=10.0)[0].reason
    assert reason == "key set: status 503 [OpenID Connect Discovery 3: jwks_uri]"


def test_every_key_that_fits_after_one_fetch() -> None:
    """JWKS-02: by the setting, a kid that no key bears costs one fetch, and then each key that fits is tried."""
    tokens = {**TOKENS, "id_token": id_token(kid="nobody")}
    lax = attrs.evolve(CLIENT, id_token=attrs.evolve(CLIENT.id_token, try_every_key=True))
    for client, accepted in ((lax, True), (CLIENT, False)):
        found = answer(polling(client=client), reply(200, tokens), shared=Shared())
        assert found.request is not None
        done = answer(found.transaction, reply(200, JWKS), shared=found.shared).transaction
        assert (done.tokens is not None) is accepted
        assert isinstance(done.error, TokensRejected) is not accepted


def test_keys_that_others_fetched_are_conclusive() -> None:
    """JWKS-02: it does not matter who fetched the key set, when it was fetched after the token came."""
    tokens = {**TOKENS, "id_token": id_token(kid="nobody")}
    lax = attrs.evolve(CLIENT, id_token=attrs.evolve(CLIENT.id_token, try_every_key=True))
    known = answer(
        answer(polling(client=lax), reply(200, TOKENS), shared=Shared()).transaction, reply(200, JWKS)
    )
    held = answer(polling(client=lax), reply(200, tokens), shared=known.shared)
    assert isinstance(held.transaction.state, AwaitingKeys)
    assert known.shared.keys is not None
    later = attrs.evolve(known.shared.keys, fetched_at=NOW + 5, issued_at=NOW + 5, fresh_until=NOW + 300)
    done = fire(held.transaction, now=NOW + 6, shared=attrs.evolve(known.shared, keys=later)).transaction
    assert done.tokens is not None
