"""One authentication, from the request to its end, as a value; `ciba_core.transaction.step` moves it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self, assert_never

from attrs import field, frozen

from ciba_core.client.config import ClientConfig
from ciba_core.jose.dpop import DpopKey
from ciba_core.provider.draft import Draft
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.provider.shared import NOTHING_SHARED, Shared
from ciba_core.tokens.issued import TokenResponse
from ciba_core.transaction import snapshot
from ciba_core.transaction.events import Event
from ciba_core.transaction.states import (
    Authenticated,
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Cancelled,
    Denied,
    Ended,
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
from ciba_core.values import check
from ciba_core.values.errors import CibaError
from ciba_core.values.http import HttpRequest, HttpResponse
from ciba_core.values.json import NO_MEMBERS
from ciba_core.values.secret import Secret

__all__ = ["Step", "Transaction"]

_NEW: Final = New()


@frozen(weakref_slot=False)
class Transaction:
    """One authentication of one user. Immutable: `ciba_core.step` returns the next value.

    Compare, copy, store (`to_json`) and drop it freely; it holds no resource.
    """

    client: ClientConfig = field(validator=check.a(ClientConfig), repr=False)
    provider: ProviderMetadata = field(validator=check.a(ProviderMetadata), repr=False)
    state: State = _NEW
    requests: int = 0
    """Requests issued so far; the `id` of the last one."""
    polls: int = 0
    """Polls among them."""
    dpop_key: DpopKey | None = None
    """The key that the tokens get bound to (RFC 9449), where `ClientConfig.dpop_bound_access_tokens` says so.
    `Begin` makes one, unless it is given here."""
    client_notification_token: Secret | None = None
    """What the provider authenticates by when it calls back (CIBA Core 7.1); new for each transaction."""
    dpop_nonces: Mapping[str, str] = field(default=NOTHING_SHARED.dpop_nonces, repr=False)
    """The `Shared.dpop_nonces` of the last step, if the transaction has a `dpop_key`. Snapshots have them."""
    acknowledgement_extra: Mapping[str, Any] = field(default=NO_MEMBERS, repr=False)
    """Members of the acknowledgement that the standard does not know, such as ``auth_url``, read-only. They
    may be secret."""

    @property
    def deadline(self) -> float | None:
        """POSIX instant at which to feed `TimerFired`, or ``None`` while there is nothing to wait for.

        If it has passed, feed `TimerFired` at once. While a draft is being signed, this is the instant from
        which on its signatures are of no use: stop waiting for them.
        """
        match self.state:
            case Pending(next_poll_at=planned, expires_at=end):
                return end if planned is None else min(planned, end)
            case SigningPoll(sign_by=sign_by, expires_at=end):
                return end if sign_by is None else min(sign_by, end)
            case AwaitingKeys():
                return self.state.next_try_at
            case AwaitingCallback():
                return self.state.give_up_at
            case SigningAuthentication():
                return self.state.sign_by
            case New() | AwaitingAcknowledgement() | Polling() | FetchingKeys() | Ended():
                return None
            case _:
                assert_never(self.state)

    @property
    def callbacks_until(self) -> float | None:
        """POSIX instant until which a callback of the provider may matter, as far as that is known by now.

        ``None`` where it is not known, before the acknowledgement, and after the end.
        """
        match self.state:
            case Pending() | SigningPoll() | Polling():
                return self.state.expires_at
            case AwaitingCallback():
                return self.state.give_up_at
            case FetchingKeys() | AwaitingKeys():
                return self.state.search.give_up_at
            case New() | SigningAuthentication() | AwaitingAcknowledgement() | Ended():
                return None
            case _:
                assert_never(self.state)

    @property
    def owes_answer(self) -> bool:
        """Whether a callback waits for an answer that a later step has."""
        match self.state:
            case AwaitingAcknowledgement() | FetchingKeys():
                return self.state.owes_answer
            case (
                New()
                | SigningAuthentication()
                | AwaitingCallback()
                | Pending()
                | SigningPoll()
                | Polling()
                | AwaitingKeys()
                | Ended()
            ):
                return False
            case _:
                assert_never(self.state)

    @property
    def auth_req_id(self) -> Secret | None:
        """What the provider calls the authentication (CIBA Core 7.3), while that is of use."""
        match self.state:
            case Pending() | SigningPoll() | Polling() | FetchingKeys() | AwaitingKeys():
                return self.state.auth_req_id
            case New() | SigningAuthentication() | AwaitingAcknowledgement() | AwaitingCallback() | Ended():
                return None
            case _:
                assert_never(self.state)

    @property
    def expires_at(self) -> float | None:
        """POSIX instant at which the wait for the user's decision ends, while there is such a wait."""
        match self.state:
            case Pending() | SigningPoll() | Polling():
                return self.state.expires_at
            case AwaitingCallback():
                return self.state.give_up_at
            case (
                New()
                | SigningAuthentication()
                | AwaitingAcknowledgement()
                | FetchingKeys()
                | AwaitingKeys()
                | Ended()
            ):
                return None
            case _:
                assert_never(self.state)

    @property
    def is_finished(self) -> bool:
        """Whether the transaction has come to its end, good or bad."""
        return isinstance(self.state, Ended)

    @property
    def tokens(self) -> TokenResponse | None:
        """The tokens, once there are any."""
        return self.state.tokens if isinstance(self.state, Authenticated) else None

    @property
    def error(self) -> CibaError | None:
        """What the transaction ended with, when it ended without tokens."""
        match self.state:
            case Denied() | Expired() | Refused() | Failed() | Cancelled():
                return self.state.error
            case (
                New()
                | SigningAuthentication()
                | AwaitingAcknowledgement()
                | AwaitingCallback()
                | Pending()
                | SigningPoll()
                | Polling()
                | FetchingKeys()
                | AwaitingKeys()
                | Authenticated()
            ):
                return None
            case _:
                assert_never(self.state)

    def to_json(self) -> str:
        """Return the transaction as a JSON object to store, secrets included.

        Store it like a password: whoever has it, and the client's credentials, can collect the tokens. See
        `to_json_parts` for a form whose secrets can be kept elsewhere.
        """
        return snapshot.join(*self.to_json_parts())

    def to_json_parts(self) -> tuple[str, str]:
        """Return the snapshot as two JSON objects: one without secrets, and one with nothing else.

        These are secret: the ``auth_req_id``, all tokens, a callback that is held, unknown members of an
        acknowledgement or a token answer, header fields of requests and answers, and the texts that came with
        an error code. Configuration, credentials and metadata are in neither.
        """
        return snapshot.dump(
            self.state,
            client_id=self.client.client_id,
            issuer=self.provider.issuer,
            requests=self.requests,
            polls=self.polls,
            dpop_key=self.dpop_key,
            client_notification_token=self.client_notification_token,
            dpop_nonces=self.dpop_nonces,
            acknowledgement_extra=self.acknowledgement_extra,
            mode=self.client.backchannel_token_delivery_mode,
        )

    @classmethod
    def from_json(
        cls, text: str, *, client: ClientConfig, provider: ProviderMetadata, secrets: str | None = None
    ) -> Self:
        """Restore a transaction; then feed `Resumed` as the first input.

        Args:
            text: what `to_json` returned, or the first of the two parts.
            client: the configuration; has to be that of the same client.
            provider: the metadata; has to be that of the same issuer.
            secrets: the second of the two parts.

        Raises:
            SnapshotError: unknown version, another client or issuer, secrets missing, or not a snapshot.

        """
        restored = snapshot.load(
            text,
            secrets,
            client_id=client.client_id,
            issuer=provider.issuer,
            mode=client.backchannel_token_delivery_mode,
        )
        return cls(
            client=client,
            provider=provider,
            state=restored.state,
            requests=restored.requests,
            polls=restored.polls,
            dpop_key=restored.dpop_key,
            client_notification_token=restored.client_notification_token,
            dpop_nonces=restored.dpop_nonces,
            acknowledgement_extra=restored.acknowledgement_extra,
        )


