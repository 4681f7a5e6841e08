"""Validation of ID Tokens (OpenID Connect Core 3.1.3.7, CIBA Core 10.3.1).

One pure function: `validate_id_token` gives the claims, or says that keys are needed, or raises the first
rule that is broken. Nothing of a token or of a claim gets into a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from attrs import define, field, frozen
from attrs.validators import optional

from ciba_core import _check, jose
from ciba_core._json import JsonFault, freeze_parsed, is_array_of, parse_object
from ciba_core.keys import DecryptionKey, KeySet
from ciba_core.limits import Limits
from ciba_core.polling import LONGEST
from ciba_core.secret import Secret

__all__ = [
    "ExpectedIdToken",
    "IdTokenError",
    "IdTokenPolicy",
    "KeysNeeded",
    "UserInfoPolicy",
    "subject_of",
    "validate_id_token",
    "validate_userinfo",
]

_CORE: Final = "OpenID Connect Core 3.1.3.7"
_USERINFO: Final = "OpenID Connect Core 5.3.2"
_SUBJECT: Final = "CIBA Core 7.1: id_token_hint; OpenID Connect Core 5.5.1: sub"
_AUTH_REQ_ID: Final = "urn:openid:params:jwt:claim:auth_req_id"
_RT_HASH: Final = "urn:openid:params:jwt:claim:rt_hash"
_MOST_TRIED: Final = 8
"""Keys under one ``kid`` that are tried; more is no key rotation any more."""
_A_DAY: float | None = 86400.0


class IdTokenError(ValueError):
    """An ID Token that must not be accepted; `rule` names the broken rule and its source."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.rule: Final = rule


def _one_of(names: tuple[str, ...]) -> Any:
    def check(_instance: Any, attribute: Any, value: Any) -> None:
        if value not in names:
            raise ValueError(f"{attribute.name} must be one of {', '.join(names)}")

    return check


def _check_keys(_instance: Any, attribute: Any, value: Any) -> None:
    if not is_array_of(value, DecryptionKey):
        raise TypeError(f"{attribute.name} must be DecryptionKey values")


@frozen(kw_only=True)
class _Encryption:
    """What the client registered for the encryption of what is sent to it."""

    encrypted_response_alg: str | None = field(
        default=None, validator=optional(_one_of(jose.KEY_MANAGEMENT_ALGORITHMS))
    )
    """Registered as ``id_token_encrypted_response_alg`` or ``userinfo_encrypted_response_alg``; ``None`` when
    nothing is encrypted. Once it is set, what is not encrypted is refused."""
    encrypted_response_enc: str | None = field(
        default=None,
        validator=optional(_one_of(jose.CONTENT_ENCRYPTIONS)),
    )
    """Registered as ``id_token_encrypted_response_enc`` or ``userinfo_encrypted_response_enc``;
    ``A128CBC-HS256`` by default where there is encryption."""
    decryption_keys: tuple[DecryptionKey, ...] = field(
        default=(), converter=_check.to_tuple, validator=_check_keys
    )
    """The client's private keys for ``RSA-OAEP*`` and ``ECDH-ES*``. Keep retired ones here for a while
    (OpenID Connect Core 10.2.1). For the other algorithms the client secret is the key."""

    def __attrs_post_init__(self) -> None:
        alg = self.encrypted_response_alg
        if alg is None and self.encrypted_response_enc is not None:
            raise ValueError("encrypted_response_enc needs encrypted_response_alg")
        if alg is not None and self.encrypted_response_enc is None:
            # OpenID Connect Dynamic Client Registration 2.
            object.__setattr__(self, "encrypted_response_enc", "A128CBC-HS256")
        if alg is not None and alg.startswith(("RSA", "ECDH")):
            if not any(key.fits(alg) for key in self.decryption_keys):
                raise ValueError(f"decryption_keys must have a key for {alg}")
        elif self.decryption_keys:
            raise ValueError("decryption_keys need an encrypted_response_alg that uses a key pair")

    def _needs_client_secret(self, signed_response_alg: str | None) -> bool:
        encrypted = self.encrypted_response_alg is not None and not self.decryption_keys
        return encrypted or signed_response_alg in jose.HMAC_ALGORITHMS


