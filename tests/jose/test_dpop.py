from __future__ import annotations

import base64
import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciba_core import HttpResponse, Secret
from ciba_core.jose.dpop import (
    DPOP_ALGORITHM,
    DpopKey,
    ProofClaims,
    origin,
    supplied_nonce,
    valid_nonce,
)
from tests.jwt_samples import FAPI_JWK, FAPI_KEY, counter, opened, verified
from tests.made_keys import import_key
from tests.samples import NOW, ones, zeros

HEADER = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
TOKEN_PROOF = f"{HEADER}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
REFRESH_PROOF = f"{HEADER}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjY1Mjk2fQ.pAqut2IRDm_De6PR93SYmGBPXpwrAk90e8cP2hjiaG5QsGSuKDYW7_X620BxqhvYC8ynrrvZLTk41mSRroapUA"
RESOURCE_PROOF = f"{HEADER}.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
THUMBPRINT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
ACCESS_TOKEN = Secret("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU")
NONCE = "eyJ7S_zG.eyJH0-Z.HX4w-7v"
URL = "https://server.example.com/token"
PUBLIC = {name: FAPI_JWK[name] for name in ("kty", "crv", "x", "y")}

KEY = DpopKey.from_secret(Secret(json.dumps(FAPI_JWK)))


def proof(key: DpopKey = KEY, **changes: Any) -> str:
    arguments: dict[str, Any] = {"method": "POST", "url": URL, "now": NOW, "jti": bytes(16)}
    return key.proof(**(arguments | changes))


def claims(**changes: Any) -> dict[str, Any]:
    return opened(proof(**changes))[1]


@pytest.mark.parametrize(
    ("published", "method", "url", "access_token"),
    [
        (TOKEN_PROOF, "POST", URL, None),
        (REFRESH_PROOF, "post", URL, None),
        (RESOURCE_PROOF, "GET", "https://resource.example.org/protectedresource", ACCESS_TOKEN),
    ],
    ids=["token", "refresh", "resource"],
)
def test_proofs_of_the_standard(published: str, method: str, url: str, access_token: Secret | None) -> None:
    """VEC-DPOP-01, DPOP-02, -03, -07, -20: the published proofs are verified by the key in them and rebuilt,
    but for the key, whose private part is not published."""
    header, found = opened(published)
    key = import_key(header["jwk"])
    assert verified(published, key, "ES256")
    assert not verified(published, FAPI_KEY, "ES256")
    assert key.thumbprint() == THUMBPRINT
    made = proof(
        method=method,
        url=url,
        access_token=access_token,
        now=found["iat"] + 0.9,
        jti=base64.urlsafe_b64decode(found["jti"]),
    )
    assert opened(made) == (header | {"jwk": PUBLIC}, found)


def test_proof() -> None:
    """DPOP-02, -03, -04: the header has the public key and nothing more of it; the signature is by that key."""
    made = proof()
    assert opened(made) == (
        {"typ": "dpop+jwt", "alg": "ES256", "jwk": PUBLIC},
        {"jti": "A" * 22, "htm": "POST", "htu": URL, "iat": 1537819486},
    )
    assert verified(made, import_key(opened(made)[0]["jwk"]), DPOP_ALGORITHM)


@pytest.mark.parametrize(
    ("url", "htu"),
    [
        (URL, URL),
        (URL + "?a=b", URL),
        (URL + "#f", URL),
        (URL + "?a=b#f?g", URL),
        (URL + "#f?a=b", URL),
        ("https://Server.example.com:443/a%2fb/", "https://Server.example.com:443/a%2fb/"),
    ],
)
def test_urls(url: str, htu: str) -> None:
    """DPOP-05, MTLS-09: the URL as called, without query and fragment and otherwise untouched."""
    assert claims(url=url)["htu"] == htu


def test_methods_in_upper_case() -> None:
    """DPOP-05: the method as it is sent."""
    assert claims(method="get")["htm"] == "GET"


def test_nonce() -> None:
    """DPOP-06, VEC-DPOP-01: the nonce of the server, where it gave one."""
    assert claims(nonce=NONCE)["nonce"] == NONCE
    assert "nonce" not in claims()


