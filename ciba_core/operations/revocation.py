"""Revoking a token (RFC 7009)."""

from __future__ import annotations

from typing import Literal, Self

from attrs import field, frozen
from attrs.validators import in_, optional

from ciba_core.client.config import ClientConfig
from ciba_core.jose.unsigned_jwt import NotSigned
from ciba_core.operations.operation import Done
from ciba_core.operations.token_operation import TokenOperation
from ciba_core.provider.answers import (
    Members,
    NotNow,
    TooLarge,
    Unusable,
    read_answer,
    unavailable,
    violation,
)
from ciba_core.provider.draft import Draft
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.provider.requests import RequestMaker
from ciba_core.tokens.issued import TokenResponse
from ciba_core.values import check
from ciba_core.values.errors import (
    CibaError,
    Endpoint,
    ErrorResponse,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
)
from ciba_core.values.http import HttpRequest, HttpResponse, Purpose
from ciba_core.values.json import JsonFault
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Guarded, Secret

__all__ = ["Revocation"]


@frozen(weakref_slot=False)
class Revocation(TokenOperation[None]):
    """Ends the validity of a token (RFC 7009). There is no result: without an error, it is done.

    It is done, too, if the provider does not know the token. With a refresh token, most providers revoke its
    access tokens as well (RFC 7009 2.1). Errors: `UnsupportedTokenType`; `ProviderUnavailable`, after which
    the token is still good; `TransportError`. A revocation can be repeated.
    """

    token: Secret = field(validator=check.a(Secret))
    token_type_hint: Literal["access_token", "refresh_token"] | None = field(
        default=None, validator=optional(in_(("access_token", "refresh_token"))), kw_only=True
    )

    @classmethod
    def of(
        cls,
        tokens: TokenResponse | Guarded[TokenResponse],
        *,
        client: ClientConfig,
        provider: ProviderMetadata,
    ) -> Self:
        """Return the operation that revokes the refresh token or, where there is none, the access token.

        For tokens that are needed no longer, and for `TokensRejected.untrusted` and
        `KeysUnavailable.untrusted`.
        """
        answer = tokens.reveal_untrusted() if isinstance(tokens, Guarded) else tokens
        refresh = answer.refresh_token
        return cls(
            answer.access_token if refresh is None else refresh,
            token_type_hint="access_token" if refresh is None else "refresh_token",
            client=client,
            provider=provider,
        )

    def _prepare(self, make: RequestMaker) -> HttpRequest | Draft | NotSigned:
        methods, method = (
            self.provider.revocation_endpoint_auth_methods_supported,
            self.client.authentication.method,
        )
        if methods is not None and method not in methods:
            raise LocalProtocolError(
                f"authentication: the provider does not support {method!r} "
                "(revocation_endpoint_auth_methods_supported)"
            )
        parameters = [("token", self.token.reveal())]
        if self.token_type_hint is not None:
            parameters.append(("token_type_hint", self.token_type_hint))
        return make.form_post(Purpose.REVOCATION, make.endpoint("revocation_endpoint"), parameters)

    def _lost(self, reason: str) -> CibaError:
        return TransportError("the answer to the revocation was lost; it can be repeated", reason=reason)

    def _decode(
        self, response: HttpResponse, now: float, noted: list[ProviderDeviation]
    ) -> Done[None] | CibaError:
        if response.status in (200, 204):
            # The status is enough: "the content of the response body is ignored" (RFC 7009 2.2).
            return Done(None)
        endpoint = Endpoint.REVOCATION
        answer = read_answer(
            response, client=self.client, endpoint=endpoint, now=now, noted=noted, check=_no_success
        )
        match answer:
            case ErrorResponse() | RemoteProtocolError():
                return answer
            case TooLarge(reason):
                return violation(endpoint, reason, "size limit")
            case NotNow():
                return unavailable("the provider cannot revoke tokens just now", response, now)
            case _:
                assert isinstance(answer, Unusable)  # noqa: S101  # see `_no_success`; for the type checker
                return answer.broken


def _no_success(
    _members: Members | JsonFault,
    response: HttpResponse,
    endpoint: Endpoint,
    _noted: list[ProviderDeviation],
) -> RemoteProtocolError:
    return violation(endpoint, f"status {response.status} without an error code", "RFC 7009 2.2")