@frozen(kw_only=True)
class IdTokenPolicy(_Encryption):
    """What the client registered for its ID Tokens, and how their times are taken.

    The algorithms are those that the provider has to use: a token never chooses for itself.

    Raises:
        TypeError, ValueError: a value is unknown or out of range, or the values do not go together; the
            message names it.

    """

    signed_response_alg: str = field(default="RS256", validator=_one_of(jose.SIGNATURE_ALGORITHMS))
    """Registered as ``id_token_signed_response_alg``. ``EdDSA`` and ``Ed25519`` mean the same here. There is
    no way to accept unsigned tokens."""
    leeway: float = field(default=60.0, validator=_check.seconds(0, 300))
    """Seconds by which the clocks of provider and client may differ."""
    max_age: float | None = field(default=_A_DAY, validator=_check.seconds(0.001, LONGEST, or_none=True))
    """Seconds after which an ID Token is too old by its ``iat``, whatever its ``exp`` says; ``None`` for no
    such limit."""
    trusted_audiences: tuple[str, ...] = field(
        default=(), converter=_check.to_tuple, validator=_check.strings()
    )
    """Audiences besides the client itself that an ID Token may name."""
    forbid_unexpected_nonce: bool = field(default=False, validator=_check.flag)
    """Refuse a ``nonce`` claim where none was sent, as a strict reading of OpenID Connect Core 2 has it."""

    @property
    def needs_client_secret(self) -> bool:
        """Whether tokens are signed or encrypted with the client secret (OpenID Connect Core 10)."""
        return self._needs_client_secret(self.signed_response_alg)


@frozen(kw_only=True)
class UserInfoPolicy(_Encryption):
    """What the client registered for the answers of the UserInfo endpoint (OpenID Connect Core 5.3.2).

    The defaults are those of registration: plain JSON. Once something is registered, plain JSON is refused.

    Raises:
        TypeError, ValueError: a value is unknown or out of range, or the values do not go together; the
            message names it.

    """

    signed_response_alg: str | None = field(
        default=None, validator=optional(_one_of(jose.SIGNATURE_ALGORITHMS))
    )
    """Registered as ``userinfo_signed_response_alg``; ``None`` when answers are not signed."""

    @property
    def needs_client_secret(self) -> bool:
        """Whether answers are signed or encrypted with the client secret (OpenID Connect Core 10)."""
        return self._needs_client_secret(self.signed_response_alg)

    @property
    def is_plain(self) -> bool:
        """Whether neither signature nor encryption was registered."""
        return self.signed_response_alg is None and self.encrypted_response_alg is None


# Not frozen, though nothing changes it: it lives for one validation, and freezing costs time.
@define(kw_only=True, eq=False, weakref_slot=False)
class ExpectedIdToken:
    """What an ID Token is compared with: the parties, what was asked for, and what came along with it."""

    issuer: str
    client_id: str
    access_token: Secret
    client_secret: Secret | None = None
    nonce: Secret | None = None
    """The one that was sent; ``None`` when none was, as is normal in CIBA."""
    acr_values: tuple[str, ...] = ()
    """Those of which the token must have one, if `acr_required`; any one, when there are none."""
    acr_required: bool = False
    """Whether ``acr`` was an essential claim. One that was requested voluntarily is not checked."""
    max_authentication_age: float | None = None
    """Seconds since ``auth_time``, when a ``max_age`` was sent; the claim is then demanded."""
    auth_time_required: bool = False
    """Whether ``auth_time`` was an essential claim."""
    subject: Secret | None = None
    """The ``sub`` that was asked for: that of an ID Token which was sent as a hint, or of ``claims``."""
    auth_req_id: Secret | None = None
    """The transaction's; ``None`` after a refresh."""
    refresh_token: Secret | None = None
    push: bool = False
    """Whether the token was pushed, so that it has to vouch for what it came with (CIBA Core 10.3.1)."""


@frozen
class KeysNeeded:
    """No key at hand made the signature; a new one may have. `ciba_core.key_search` says what to do."""


