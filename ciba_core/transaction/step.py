"""The one function that moves a transaction on: from a `Transaction` and an `Input` to a `Step`.

A driver holds a `Transaction`. It sends the request of each `Step` or, when there is none, waits until
`Transaction.deadline`; then it tells `step` what happened::

    now = time.time()
    current = step(Transaction(client=client, provider=provider), Begin(request), now, shared)
    while not current.transaction.is_finished:
        if current.request is not None:
            input = ...  # send it: ResponseReceived(...) or RequestFailed(...)
        else:
            ...  # wait `current.transaction.deadline - now` seconds
            input = TimerFired(current.transaction.deadline)
        now = time.time()
        current = step(current.transaction, input, now, current.shared)

Transactions of one provider share nothing behind the driver's back. The client's configuration and the
provider's metadata are frozen values that a transaction refers to. What changes as the provider is used, its
key set and its DPoP nonces, is a `Shared` value: the driver passes it in, and replaces it by `Step.shared`.

In ping and push mode the provider calls back (`ciba_core.callbacks.routing`). The driver feeds
`NotificationReceived` when that happens, and sends `Step.answer` back before it sends `Step.request`.

`step` raises `LocalProtocolError` when it is called wrongly. Whatever a provider sends, a network does or a
signer raises becomes part of the state instead. Input that is late or comes twice is ignored: the answer to
an older request, signatures for an older draft, a timer that no longer counts. To name a request or a draft
that was never issued is a wrong call. Exceptions of an embedder's own `ClientConfig.entropy` or
`ClientAuthentication` pass through; any other exception is a bug of this library.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Final, assert_never

from attrs import define, evolve

from ciba_core.callbacks.notification import (
    ACCEPTED,
    UNKNOWN_TOKEN,
    Notification,
    NotificationRejected,
    rejection,
)
from ciba_core.client.finished_request import FinishedParameters, finished_parameters
from ciba_core.client.headers import HeaderFields
from ciba_core.client.polling import DEFAULT_INTERVAL, callback_until
from ciba_core.client.request import AuthenticationRequest, Requested
from ciba_core.client.signed_request import request_object
from ciba_core.jose.dpop import DpopKey, supplied_nonce
from ciba_core.jose.unsigned_jwt import NotSigned, UnsignedJwt
from ciba_core.provider.answers import kept_headers
from ciba_core.provider.draft import Draft
from ciba_core.provider.fit import bearer_will_do, check_fit, subject_issuer
from ciba_core.provider.requests import RequestMaker, with_nonce
from ciba_core.provider.shared import NOTHING_SHARED, Shared
from ciba_core.provider.terms import CIBA
from ciba_core.tokens.errors import KeysUnavailable, TokensRejected
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.signed_jwt import BrokenRule, Opened
from ciba_core.tokens.validation import (
    id_token_of,
    keys_unavailable,
    tokens_rejected,
    validate,
)
from ciba_core.transaction.decoding import (
    decode_acknowledgement,
    decode_push,
    decode_token_answer,
    poll_failed,
)
from ciba_core.transaction.events import (
    AnswerHeaders,
    AuthenticationRefused,
    AuthenticationRequestDrafted,
    AuthenticationRequestFailed,
    AuthenticationRequestSent,
    AuthReqIdExpired,
    AuthReqIdIssued,
    AuthReqIdRecovered,
    CallbackAwaited,
    CancelRequested,
    KeyRequestFailed,
    KeyRequestSent,
    NotificationHeld,
    NotificationIgnored,
    PingReceived,
    PollDrafted,
    PollSent,
    PushRejected,
    TokensHeld,
    TokensIssued,
    TokensReceived,
    TokensUntrusted,
    Transition,
)
from ciba_core.transaction.inputs import (
    Begin,
    Cancel,
    Input,
    NotificationReceived,
    RequestFailed,
    ResponseReceived,
    Resumed,
    SignaturesMade,
    SigningFailed,
    TimerFired,
)
from ciba_core.transaction.key_search import Fetch, KeySearch, Unavailable, Wait
from ciba_core.transaction.states import (
    AwaitingAcknowledgement,
    AwaitingCallback,
    AwaitingKeys,
    Ended,
    FetchingKeys,
    New,
    Pending,
    Polling,
    SigningAuthentication,
    SigningPoll,
    advance,
    was_pushed,
)
from ciba_core.transaction.transaction import Step, Transaction
from ciba_core.values import check
from ciba_core.values.errors import (
    AcknowledgementLost,
    AuthenticationExpired,
    LocalProtocolError,
    RequestNotSent,
)
from ciba_core.values.form import encode, encode_pairs
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse, Purpose
from ciba_core.values.json import NO_MEMBERS
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Guarded, Secret

__all__ = ["step"]

_TOKEN_FORM: Final = encode_pairs([("grant_type", CIBA.grant_type), (CIBA.handle, "")])
_REJECTED: Final = HttpResponse(400, (), b"")
_LATER: Final = HttpResponse(503, (), b"")
_HEALED_AT_LEAST: Final = 60.0
"""Seconds for which the result is asked for, at least, once a callback has healed a lost acknowledgement."""


def step(
    transaction: Transaction,
    input: Input,  # noqa: A002  # the word of the design
    now: float,
    shared: Shared = NOTHING_SHARED,
) -> Step:
    """Move a transaction on by one input.

    Args:
        transaction: the current value.
        input: what happened.
        now: the wall clock, in POSIX seconds. Expiry and the times in JWTs are computed from it; the length
            of waits does not depend on it.
        shared: what is known of the provider: the `Step.shared` of the last step, of this transaction or of
            another one of the same provider. Without it, keys are fetched anew.

    Raises:
        LocalProtocolError: the input is not possible here; the transaction is unchanged.

    """
    check.now(now)
    if transaction.dpop_key is not None:
        shared = shared.knowing(transaction.dpop_nonces)
    machine = _Machine(transaction, now, shared, noted=[])
    match input:
        case Begin():
            return machine.on_begin(input.request)
        case ResponseReceived() | RequestFailed():
            return machine.on_outcome(input)
        case NotificationReceived():
            return machine.on_notification(input.notification)
        case TimerFired():
            return machine.on_timer(input.deadline)
        case SignaturesMade() | SigningFailed():
            return machine.on_signing(input)
        case Resumed():
            return machine.on_resumed()
        case Cancel():
            return machine.on_cancel()
        case _:
            assert_never(input)


# Not frozen, though nothing changes it: one is made in every step, and freezing costs a tenth of a poll.
@define(weakref_slot=False, eq=False)
class _Machine:
    """A transaction at one moment: what it does with an input, and what all parts of that need.

    A method `on_...` says what an input means in each state; the others are what can be done about it.
    """

    transaction: Transaction
    now: float
    shared: Shared
    noted: list[ProviderDeviation]
    """Deviations from the standards in the input that were read all the same; they become events."""

    # --- results ---------------------------------------------------------------------------------------

    def stay(self) -> Step:
        return Step(self.transaction, shared=self.shared)

    def transaction_after(self, event: Transition, *, requests: int, polls: int) -> Transaction:
        before = self.transaction
        return Transaction(
            client=before.client,
            provider=before.provider,
            state=advance(before.state, event),
            requests=requests,
            polls=polls,
            dpop_key=before.dpop_key,
            client_notification_token=before.client_notification_token,
            dpop_nonces=NOTHING_SHARED.dpop_nonces if before.dpop_key is None else self.shared.dpop_nonces,
            acknowledgement_extra=event.extra
            if isinstance(event, AuthReqIdIssued)
            else before.acknowledgement_extra,
        )

    def move_to(self, event: Transition, *, answer: HttpResponse | None = None) -> Step:
        before = self.transaction
        after = self.transaction_after(event, requests=before.requests, polls=before.polls)
        return Step(after, (event, *self.noted), shared=self.shared, answer=answer)

    def send(self, event: Transition, request: HttpRequest) -> Step:
        polls = self.transaction.polls + isinstance(event, PollSent)
        after = self.transaction_after(event, requests=request.id, polls=polls)
        return Step(after, (event, *self.noted), request, self.shared)

    def ask_for_signatures(self, event: AuthenticationRequestDrafted | PollDrafted, draft: Draft) -> Step:
        # The number of the draft is used up now, so that late signatures for an older draft are recognised.
        after = self.transaction_after(event, requests=draft.id, polls=self.transaction.polls)
        return Step(after, (event,), shared=self.shared, draft=draft)

    def answer_only(self, event: NotificationIgnored | NotificationRejected, answer: HttpResponse) -> Step:
        return Step(self.transaction, (event,), shared=self.shared, answer=answer)

    # --- resuming, cancelling, time --------------------------------------------------------------------

    def on_resumed(self) -> Step:
        reason = "interrupted before the answer came"
        state = self.transaction.state
        match state:
            case AwaitingAcknowledgement() | Polling() | FetchingKeys():
                lost = RequestFailed(self.transaction.requests, Delivery.UNKNOWN, reason)
                return self.take_outcome(lost)
            case AwaitingKeys():
                return self.use_keys_at_hand(state)
            case SigningAuthentication() | SigningPoll():
                # The draft was not stored, and nothing was sent.
                return self.on_not_signed(state, reason)
            case New() | AwaitingCallback() | Pending() | Ended():
                return self.stay()
            case _:
                assert_never(state)

    def on_cancel(self) -> Step:
        state = self.transaction.state
        match state:
            case AwaitingAcknowledgement() | FetchingKeys() if state.owes_answer:
                # A push still waits for its answer. It gets the answer that every callback gets after the
                # end.
                return self.move_to(CancelRequested(), answer=ACCEPTED)
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
            ):
                return self.move_to(CancelRequested())
            case Ended():
                return self.stay()
            case _:
                assert_never(state)

    def on_timer(self, deadline: float) -> Step:
        state, expected = self.transaction.state, self.transaction.deadline
        match state:
            case (
                Pending() | SigningPoll() | SigningAuthentication() | AwaitingCallback() | AwaitingKeys()
            ) if expected is None or deadline != expected:
                # The timer was set for another wait.
                return self.stay()
            # The timer is trusted for the wait, whatever the wall clock says.
            case Pending() | SigningPoll() if max(self.now, deadline) >= state.expires_at:
                return self.move_to(_out_of_time(state))
            case Pending():
                return self.send_poll(state)
            case SigningAuthentication() | SigningPoll():
                return self.on_not_signed(state, "it was not signed in time")
            case AwaitingCallback():
                return self.move_to(_no_callback(state))
            case AwaitingKeys():
                return self.on_keys_awaited(state)
            case New() | AwaitingAcknowledgement() | Polling() | FetchingKeys() | Ended():
                # The timer was set for a wait that is over.
                return self.stay()
            case _:
                assert_never(state)

    # --- requests and their signatures -----------------------------------------------------------------

    def on_begin(self, request: AuthenticationRequest) -> Step:
        client, provider = self.transaction.client, self.transaction.provider
        if not isinstance(self.transaction.state, New):
            raise LocalProtocolError("the authentication request was sent already; start a new transaction")
        dpop_key = self.transaction.dpop_key
        if dpop_key is not None and not client.dpop_bound_access_tokens:
            raise LocalProtocolError("dpop_key: the client does not ask for tokens that are bound to a key")
        request = request.completed(client.profile.scope)
        check_fit(request, client, provider, keys=self.shared.fresh_keys(self.now))
        mode = client.backchannel_token_delivery_mode
        if client.dpop_bound_access_tokens and dpop_key is None:
            dpop_key = DpopKey.generate(client.entropy)
        token = None if mode == "poll" else _unguessable(client.entropy)
        parameters = finished_parameters(request, client, client_notification_token=token)
        machine = evolve(
            self,
            transaction=evolve(self.transaction, dpop_key=dpop_key, client_notification_token=token),
        )
        shown = mode == "push" and dpop_key is not None
        requested = request.requested(issuer=subject_issuer(client, provider))
        return machine.send_authentication_request(requested, parameters, again=parameters if shown else None)

    def send_authentication_request(
        self, requested: Requested, finished: FinishedParameters, *, again: FinishedParameters | None
    ) -> Step:
        """Send an authentication request; `again` is what to repeat if the provider asks for a nonce."""
        transaction = self.transaction
        client, provider = transaction.client, transaction.provider
        make = self.request_maker(requested.headers)
        url = make.endpoint(CIBA.start_endpoint)
        parameters: Iterable[tuple[str, str | UnsignedJwt]]
        if isinstance(finished, tuple):
            parameters = finished
        else:
            assert client.request_signing is not None  # noqa: S101  # else they are a tuple; for the type checker
            signed = request_object(
                finished,
                signing=client.request_signing,
                context=make.context(
                    url,
                    client.profile.request_audience,
                    provider.backchannel_authentication_request_signing_alg_values_supported,
                ),
            )
            # Only client authentication may stand beside ``request`` (CIBA Core 7.1.1).
            parameters = [("request", signed)]
        # Pushed tokens are bound to the key that is shown here: no token request follows (CIBA Core 5).
        mode = client.backchannel_token_delivery_mode
        shown = transaction.dpop_key if mode == "push" else None
        prepared = make.form_post(Purpose.AUTHENTICATION, url, parameters, dpop_key=shown)
        match prepared:
            case HttpRequest():
                return self.send(AuthenticationRequestSent(requested, again), prepared)
            case Draft():
                event = AuthenticationRequestDrafted(requested, prepared, again)
                return self.ask_for_signatures(event, prepared)
            case NotSigned(reason):
                return self.move_to(_request_not_signed(reason))
            case _:
                assert_never(prepared)

    def send_poll(self, state: Pending) -> Step:
        make = self.request_maker()
        prepared = make.form_post(
            Purpose.TOKEN,
            make.endpoint(CIBA.poll_endpoint),
            state.requested.token_parameters,
            form=_TOKEN_FORM + encode(state.auth_req_id.reveal()),
            dpop_key=self.transaction.dpop_key,
        )
        match prepared:
            case HttpRequest():
                return self.send(PollSent(self.transaction.polls + 1), prepared)
            case Draft():
                return self.ask_for_signatures(PollDrafted(prepared), prepared)
            case NotSigned(reason):
                return self.on_not_signed(state, reason)
            case _:
                assert_never(prepared)

    def on_signing(self, input: SignaturesMade | SigningFailed) -> Step:  # noqa: A002
        """Send what was waiting for its signatures, or give it up."""
        transaction = self.transaction
        if not 0 < input.draft_id <= transaction.requests:
            raise LocalProtocolError(f"no draft {input.draft_id} was made")
        if input.draft_id != transaction.requests:
            # The signatures are for an older draft.
            return self.stay()
        state = transaction.state
        match state:
            case SigningPoll() if self.now >= state.expires_at:
                return self.move_to(_out_of_time(state))
            case SigningAuthentication() | SigningPoll():
                return self.send_signed(state, input)
            case (
                New()
                | AwaitingAcknowledgement()
                | AwaitingCallback()
                | Pending()
                | Polling()
                | FetchingKeys()
                | AwaitingKeys()
                | Ended()
            ):
                # No draft waits: the signatures came twice, too late, or after the end.
                return self.stay()
            case _:
                assert_never(state)

    def send_signed(
        self,
        state: SigningAuthentication | SigningPoll,
        input: SignaturesMade | SigningFailed,  # noqa: A002
    ) -> Step:
        if isinstance(input, SigningFailed):
            return self.on_not_signed(state, input.reason)
        if state.draft is None:
            return self.on_not_signed(state, "the draft is gone")
        request = self.request_maker().signed_post(state.draft, input.signatures)
        if isinstance(request, NotSigned):
            return self.on_not_signed(state, request.reason)
        if isinstance(state, SigningAuthentication):
            return self.send(AuthenticationRequestSent(state.requested, state.again), request)
        return self.send(PollSent(self.transaction.polls + 1), request)

    def on_not_signed(self, state: SigningAuthentication | Pending | SigningPoll, reason: str) -> Step:
        if isinstance(state, SigningAuthentication):
            return self.move_to(_request_not_signed(reason))
        return self.move_to(
            poll_failed(
                state,
                client=self.transaction.client,
                reason=reason,
                answer_lost=False,
                elapsed=None,
                now=self.now,
            )
        )

    def request_maker(self, headers: HeaderFields | None = None) -> RequestMaker:
        """Return what makes the next request; `headers` are those of one that is not in the state yet."""
        transaction = self.transaction
        if headers is None:
            state = transaction.state
            headers = NO_MEMBERS if isinstance(state, (New, Ended)) else state.requested.headers
        return RequestMaker(
            transaction.client, transaction.provider, transaction.requests + 1, self.now, self.shared, headers
        )

    # --- answers ---------------------------------------------------------------------------------------

    def on_outcome(self, input: ResponseReceived | RequestFailed) -> Step:  # noqa: A002
        transaction = self.transaction
        if not 0 < input.request_id <= transaction.requests:
            raise LocalProtocolError(f"no request {input.request_id} was issued")
        check.elapsed(input.elapsed)
        if input.request_id != transaction.requests:
            # The answer belongs to an older request.
            return self.stay()
        return self.with_answer_headers(self.take_outcome(input), input)

    def with_answer_headers(self, current: Step, input: ResponseReceived | RequestFailed) -> Step:  # noqa: A002
        """Return the step with the header fields of the answer that are to be kept."""
        if isinstance(input, RequestFailed) or current.transaction is self.transaction:
            return current
        kept = kept_headers(input.response, self.transaction.client)
        if not kept:
            return current
        error = current.transaction.error
        if error is not None:
            # It was made in this step, and nobody else has it yet.
            error.answer_headers = kept
        return evolve(current, events=(*current.events, AnswerHeaders(kept)))

    def take_outcome(self, input: ResponseReceived | RequestFailed) -> Step:  # noqa: A002
        """Go on with what came of the last request, if one is in flight."""
        state = self.transaction.state
        match state:
            case Polling():
                return self.on_token_answer(state, input)
            case AwaitingAcknowledgement():
                return self.on_acknowledgement(state, input)
            case FetchingKeys():
                return self.on_keys(state, input)
            case (
                New()
                | SigningAuthentication()
                | AwaitingCallback()
                | Pending()
                | SigningPoll()
                | AwaitingKeys()
                | Ended()
            ):
                # Nothing is in flight: the answer came twice, after the end, or once it was given up.
                return self.stay()
            case _:
                assert_never(state)

    def on_acknowledgement(
        self,
        state: AwaitingAcknowledgement,
        input: ResponseReceived | RequestFailed,  # noqa: A002
    ) -> Step:
        if isinstance(input, ResponseReceived):
            machine = self.with_nonce_of(input.response, CIBA.start_endpoint)
            event, noted = decode_acknowledgement(
                input.response, client=self.transaction.client, now=self.now
            )
            if state.again is not None and _wants_nonce(event, input.response):
                # The missing nonce was the only reason for the refusal: the user was not asked.
                return machine.send_authentication_request(state.requested, state.again, again=None)
            self.noted.extend(noted)
            acknowledged = machine.move_to(machine.healing(state, event))
        else:
            failed = AuthenticationRequestFailed(_not_acknowledged(input))
            acknowledged = self.move_to(self.healing(state, failed))
        if state.held is None:
            return acknowledged
        used = _Machine(acknowledged.transaction, self.now, acknowledged.shared, noted=[]).on_notification(
            state.held
        )
        # A ping that was held was answered when it came.
        answer = None if state.held.is_ping else used.answer
        return evolve(used, events=acknowledged.events + used.events, answer=answer)

    def healing(self, state: AwaitingAcknowledgement, event: Transition) -> Transition:
        """Return what comes of a lost acknowledgement that a callback may heal; other events as they are."""
        if not (
            isinstance(event, AuthenticationRequestFailed) and isinstance(event.error, AcknowledgementLost)
        ):
            return event
        client = self.transaction.client
        until = callback_until(
            client.polling,
            client.backchannel_token_delivery_mode,
            requested_expiry=state.requested.requested_expiry,
            now=self.now,
        )
        return event if until is None else CallbackAwaited(event.error.reason, until)

    def on_token_answer(self, state: Polling, input: ResponseReceived | RequestFailed) -> Step:  # noqa: A002
        client = self.transaction.client
        if isinstance(input, RequestFailed):
            return self.move_to(
                poll_failed(
                    state,
                    client=client,
                    reason=input.reason,
                    answer_lost=input.delivery is not Delivery.NOT_SENT,
                    elapsed=input.elapsed,
                    now=self.now,
                )
            )
        machine = self.with_nonce_of(input.response, CIBA.poll_endpoint)
        answer = decode_token_answer(
            input.response,
            state,
            client=client,
            dpop_key=self.transaction.dpop_key,
            elapsed=input.elapsed,
            now=self.now,
            noted=self.noted,
            bearer_too=bearer_will_do(client, self.transaction.provider),
        )
        if isinstance(answer, Guarded):
            return machine.validate_tokens(state, answer)
        return machine.move_to(answer)

    def with_nonce_of(self, response: HttpResponse, endpoint: str) -> _Machine:
        if self.transaction.dpop_key is None:
            return self
        return evolve(self, shared=with_nonce(self.shared, self.request_maker().endpoint(endpoint), response))

    # --- callbacks -------------------------------------------------------------------------------------

    def on_notification(self, notification: Notification) -> Step:
        mode = self.transaction.client.backchannel_token_delivery_mode
        if mode == "poll":
            raise LocalProtocolError("a client in poll mode has no client notification endpoint")
        state = self.transaction.state
        if isinstance(state, Ended):
            return self.answer_only(NotificationIgnored("the transaction has ended"), ACCEPTED)
        if notification.is_ping != (mode == "ping"):
            found = (
                "a ping to a client in push mode" if notification.is_ping else "a push to one in ping mode"
            )
            wrong = rejection(400, "CIBA Core 5: token delivery mode", found)
            return self.answer_only(wrong.event, wrong.answer)
        self.noted.extend(notification.deviations)
        match state:
            case New() | SigningAuthentication():
                return self.answer_only(UNKNOWN_TOKEN.event, UNKNOWN_TOKEN.answer)
            case AwaitingAcknowledgement(held=None):
                answer = ACCEPTED if notification.is_ping else None
                # Its deviations become events now, and not once more when the notification is used.
                return self.move_to(NotificationHeld(evolve(notification, deviations=())), answer=answer)
            case AwaitingAcknowledgement():
                return self.ignore_notification(notification, "another one waits for the acknowledgement")
            case AwaitingCallback():
                return self.on_healing_notification(state, notification)
            case Pending() | SigningPoll() | Polling() | FetchingKeys() | AwaitingKeys():
                return self.on_acknowledged_notification(state, notification)
            case _:
                assert_never(state)

    def on_healing_notification(self, state: AwaitingCallback, notification: Notification) -> Step:
        """Take the first callback after a lost acknowledgement: what it names is the ``auth_req_id``.

        It came under a token that nobody but the provider was told; the ID Token of a push has to name it
        as well, as always. When the authentication ends is not known; whoever calls back has its result.
        """
        if len(notification.auth_req_id.reveal()) > self.transaction.client.limits.string:
            wrong = rejection(400, "size limit", "an auth_req_id that is too long")
            return self.answer_only(wrong.event, wrong.answer)
        expires_at = max(state.give_up_at, self.now + _HEALED_AT_LEAST)
        bound = self.move_to(AuthReqIdRecovered(notification.auth_req_id, expires_at, DEFAULT_INTERVAL))
        after = bound.transaction.state
        assert isinstance(after, Pending)  # noqa: S101  # what the table says; for the type checker
        used = _Machine(bound.transaction, self.now, self.shared, noted=[]).on_acknowledged_notification(
            after, notification
        )
        return evolve(used, events=bound.events + used.events)

    def on_acknowledged_notification(
        self, state: Pending | SigningPoll | Polling | FetchingKeys | AwaitingKeys, notification: Notification
    ) -> Step:
        """Take a callback of an authentication whose ``auth_req_id`` is known."""
        if notification.auth_req_id != state.auth_req_id:
            wrong = rejection(401, "CIBA Core 10.2: auth_req_id", "the token of another auth_req_id")
            return self.answer_only(wrong.event, UNKNOWN_TOKEN.answer)
        match state:
            case Pending() if not notification.is_ping:
                return self.on_push(state, notification)
            case Pending(pinged=False) | Polling(pinged=False) | SigningPoll(pinged=False):
                return self.move_to(PingReceived(self.now), answer=ACCEPTED)
            case Pending() | SigningPoll() | Polling() | FetchingKeys() | AwaitingKeys():
                return self.ignore_notification(notification, "another one came before")
            case _:
                assert_never(state)

    def ignore_notification(self, notification: Notification, reason: str) -> Step:
        """Ignore a callback. A push may still be needed, so the provider is told to send it again."""
        answer = ACCEPTED if notification.is_ping else _LATER
        return self.answer_only(NotificationIgnored(reason), answer)

    def on_push(self, state: Pending, notification: Notification) -> Step:
        transaction = self.transaction
        decoded = decode_push(
            notification,
            state,
            client=transaction.client,
            dpop_key=transaction.dpop_key,
            now=self.now,
            noted=self.noted,
            bearer_too=bearer_will_do(transaction.client, transaction.provider),
        )
        if not isinstance(decoded, Guarded):
            return self.move_to(decoded, answer=_REJECTED if isinstance(decoded, PushRejected) else ACCEPTED)
        return self.validate_tokens(state, decoded)

    # --- keys ------------------------------------------------------------------------------------------

    def validate_tokens(self, state: Polling | Pending, untrusted: Guarded[TokenResponse]) -> Step:
        id_token = id_token_of(untrusted, self.transaction.client)
        if id_token is None:
            return self.conclude(state, None, untrusted)
        found = KeySearch.begin(
            id_token,
            self.shared,
            self.now,
            jwks_uri=self.transaction.provider.jwks_uri,
            # The user has decided in time; `KeySearch` sees to it that there is time enough for the keys.
            give_up_at=state.expires_at,
        )
        match found:
            case Fetch(search):
                return self.send(TokensReceived(untrusted, search), self.request_maker().keys())
            case Wait(search, until):
                # The provider does not wait for the keys: it is told to push again later, and these tokens
                # are kept.
                answer_now = _LATER if _is_unanswered_push(state) else None
                return self.move_to(TokensHeld(untrusted, search, until), answer=answer_now)
            case Opened() | BrokenRule():
                return self.conclude(state, found, untrusted)
            case _:
                assert_never(found)

    def on_keys(self, state: FetchingKeys, input: ResponseReceived | RequestFailed) -> Step:  # noqa: A002
        client = self.transaction.client
        found, shared = state.search.fetched(
            state.id_token(client),
            self.shared,
            self.now,
            client=client,
            outcome=input,
            noted=self.noted,
        )
        machine = evolve(self, shared=shared)
        if isinstance(found, Wait):
            event = KeyRequestFailed(found.search, found.until, found.reason)
            return machine.move_to(event, answer=_LATER if _is_unanswered_push(state) else None)
        return machine.conclude(state, found, state.untrusted)

    def on_keys_awaited(self, state: AwaitingKeys) -> Step:
        id_token = state.id_token(self.transaction.client)
        found = state.search.waited(id_token, self.shared, self.now, until=state.next_try_at)
        if isinstance(found, Fetch):
            return self.send(KeyRequestSent(found.search), self.request_maker().keys())
        return self.conclude(state, found, state.untrusted)

    def use_keys_at_hand(self, state: AwaitingKeys) -> Step:
        found = state.search.at_hand(state.id_token(self.transaction.client), self.shared, self.now)
        return self.stay() if found is None else self.conclude(state, found, state.untrusted)

    def conclude(
        self,
        state: Polling | Pending | FetchingKeys | AwaitingKeys,
        found: Opened | BrokenRule | Unavailable | None,
        untrusted: Guarded[TokenResponse],
    ) -> Step:
        """End the search for the key of the ID Token; ``None`` where there is no ID Token."""
        transaction, push = self.transaction, was_pushed(state)
        verdict: TokenResponse | TokensRejected | KeysUnavailable
        match found:
            case Opened() | None:
                verdict = validate(
                    untrusted,
                    found,
                    auth_req_id=state.auth_req_id,
                    requested=state.requested,
                    client=transaction.client,
                    provider=transaction.provider,
                    now=self.now,
                    noted=self.noted,
                    push=push,
                )
            case BrokenRule():
                verdict = tokens_rejected(found, untrusted, push=push)
            case Unavailable(reason):
                verdict = keys_unavailable(untrusted, reason)
            case _:
                assert_never(found)
        event: Transition
        match verdict:
            case TokenResponse():
                event, answer = TokensIssued(verdict), ACCEPTED
            case TokensRejected():
                event, answer = PushRejected(verdict) if push else TokensUntrusted(verdict), _REJECTED
            case KeysUnavailable():
                event, answer = TokensUntrusted(verdict), _LATER
            case _:
                assert_never(verdict)
        return self.move_to(event, answer=answer if _is_unanswered_push(state) else None)


def _is_unanswered_push(state: Polling | Pending | FetchingKeys | AwaitingKeys) -> bool:
    """Tell whether tokens that are there in a state came by a push that waits for its answer."""
    match state:
        case Pending():
            return was_pushed(state)
        case FetchingKeys():
            return state.owes_answer
        case Polling() | AwaitingKeys():
            return False
        case _:
            assert_never(state)


def _unguessable(entropy: Callable[[int], bytes]) -> Secret:
    """Return a new ``client_notification_token``: 256 bits, where CIBA Core 7.1 asks for 128."""
    return Secret(urlsafe_b64encode(entropy(32)).decode("ascii").rstrip("="))


def _out_of_time(state: Pending | SigningPoll) -> AuthReqIdExpired:
    course = state.course
    if course.push_rejected is not None:
        message = f"no decision came in time; a push was turned away: {course.push_rejected}"
    elif state.faults:
        last = course.last_polls[-1] if course.last_polls else "of an older release"
        message = f"no decision came in time; the last polls brought no answer to go by ({last})"
    else:
        message = "the user did not decide in the time that was granted"
    return AuthReqIdExpired(AuthenticationExpired(message, **course.told()))


def _request_not_signed(reason: str) -> AuthenticationRequestFailed:
    return AuthenticationRequestFailed(
        RequestNotSent("the authentication request could not be signed", reason=reason)
    )


def _not_acknowledged(failure: RequestFailed) -> RequestNotSent | AcknowledgementLost:
    if failure.delivery is Delivery.NOT_SENT:
        return RequestNotSent("the authentication request could not be sent", reason=failure.reason)
    return AcknowledgementLost(
        "the acknowledgement was lost; the user may have been asked", reason=failure.reason
    )


def _no_callback(state: AwaitingCallback) -> AuthenticationRequestFailed:
    message = "the acknowledgement was lost, and no callback came; the user may have been asked"
    return AuthenticationRequestFailed(AcknowledgementLost(message, reason=state.reason))


def _wants_nonce(event: Transition, response: HttpResponse) -> bool:
    """Tell whether the provider refused for want of a nonce only, and supplied one (RFC 9449 8)."""
    return (
        isinstance(event, AuthenticationRefused)
        and event.error.error == "use_dpop_nonce"
        and response.status == 400
        and supplied_nonce(response) is not None
    )
