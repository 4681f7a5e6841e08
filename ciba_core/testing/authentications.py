"""The authentications of the simulated provider: which user decides when, and which client is told."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import threading
from collections.abc import Callable, Generator
from typing import Any, Final

from attrs import define, field

from .callbacks import Address, News, Outbox
from .clock import Clock
from .journal import PendingRequest
from .script import Approve, BadIdToken, Deny, Ignore, SimulatedClient
from .settings import ProviderSettings
from .tokens import Grant, TokenStore
from .wire import NoReply, Reply

__all__ = ["GRANULARITY", "Authentication", "Authentications"]

# POSIX instants of today have a resolution of 2.4e-7 s as floats, so that a client which waits for exactly
# one interval can seem to come a little early.
GRANULARITY: Final = 0.001

_SLOW_DOWN_STEP: Final = 5  # CIBA Core 11

# While a poll is held, look at the record this often (seconds): another thread may decide it.
_HOLD_SLICE: Final = 0.25


@define(eq=False)
class Authentication:
    """An acknowledged authentication request, and what has become of it."""

    auth_req_id: str
    client: SimulatedClient
    user: Approve | Deny | Ignore
    hint: str
    scope: str
    binding_message: str | None
    authorization_details: list[Any] | None
    acr: str | None
    created: float
    expires: float
    interval: int
    poll_due: float
    """Instant before which a poll is too early."""
    jkt: str | None
    """Thumbprint of the key that pushed tokens are bound to."""
    address: Address | None
    """Where the client is told of the decision, if it is in ping or push mode."""
    polls: int = 0
    in_flight: int = 0
    settled: bool = False
    """Whether the user has decided."""
    error: str | None = None
    """The token endpoint's error for the decision; ``None``: tokens."""
    decided: float = 0.0
    redeemed: bool = False

    def settle(self, error: str | None, *, now: float) -> None:
        """Note the user's decision."""
        self.settled = True
        self.error = error
        self.decided = now
        if self.address is not None:
            self.poll_due = now  # a callback is followed by a poll at once

    @property
    def consent(self) -> Grant:
        """What the user has agreed to."""
        return Grant(
            client=self.client,
            auth_req_id=self.auth_req_id,
            hint=self.hint,
            sub=self.user.sub or self.hint,
            scope=self.scope,
            authorization_details=self.authorization_details,
            acr=self.acr,
            auth_time=self.decided,
        )

    def slow_down(self, arrived: float) -> None:
        """Lengthen the interval for good, counted from the poll that arrived then (CIBA Core 11)."""
        self.interval += _SLOW_DOWN_STEP
        self.poll_due = arrived + self.interval

    def wait_for(self, answer: Reply | NoReply, now: float) -> None:
        """Expect no poll before the time that the answer to the last one named."""
        if isinstance(answer, NoReply):
            return
        for name, value in answer.headers:
            if name.lower() == "retry-after":
                if value.isdecimal():
                    due = now + int(value)
                else:
                    try:
                        due = email.utils.parsedate_to_datetime(value).timestamp()
                    except ValueError:
                        continue
                self.poll_due = max(self.poll_due, due)