def validate_id_token(
    token: Secret,
    *,
    policy: IdTokenPolicy,
    expected: ExpectedIdToken,
    keys: KeySet | None,
    now: float,
    limits: Limits,
) -> Mapping[str, Any] | KeysNeeded:
    """Validate an ID Token and return its claims, read-only.

    Of several keys that may have made the signature, those under the ``kid`` that the token names are all
    tried, up to eight. A token without ``kid`` is accepted only when there is just one; when that does not
    fit, the token may have been signed with a new one.

    Args:
        token: the ID Token.
        policy: what was registered.
        expected: what the claims are compared with.
        keys: the provider's key set; ``None`` when it is not known, which is no matter for ``HS*``.
        now: POSIX seconds.
        limits: bounds on the length of the token and the depth of the JSON in it.

    Returns:
        The claims; or `KeysNeeded` when the set is not known or has no key that may have made the signature.

    Raises:
        IdTokenError: the token breaks a rule.

    """
    opened = _opened(
        token, policy, policy.signed_response_alg, expected.client_secret, keys=keys, limits=limits
    )
    if isinstance(opened, KeysNeeded):
        return opened
    alg, claims = opened
    _check_parties(claims, alg, policy, expected)
    _check_times(claims, policy, expected, now)
    _check_request(claims, policy, expected)
    _check_binding(claims, alg, expected)
    return freeze_parsed(claims)


def validate_userinfo(
    token: Secret,
    *,
    policy: UserInfoPolicy,
    issuer: str,
    client_id: str,
    client_secret: Secret | None,
    keys: KeySet | None,
    now: float,
    leeway: float,
    limits: Limits,
) -> Mapping[str, Any] | KeysNeeded:
    """Validate an ``application/jwt`` answer of the UserInfo endpoint (OpenID Connect Core 5.3.2 and 5.3.4).

    Args:
        token: the answer: signed, encrypted or both, as was registered. One of them was.
        policy: what was registered.
        issuer: the provider's, which ``iss`` has to be.
        client_id: the client's, which ``aud`` has to be or have.
        client_secret: where the algorithms need it.
        keys: the provider's key set; ``None`` when it is not known.
        now: POSIX seconds.
        leeway: seconds by which the clocks of provider and client may differ.
        limits: bounds on the length of the answer and the depth of the JSON in it.

    Returns:
        The claims, read-only; or `KeysNeeded`, as `validate_id_token` returns it.

    Raises:
        IdTokenError: the answer breaks a rule.

    """
    if policy.signed_response_alg is None:
        plain = _decrypted(_bounded(token, limits), policy, client_secret, limits)
        members = parse_object(plain.encode(), depth_limit=limits.json_depth)
        if isinstance(members, JsonFault):
            raise IdTokenError(f"the decrypted answer is {members.value}", _USERINFO)
        return freeze_parsed(members)
    opened = _opened(token, policy, policy.signed_response_alg, client_secret, keys=keys, limits=limits)
    if isinstance(opened, KeysNeeded):
        return opened
    _, claims = opened
    if claims.get("iss") != issuer:
        raise IdTokenError("iss is not the issuer", f"{_USERINFO}: iss")
    aud: Any = claims.get("aud")
    if aud != client_id and not (is_array_of(aud, str) and client_id in aud):
        raise IdTokenError("aud does not have the client", f"{_USERINFO}: aud")
    # Neither has to be there; where one is, it holds.
    if "exp" in claims and now >= _number(claims, "exp", "RFC 7519 4.1.4") + leeway:
        raise IdTokenError("the answer has expired", "RFC 7519 4.1.4: exp")
    if "nbf" in claims and _number(claims, "nbf", "RFC 7519 4.1.5") > now + leeway:
        raise IdTokenError("the answer is not valid yet", "RFC 7519 4.1.5: nbf")
    return freeze_parsed(claims)


def _opened(
    token: Secret,
    policy: _Encryption,
    registered: str,
    client_secret: Secret | None,
    *,
    keys: KeySet | None,
    limits: Limits,
) -> tuple[str, dict[str, Any]] | KeysNeeded:
    """Decrypt a token where that was registered, verify its signature, and return its ``alg`` and claims."""
    text = _bounded(token, limits)
    if policy.encrypted_response_alg is not None:
        text = _decrypted(text, policy, client_secret, limits)
    jws = _parsed(text, limits)
    alg = jws.header.get("alg", "")
    if alg not in jose.names_of(registered):
        raise IdTokenError(f"the token is not signed with {registered}", f"{_CORE} (7)")
    kid = jws.header.get("kid")
    if not isinstance(kid, (str, type(None))):
        raise IdTokenError("kid is not a string", "RFC 7515 4.1.4")
    if alg in jose.HMAC_ALGORITHMS:
        candidates: tuple[jose.Key, ...] = (_hmac_key(alg, client_secret),)
    else:
        candidates = () if keys is None else keys.candidates(kid, alg)
        if not candidates:
            return KeysNeeded()
        if kid is None and len(candidates) > 1:
            raise IdTokenError("the token names no kid, and several keys fit", "OpenID Connect Core 10.1")
    for key in candidates[:_MOST_TRIED]:
        if jose.verify(jws, key, alg):
            return alg, jws.claims
    if kid is None and alg not in jose.HMAC_ALGORITHMS:
        # Without a name nobody can tell whether it was made with a key that is new.
        return KeysNeeded()
    raise IdTokenError("the signature does not verify", f"{_CORE} (6)")


