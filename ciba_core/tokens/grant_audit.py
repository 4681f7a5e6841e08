"""What was granted, beside what was requested (RFC 6749 3.3, RFC 9396 7, OpenID Connect Core 5.5.1.1).

A provider may grant less, more or something else, and what it granted counts. An application that acts on
what it requested has to look.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Protocol

from attrs import field, frozen

from ciba_core.client.claims import Found, found, told_apart
from ciba_core.client.request import Requested

__all__ = ["NOT_AUDITED", "GrantAudit", "GrantedItem", "Verdict", "audit_grant"]


class Verdict(enum.Enum):
    """How what was granted compares with what was requested."""

    AS_REQUESTED = "as requested"
    LESS = "less"
    """Some of it, or none."""
    MORE = "more"
    """All of it, and something beside."""
    DIFFERENT = "different"
    """Something that was not requested, instead of something that was."""
    NOT_TOLD = "not told"
    """Of a scope: the member came with nothing in it, or a refresh asked for all of such a scope."""


@frozen(kw_only=True, weakref_slot=False)
class GrantedItem:
    """One member of a grant."""

    name: str
    """``scope``, ``authorization_details``, ``acr``, ``claims`` or ``token_type``."""
    requested: tuple[Any, ...] = field(repr=False)
    """What was requested: scope values, authorization details, acceptable values of ``acr``, a token type;
    the names of claims that were asked for as essential or with values, those in ``verified_claims`` with the
    way to them, as in ``verified_claims.claims.birthdate``."""
    granted: tuple[Any, ...] = field(repr=False)
    """What was granted, of the same kind: of claims, the names of those that came as they were asked for."""
    verdict: Verdict

    @property
    def missing(self) -> tuple[Any, ...]:
        """What was requested and not granted; all of it where what was granted is not told."""
        return () if self.verdict is Verdict.AS_REQUESTED else _without(self.requested, self.granted)

    @property
    def added(self) -> tuple[Any, ...]:
        """What was granted and not requested."""
        return _without(self.granted, self.requested)


@frozen(weakref_slot=False)
class GrantAudit:
    """What was granted beside what was requested, item by item."""

    items: tuple[GrantedItem, ...]

    @property
    def differs_in(self) -> tuple[str, ...]:
        """Names of the items that were not granted as requested."""
        return tuple(item.name for item in self.items if item.verdict is not Verdict.AS_REQUESTED)

    def item(self, name: str) -> GrantedItem | None:
        """Return the item of that name; ``None`` where nothing of the kind was requested or granted."""
        return next((item for item in self.items if item.name == name), None)


NOT_AUDITED: Final = GrantAudit(())
"""The audit of tokens that have not passed their checks: empty."""


class Granted(Protocol):
    """What is compared of tokens: these members of `TokenResponse`."""

    @property
    def token_type(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def authorization_details(self) -> tuple[Mapping[str, Any], ...] | None: ...
    @property
    def id_token_claims(self) -> Mapping[str, Any] | None: ...


def audit_grant(tokens: Granted, requested: Requested, *, token_type: str) -> GrantAudit:
    """Compare tokens with what was requested.

    The order of scope values and of authorization details means nothing. Details that the provider enriched
    (RFC 9396 7.1) are different ones. Of several acceptable values of ``acr``, one is what was requested.

    Args:
        tokens: what the provider issued, its ID Token validated.
        requested: what was requested.
        token_type: ``Bearer`` or ``DPoP``.

    """
    items = [
        _scope(_values(requested.scope), _values(tokens.scope)),
        _compared("token_type", (token_type,), _of_type(tokens.token_type, token_type)),
    ]
    details, granted = requested.authorization_details or (), tokens.authorization_details or ()
    if details or granted:
        items.append(_compared("authorization_details", details, granted))
    classes = requested.acr_values or requested.acr_wanted
    if classes:
        items.append(_reached(classes, (tokens.id_token_claims or {}).get("acr")))
    if requested.claims is not None:
        items.append(_claims(found(requested.claims, tokens.id_token_claims or {})))
    return GrantAudit(tuple(items))


def _values(scope: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in scope.split(" ") if value))


def _of_type(granted: str, requested: str) -> tuple[str, ...]:
    # Case does not count (RFC 6749 7.1).
    return (requested if granted.lower() == requested.lower() else granted,)


def _scope(requested: tuple[str, ...], granted: tuple[str, ...]) -> GrantedItem:
    # Every request has a scope. An empty one here means that the provider did not tell the scope.
    if not granted or not requested:
        return GrantedItem(name="scope", requested=requested, granted=granted, verdict=Verdict.NOT_TOLD)
    return _compared("scope", requested, granted)


def _compared(name: str, requested: tuple[Any, ...], granted: tuple[Any, ...]) -> GrantedItem:
    missing, added = _without(requested, granted), _without(granted, requested)
    if missing and added:
        verdict = Verdict.DIFFERENT
    elif missing:
        verdict = Verdict.LESS
    else:
        verdict = Verdict.MORE if added else Verdict.AS_REQUESTED
    return GrantedItem(name=name, requested=requested, granted=granted, verdict=verdict)


def _reached(requested: tuple[str, ...], acr: object) -> GrantedItem:
    if acr is None:
        return GrantedItem(name="acr", requested=requested, granted=(), verdict=Verdict.LESS)
    verdict = Verdict.AS_REQUESTED if acr in requested else Verdict.DIFFERENT
    return GrantedItem(name="acr", requested=requested, granted=(acr,), verdict=verdict)


def _claims(came: Mapping[str, Found]) -> GrantedItem:
    granted = tuple(name for name, result in came.items() if result is Found.AS_REQUESTED)
    if Found.OTHER_VALUE in came.values():
        verdict = Verdict.DIFFERENT
    else:
        verdict = Verdict.AS_REQUESTED if len(granted) == len(came) else Verdict.LESS
    return GrantedItem(name="claims", requested=tuple(came), granted=granted, verdict=verdict)


def _without(these: tuple[Any, ...], those: tuple[Any, ...]) -> tuple[Any, ...]:
    left = Counter(map(told_apart, those))
    rest: list[Any] = []
    for value in these:
        key = told_apart(value)
        if left[key]:
            left[key] -= 1
        else:
            rest.append(value)
    return tuple(rest)
