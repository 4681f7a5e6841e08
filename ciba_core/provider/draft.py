"""Requests that wait for signatures from outside of the process."""

from __future__ import annotations

from attrs import frozen

from ciba_core.jose.dpop import DpopKey
from ciba_core.jose.unsigned_jwt import NotSigned, UnsignedJwt, signed
from ciba_core.values.errors import LocalProtocolError
from ciba_core.values.form import encode_pairs
from ciba_core.values.http import Headers, Purpose
from ciba_core.values.secret import NotPickled

__all__ = ["Draft"]


@frozen(repr=False, weakref_slot=False)
class Draft(NotPickled):
    """An HTTP request but for the JWTs in its form.

    A driver has each of `jwts` signed by its ``signer``, which is a `RemoteSigner`, and feeds the signatures
    back in the same order. The JWTs are made for this moment: a draft is not stored.
    """

    id: int
    """Number of the request that it will become; goes back with the signatures."""
    unsigned: tuple[tuple[str, UnsignedJwt], ...]
    """Names and values of the parameters that are to be signed."""
    purpose: Purpose
    url: str
    headers: Headers
    form: str
    """The rest of the form, encoded."""
    dpop_key: DpopKey | None = None
    """The key of the proof that goes along, which is made when the form is whole."""

    @property
    def jwts(self) -> tuple[UnsignedJwt, ...]:
        """What to sign, and by which key."""
        return tuple(jwt for _, jwt in self.unsigned)

    @property
    def expires_at(self) -> float | None:
        """POSIX instant at which the first of the JWTs expires: no later signature is of any use.

        ``None`` if none of them expires.
        """
        return min((jwt.expires_at for jwt in self.jwts if jwt.expires_at is not None), default=None)

    def body(self, signatures: tuple[bytes, ...]) -> str | NotSigned:
        """Return the form with the signed JWTs in it.

        `NotSigned` comes back if a signature is not of the form that its algorithm has.

        Raises:
            LocalProtocolError: there are not as many signatures as JWTs.

        """
        if len(signatures) != len(self.unsigned):
            raise LocalProtocolError(f"{len(self.unsigned)} signatures are needed, not {len(signatures)}")
        parameters: list[tuple[str, str]] = []
        for (name, unsigned), signature in zip(self.unsigned, signatures, strict=True):
            jwt = signed(unsigned, signature)
            if isinstance(jwt, NotSigned):
                return jwt
            parameters.append((name, jwt))
        pairs = encode_pairs(parameters)
        return f"{self.form}&{pairs}" if self.form else pairs

    def __repr__(self) -> str:
        return f"<Draft {self.id} {self.purpose.value}: {len(self.unsigned)} signatures needed>"
