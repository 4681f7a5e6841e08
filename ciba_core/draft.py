"""Requests that wait for signatures from outside of the process."""

from __future__ import annotations

from attrs import frozen

from ciba_core._form import encode_pairs
from ciba_core.errors import LocalProtocolError
from ciba_core.http import Headers, Purpose
from ciba_core.unsigned_jwt import UnsignedJwt

__all__ = ["Draft"]


@frozen(repr=False, weakref_slot=False)
class Draft:
    """An HTTP request but for the JWTs in its form.

    A driver has each of `jwts` signed by its ``signer``, which is a `RemoteSigner`, and feeds the signatures
    back in the same order. The JWTs are made for this moment: a draft is not stored.
    """

    id: int
    """Number of the request that it will become; goes back with the signatures."""
    jwts: tuple[UnsignedJwt, ...]
    """What to sign, and by which key."""
    purpose: Purpose
    url: str
    headers: Headers
    form: str
    """The rest of the form, encoded."""
    names: tuple[str, ...]
    """The parameters that the JWTs are the values of."""

    def body(self, signatures: tuple[bytes, ...]) -> str:
        """Return the form with the signed JWTs in it.

        Raises:
            LocalProtocolError: a signature is missing, or not of the form that its algorithm has.

        """
        if len(signatures) != len(self.jwts):
            raise LocalProtocolError(f"{len(self.jwts)} signatures are needed, not {len(signatures)}")
        signed = [jwt.signed(signature) for jwt, signature in zip(self.jwts, signatures, strict=True)]
        pairs = encode_pairs(zip(self.names, signed, strict=True))
        return f"{self.form}&{pairs}" if self.form else pairs

    def __repr__(self) -> str:
        return f"<Draft {self.id} {self.purpose.value}: {len(self.jwts)} signatures needed>"