def _bounded(token: Secret, limits: Limits) -> str:
    text = token.reveal()
    if len(text) > limits.string:
        raise IdTokenError(f"the token is longer than {limits.string} characters", "size limit")
    return text


def _decrypted(text: str, policy: _Encryption, client_secret: Secret | None, limits: Limits) -> str:
    # Typed: both are set, or neither.
    alg, enc = cast("str", policy.encrypted_response_alg), cast("str", policy.encrypted_response_enc)
    rule = f"{_CORE} (1)"
    if policy.decryption_keys:
        keys = [candidate.key for candidate in policy.decryption_keys]
    elif client_secret is None:
        raise IdTokenError(f"{alg} needs a client secret", rule)
    else:
        keys = [jose.content_encryption_key(client_secret.reveal(), alg, enc)]
    try:
        return jose.decrypt(text, keys, alg=alg, enc=enc, limit=limits.string)
    except jose.JoseError as problem:
        message = str(problem)
    raise IdTokenError(message, rule)


def _parsed(text: str, limits: Limits) -> jose.Jws:
    try:
        return jose.parse_jws(text, depth_limit=limits.json_depth)
    except jose.JoseError as problem:
        message = str(problem)
    raise IdTokenError(message, "RFC 7515 5.2")


def _hmac_key(alg: str, client_secret: Secret | None) -> jose.Key:
    rule = f"{_CORE} (8)"
    if client_secret is None:
        raise IdTokenError(f"{alg} needs a client secret", rule)
    try:
        return jose.hmac_key(client_secret.reveal(), alg)
    except jose.JoseError as problem:
        message = str(problem)
    raise IdTokenError(message, rule)


def _check_parties(
    claims: Mapping[str, Any], alg: str, policy: IdTokenPolicy, expected: ExpectedIdToken
) -> None:
    if claims.get("iss") != expected.issuer:
        raise IdTokenError("iss is not the issuer", f"{_CORE} (2): iss")
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= 255 or not sub.isascii():
        raise IdTokenError("sub is not a string of 1 to 255 ASCII characters", "OpenID Connect Core 2: sub")
    if expected.subject is not None and Secret(sub) != expected.subject:
        raise IdTokenError("sub is not the one that was asked for", _SUBJECT)
    if claims.get("aud") != expected.client_id:
        _check_audiences(claims.get("aud"), alg, policy, expected)
    if "azp" in claims and claims["azp"] != expected.client_id:
        raise IdTokenError("azp is not the client", f"{_CORE} (5): azp")


def _check_audiences(aud: Any, alg: str, policy: IdTokenPolicy, expected: ExpectedIdToken) -> None:
    audiences: Any = [aud] if isinstance(aud, str) else aud
    if not is_array_of(audiences, str):
        raise IdTokenError("aud is neither a string nor an array of strings", "OpenID Connect Core 2: aud")
    if expected.client_id not in audiences:
        raise IdTokenError("aud does not have the client", f"{_CORE} (3): aud")
    if not {expected.client_id, *policy.trusted_audiences}.issuperset(audiences):
        raise IdTokenError("aud has an audience that is not trusted", f"{_CORE} (3): aud")
    if alg in jose.HMAC_ALGORITHMS and len(audiences) != 1:
        raise IdTokenError(f"{alg} with several audiences is undefined", f"{_CORE} (8): aud")


def _number(claims: Mapping[str, Any], name: str, rule: str) -> float:
    value = claims.get(name)
    # JSON's true is no 1; the parser lets no infinities in.
    if type(value) is int or type(value) is float:
        return value
    raise IdTokenError(f"{name} is {'not a number' if name in claims else 'missing'}", f"{rule}: {name}")