def test_access_token_hash() -> None:
    """DPOP-07, -10: the hash of the token where one goes along, never the token."""
    assert claims(access_token=ACCESS_TOKEN)["ath"] == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    assert "ath" not in claims()


@given(now=st.floats(0, 1e11))
def test_dates(now: float) -> None:
    """DPOP-03: the date is in whole seconds, never later than now."""
    found = claims(now=now)["iat"]
    assert type(found) is int
    assert found <= now < found + 1


@given(st.lists(st.binary(min_size=12, max_size=32), unique=True, max_size=10))
def test_proofs_have_their_own_identifiers(octets: list[bytes]) -> None:
    """DPOP-04, CAM-21: as many different `jti` as there are requests, with all their octets."""
    found = [claims(jti=jti)["jti"] for jti in octets]
    assert [base64.urlsafe_b64decode(jti + "==") for jti in found] == octets
    assert all("=" not in jti for jti in found)


@pytest.mark.parametrize("jti", [b"", bytes(11)])
def test_short_identifiers(jti: bytes) -> None:
    """DPOP-04: fewer than 96 bits are refused."""
    with pytest.raises(ValueError, match="jti must have at least 12 octets"):
        proof(jti=jti)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://server.example.com/token", "https://server.example.com"),
        ("https://server.example.com/other?a=b", "https://server.example.com"),
        ("https://Server.Example.com:443/token", "https://server.example.com"),
        ("https://server.example.com:8443/token", "https://server.example.com:8443"),
        ("http://[::1]:80/token", "http://[::1]"),
        ("http://127.0.0.1:443", "http://127.0.0.1:443"),
        ("https://server.example.com:80", "https://server.example.com:80"),
    ],
)
def test_origins(url: str, found: str) -> None:
    """DPOP-16: nonces belong to a server, whichever of its URLs is called and however it is written."""
    assert origin(url) == found


@pytest.mark.parametrize("value", [NONCE, "a", "!", "#[]~", "~" * 2048])
def test_nonces(value: str) -> None:
    """DPOP-18: the characters that RFC 9449 8.1 lists."""
    assert valid_nonce(value)


@pytest.mark.parametrize("value", ["", " ", "a b", 'a"', "a\\", "a\n", "a\r\nX: y", "\x7f", "é", "~" * 2049])
def test_what_is_no_nonce(value: str) -> None:
    """DPOP-18: neither other characters nor none nor more than 2048."""
    assert not valid_nonce(value)


def test_supplied_nonces() -> None:
    """DPOP-18: what is no nonce counts as none."""
    assert supplied_nonce(HttpResponse(400, (("dpop-nonce", NONCE),), b"")) == NONCE
    assert supplied_nonce(HttpResponse(400, (("DPoP-Nonce", ""),), b"")) is None
    assert supplied_nonce(HttpResponse(400, (), b"")) is None


def test_keys_come_from_the_entropy_alone() -> None:
    """DPOP-22, -23: the same octets make the same key, others another one, and 32 are asked for."""
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    assert DpopKey.generate(entropy) == DpopKey.generate(zeros)
    assert hash(DpopKey.generate(zeros)) == hash(DpopKey.generate(zeros))
    assert asked == [32]
    assert DpopKey.generate(zeros) != DpopKey.generate(ones)
    numbers = counter()
    assert len({DpopKey.generate(numbers).thumbprint for _ in range(20)}) == 20


def test_generated_keys_work() -> None:
    """DPOP-02: a key from entropy signs proofs that its public part verifies."""
    key = DpopKey.generate(ones)
    made = proof(key)
    public = import_key(opened(made)[0]["jwk"])
    assert verified(made, public, "ES256")
    assert (public.crv, public.is_private, public.thumbprint()) == ("P-256", False, key.thumbprint)


def test_keys_survive_a_snapshot() -> None:
    """DPOP-22: the one key of a transaction is the same after storing and restoring."""
    for key in (KEY, DpopKey.generate(zeros)):
        stored = key.to_secret()
        restored = DpopKey.from_secret(stored)
        assert restored == key
        assert restored.thumbprint == key.thumbprint
        assert restored.to_secret() == stored
        assert verified(proof(restored), import_key(opened(proof(key))[0]["jwk"]), "ES256")
    assert json.loads(KEY.to_secret().reveal()) == PUBLIC | {"d": FAPI_JWK["d"]}


