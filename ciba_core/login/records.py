"""A login that keeps its state: what is stored, and the session that results.

A login is stored before each of its requests is sent, under the session key of the application, and its
outcome is kept for a day. A process that finds it there goes on with it, and does not begin a second one.
Tokens become the session of that key.
"""

from __future__ import annotations

import json
from typing import Any, Final, Self

from attrs import evolve, field, frozen

from ciba_core.callbacks.notification import Notification
from ciba_core.client.config import ClientConfig
from ciba_core.jose.encoding import base64url
from ciba_core.login.sealing import Sealer
from ciba_core.login.stores import StoredCallback, StoredRecord
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.provider.terms import CIBA
from ciba_core.tokens.issued import TokenResponse
from ciba_core.transaction.shifted import shifted
from ciba_core.transaction.states import Authenticated
from ciba_core.transaction.transaction import Step, Transaction
from ciba_core.values import check
from ciba_core.values.errors import LoginUnderWay, SessionOfAnotherUser
from ciba_core.values.json import dumps
from ciba_core.values.secret import Secret

__all__ = ["LoginRecords", "Session", "StoredLogin", "callback_key", "seal_callback", "session_key_of"]

KEPT: Final = 86_400.0
"""Seconds for which a login is kept after its end, so that its outcome can be asked for again."""
MARGIN: Final = 5.0
"""Seconds that a process may take to store the outcome of a request."""


@frozen
class Session:
    """The result of a login: the tokens of one user."""

    tokens: TokenResponse = field(validator=check.a(TokenResponse))
    login: str
    """Identifier of the login that brought it."""
    revision: str | None = field(default=None, eq=False, repr=False)
    """The store's revision of the session; ``None`` while it is not stored."""

    @property
    def user(self) -> tuple[str, str] | None:
        """Issuer and subject of the ID Token (``iss``, ``sub``), which together name one user for good.

        ``None`` without an ID Token: then the user of the session is unknown.
        """
        claims = self.tokens.id_token_claims
        return None if claims is None else (claims["iss"], claims["sub"])

    def replaced_by(self, other: Session) -> Session:
        """Return the session of another login, to be stored in place of this one.

        Raises:
            SessionOfAnotherUser: it is another user's, or the user is unknown.

        """
        if self.user is None or self.user != other.user:
            raise SessionOfAnotherUser("the stored session is not, or may not be, of the user who approved")
        return evolve(other, revision=self.revision)

    def renewed(self, tokens: TokenResponse) -> Session:
        """Return the session with refreshed tokens, to be stored in place of this one.

        Raises:
            SessionOfAnotherUser: the tokens are another user's.

        """
        new = evolve(self, tokens=tokens)
        if new.user != self.user:
            raise SessionOfAnotherUser("the tokens are not of the session's user")
        return new


