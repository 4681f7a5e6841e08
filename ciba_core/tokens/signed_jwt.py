"""JWTs of the provider: decrypted by the client's key, and verified by a key of the provider's (RFC 7515).

Here it is found out who made a JWT; what its claims say is for `signed_claims` to judge. No
message has anything of a token in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from attrs import define, field, frozen

from ciba_core.client.config import ClientConfig
from ciba_core.client.registered import EncryptionPolicy
from ciba_core.jose.algorithms import HMAC_ALGORITHMS, names_of
from ciba_core.jose.encryption import NotDecrypted, decrypt
from ciba_core.jose.key_import import Key, content_encryption_key, hmac_key
from ciba_core.jose.keys import KeySet
from ciba_core.jose.signing import MalformedJws, parse_jws, verify
from ciba_core.values.lenient import ProviderDeviation
from ciba_core.values.secret import Secret

__all__ = ["BrokenRule", "NoKey", "Opened", "SignedJwt", "decrypted"]

_CORE: Final = "OpenID Connect Core 3.1.3.7"
_KID: Final = "OpenID Connect Core 10.1: kid"
_MOST_TRIED: Final = 8
"""Keys under one ``kid``, or under none, that are tried; more is no key rotation any more."""


@frozen(weakref_slot=False)
class BrokenRule:
    """Why a JWT, or what it came with, must not be accepted."""

    message: str
    """What is wrong. The message contains nothing of the token."""
    rule: str
    """The rule and its source."""


@frozen(weakref_slot=False)
class NoKey:
    """No key of a key set made the signature. A newer key set may have one: see `KeySearch`."""


# Not frozen, though nothing changes it: it lives for one validation, and freezing costs time.
@define(weakref_slot=False, eq=False)
class Opened:
    """A JWT whose signature was verified; what it claims is still to be judged."""

    alg: str
    """The algorithm of the signature."""
    claims: dict[str, Any] = field(repr=False)
    deviation: ProviderDeviation | None = None
    """What deviates from the standard, where the key was found all the same."""


@define(weakref_slot=False, eq=False)
class SignedJwt:
    """A JWT as it came, and how the client registered that it is signed and encrypted."""

    name: str
    """The name of the JWT in error messages."""
    token: Secret
    alg: str
    """The algorithm that it has to be signed with."""
    encryption: EncryptionPolicy = field(repr=False)
    client: ClientConfig = field(repr=False)

    def without_key(self) -> BrokenRule:
        """Return what is wrong when the provider publishes no key that made the signature."""
        return BrokenRule(f"no key of the provider fits {self.name}", "OpenID Connect Core 10.1.1")

    def opened(self, keys: KeySet | None, *, conclusive: bool = False) -> Opened | BrokenRule | NoKey:
        """Decrypt the JWT where that was registered, and verify its signature.

        Of several keys that may have made the signature, those under the ``kid`` that the token names are all
        tried, up to eight. A token without ``kid`` is accepted only when there is just one; when that does
        not fit, the token may have been signed with a new one. `IdTokenPolicy.try_every_key` widens that.

        Args:
            keys: the provider's key set; ``None`` when it is not known, which is no matter for ``HS*``.
            conclusive: whether the key set was fetched after the token came: no other will have the key.

        """
        text = self.token.reveal()
        if len(text) > self.client.limits.string:
            return _too_long(self.client)
        if self.encryption.encrypted_response_alg is not None:
            plain = _plain_text(text, self.encryption, self.client)
            if isinstance(plain, BrokenRule):
                return plain
            text = plain
        jws = parse_jws(text, depth_limit=self.client.limits.json_depth)
        if isinstance(jws, MalformedJws):
            return BrokenRule(jws.reason, "RFC 7515 5.2")
        alg: Any = jws.header.get("alg")
        if alg != self.alg and alg not in names_of(self.alg):
            return BrokenRule(f"the token is not signed with {self.alg}", f"{_CORE} (7)")
        kid = jws.header.get("kid")
        if kid is not None and not isinstance(kid, str):
            return BrokenRule("kid is not a string", "RFC 7515 4.1.4")
        candidates: Sequence[Key]
        deviation: str | None = None
        if alg in HMAC_ALGORITHMS:
            key = hmac_key(_client_secret(self.client), alg)
            assert isinstance(key, Key)  # noqa: S101  # `ClientConfig` has seen to it that it is long enough
            candidates = (key,)
        else:
            candidates = () if keys is None else keys.candidates(kid, alg)
            every = self.client.id_token.try_every_key
            if kid is None and len(candidates) > 1:
                if not every:
                    message = "the token names no kid, and several keys fit"
                    return BrokenRule(message, "OpenID Connect Core 10.1")
                deviation = "no kid, and several keys fit; one of them made the signature"
            elif kid is not None and every and conclusive and keys is not None and not keys.bears(kid):
                candidates = keys.candidates(None, alg)
                deviation = "a kid that no key bears; another key made the signature"
            if not candidates:
                return NoKey()
        for key in candidates[:_MOST_TRIED]:
            if verify(jws, key, alg):
                noted = None if deviation is None else ProviderDeviation(_KID, deviation)
                return Opened(alg, jws.claims, noted)
        if deviation is not None or (kid is None and alg not in HMAC_ALGORITHMS):
            # The token names no kid: a key that is not known yet may have made the signature.
            return NoKey()
        return BrokenRule("the signature does not verify", f"{_CORE} (6)")


def decrypted(token: Secret, encryption: EncryptionPolicy, client: ClientConfig) -> str | BrokenRule:
    """Return what was encrypted for the client and not signed."""
    text = token.reveal()
    if len(text) > client.limits.string:
        return _too_long(client)
    return _plain_text(text, encryption, client)


def _too_long(client: ClientConfig) -> BrokenRule:
    return BrokenRule(f"the token is longer than {client.limits.string} characters", "size limit")


def _plain_text(text: str, encryption: EncryptionPolicy, client: ClientConfig) -> str | BrokenRule:
    # `EncryptionPolicy` checks that both are set or neither; the casts are for the type checker.
    alg, enc = cast("str", encryption.encrypted_response_alg), cast("str", encryption.encrypted_response_enc)
    if encryption.decryption_keys:
        keys = [candidate.key for candidate in encryption.decryption_keys]
    else:
        keys = [content_encryption_key(_client_secret(client), alg, enc)]
    plain = decrypt(text, keys, alg=alg, enc=enc, limit=client.limits.string)
    return BrokenRule(plain.reason, f"{_CORE} (1)") if isinstance(plain, NotDecrypted) else plain


def _client_secret(client: ClientConfig) -> str:
    # `ClientConfig` checks that a client whose algorithms need a secret has one.
    return cast("Secret", client.client_secret).reveal()
