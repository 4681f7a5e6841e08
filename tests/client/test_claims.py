"""Requests for individual claims, and what came of them."""

from __future__ import annotations

from typing import Any

import pytest

from ciba_core import AuthenticationRequest
from ciba_core.client.claims import Found, found
from ciba_core.values.json import freeze

MET, MISSING, OTHER = Found.AS_REQUESTED, Found.MISSING, Found.OTHER_VALUE
FRAMEWORK = {"trust_framework": {"value": "au_connectid"}}
OVER_18 = {"over18": {"essential": True}}


@pytest.mark.parametrize(
    ("entry", "claims", "result"),
    [
        (None, {}, {}),
        ({}, {}, {}),
        ({"essential": False}, {}, {}),
        ({"value": None}, {}, {}),
        ({"essential": True}, {"txn": "1"}, {"txn": MET}),
        ({"essential": True}, {"txn": False}, {"txn": MET}),
        ({"essential": True}, {"txn": 0}, {"txn": MET}),
        ({"essential": True}, {}, {"txn": MISSING}),
        ({"essential": True}, {"txn": None}, {"txn": MISSING}),
        ({"essential": True}, {"txn": ""}, {"txn": MISSING}),
        ({"value": "a"}, {}, {"txn": MISSING}),
        ({"value": "a"}, {"txn": "a"}, {"txn": MET}),
        ({"value": "a"}, {"txn": "b"}, {"txn": OTHER}),
        ({"value": "a"}, {"txn": ["a"]}, {"txn": OTHER}),
        ({"value": True}, {"txn": 1}, {"txn": OTHER}),
        ({"value": 1}, {"txn": 1.0}, {"txn": MET}),
        ({"value": ["a", {"b": 1}]}, {"txn": ["a", {"b": 1}]}, {"txn": MET}),
        ({"values": ["a", "b"], "essential": True}, {"txn": "b"}, {"txn": MET}),
        ({"values": ["a", "b"]}, {"txn": "c"}, {"txn": OTHER}),
    ],
    ids=str,
)
def test_one_claim(entry: Any, claims: dict[str, Any], result: dict[str, Found]) -> None:
    """OIDC Core 5.5.1: what was asked for as essential or with values came, did not come, or is another."""
    assert found({"txn": entry, "name": None}, claims) == result


def verified(verification: Any = FRAMEWORK, **claims: Any) -> dict[str, Any]:
    return {"verification": verification, "claims": claims}


ASKED = verified(over18={"essential": True}, name=None)
CAME = verified({"trust_framework": "au_connectid", "time": "2026"}, over18=True)
PATHS = ("verified_claims.verification.trust_framework", "verified_claims.claims.over18")


@pytest.mark.parametrize(
    ("asked", "came", "results"),
    [
        (ASKED, CAME, (MET, MET)),
        (ASKED, [CAME], (MET, MET)),
        ([ASKED], CAME, (MET, MET)),
        (ASKED, [verified({"trust_framework": "de_aml"}), CAME], (MET, MET)),
        (ASKED, verified({"trust_framework": "de_aml"}, over18=True), (OTHER, MET)),
        (ASKED, verified({"trust_framework": "au_connectid"}), (MET, MISSING)),
        (ASKED, verified({"trust_framework": None}, over18=None), (MISSING, MISSING)),
        # Neither of the two has it all: they are not put together.
        (
            ASKED,
            [verified({"trust_framework": "au_connectid"}), verified({"trust_framework": "x"}, over18=1)],
            (MET, MISSING),
        ),
        (ASKED, None, (MISSING, MISSING)),
        (ASKED, [], (MISSING, MISSING)),
        (ASKED, "verified", (MISSING, MISSING)),
        (ASKED, {"verification": [], "claims": "x"}, (MISSING, MISSING)),
    ],
    ids=str,
)
def test_verified_claims(asked: Any, came: Any, results: tuple[Found, Found]) -> None:
    """OIDC Core 5.5.1 in ``verified_claims`` (Identity Assurance): named by the way to it."""
    assert found({"verified_claims": asked}, {"verified_claims": came}) == dict(
        zip(PATHS, results, strict=True)
    )


def test_verified_claims_that_do_not_come_at_all() -> None:
    """Their absence is that of everything in them that was asked for; what is a wish is not missed."""
    assert found({"verified_claims": ASKED}, {}) == dict.fromkeys(PATHS, MISSING)
    assert found({"verified_claims": verified({"trust_framework": None}, name=None)}, {}) == {}
    assert found({"verified_claims": None}, {}) == {}


def test_several_verified_claims() -> None:
    """Of several objects each is looked for, and named by its number."""
    other = verified({"trust_framework": {"values": ["de_aml", "eidas"]}}, given_name=None)
    results = found({"verified_claims": [ASKED, other]}, {"verified_claims": [CAME]})
    assert results == {
        "verified_claims[0].verification.trust_framework": MET,
        "verified_claims[0].claims.over18": MET,
        "verified_claims[1].verification.trust_framework": OTHER,
    }


def test_evidence() -> None:
    """Arrays inside are looked through in the same way, at any depth."""
    evidence = [{"type": {"value": "document"}, "document": {"type": {"values": ["idcard"]}, "number": None}}]
    asked = verified({**FRAMEWORK, "evidence": evidence}, name={"essential": True})
    way = "verified_claims.verification.evidence"
    good = {"type": "document", "document": {"type": "idcard"}}
    for came, results in (
        ([{"type": "vouch"}, good], (MET, MET)),
        ([{"type": "document", "document": {"type": "passport"}}], (MET, OTHER)),
        (good, (MET, MET)),
        (None, (MISSING, MISSING)),
    ):
        claims = {
            "verified_claims": verified({"trust_framework": "au_connectid", "evidence": came}, name="A")
        }
        told = found({"verified_claims": asked}, claims)
        assert (told[f"{way}.type"], told[f"{way}.document.type"]) == results
        assert told["verified_claims.claims.name"] is MET


@pytest.mark.parametrize("place", ["id_token", "userinfo"])
@pytest.mark.parametrize(
    "entry", [ASKED, [ASKED], [ASKED, verified({"trust_framework": None})], None], ids=str
)
def test_verified_claims_may_be_an_array(entry: Any, place: str) -> None:
    """OpenID Connect for Identity Assurance: one object, or one for each trust framework."""
    request = AuthenticationRequest(login_hint="a", claims={place: {"verified_claims": entry}})
    assert request.claims == {place: {"verified_claims": freeze(entry)}}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ([], "must be null, an object or an array of objects"),
        ("x", "must be null, an object or an array of objects"),
        ([ASKED, "x"], "must be null, an object or an array of objects"),
        (verified(name={"essential": "yes"}), "must have a boolean as essential"),
        ([ASKED, verified(name={"value": 1, "values": [1]})], "must not have both value and values"),
        (
            verified({"evidence": [{"type": {"values": []}}]}),
            "must have an array that is not empty as values",
        ),
    ],
    ids=str,
)
def test_verified_claims_that_nothing_would_come_of(entry: Any, problem: str) -> None:
    """OIDC Core 5.5.1: a mistake inside is told as one on the outside is, by the name of the member."""
    with pytest.raises(ValueError, match=rf"^claims: id_token\.verified_claims {problem} \("):
        AuthenticationRequest(login_hint="a", claims={"id_token": {"verified_claims": entry}})