@frozen(kw_only=True)
class StoredLogin:
    """A login, as it is stored."""

    id: str
    transaction: Transaction | None
    """Its transaction; ``None`` once the tokens are in the session."""
    busy_until: float = 0.0
    """POSIX instant until which the process that stored this may wait for an answer, or for signatures."""
    busy_for: float = 0.0
    """Seconds that lay between that instant and the moment of storing."""
    expires_at: float = 0.0
    """POSIX instant at which the user's time to decide ends; 0 until the provider has said when."""
    saved_at: float = 0.0
    """POSIX instant at which this was stored, by the clock of the process that did; 0 if it was not noted."""
    wait_for: float = 0.0
    """Seconds to wait from then on before there is something to do; 0: no wait."""

    @classmethod
    def begin(cls, client: ClientConfig) -> Self:
        """Return a new login that is not stored yet."""
        return cls(id=base64url(client.entropy(16)), transaction=None)

    def at(self, current: Step, now: float) -> Self:
        """Return what to store before a step is acted on."""
        request, transaction = current.request, current.transaction
        busy_for = 0.0
        if request is not None:
            busy_for = request.connect_timeout + request.timeout + MARGIN
        elif current.draft is not None:
            # For a transaction that never expires, the wait would have no end.
            busy_for = max((transaction.deadline or now) - now, 0.0) + MARGIN
        waits = busy_for == 0.0 and transaction.deadline is not None
        return evolve(
            self,
            transaction=transaction,
            busy_until=now + busy_for,
            busy_for=busy_for,
            expires_at=max(self.expires_at, transaction.expires_at or 0.0),
            saved_at=now,
            wait_for=max((transaction.deadline or now) - now, 0.0) if waits else 0.0,
        )

    def stored(self) -> Self:
        """Return what to store when the tokens are in the session."""
        return evolve(self, transaction=None, wait_for=0.0)

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end, good or bad."""
        return self.transaction is None or self.transaction.is_finished

    def check_over(self, now: float) -> None:
        """Check that another login may begin in place of this one.

        Raises:
            LoginUnderWay: this login has tokens that are not in the session yet, or may still receive some.

        """
        transaction = self.transaction
        if transaction is None or transaction.error is not None:
            return
        # Expiry only ends the wait for the user; a poll under way may still be answered.
        expires_at = transaction.expires_at
        if expires_at is None or max(expires_at, self.busy_until) > now:
            raise LoginUnderWay("session_key: a login is under way; go on with it by resume_pending")

    def seconds_busy(self, now: float) -> float:
        """Return the seconds for which another process may still be at work on it.

        The result never exceeds the time which that process set aside, however far the two clocks are apart.
        """
        return min(max(self.busy_until - now, 0.0), self.busy_for)

    def seconds_to_wait(self, now: float) -> float:
        """Return the seconds left of the stored wait; never more than that wait, even if clocks differ."""
        return min(max(self.saved_at + self.wait_for - now, 0.0), self.wait_for)

    def by_clock(self, now: float, age: float | None) -> Self:
        """Return the login with its instants by the clock of this process; the storing process's may differ.

        Args:
            now: POSIX seconds, by the clock of this process.
            age: `StoredRecord.age`. Without it, the clocks are taken to be the same.

        """
        if age is None or self.saved_at == 0.0:
            return self
        seconds = now - (self.saved_at + age)
        return evolve(
            self,
            transaction=None if self.transaction is None else shifted(self.transaction, seconds),
            busy_until=self.busy_until + seconds,
            expires_at=self.expires_at and self.expires_at + seconds,
            saved_at=self.saved_at + seconds,
        )

    def forget_at(self, now: float) -> float:
        """Return the POSIX instant after which a store may drop it."""
        return max(now, self.expires_at) + KEPT


@frozen(kw_only=True)
class LoginRecords:
    """Turns logins and sessions into texts to store, encrypted for one session key, and back.

    Methods that read raise `StoreError`: the text was altered, is of an unknown version, or was encrypted
    under an unknown secret.
    """

    client: ClientConfig
    provider: ProviderMetadata
    sealer: Sealer
    session_key: str = field(validator=[check.a(str), check.text])

    def seal(self, login: StoredLogin) -> str:
        """Return the text to store for a login."""
        transaction = login.transaction
        return self._seal(
            "transaction",
            {
                "id": login.id,
                "transaction": None if transaction is None else transaction.to_json(),
                "busy_until": login.busy_until,
                "busy_for": login.busy_for,
                "expires_at": login.expires_at,
                "saved_at": login.saved_at,
                "wait_for": login.wait_for,
            },
        )

    def unseal(self, record: StoredRecord) -> StoredLogin:
        """Return the login that was stored."""
        members = self._unseal("transaction", record)
        text = members.pop("transaction")
        return StoredLogin(transaction=None if text is None else self._transaction(text), **members)

    def seal_session(self, session: Session) -> str:
        """Return the text to store for a session."""
        finished = Transaction(
            client=self.client, provider=self.provider, state=Authenticated(session.tokens)
        )
        return self._seal("session", {"login": session.login, "transaction": finished.to_json()})

    def unseal_session(self, record: StoredRecord) -> Session:
        """Return the session that was stored."""
        members = self._unseal("session", record)
        tokens = self._transaction(members["transaction"]).tokens
        assert tokens is not None  # noqa: S101  # what `seal_session` put there; for the type checker
        return Session(tokens, members["login"], record.revision)

    def seal_callback(self, notification: Notification) -> str:
        """Return the text of a callback to store by a store's ``deliver``."""
        return seal_callback(notification, self.sealer, self.session_key)

    def unseal_callback(self, callback: StoredCallback) -> Notification:
        """Return the callback that was kept."""
        place = ("callback", self.session_key)
        members: dict[str, Any] = json.loads(self.sealer.unseal(callback.text, place))
        return Notification(Secret(members[CIBA.handle]), members)

    # Only this module makes texts that decrypt here, so the contents have the right form.

    def _seal(self, kind: str, members: dict[str, Any]) -> str:
        return self.sealer.seal(dumps(members), self._place(kind))

    def _unseal(self, kind: str, record: StoredRecord) -> dict[str, Any]:
        members: dict[str, Any] = json.loads(self.sealer.unseal(record.text, self._place(kind)))
        return members

    def _place(self, kind: str) -> tuple[str, ...]:
        return kind, self.session_key, self.client.client_id, self.provider.issuer

    def _transaction(self, text: str) -> Transaction:
        return Transaction.from_json(text, client=self.client, provider=self.provider)


def callback_key(token_hash: str, session_key: str) -> str:
    """Return the key that the route for a login's callbacks leads to; `session_key_of` reads it.

    Not the session key alone: several clients can have logins of one, and share an endpoint.
    """
    return f"{token_hash}:{session_key}"


def session_key_of(key: str) -> str:
    """Return the session key of the login that a route leads to."""
    return key.partition(":")[2]


def seal_callback(notification: Notification, sealer: Sealer, session_key: str) -> str:
    """Return the text of a callback to store where the login's client and provider are unknown."""
    return sealer.seal(dumps(notification.members), ("callback", session_key))
