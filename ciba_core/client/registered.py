"""What the client registered for the tokens that vouch for its users: how they are signed and encrypted."""

from __future__ import annotations

from typing import Any, Final

from attrs import field, frozen
from attrs.validators import optional

from ciba_core.client.polling import LONGEST
from ciba_core.jose.algorithms import (
    CONTENT_ENCRYPTIONS,
    HMAC_ALGORITHMS,
    KEY_MANAGEMENT_ALGORITHMS,
    SIGNATURE_ALGORITHMS,
)
from ciba_core.jose.keys import DecryptionKey
from ciba_core.values import check
from ciba_core.values.json import is_array_of

__all__ = ["EncryptionPolicy", "IdTokenPolicy", "UserInfoPolicy"]

_A_DAY: Final = 86400.0


def _to_keys(value: list[DecryptionKey] | tuple[DecryptionKey, ...]) -> tuple[DecryptionKey, ...]:
    return tuple(value) if isinstance(value, list) else value


def _check_keys(_instance: Any, attribute: Any, value: Any) -> None:
    if not is_array_of(value, DecryptionKey):
        raise TypeError(f"{attribute.name} must be DecryptionKey values")


_SOFT: Final = ("auth_time", "azp", "nonce")


def _check_soft(instance: Any, attribute: Any, value: Any) -> None:
    check.strings()(instance, attribute, value)
    others = sorted(set(value).difference(_SOFT))
    if others:
        raise ValueError(f"{attribute.name} must be of {', '.join(_SOFT)}")


@frozen(kw_only=True)
class EncryptionPolicy:
    """What the client registered for the encryption of what is sent to it."""

    encrypted_response_alg: str | None = field(
        default=None, validator=optional(check.one_of(KEY_MANAGEMENT_ALGORITHMS))
    )
    """Registered as ``id_token_encrypted_response_alg`` or ``userinfo_encrypted_response_alg``; ``None`` when
    nothing is encrypted. Once it is set, what is not encrypted is refused."""
    encrypted_response_enc: str | None = field(
        default=None,
        validator=optional(check.one_of(CONTENT_ENCRYPTIONS)),
    )
    """Registered as ``id_token_encrypted_response_enc`` or ``userinfo_encrypted_response_enc``;
    ``A128CBC-HS256`` by default where there is encryption."""
    decryption_keys: tuple[DecryptionKey, ...] = field(default=(), converter=_to_keys, validator=_check_keys)
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
        return encrypted or signed_response_alg in HMAC_ALGORITHMS


@frozen(kw_only=True)
class IdTokenPolicy(EncryptionPolicy):
    """What the client registered for its ID Tokens, and how their times are taken.

    The algorithms are those that the provider has to use: a token never chooses for itself.

    Raises:
        TypeError, ValueError: a value is unknown or out of range, or the values do not go together; the
            message names it.

    """

    signed_response_alg: str = field(default="RS256", validator=check.one_of(SIGNATURE_ALGORITHMS))
    """Registered as ``id_token_signed_response_alg``. ``EdDSA`` and ``Ed25519`` mean the same here. There is
    no way to accept unsigned tokens."""
    leeway: float = field(default=60.0, validator=check.seconds(0, 300))
    """Seconds by which the clocks of provider and client may differ."""
    max_age: float | None = field(default=_A_DAY, validator=check.seconds(0.001, LONGEST, or_none=True))
    """Seconds after which an ID Token is too old by its ``iat``, whatever its ``exp`` says; ``None`` for no
    such limit."""
    trusted_audiences: tuple[str, ...] = field(
        default=(), converter=check.to_strings, validator=check.strings()
    )
    """Audiences besides the client itself that an ID Token may name."""
    forbid_unexpected_nonce: bool = field(default=False, validator=check.flag)
    """Refuse a ``nonce`` claim where none was sent, as a strict reading of OpenID Connect Core 2 has it."""
    try_every_key: bool = field(default=False, validator=check.flag)
    """Try each key of the provider that fits by its type, ``use``, ``key_ops`` and ``alg``, up to eight,
    where a token names no ``kid`` and several fit, or names one that no key bears, even in a key set that was
    fetched after the token came. Such a token is refused otherwise (OpenID Connect Core 10.1). It holds for
    signed UserInfo as well."""
    may_differ_after_refresh: tuple[str, ...] = field(
        default=(), converter=check.to_strings, validator=_check_soft
    )
    """Claims that may be others in the ID Token of a refresh than in the first one, of ``auth_time``, ``azp``
    and ``nonce``: some providers set them anew, though OpenID Connect Core 12.2 forbids it. ``iss``, ``sub``
    and ``aud`` have to stay whatever is set here: they say whose the tokens are. The first ID Token stays the
    one that later ones are compared with."""

    @property
    def needs_client_secret(self) -> bool:
        """Whether tokens are signed or encrypted with the client secret (OpenID Connect Core 10)."""
        return self._needs_client_secret(self.signed_response_alg)


@frozen(kw_only=True)
class UserInfoPolicy(EncryptionPolicy):
    """What the client registered for the answers of the UserInfo endpoint (OpenID Connect Core 5.3.2).

    The defaults are those of registration: plain JSON. Once something is registered, plain JSON is refused.

    Raises:
        TypeError, ValueError: a value is unknown or out of range, or the values do not go together; the
            message names it.

    """

    signed_response_alg: str | None = field(
        default=None, validator=optional(check.one_of(SIGNATURE_ALGORITHMS))
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
