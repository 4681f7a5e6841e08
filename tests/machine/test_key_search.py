"""Many logins at a provider that rotates its keys, with bad tokens among them: no good one is lost for it."""

from __future__ import annotations

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ciba_core import HttpResponse, Resumed, Shared, Step, Transaction, step
from ciba_core.errors import KeysUnavailable, TokensRejected
from ciba_core.key_search import KEYS_AT_LEAST, REFETCH_COOLDOWN
from ciba_core.states import AwaitingKeys
from tests.samples import CLIENT, NOW, PROVIDER, PUBLIC_JWK, TOKENS, answer, fire, id_token, polling, reply

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
