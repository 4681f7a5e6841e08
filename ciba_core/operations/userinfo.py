"""Asking for claims about the user (OpenID Connect Core 5.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from ciba_core.jose.unsigned_jwt import NotSigned
from ciba_core.operations.operation import Done
from ciba_core.operations.token_operation import TokenOperation, Unvalidated, check_bound
from ciba_core.provider.answers import (
    Members,
    NotNow,
    TooLarge,
    Unusable,
    Usable,
    challenge,
    is_redirect,
    note_success,
    read_answer,
    unavailable,
    violation,
)
from ciba_core.provider.draft import Draft
from ciba_core.provider.requests import RequestMaker
from ciba_core.tokens.issued import TokenResponse
from ciba_core.tokens.response import expected_token_type
from ciba_core.tokens.signed_claims import read_encrypted_userinfo, validate_userinfo
from ciba_core.tokens.signed_jwt import BrokenRule, Opened, SignedJwt
from ciba_core.values import check
from ciba_core.values.errors import (
    ERROR_CLASSES,
    CibaError,
    Endpoint,
    ErrorResponse,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
)
from ciba_core.values.http import HttpRequest, HttpResponse, Purpose
from ciba_core.values.json import FrozenMapping, JsonFault
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Secret

__all__ = ["UserInfo"]


_CLAIMS: Final = "OpenID Connect Core 5.3.2"
# Tokens of a provider passed this check when they came. A caller can also bring tokens of other origin.
_CREDENTIALS: Final = re.compile(r"[\x21-\x7e]+")


@frozen(repr=False, weakref_slot=False)
class _SignedClaims:
    jwt: SignedJwt
    userinfo: UserInfo

    def validate(
        self, opened: Opened, now: float, noted: list[ProviderDeviation]
    ) -> Done[Mapping[str, Any]] | CibaError:
        client, issuer = self.userinfo.client, self.userinfo.provider.token_issuer
        claims = validate_userinfo(opened, issuer=issuer, client=client, now=now, noted=noted)
        return _broken(claims) if isinstance(claims, BrokenRule) else _same_user(self.userinfo.tokens, claims)

    def rejected(self, broken: BrokenRule) -> CibaError:
        return _broken(broken)

    def keys_unavailable(self, reason: str) -> CibaError:
        return TransportError("the keys to validate the claims could not be had", reason=reason)


@frozen(weakref_slot=False)
class UserInfo(TokenOperation[Mapping[str, Any]]):
    """Claims about the user (OpenID Connect Core 5.3); the result is a read-only mapping.

    The ``sub`` in it is that of the ID Token; claims with another one are an error. `ClientConfig.userinfo`
    says whether the answer has to be signed. Errors: `InvalidToken`, `InsufficientScope`,
    `RemoteProtocolError`, `TransportError`. It can be repeated.
    """

    tokens: TokenResponse = field(validator=check.a(TokenResponse))
    """Tokens with the claims of an ID Token; and with their DPoP key, if they are bound to one."""

    def _prepare(self, make: RequestMaker) -> HttpRequest | Draft | NotSigned:
        if not isinstance((self.tokens.id_token_claims or {}).get("sub"), str):
            raise LocalProtocolError("tokens: without an ID Token, nobody can tell whose claims would come")
        check_bound(self.tokens)
        if not _CREDENTIALS.fullmatch(self.tokens.access_token.reveal()):
            raise LocalProtocolError("tokens: access_token cannot stand in a header field (RFC 6750 2.1)")
        accept = "application/json" if self.client.userinfo.is_plain else "application/jwt"
        return make.resource(
            Purpose.USERINFO,
            make.endpoint("userinfo_endpoint"),
            accept,
            self.tokens.access_token,
            self.tokens.dpop_key,
        )

    def _lost(self, reason: str) -> CibaError:
        return TransportError("the claims were lost on the way; they can be asked for again", reason=reason)

    def _decode(
        self, response: HttpResponse, now: float, noted: list[ProviderDeviation]
    ) -> Done[Mapping[str, Any]] | CibaError | Unvalidated[Mapping[str, Any]]:
        endpoint = Endpoint.USERINFO
        answer = read_answer(
            response,
            client=self.client,
            endpoint=endpoint,
            now=now,
            noted=noted,
            told=self._told,
            check=self._check,
        )
        match answer:
            case ErrorResponse() | RemoteProtocolError():
                return answer
            case TooLarge(reason):
                return violation(endpoint, reason, "size limit")
            case NotNow():
                return unavailable("the provider cannot tell claims just now", response, now)
            case Unusable(broken):
                return broken
            case Usable() if not self.client.userinfo.is_plain:
                return self._from_jwt(response)
            case _:
                assert isinstance(answer, Usable)  # noqa: S101  # nothing is pending; for the type checker
                assert not isinstance(answer.members, JsonFault)  # noqa: S101  # see `_check`
                return _same_user(self.tokens, FrozenMapping(answer.members))

    def _from_jwt(
        self, response: HttpResponse
    ) -> Done[Mapping[str, Any]] | CibaError | Unvalidated[Mapping[str, Any]]:
        # A JWT is ASCII. Any other octet becomes U+FFFD, which makes the JWT invalid.
        token, policy = Secret(response.body.decode("ascii", "replace").strip()), self.client.userinfo
        if policy.signed_response_alg is not None:
            jwt = SignedJwt("the answer", token, policy.signed_response_alg, policy, self.client)
            return _SignedClaims(jwt, self)
        claims = read_encrypted_userinfo(token, client=self.client)
        return _broken(claims) if isinstance(claims, BrokenRule) else _same_user(self.tokens, claims)

    def _told(self, members: Members | JsonFault, response: HttpResponse) -> Members | None:
        """Find the error: in a challenge, as it should be, or in the body."""
        if response.is_success:
            # An "error" in a successful answer is a claim of that name.
            return None
        told: Members | None = challenge(response, expected_token_type(self.tokens.dpop_key))
        if told is None and not is_redirect(response) and not isinstance(members, JsonFault):
            told = members if members.get("error") in _TOLD else None
        if told is None and response.status == 401:
            # The provider names no error. A UserInfo request has nothing but the access token that 401
            # could mean.
            told = {"error": "invalid_token"}
        return told

    def _check(
        self,
        members: Members | JsonFault,
        response: HttpResponse,
        endpoint: Endpoint,
        noted: list[ProviderDeviation],
    ) -> RemoteProtocolError | None:
        """Say what is wrong with an answer that is to have the claims, in the form that was registered."""
        if not response.is_success:
            return violation(endpoint, f"status {response.status} without an error code", "RFC 6750 3")
        if not self.client.userinfo.is_plain:
            if response.media_type != "application/jwt":
                return violation(
                    endpoint, "the answer is not application/jwt, as was registered", f"{_CLAIMS}, 5.3.4"
                )
            return None
        if isinstance(members, JsonFault):
            return violation(endpoint, f"the answer is {members.value}", _CLAIMS)
        note_success(response, noted)
        return None


# Error codes that are read from the body too, although they belong in a challenge (RFC 6750 3).
_TOLD: Final = (*ERROR_CLASSES[Endpoint.USERINFO], "use_dpop_nonce")


def _same_user(
    tokens: TokenResponse, claims: Mapping[str, Any]
) -> Done[Mapping[str, Any]] | RemoteProtocolError:
    """Accept the claims of the ID Token's user only (OpenID Connect Core 5.3.2 and 16.11)."""
    user = tokens.id_token_claims
    if user is None or claims.get("sub") != user.get("sub"):
        return violation(Endpoint.USERINFO, "sub is not that of the ID Token", f"{_CLAIMS}: sub")
    return Done(claims)


def _broken(broken: BrokenRule) -> RemoteProtocolError:
    return violation(Endpoint.USERINFO, broken.message, broken.rule)