def _check_times(
    claims: Mapping[str, Any], policy: IdTokenPolicy, expected: ExpectedIdToken, now: float
) -> None:
    leeway = policy.leeway
    if now >= _number(claims, "exp", "OpenID Connect Core 2") + leeway:
        raise IdTokenError("the token has expired", f"{_CORE} (9): exp")
    iat = _number(claims, "iat", "OpenID Connect Core 2")
    if iat > now + leeway:
        raise IdTokenError("iat is in the future", f"{_CORE} (10): iat")
    if policy.max_age is not None and iat < now - policy.max_age - leeway:
        raise IdTokenError("the token was issued too long ago", f"{_CORE} (10): iat")
    if "nbf" in claims and _number(claims, "nbf", "RFC 7519 4.1.5") > now + leeway:
        raise IdTokenError("the token is not valid yet", "RFC 7519 4.1.5: nbf")
    oldest = expected.max_authentication_age
    if oldest is not None or expected.auth_time_required or "auth_time" in claims:
        auth_time = _number(claims, "auth_time", "OpenID Connect Core 3.1.3.7 (13)")
        if auth_time > now + leeway:
            raise IdTokenError("auth_time is in the future", f"{_CORE} (13): auth_time")
        if oldest is not None and auth_time < now - oldest - leeway:
            raise IdTokenError("the user authenticated too long ago", f"{_CORE} (13): auth_time")


def _check_request(claims: Mapping[str, Any], policy: IdTokenPolicy, expected: ExpectedIdToken) -> None:
    if expected.nonce is not None:
        if not _same(claims.get("nonce"), expected.nonce):
            raise IdTokenError("nonce is not the one that was sent", f"{_CORE} (11): nonce")
    elif policy.forbid_unexpected_nonce and "nonce" in claims:
        raise IdTokenError("nonce is there, but none was sent", "OpenID Connect Core 2: nonce")
    if expected.acr_required:
        acr = claims.get("acr")
        if not isinstance(acr, str):
            raise IdTokenError("acr is missing or not a string", f"{_CORE} (12): acr")
        if expected.acr_values and acr not in expected.acr_values:
            raise IdTokenError("acr is not one of those that were asked for", f"{_CORE} (12): acr")


def _same(claim: object, expected: Secret | None) -> bool:
    return isinstance(claim, str) and Secret(claim) == expected


def _check_binding(claims: Mapping[str, Any], alg: str, expected: ExpectedIdToken) -> None:
    """Check that the token belongs with what it came with (CIBA Core 10.3.1).

    A pushed token has to vouch for all of it. One from the token endpoint need not, but what it says has to
    be right, as far as there is something to compare with: a refresh may leave the refresh token out.
    """
    push, given = expected.push, expected.auth_req_id
    if (push or (given is not None and _AUTH_REQ_ID in claims)) and not _same(
        claims.get(_AUTH_REQ_ID), given
    ):
        raise IdTokenError("auth_req_id is missing or wrong", "CIBA Core 10.3.1: auth_req_id")
    if (push or "at_hash" in claims) and claims.get("at_hash") != _half_hash(alg, expected.access_token):
        raise IdTokenError("at_hash is missing or wrong", "OpenID Connect Core 3.1.3.6: at_hash")
    given = expected.refresh_token
    if given is not None and (push or _RT_HASH in claims) and claims.get(_RT_HASH) != _half_hash(alg, given):
        raise IdTokenError("rt_hash is missing or wrong", "CIBA Core 10.3.1: rt_hash")
    if given is None and push and _RT_HASH in claims:
        # Somebody took the refresh token out on the way.
        raise IdTokenError("rt_hash is there, but no refresh token", "CIBA Core 10.3.1: rt_hash")


def _half_hash(alg: str, token: Secret) -> str:
    return jose.half_hash(alg, token.reveal())


_HINT_DEPTH: Final = 32


def subject_of(token: Secret) -> str | None:
    """Return the ``sub`` of an ID Token that is to be sent as a hint, or ``None`` when it cannot be read.

    Nothing is verified: the hint is the caller's own. Encrypted and opaque ones cannot be read.
    """
    try:
        sub = jose.parse_jws(token.reveal(), depth_limit=_HINT_DEPTH).claims.get("sub")
    except jose.JoseError:
        return None
    return sub if isinstance(sub, str) else None