RSA_N = base64.urlsafe_b64encode(b"\xff" * 256).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hush",
        "[]",
        "{}",
        "\ud800",
        json.dumps(PUBLIC),
        json.dumps(FAPI_JWK | {"d": "hush"}),
        json.dumps(FAPI_JWK | {"d": 5}),
        json.dumps(FAPI_JWK | {"x": FAPI_JWK["y"]}),
        json.dumps(FAPI_JWK | {"crv": "P-384"}),
        json.dumps(FAPI_JWK | {"use": "enc"}),
        json.dumps(FAPI_JWK | {"alg": "ES384"}),
        json.dumps({"kty": "oct", "k": "aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaGh1c2g"}),
        json.dumps({"kty": "RSA", "n": RSA_N, "e": "AQAB"}),
    ],
)
def test_what_is_no_key(text: str) -> None:
    """DPOP-02: a key of any other kind, a public one or a damaged one is refused and does not show."""
    with pytest.raises(ValueError, match=r"^a DPoP key must be a private P-256 key as a JWK$") as caught:
        DpopKey.from_secret(Secret(text))
    assert caught.value.__context__ is None


def test_keys_do_not_show() -> None:
    """AUTH-07: the key shows its thumbprint and nothing else."""
    assert repr(KEY) == str(KEY) == f"<DpopKey {KEY.thumbprint}>"
    assert FAPI_JWK["d"] not in repr(KEY.to_secret())


def test_keys_are_values() -> None:
    """A transaction that holds a key can be copied."""
    assert copy.deepcopy(KEY) == KEY


# --- further claims


def digest(octets: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(octets).digest()).rstrip(b"=").decode()


CAMARA = ProofClaims(body_hash="camara:bh", query_hash="camara:qh", fixed={"v": 1})


def test_hashes_of_a_request() -> None:
    """CAM-20: SHA-256 of the octets of the body and of the raw query, base64url without padding."""
    url = "https://api.example.com/v1?a=%20b&c#d"
    assert CAMARA.of(url, b"x=y") == {"camara:bh": digest(b"x=y"), "camara:qh": digest(b"a=%20b&c"), "v": 1}
    found = claims(url=url, claims=CAMARA.of(url, b"x=y"))
    assert {name: found[name] for name in ("htu", "camara:bh", "camara:qh", "v")} == {
        "htu": "https://api.example.com/v1",
        "camara:bh": digest(b"x=y"),
        "camara:qh": digest(b"a=%20b&c"),
        "v": 1,
    }


def test_what_is_not_there_has_no_hash() -> None:
    """CAM-20: without body or query there is nothing to hash, and without a name nothing is added."""
    assert CAMARA.of(URL, b"") == {"v": 1}
    assert ProofClaims().of(URL + "?a", b"b") == {}


@pytest.mark.parametrize("name", ["jti", "htm", "htu", "iat", "ath", "nonce"])
def test_a_claim_that_proofs_have(name: str) -> None:
    """DPOP-03: what a proof says by itself is not set by others."""
    with pytest.raises(ValueError, match=rf"claims: a proof has {name} already"):
        proof(claims={name: "x"})
    refused: list[dict[str, Any]] = [{"body_hash": name}, {"query_hash": name}, {"fixed": {name: "x"}}]
    for arguments in refused:
        with pytest.raises(ValueError, match=rf"{next(iter(arguments))}: a proof has {name} already"):
            ProofClaims(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"body_hash": 7}, TypeError),
        ({"query_hash": ""}, ValueError),
        ({"fixed": [1]}, TypeError),
        ({"fixed": {"a": {1}}}, TypeError),
        ({"body_hash": "a", "query_hash": "a"}, ValueError),
        ({"body_hash": "a", "fixed": {"a": 1}}, ValueError),
    ],
)
def test_no_claims(arguments: dict[str, Any], error: type[Exception]) -> None:
    """An argument of the wrong type, or two claims of one name, are refused where they are given."""
    with pytest.raises(error):
        ProofClaims(**arguments)
