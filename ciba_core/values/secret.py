"""Values that do not show: tokens, identifiers and credentials."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Generic, NoReturn, Self, TypeVar, final

from attrs import field, frozen

__all__ = ["Guarded", "NotPickled", "Secret"]

T_co = TypeVar("T_co", covariant=True)

_MASK: Final = "Secret('***')"


class NotPickled:
    """Base of immutable values that carry secrets in plain text, for a driver to send or a step to read.

    They do not show in a ``repr``, and a pickle of them, or of what holds them, is refused.
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not pickled: it has secrets in it")


@final
class Secret:
    """A string that is kept out of every ``repr``, message, log record and pickle.

    Comparison with another `Secret` takes the same time wherever the two differ. Use `reveal` at the one
    place where the value is needed, and `fingerprint` to recognise a value in a log.

    Raises:
        TypeError: the value is not a `str`.

    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            raise TypeError("a Secret holds a str")
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def fingerprint(self) -> str:
        """Return 12 hex digits of the value's SHA-256, to tell values apart in a log.

        Only for values with entropy of their own, such as an ``auth_req_id``: a fingerprint of a short
        password can be guessed.
        """
        return hashlib.sha256(self._value.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def __repr__(self) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        ours = self._value.encode("utf-8", "surrogatepass")
        return hmac.compare_digest(ours, other._value.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled; store it through a snapshot")


@final
@frozen(repr=False, weakref_slot=False)
class Guarded(Generic[T_co]):
    """A value that has not passed its checks: it is there for diagnosis and clean-up, by an explicit call."""

    _value: T_co = field(alias="value")

    def reveal_untrusted(self) -> T_co:
        """Return the value. Nothing has vouched for it; do not act on it as if something had."""
        return self._value

    def __repr__(self) -> str:
        return "<Guarded>"
