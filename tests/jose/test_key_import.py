"""Keys made of JWKs, PEMs and secrets, held against joserfc and cryptography used directly."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from ciba_core.jose import key_import
from ciba_core.jose.key_import import Key, UnusableKey, content_encryption_key, derive_p256
from tests.jose.joserfc_side import PKCS8, SECRET, b64, ours, pem_of, private_key
from tests.made_keys import hmac_key, import_key, import_pem


def rsa_jwk(bits: int) -> dict[str, Any]:
    return {"kty": "RSA", "n": b64(((1 << bits) - 9).to_bytes((bits + 7) // 8, "big")), "e": "AQAB"}


def changed(of: str, *, private: bool = False, **members: Any) -> dict[str, Any]:
    jwk = {**private_key(of).as_dict(private=private), **members}
    return {name: value for name, value in jwk.items() if value != "-"}


def refused(key: Key | UnusableKey) -> str:
    """Why something is no key that can be used."""
    assert isinstance(key, UnusableKey)
    return key.reason


@pytest.mark.parametrize(
    ("jwk", "message"),
    [
        ({}, "type other than"),
        ({"kty": "oct", "k": "AAAA"}, "type other than"),
        ({"kty": ["RSA"]}, "type other than"),
        ({"kty": "AKP"}, "type other than"),
        (changed("ES256", crv="secp256k1"), "curve"),
        (changed("ES256", crv=["P-256"]), "curve"),
        (changed("ES256", crv="-"), "curve"),
        (changed("Ed25519", crv="Ed448"), "curve"),
        (rsa_jwk(1024), "fewer than 2048"),
        (rsa_jwk(2047), "fewer than 2048"),
        (rsa_jwk(16385), "more than 16384"),
        (changed("RS256", n="-"), "fewer than 2048"),
        (changed("RS256", n=5), "fewer than 2048"),
        (changed("RS256", n="not base64url!"), "fewer than 2048"),
        (changed("RS256", e="-"), "malformed key"),
        (changed("RS256", e="AQ"), "malformed key"),
        (changed("RS256", e=3), "malformed key"),
        (changed("RS256", private=True, d="AQAB"), "malformed key"),
        (changed("ES256", x="-"), "malformed key"),
        (changed("ES256", y=changed("ES256")["x"]), "malformed key"),
        (changed("ES256", x="ä"), "malformed key"),
        (changed("ES256", private=True, d="AQAB"), "malformed key"),
        (changed("Ed25519", x="AAAA"), "malformed key"),
        (changed("Ed25519", private=True, x=b64(bytes(32))), "malformed key"),
        (changed("ES256", use=5), "malformed kid, alg, use or key_ops"),
        (changed("ES256", alg=["ES256"]), "malformed kid, alg, use or key_ops"),
        (changed("ES256", kid=1), "malformed kid, alg, use or key_ops"),
        (changed("ES256", key_ops="verify"), "malformed kid, alg, use or key_ops"),
        (changed("ES256", key_ops=["verify", 1]), "malformed kid, alg, use or key_ops"),
    ],
)
def test_keys_that_are_refused(jwk: dict[str, Any], message: str) -> None:
    """JWKS-07, JWKS-08: unknown, weak, oversized and malformed keys are told apart, without a warning."""
    assert message in refused(key_import.import_key(jwk))


def test_members_beside_the_key_do_not_matter() -> None:
    """JWKS-07: certificates and members that nobody knows, however odd, do not spoil a good key."""
    key = ours("RS256", x5c="x", x5u="ftp://x", oth=5, exp=1)
    assert (key.kty, key.crv, key.is_private) == ("RSA", None, False)
    assert key.public_jwk() == private_key("RS256").as_dict(private=False)


def test_rsa_sizes_at_the_bounds() -> None:
    """JWKS-08, FAPI-19: 2048 and 16384 bits are still taken."""
    for bits in (2048, 16384):
        assert import_key(rsa_jwk(bits)).kty == "RSA"


@pytest.mark.parametrize(
    ("raw", "kty", "crv"),
    [
        (rsa.generate_private_key(65537, 2048), "RSA", None),
        (ec.generate_private_key(ec.SECP384R1()), "EC", "P-384"),
        (ed25519.Ed25519PrivateKey.generate(), "OKP", "Ed25519"),
    ],
)
def test_keys_from_pem(raw: Any, kty: str, crv: str | None) -> None:
    """Private and public PEMs of the supported kinds are told by their content."""
    private = import_pem(pem_of(raw).decode(), kid="k1", alg="A")
    public = import_pem(
        raw.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    assert (private.kty, private.crv, private.kid, private.alg, private.is_private) == (
        kty,
        crv,
        "k1",
        "A",
        True,
    )
    assert (public.kty, public.crv, public.kid, public.alg, public.is_private) == (
        kty,
        crv,
        None,
        None,
        False,
    )
    assert private.thumbprint() == public.thumbprint()
    assert private.public_jwk() == public.public_jwk()
    assert not {"d", "p", "kid"} & private.public_jwk().keys()


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "not an RSA, EC or Ed25519 key"),
        ("-----BEGIN PRIVATE KEY-----\nMARKER\n-----END PRIVATE KEY-----\n", "not an RSA, EC or Ed25519 key"),
        ("ä", "not an RSA, EC or Ed25519 key"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "fewer than 2048"),
        (pem_of(ec.generate_private_key(ec.SECP256K1())), "curve"),
        (pem_of(ec.generate_private_key(ec.BrainpoolP256R1())), "curve"),
        (pem_of(ed448.Ed448PrivateKey.generate()), "curve"),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, PKCS8, serialization.BestAvailableEncryption(b"x")
            ),
            "or is encrypted",
        ),
    ],
)
def test_pems_that_are_refused(pem: str | bytes, message: str) -> None:
    """Weak, foreign, damaged and encrypted PEMs are told apart, without a warning."""
    reason = refused(key_import.import_pem(pem))
    assert message in reason
    assert "MARKER" not in reason


def test_a_key_shows_its_kind_and_nothing_else() -> None:
    """No key material gets into a repr."""
    key = import_key({**private_key("ES256").as_dict(private=True), "kid": "k1"})
    assert repr(key) == "<private EC key P-256, kid 'k1'>"
    assert repr(ours("RS256")) == "<public RSA key, kid None>"


def test_a_derived_key_is_the_same_for_the_same_octets() -> None:
    """A DPoP key is derived from random octets alone and comes back whole from its JWK."""
    key = derive_p256(b"x" * 32)
    assert key.thumbprint() == derive_p256(b"x" * 32).thumbprint()
    assert key.thumbprint() != derive_p256(b"y" * 32).thumbprint()
    assert key.private_jwk().keys() == {"kty", "crv", "x", "y", "d"}
    assert import_key(key.private_jwk()).thumbprint() == key.thumbprint()
    assert "ES256" in key.signs


@pytest.mark.parametrize(("alg", "octets"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_secrets_for_an_hmac_have_its_length(alg: str, octets: int) -> None:
    """RFC 7518 3.2: a client secret shorter than the hash is no key; its octets count, not its characters."""
    hmac_key("ä" * (octets // 2), alg)
    assert f"at least {octets} octets" in refused(key_import.hmac_key("s" * (octets - 1), alg))


def test_a_secret_that_looks_like_a_key_is_a_secret() -> None:
    """A client secret is octets, whatever they spell; no warning is given of it."""
    secret = "ssh-rsa " + "x" * 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hmac_key(secret, "HS256")


@pytest.mark.parametrize(
    ("alg", "enc", "key"),
    [
        ("A128KW", "A256GCM", "e9974c507d2a802143f614c878fcbb62"),
        ("A128GCMKW", "A128GCM", "e9974c507d2a802143f614c878fcbb62"),
        ("dir", "A128GCM", "e9974c507d2a802143f614c878fcbb62"),
        ("A192KW", "A128GCM", "e9974c507d2a802143f614c878fcbb622a3800e05e6e0d32"),
        ("dir", "A192GCM", "e9974c507d2a802143f614c878fcbb622a3800e05e6e0d32"),
        ("A256GCMKW", "A128GCM", "e9974c507d2a802143f614c878fcbb622a3800e05e6e0d329fee2c5b6b243329"),
        ("dir", "A256GCM", "e9974c507d2a802143f614c878fcbb622a3800e05e6e0d329fee2c5b6b243329"),
        ("dir", "A128CBC-HS256", "e9974c507d2a802143f614c878fcbb622a3800e05e6e0d329fee2c5b6b243329"),
        (
            "dir",
            "A192CBC-HS384",
            "73707776d587ad5c0293a0486639cd63c61193bb1f580cbc675f8089e6ba8ec5543fadbaecbcbf98fd48e243425ce6a0",
        ),
        (
            "dir",
            "A256CBC-HS512",
            (
                "45d49f2f59835e8c5560259deabaf76bb113fe3f3e2a861d7df12feffd0e341c"
                "12bf12e4df9b1836fbc1dbffe558c43d38abb52ac99e3dc5aa28bdb5cd68d0ce"
            ),
        ),
    ],
)
def test_content_keys_of_the_vectors(alg: str, enc: str, key: str) -> None:
    """VEC-DER-09 (IDT-42): the key is the left end of a hash of the client secret."""
    made = content_encryption_key(SECRET, alg, enc)
    assert made.inner.raw_value == bytes.fromhex(key)
    assert made.kty == "oct"


@pytest.mark.parametrize(
    "x",
    [
        "01" + "00" * 31,
        "00" * 32,
        "00" * 31 + "80",
        "ec" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "02" + "00" * 31,
    ],
)
def test_points_of_small_order_are_no_keys(x: str) -> None:
    """RFC 8032 5.1.3: all eight of them, other spellings of two, and what is no point at all."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(bytes.fromhex(x))}
    assert "malformed" in refused(key_import.import_key(jwk))
    pem = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(x)).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert "malformed" in refused(key_import.import_pem(pem))


def test_nothing_is_imported_before_the_first_key() -> None:
    """The modules load neither joserfc nor cryptography; both wait for the first key."""
    code = (
        "import sys, ciba_core.jose.encryption, ciba_core.jose.keys, ciba_core.tokens.signed_claims\n"
        "assert not {'joserfc', 'cryptography'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
