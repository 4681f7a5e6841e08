"""Reading what answers of several endpoints have in common."""

from __future__ import annotations

import pytest

from ciba_core import HttpResponse
from ciba_core.endpoint_answer import challenge


def refusal(*challenges: str) -> HttpResponse:
    return HttpResponse(401, tuple(("WWW-Authenticate", value) for value in challenges), b"")


@pytest.mark.parametrize(
    ("challenges", "scheme", "error"),
    [
        (['DPoP error="use_dpop_nonce"'], "DPoP", "use_dpop_nonce"),
        (['Bearer error="invalid_token", DPoP algs="ES256", error="a"'], "DPoP", "a"),
        (['Bearer error="invalid_token"', 'dpop error="a"'], "DPoP", "a"),
        (['DPoP error="a"', 'Bearer error="invalid_token"'], "Bearer", "invalid_token"),
        (['Bearer error="first", DPoP', 'DPoP error="a"', 'DPoP error="b"'], "DPoP", "a"),
        # Of another scheme, for want of one's own.
        (['Bearer error="a", DPoP algs="ES256"'], "DPoP", "a"),
        (['Bearer realm="", error="a"'], "Bearer", "a"),
        (['Bearer error="a"', 'DPoP realm="", error="b"'], "DPoP", "b"),
        (['Bearer error_description="x, DPoP error=b", error="a"'], "DPoP", "a"),
        (["Negotiate YWJj==, Bearer error=a"], "Bearer", "a"),
        (['error="a"'], "Bearer", "a"),
        (['Bearer realm="x", Basic', "DPoP"], "DPoP", None),
        (["", '"', "= , ="], "DPoP", None),
        ([], "Bearer", None),
    ],
)
def test_challenges(challenges: list[str], scheme: str, error: str | None) -> None:
    """DPOP-17, UI-06: of several challenges, in one field or more, that of the scheme in use explains."""
    found = challenge(refusal(*challenges), scheme)
    assert (None if found is None else found["error"]) == error