@frozen(weakref_slot=False)
class Step:
    """The result of an input: the next transaction, and what to do now."""

    transaction: Transaction
    """The next value of the transaction; the old one is of no more use."""
    events: tuple[Event, ...] = ()
    """The events of this step, in order; empty if the input was late or came twice."""
    request: HttpRequest | None = None
    """The one request to send now, if any."""
    shared: Shared = NOTHING_SHARED
    """Everything known about the provider now: hand it to the next step of any of its transactions."""
    draft: Draft | None = None
    """A request that needs signatures by keys that only the driver can reach: have its `Draft.jwts` signed
    and feed `SignaturesMade`, or `SigningFailed`; or `TimerFired`, if that has not come to an end by
    `Transaction.deadline`. Only where a `RemoteSigner` is configured."""
    answer: HttpResponse | None = None
    """The HTTP answer to the callback that is waiting for one. Send it before `request`. If the step after a
    `NotificationReceived` has no answer, keep the callback waiting until a later step has one."""

    @property
    def deadline(self) -> float | None:
        """See `Transaction.deadline`."""
        return self.transaction.deadline

    @property
    def is_finished(self) -> bool:
        """Whether the transaction has come to its end, good or bad."""
        return self.transaction.is_finished

    @property
    def result(self) -> TokenResponse | None:
        """The tokens, once there are any."""
        return self.transaction.tokens

    @property
    def error(self) -> CibaError | None:
        """What the transaction ended with, when it ended without tokens."""
        return self.transaction.error