@define(eq=False)
class Authentications:
    """All authentications of a provider, and what happens to each.

    Call the methods with the provider's lock held. `pause` and `hold` release it while they wait.
    """

    settings: ProviderSettings
    clock: Clock
    now: Callable[[], float]
    """The provider's wall clock, in POSIX seconds."""
    lock: threading.Lock
    tokens: TokenStore
    outbox: Outbox | None
    """``None`` if no client is called back."""
    _all: dict[str, Authentication] = field(init=False, factory=dict[str, Authentication])

    def add(self, authentication: Authentication) -> None:
        """Take in an acknowledged request, and call the client back when the time has come."""
        self._all[authentication.auth_req_id] = authentication
        if self.outbox is not None and authentication.address is not None:
            self._plan_callbacks(authentication, authentication.address, self.outbox)

    def find(self, auth_req_id: str, client: SimulatedClient) -> Authentication | None:
        """Return the authentication that a client asks for, if it is the client's own."""
        found = self._all.get(auth_req_id)
        return found if found is not None and found.client is client else None

    @property
    def pending(self) -> tuple[PendingRequest, ...]:
        """The requests that wait for a decision, oldest first."""
        return tuple(
            PendingRequest(
                auth_req_id=each.auth_req_id,
                client_id=each.client.client_id,
                hint=each.hint,
                binding_message=each.binding_message,
                scope=each.scope,
                created=each.created,
                expires=each.expires,
                authorization_details=each.authorization_details,
            )
            for each in self._all.values()
            if self._is_undecided(each)
        )

    def decide(self, auth_req_id: str, error: str | None) -> None:
        """Decide a pending request by hand; ``None``: approve it.

        Raises:
            LookupError: there is no such request, or it is decided or expired.

        """
        authentication = self._all.get(auth_req_id)
        if authentication is None or not self._is_undecided(authentication):
            raise LookupError("no pending request has this auth_req_id")
        self._settle(authentication, error)

    def was_polled(self, authentication: Authentication) -> None:
        """Count a poll that was answered; a user may wait for it to decide."""
        authentication.polls += 1
        if authentication.address is not None and self.outbox is not None:
            self._look_later(authentication, self.outbox)

    def hold(self, authentication: Authentication) -> None:
        """Hold a poll back while it waits for the decision (long polling, CIBA Core 10.1)."""
        until = min(self.now() + self.settings.long_poll, authentication.expires)
        while self._is_undecided(authentication) and (left := until - self.now()) > 0:
            self.pause(min(left, _HOLD_SLICE))

    def pause(self, seconds: float) -> None:
        """Wait, and let others use the provider meanwhile."""
        with self._unlocked():
            self.clock.sleep(seconds)

    @contextlib.contextmanager
    def _unlocked(self) -> Generator[None]:
        """Let others use the provider during the block."""
        self.lock.release()
        try:
            yield
        finally:
            self.lock.acquire()

    # --- decisions ---------------------------------------------------------------------------------------

    def _is_undecided(self, authentication: Authentication) -> bool:
        """Let a scripted user decide if it is time; tell whether the request still waits for a decision."""
        if authentication.settled or (now := self.now()) >= authentication.expires:
            return False
        user = authentication.user
        if (
            isinstance(user, Ignore)
            or authentication.polls < user.after_polls
            or now < authentication.created + user.after - GRANULARITY
        ):
            return True
        self._settle(authentication, _error_of(user))
        return False

    def _settle(self, authentication: Authentication, error: str | None) -> None:
        authentication.settle(error, now=self.now())
        self._call_back(authentication, error)

    def _expire(self, authentication: Authentication) -> None:
        if not authentication.settled:
            self._call_back(authentication, "expired_token")

    # --- callbacks ---------------------------------------------------------------------------------------

    def _call_back(self, authentication: Authentication, error: str | None) -> None:
        if self.outbox is not None and authentication.address is not None:
            self.outbox.post(self._news(authentication, authentication.address, error))

    def _news(self, authentication: Authentication, address: Address, error: str | None) -> News:
        def issue(bad: BadIdToken | None) -> dict[str, object]:
            return self.tokens.issue(
                authentication.consent, now=self.now(), jkt=authentication.jkt, twist=bad, push=True
            ).response

        return News(address, error, issue)

    def _plan_callbacks(self, authentication: Authentication, address: Address, outbox: Outbox) -> None:
        """Make sure that the client is called back even if nothing else looks at the request."""
        outbox.register(address)
        if not isinstance(authentication.user, Ignore):
            news = self._news(authentication, address, error := _error_of(authentication.user))
            if outbox.goes_ahead(news):
                authentication.settle(error, now=self.now())
                sends = outbox.post(news, ahead=True)
                with self._unlocked():
                    for send in sends:
                        send()
                return
        self._look_later(authentication, outbox)
        if self.settings.callback_on_expiry:
            self._schedule(outbox, authentication.expires, functools.partial(self._expire, authentication))

    def _look_later(self, authentication: Authentication, outbox: Outbox) -> None:
        """Plan a look at the instant when a scripted user may decide."""
        if not isinstance(authentication.user, Ignore):
            instant = authentication.created + authentication.user.after
            self._schedule(outbox, instant, functools.partial(self._is_undecided, authentication))

    def _schedule(self, outbox: Outbox, instant: float, function: Callable[[], object]) -> None:
        def call() -> None:
            with self.lock:
                function()

        outbox.clock.call_at(self.clock.monotonic() + (instant - self.now()), call)


def _error_of(user: Approve | Deny) -> str | None:
    """Return the token endpoint's error for a user's decision; ``None``: tokens."""
    return user.error if isinstance(user, Deny) else None
