"""Refreshing tokens (RFC 6749 6, OpenID Connect Core 12)."""

from __future__ import annotations

from typing import assert_never

from attrs import field, frozen

from ciba_core.jose.unsigned_jwt import NotSigned
from ciba_core.operations.operation import Done
from ciba_core.operations.token_operation import TokenOperation, Unvalidated, check_bound
from ciba_core.provider.answers import (
    PendingCode,
    unavailable,
)
from ciba_core.provider.draft import Draft
from ciba_core.provider.requests import RequestMaker
from ciba_core.tokens.endpoint import Unanswered, read_token_answer
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.signed_jwt import BrokenRule, Opened, SignedJwt
from ciba_core.tokens.validation import (
    id_token_of,
    keys_unavailable,
    missing_claim,
    tokens_rejected,
    validate_refreshed,
)
from ciba_core.values import check
from ciba_core.values.errors import (
    CibaError,
    ErrorResponse,
    LocalProtocolError,
    RefreshLost,
    RemoteProtocolError,
)
from ciba_core.values.http import HttpRequest, HttpResponse, Purpose
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Guarded

__all__ = ["Refresh"]


@frozen(repr=False, weakref_slot=False)
class _RefreshedTokens:
    guarded: Guarded[TokenResponse]
    jwt: SignedJwt
    refresh: Refresh

    def validate(
        self, opened: Opened, now: float, noted: list[ProviderDeviation]
    ) -> Done[TokenResponse] | CibaError:
        return _validated(self.refresh, self.guarded, opened, now, noted)

    def rejected(self, broken: BrokenRule) -> CibaError:
        return tokens_rejected(broken, self.guarded)

    def keys_unavailable(self, reason: str) -> CibaError:
        return keys_unavailable(self.guarded, reason)


@frozen(weakref_slot=False)
class Refresh(TokenOperation[TokenResponse]):
    """New tokens for a refresh token (RFC 6749 6, OpenID Connect Core 12); the result is a `TokenResponse`.

    The result holds all that is valid from now on: the new refresh token or, if none came, the old one. Store
    it before you use the new access token. Never refresh the same tokens twice at the same time: where the
    provider rotates refresh tokens, the second request would look like theft. If an ID Token came, it was
    validated like the first one and compared with it; if none came, the last one is kept. What was granted is
    compared with what was asked for: see `TokenResponse.require_as_requested`.

    Errors: `InvalidGrant` when the refresh token is no longer good, `RefreshLost` when the answer was lost,
    `TokensRejected` and `KeysUnavailable` with the answer inside, `ProviderUnavailable`. The answer may have
    brought the next refresh token: store what `TokensRejected.kept` makes of the tokens, so that it is not
    lost.
    """

    tokens: TokenResponse = field(validator=check.a(TokenResponse))
    """The tokens to refresh; with their DPoP key, if they are bound to one."""
    scope: str | None = field(default=None, validator=check.text, kw_only=True)
    """A part of the scope that was granted at first, or ``None`` for all of it (RFC 6749 6)."""

    def _prepare(self, make: RequestMaker) -> HttpRequest | Draft | NotSigned:
        token = self.tokens.refresh_token
        if token is None:
            raise LocalProtocolError("tokens: there is no refresh token")
        check_bound(self.tokens)
        original = self.tokens.original_grant
        if original.id_token_claims is not None:
            missing = missing_claim(original.id_token_claims)
            if missing is not None:
                raise LocalProtocolError(f"tokens: the claims of the ID Token have no usable {missing}")
        parameters = [("grant_type", "refresh_token"), ("refresh_token", token.reveal())]
        if self.scope is not None:
            # The provider did not tell an empty scope: only the provider knows whether more is asked for.
            if original.scope and not set(self.scope.split(" ")) <= set(original.scope.split(" ")):
                raise LocalProtocolError("scope: more than was granted (RFC 6749 6)")
            parameters.append(("scope", self.scope))
        url = make.endpoint("token_endpoint")
        return make.form_post(Purpose.REFRESH, url, parameters, dpop_key=self.tokens.dpop_key)

    def _lost(self, reason: str) -> CibaError:
        return RefreshLost(
            "the answer to the refresh was lost; the refresh token may be used up", reason=reason
        )

    def _decode(
        self, response: HttpResponse, now: float, noted: list[ProviderDeviation]
    ) -> Done[TokenResponse] | CibaError | Unvalidated[TokenResponse]:
        answer = read_token_answer(
            response,
            client=self.client,
            requested_scope=self.tokens.original_grant.scope if self.scope is None else self.scope,
            dpop_key=self.tokens.dpop_key,
            now=now,
            noted=noted,
            id_token_optional=True,
        )
        assert not isinstance(answer, PendingCode)  # noqa: S101  # none were named; for the type checker
        match answer:
            case Guarded():
                id_token = id_token_of(answer, self.client)
                if id_token is None:
                    return _validated(self, answer, None, now, noted)
                return _RefreshedTokens(answer, id_token, self)
            case Unanswered(lost=True):
                return self._lost(answer.reason)
            case Unanswered():
                return unavailable("the provider cannot refresh tokens just now", response, now)
            case ErrorResponse() | RemoteProtocolError():
                return answer
            case _:
                assert_never(answer)


def _validated(
    refresh: Refresh,
    answer: Guarded[TokenResponse],
    opened: Opened | None,
    now: float,
    noted: list[ProviderDeviation],
) -> Done[TokenResponse] | CibaError:
    """Validate new tokens; `opened` is their ID Token, where there is one."""
    verdict = validate_refreshed(
        answer,
        opened,
        old=refresh.tokens,
        scope=refresh.scope,
        client=refresh.client,
        provider=refresh.provider,
        now=now,
        noted=noted,
    )
    return Done(verdict) if isinstance(verdict, TokenResponse) else verdict
