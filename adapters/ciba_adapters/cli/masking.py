"""Masks the secrets of one authentication in all output, even if the provider repeats them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from ciba_core import Guarded, Secret, TokenResponse, Transaction

__all__ = ["MASK", "Masking", "only_secrets"]

MASK: Final = "***"
_SHORTEST: Final = 4
"""Least characters of a secret to mask. Shorter ones are part of many words, and protect nothing."""
_LONG: Final = 8
"""Least characters of a secret to mask within words as well. A shorter one, such as a user code, can be part
of a telephone number."""


_SECRET_NAME: Final = re.compile(
    r"(?:.*[^a-z])?(?:token|secret|password|passcode|key|assertion|ticket|credential|code|otp|jwt|nonce)s?",
    re.IGNORECASE | re.DOTALL,
)
"""Endings of member names whose value is always a secret."""
_UNGUESSABLE: Final = re.compile(
    r"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[\w.~+/=-]{20,}|(?=.*[0-9])(?:[0-9a-z]{20,}|[0-9A-Z]{20,})", re.ASCII
)
"""Texts that look like a token, under any name."""


def only_secrets(name: str, value: Any) -> Any:
    """Return an unknown member with its value masked if its name or its look makes it a secret."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if _SECRET_NAME.fullmatch(name):
        return MASK
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return {inner: only_secrets(inner, member) for inner, member in members.items()}
    if isinstance(value, (list, tuple)):
        return [only_secrets("", item) for item in cast("list[Any]", value)]
    return MASK if _UNGUESSABLE.fullmatch(value) else value


class Masking:
    """Masks the secrets that are known so far in texts from outside.

    Args:
        secrets: the secrets that are known from the start.

    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = set(secrets)
        self._tokens: set[str] = set()

    def learn(self, transaction: Transaction) -> None:
        """Take note of the secrets of a transaction as it is now."""
        state = transaction.state
        auth_req_id = getattr(state, "auth_req_id", None)
        self._secrets.update(_revealed(transaction.client_notification_token, auth_req_id))
        for holder in (state, transaction.error):
            untrusted = getattr(holder, "untrusted", None)
            if isinstance(untrusted, Guarded):
                self._learn_tokens(cast("Guarded[TokenResponse]", untrusted).reveal_untrusted())
        if transaction.tokens is not None:
            self._learn_tokens(transaction.tokens)

    def _learn_tokens(self, tokens: TokenResponse) -> None:
        self._tokens.update(_revealed(tokens.access_token, tokens.refresh_token, tokens.id_token))

    def masked(self, value: Any, *, show_tokens: bool = False) -> Any:
        """Return JSON with the secrets masked wherever they are in its strings, names of members included."""
        return _masked(value, _pattern(self._secrets if show_tokens else self._secrets | self._tokens))


def _revealed(*secrets: Secret | None) -> Iterator[str]:
    return (secret.reveal() for secret in secrets if secret is not None)


def _pattern(secrets: Collection[str]) -> re.Pattern[str]:
    # Longer ones first: one can be a part of another.
    known = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)
    quoted = ((len(secret) >= _LONG, re.escape(secret)) for secret in known)
    patterns = (secret if long else rf"(?<!\w){secret}(?!\w)" for long, secret in quoted)
    return re.compile("|".join(patterns) or "(?!)")


def _masked(value: Any, secrets: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return secrets.sub(MASK, value)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return {_masked(name, secrets): _masked(member, secrets) for name, member in members.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item, secrets) for item in cast("list[Any]", value)]
    return value
