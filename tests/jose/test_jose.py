"""JSON Web Signatures, Encryption and Keys, held against joserfc and cryptography used directly."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import subprocess
import sys
import warnings
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ciba_core.jose import jose
from tests.jwt_samples import taken_apart

SECRET: Final = "7Fjfp0ZBr1KtDRbnfVdmIw"
LONG_SECRET: Final = "client-secret-MARKER-" + "0123456789" * 5
PKCS8: Final = serialization.PrivateFormat.PKCS8
PLAIN: Final = serialization.NoEncryption()


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def unb64(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@functools.cache
def private_key(alg: str) -> Any:
    """Make a key for an algorithm, by joserfc alone."""
    if alg.startswith("HS"):
        return OctKey.import_key(LONG_SECRET.encode())
    if alg.startswith(("RS", "PS")):
        return RSAKey.generate_key(2048)
    if alg.startswith("ES"):
        return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg])
    return OKPKey.generate_key("Ed25519")


def ours(of: str, **labels: Any) -> jose.Key:
    """Import the public half of that key by the module under test."""
    if of.startswith("HS"):
        return jose.hmac_key(LONG_SECRET, of)
    return jose.import_key({**private_key(of).as_dict(private=False), **labels})


def token_of(alg: str, claims: dict[str, Any] | None = None) -> str:
    octets = f"{b64(json.dumps({'alg': alg}).encode())}.{b64(json.dumps(claims or {'sub': 'x'}).encode())}"
    return f"{octets}.{b64(JWSRegistry.algorithms[alg].sign(octets.encode(), private_key(alg)))}"


def pem_of(raw: Any) -> bytes:
    octets: bytes = raw.private_bytes(serialization.Encoding.PEM, PKCS8, PLAIN)
    return octets


# --- signatures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", jose.SIGNATURE_ALGORITHMS)
def test_a_signature_made_by_joserfc_verifies(alg: str) -> None:
    """IDT-07: each algorithm of the list verifies what another implementation signed."""
    jws = taken_apart(token_of(alg))
    assert jose.verify(jws, ours(alg), alg)
    assert jws.claims == {"sub": "x"}


@pytest.mark.parametrize("alg", jose.ASYMMETRIC_ALGORITHMS)
def test_a_signature_made_here_verifies_by_joserfc(alg: str) -> None:
    """RFC 7518 3: each algorithm signs in the form that other implementations expect."""
    key = jose.import_key(private_key(alg).as_dict(private=True))
    octets = jose.signing_input({"alg": alg}, {"sub": "ä"})
    token = jose.compact(octets, jose.sign(octets, key, alg))
    signed, _, signature = token.rpartition(".")
    assert JWSRegistry.algorithms[alg].verify(signed.encode(), unb64(signature), private_key(alg))
    assert json.loads(unb64(signed.split(".")[1])) == {"sub": "ä"}


def test_a_header_that_was_encoded_before_signs_the_same() -> None:
    """RFC 7515 5.1: a signer may encode its header once and for all."""
    header, claims = {"alg": "ES256", "kid": "k"}, {"sub": "ä"}
    assert jose.signing_input(jose.encoded(header), claims) == jose.signing_input(header, claims)


@pytest.mark.parametrize(("alg", "half"), [("ES256", 32), ("ES384", 48), ("ES512", 66)])
def test_r_and_s_keep_their_leading_zeros(alg: str, half: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7518 3.4: R and S are each as long as the order of the curve, however small they come out."""
    key = jose.import_key(private_key(alg).as_dict(private=True))

    class Small:
        def sign(self, *_: object) -> bytes:
            return encode_dss_signature(1, 0x8000)

    monkeypatch.setattr(key.inner, "_raw_value", Small())
    octets = jose.sign(b"octets", key, alg)
    assert octets == (1).to_bytes(half, "big") + (0x8000).to_bytes(half, "big")


@pytest.mark.parametrize(("alg", "half"), [("ES256", 32), ("ES384", 48), ("ES512", 66)])
def test_r_and_s_in_any_other_form_are_refused(alg: str, half: int) -> None:
    """RFC 7518 3.4: the same two numbers in DER, or longer or shorter than the curve's order, do not verify."""
    signed, _, part = token_of(alg).rpartition(".")
    r, s = unb64(part)[:half], unb64(part)[half:]
    assert jose.verify(taken_apart(f"{signed}.{b64(r + s)}"), ours(alg), alg)
    der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    for other in (der, r + b"\0" + s, b"\0" + r + b"\0" + s, (r + s)[:-1], r + s + b"\0", s + r):
        assert not jose.verify(taken_apart(f"{signed}.{b64(other)}"), ours(alg), alg)


@pytest.mark.parametrize("alg", jose.SIGNATURE_ALGORITHMS)
@given(position=st.integers(min_value=0, max_value=10_000))
@settings(max_examples=20, deadline=None)
@example(position=0)
@example(position=7)
def test_one_bit_of_a_signature_changed(alg: str, position: int) -> None:
    """Bad input "signature with one bit changed": whichever bit it is, the token does not verify."""
    signed, _, part = token_of(alg).rpartition(".")
    signature = bytearray(unb64(part))
    position %= len(signature) * 8
    signature[position // 8] ^= 1 << position % 8
    jws = taken_apart(f"{signed}.{b64(bytes(signature))}")
    assert not jose.verify(jws, ours(alg), alg)


@pytest.mark.parametrize("alg", jose.SIGNATURE_ALGORITHMS)
@pytest.mark.parametrize("signature", [b"", b"\0", b"\0" * 64, b"\xff" * 64, b"\0" * 256, b"\xff" * 512])
def test_signatures_of_any_shape_are_refused_quietly(alg: str, signature: bytes) -> None:
    """IDT-07: empty, short, long and all-zero signatures are wrong signatures, not exceptions."""
    signed = token_of(alg).rpartition(".")[0]
    assert not jose.verify(taken_apart(f"{signed}.{b64(signature)}"), ours(alg), alg)


def test_verification_never_goes_by_the_algorithm_of_the_token() -> None:
    """IDT-08: a token verifies by the algorithm that the caller chose, and not by its own."""
    jws = taken_apart(token_of("RS256"))
    assert not jose.verify(jws, ours("RS256"), "PS256")
    assert not jose.verify(jws, ours("ES256"), "RS256")
    assert not jose.verify(taken_apart(token_of("RS384")), ours("RS384"), "RS256")


@pytest.mark.parametrize(
    ("labels", "alg", "fits"),
    [
        ({}, "ES256", True),
        ({"use": "sig"}, "ES256", True),
        ({"use": "enc"}, "ES256", False),
        ({"use": "tls"}, "ES256", False),
        ({"key_ops": ["verify"]}, "ES256", True),
        ({"key_ops": ["sign"]}, "ES256", False),
        ({"key_ops": []}, "ES256", False),
        ({"alg": "ES256"}, "ES256", True),
        ({"alg": "ES384"}, "ES256", False),
        ({"alg": None, "use": None, "key_ops": None, "kid": None}, "ES256", True),
        ({}, "ES384", False),
        ({}, "RS256", False),
        ({}, "Ed25519", False),
        ({}, "HS256", False),
    ],
)
def test_a_key_fits_by_kind_and_by_what_its_owner_says(labels: dict[str, Any], alg: str, fits: bool) -> None:
    """JWKS-04: type, curve, use, key_ops and alg of a key all count."""
    assert (alg in ours("ES256", **labels).verifies) is fits


@pytest.mark.parametrize("label", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_both_names_of_ed25519_mean_the_same(label: str, alg: str) -> None:
    """RFC 9864: a key labelled with either name serves either name; one on X25519 serves neither."""
    assert alg in ours("Ed25519", alg=label).verifies
    assert alg not in jose.import_key(OKPKey.generate_key("X25519").as_dict(private=False)).verifies


def test_a_public_key_does_not_sign() -> None:
    """A key without its private half is refused before anything is computed."""
    with pytest.raises(jose.JoseError, match="not for signing with ES256"):
        jose.sign(b"x", ours("ES256"), "ES256")


# --- compact form ----------------------------------------------------------------------------------------


def part(value: object) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


HEAD: Final = part({"alg": "x"})
DEEP: Final[Any] = [[[[[[[[[]]]]]]]]]
NOTHING: Final = part({})


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "three parts"),
        ("a.b", "three parts"),
        ("a.b.c.d", "three parts"),
        ("a.b.c.d.e", "three parts"),
        (f"{HEAD}.{NOTHING}.ä", "base64url"),
        (f"{HEAD}.{NOTHING}ä.", "base64url"),
        (f"{HEAD}ä.{NOTHING}.", "base64url"),
        (f"{HEAD}.{NOTHING}.\ud800", "base64url"),
        (f"{HEAD}.{NOTHING}.ab=", "base64url"),
        (f"{HEAD}.{NOTHING}.ab==", "base64url"),
        (f"{HEAD}.{NOTHING}.a", "base64url"),
        (f"{HEAD}.{NOTHING}.ab+-", "base64url"),
        (f"{HEAD}.{NOTHING}.ab/-", "base64url"),
        (f"{HEAD}.{NOTHING}.ab c", "base64url"),
        (f"{HEAD}.{NOTHING}.ab++cd//", "base64url"),
        (f"{HEAD}.{NOTHING}.abcd\n", "base64url"),
        (f"{HEAD}.{NOTHING}.ab", "base64url"),  # 4 bits left over
        (f"{HEAD}.{NOTHING}.abd", "base64url"),  # 2 bits left over
        (f"{HEAD}.a.", "base64url"),
        (f"a.{NOTHING}.", "base64url"),
        (f".{NOTHING}.", "header is not JSON"),
        (f"{part([])}.{NOTHING}.", "header is JSON, but not an object"),
        (part(b'{"alg":"a","alg":"b"}') + f".{NOTHING}.", "header is a JSON object with a repeated"),
        (f"{HEAD}..", "claims are not JSON"),
        (f"{HEAD}.{part('x')}.", "claims are JSON, but not an object"),
        (f"{HEAD}." + part(b'{"sub":"a","sub":"b"}') + ".", "claims are a JSON object with a repeated"),
        (f"{HEAD}." + part(b'{"exp":Infinity}') + ".", "claims are JSON with NaN"),
        (f"{HEAD}." + part(b'{"exp":1e999}') + ".", "claims are JSON with NaN"),
        (f"{HEAD}.{part({'a': DEEP})}.", "claims are JSON nested too deeply"),
        (f"{part({'alg': 'x', 'crit': ['exp'], 'exp': 1})}.{NOTHING}.", "critical"),
        (f"{part({'alg': 'x', 'crit': []})}.{NOTHING}.", "critical"),
        (f"{part({'alg': 'x', 'b64': False})}.{NOTHING}.", "critical"),
    ],
)
def test_what_is_no_signed_token(token: str, message: str) -> None:
    """IDT-21, IDT-25: parts, base64url, JSON and critical headers are taken strictly."""
    for _ in range(2):  # the second time from memory, as far as the header is concerned
        problem = jose.parse_jws(token, depth_limit=8)
        assert isinstance(problem, str)
        assert message in problem


@given(st.binary(max_size=100))
def test_base64url_of_any_octets(octets: bytes) -> None:
    """RFC 7515 2: the encoding is that of the standard library without padding, and comes back as it was."""
    assert jose.base64url(octets) == b64(octets)
    token = f"{HEAD}.{NOTHING}.{b64(octets)}"
    assert taken_apart(token).signature == octets


def test_long_headers() -> None:
    """A header with a certificate chain is read like any other."""
    header = {"alg": "ES256", "x5c": ["A" * 2000]}
    assert taken_apart(f"{part(header)}.{part({})}.").header == {"alg": "ES256", "x5c": ("A" * 2000,)}


def test_what_is_read_of_a_header_cannot_be_changed() -> None:
    """The header is shared between the tokens that have the same one, so that it is read-only."""
    header: Any = taken_apart(f"{HEAD}.{NOTHING}.").header
    with pytest.raises(TypeError):
        header["alg"] = "none"


@pytest.mark.parametrize(
    ("alg", "value"),
    [
        *((f"{kind}256", "Wt0kVFXMacqvnHeyU0001w") for kind in ("RS", "PS", "ES", "HS")),
        *((f"{kind}384", "3MK7nafWnzoWUKXRhKHqKx5-pyR63dV6") for kind in ("RS", "PS", "ES", "HS")),
        *(
            (alg, "4Kz8XDaGn45tP19maPUFH74gc0m3La39US-0NusHxw4")
            for alg in ("RS512", "PS512", "ES512", "HS512", "EdDSA", "Ed25519")
        ),
    ],
)
def test_half_hashes_of_the_vectors(alg: str, value: str) -> None:
    """VEC-DER-02 (IDT-30..32): the half hash goes by the algorithm of the signature."""
    assert jose.half_hash(alg, "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN") == value


# --- keys ------------------------------------------------------------------------------------------------


def rsa_jwk(bits: int) -> dict[str, Any]:
    return {"kty": "RSA", "n": b64(((1 << bits) - 9).to_bytes((bits + 7) // 8, "big")), "e": "AQAB"}


def changed(of: str, *, private: bool = False, **members: Any) -> dict[str, Any]:
    jwk = {**private_key(of).as_dict(private=private), **members}
    return {name: value for name, value in jwk.items() if value != "-"}


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
    with pytest.raises(jose.JoseError, match=message) as caught:
        jose.import_key(jwk)
    assert caught.value.__context__ is None


def test_members_beside_the_key_do_not_matter() -> None:
    """JWKS-07: certificates and members that nobody knows, however odd, do not spoil a good key."""
    key = ours("RS256", x5c="x", x5u="ftp://x", oth=5, exp=1)
    assert (key.kty, key.crv, key.is_private) == ("RSA", None, False)
    assert key.public_jwk() == private_key("RS256").as_dict(private=False)


def test_rsa_sizes_at_the_bounds() -> None:
    """JWKS-08, FAPI-19: 2048 and 16384 bits are still taken."""
    for bits in (2048, 16384):
        assert jose.import_key(rsa_jwk(bits)).kty == "RSA"


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
    private = jose.import_pem(pem_of(raw).decode(), kid="k1", alg="A")
    public = jose.import_pem(
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
    with pytest.raises(jose.JoseError, match=message) as caught:
        jose.import_pem(pem)
    assert "MARKER" not in str(caught.value)


def test_a_key_shows_its_kind_and_nothing_else() -> None:
    """No key material gets into a repr."""
    key = jose.import_key({**private_key("ES256").as_dict(private=True), "kid": "k1"})
    assert repr(key) == "<private EC key P-256, kid 'k1'>"
    assert repr(ours("RS256")) == "<public RSA key, kid None>"


def test_a_derived_key_is_the_same_for_the_same_octets() -> None:
    """A DPoP key is derived from random octets alone and comes back whole from its JWK."""
    key = jose.derive_p256(b"x" * 32)
    assert key.thumbprint() == jose.derive_p256(b"x" * 32).thumbprint()
    assert key.thumbprint() != jose.derive_p256(b"y" * 32).thumbprint()
    assert key.private_jwk().keys() == {"kty", "crv", "x", "y", "d"}
    assert jose.import_key(key.private_jwk()).thumbprint() == key.thumbprint()
    assert "ES256" in key.signs


@pytest.mark.parametrize(("alg", "octets"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_secrets_for_an_hmac_have_its_length(alg: str, octets: int) -> None:
    """RFC 7518 3.2: a client secret shorter than the hash is no key; its octets count, not its characters."""
    jose.hmac_key("ä" * (octets // 2), alg)
    with pytest.raises(jose.JoseError, match=f"at least {octets} octets"):
        jose.hmac_key("s" * (octets - 1), alg)


def test_a_secret_that_looks_like_a_key_is_a_secret() -> None:
    """A client secret is octets, whatever they spell; no warning is given of it."""
    secret = "ssh-rsa " + "x" * 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jose.hmac_key(secret, "HS256")


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
    made = jose.content_encryption_key(SECRET, alg, enc)
    assert made.inner.raw_value == bytes.fromhex(key)
    assert made.kty == "oct"


# --- encryption ------------------------------------------------------------------------------------------


@functools.cache
def encryption_key(alg: str) -> Any:
    if alg.startswith("RSA"):
        return RSAKey.generate_key(2048)
    return ECKey.generate_key("P-256")


def content_key(alg: str, enc: str) -> Any:
    """Derive the key from the client secret a second time, as OpenID Connect Core 10.2 says it in words."""
    bits = (256 if "128" in enc else 384 if "192" in enc else 512) if "CBC" in enc else int(enc[1:4])
    bits = bits if alg == "dir" else int(alg[1:4])
    name = "sha256" if bits <= 256 else "sha384" if bits <= 384 else "sha512"
    return OctKey.import_key(hashlib.new(name, SECRET.encode()).digest()[: bits // 8])


def encrypt(plain: str | bytes, alg: str, enc: str, key: Any, **header: Any) -> str:
    registry = jwe.JWERegistry(algorithms=[alg, enc, "DEF"], strict_check_header=False)
    return jwe.encrypt_compact({"alg": alg, "enc": enc, **header}, plain, key, registry=registry)


@pytest.mark.parametrize("enc", jose.CONTENT_ENCRYPTIONS)
@pytest.mark.parametrize("alg", jose.KEY_MANAGEMENT_ALGORITHMS)
def test_every_encryption_is_undone(alg: str, enc: str) -> None:
    """IDT-01, IDT-40..42: what joserfc encrypted to a key pair or to the client secret is read."""
    if alg.startswith(("RSA", "ECDH")):
        theirs = encryption_key(alg)
        key = jose.import_key(theirs.as_dict(private=True))
    else:
        theirs, key = content_key(alg, enc), jose.content_encryption_key(SECRET, alg, enc)
    assert jose.decrypt(encrypt("a.b.c", alg, enc, theirs), [key], alg=alg, enc=enc, limit=5000) == "a.b.c"


def test_encryption_to_x25519() -> None:
    """RFC 8037 3.2: ECDH-ES goes with X25519, too."""
    theirs = OKPKey.generate_key("X25519")
    key = jose.import_key(theirs.as_dict(private=True))
    token = encrypt("x", "ECDH-ES", "A128GCM", theirs)
    assert jose.decrypt(token, [key], alg="ECDH-ES", enc="A128GCM", limit=5000) == "x"


ALG: Final = "ECDH-ES+A128KW"
ENC: Final = "A128GCM"


def mine(**labels: Any) -> jose.Key:
    return jose.import_key({**encryption_key(ALG).as_dict(private=True), **labels})


def refuse(token: str, keys: list[jose.Key] | None = None, *, alg: str = ALG, limit: int = 5000) -> str:
    with pytest.raises(jose.JoseError) as caught:
        jose.decrypt(token, [mine()] if keys is None else keys, alg=alg, enc=ENC, limit=limit)
    assert "MARKER" not in repr(caught.value)
    assert caught.value.__context__ is None
    return str(caught.value)


def with_header(**header: Any) -> str:
    """Put another header before an encrypted token."""
    return f"{part(header)}.{encrypt('MARKER', ALG, ENC, encryption_key(ALG)).partition('.')[2]}"


def test_five_parts_of_garbage() -> None:
    """Bad input "five-part garbage": each kind of it has its own message."""
    good = encrypt("MARKER", ALG, ENC, encryption_key(ALG))
    assert "five parts" in refuse("a.b.c")
    assert "five parts" in refuse(good + ".x")
    assert "readable header" in refuse("a.b.c.d.e")
    assert "readable header" in refuse("ä.b.c.d.e")
    assert "readable header" in refuse(f"{part([])}.b.c.d.e")
    assert "readable header" in refuse(f"{part({'a': DEEP})}.b.c.d.e")
    assert "none of the keys" in refuse(f"{part({'alg': ALG, 'enc': ENC})}....")
    rest, _, tag = good.rpartition(".")
    assert "none of the keys" in refuse(f"{rest}.{'B' if tag[0] == 'A' else 'A'}{tag[1:]}")
    assert "none of the keys" in refuse(f"{part({'alg': ALG, 'enc': ENC})}.ä.ä.ä.ä")
    assert "too large" in refuse(good, limit=len(good) - 1)
    assert jose.decrypt(good, [mine()], alg=ALG, enc=ENC, limit=len(good)) == "MARKER"


def test_only_the_registered_algorithms_decrypt() -> None:
    """IDT-41, IDT-44: another alg or enc is refused before it is tried, RSA1_5 and PBES2 among them."""
    for header in (
        {"alg": "RSA1_5", "enc": ENC},
        {"alg": "PBES2-HS256+A128KW", "enc": ENC, "p2c": 10**9, "p2s": "AAAA"},
        {"alg": ALG, "enc": "A256GCM"},
        {"alg": "dir", "enc": ENC},
        {"enc": ENC},
        {"alg": [ALG], "enc": ENC},
    ):
        assert "registered algorithms" in refuse(with_header(**header))


def test_a_compressed_token_is_not_inflated() -> None:
    """Bad input "a JWE bomb" (IDT-44): compression is refused, whatever would come out."""
    bomb = encrypt(b"\0" * 3_000_000, ALG, ENC, encryption_key(ALG), zip="DEF")
    assert len(bomb) < 6000
    assert refuse(bomb, limit=6000) == "a compressed token"
    assert refuse(with_header(alg=ALG, enc=ENC, zip="nothing")) == "a compressed token"


def test_critical_headers_of_encrypted_tokens() -> None:
    """IDT-21: a critical header is not understood in encrypted tokens either."""
    assert "critical" in refuse(with_header(alg=ALG, enc=ENC, crit=["exp"], exp=1))


@pytest.mark.parametrize(
    "epk",
    [
        {},
        5,
        {"kty": "EC", "crv": "P-999", "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "crv": ["P-256"], "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "crv": "P-256", "x": "", "y": ""},
        {"kty": "EC", "use": ["sig"], "key_ops": ["sign"], "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        ECKey.generate_key("P-384").as_dict(private=False),
        OKPKey.generate_key("X25519").as_dict(private=False),
    ],
)
def test_odd_ephemeral_keys(epk: object) -> None:
    """RFC 7518 4.6: whatever a sender puts there, the token is refused and nothing else is raised."""
    assert "none of the keys" in refuse(with_header(alg=ALG, enc=ENC, epk=epk))


def test_direct_encryption_has_no_encrypted_key() -> None:
    """RFC 7516 5.2 (10): with ``dir`` the second part is empty."""
    key = jose.content_encryption_key(SECRET, "dir", ENC)
    head, _, rest = encrypt("x", "dir", ENC, content_key("dir", ENC)).partition("..")
    assert jose.decrypt(f"{head}..{rest}", [key], alg="dir", enc=ENC, limit=5000) == "x"
    assert "none of the keys" in refuse(f"{head}.AAAA.{rest}", [key], alg="dir")


def test_content_that_is_no_text() -> None:
    """IDT-43: octets that are not UTF-8 are neither a signed token nor JSON."""
    assert "none of the keys" in refuse(encrypt(b"MARKER \xff", ALG, ENC, encryption_key(ALG)))


def test_long_headers_of_encrypted_tokens() -> None:
    """A header with a certificate chain in it is no obstacle."""
    token = encrypt("x", ALG, ENC, encryption_key(ALG), x5c=["A" * 2000])
    assert jose.decrypt(token, [mine()], alg=ALG, enc=ENC, limit=5000) == "x"


@pytest.mark.parametrize(
    ("labels", "decrypts"),
    [
        ({"use": "enc", "alg": ALG}, True),
        ({"use": "sig"}, False),
        ({"alg": "ECDH-ES"}, False),
    ],
)
def test_what_a_decryption_key_is_for(labels: dict[str, Any], decrypts: bool) -> None:
    """RFC 7517 4: use and alg of the client's own keys count."""
    token = encrypt("x", ALG, ENC, encryption_key(ALG))
    if decrypts:
        assert jose.decrypt(token, [mine(**labels)], alg=ALG, enc=ENC, limit=5000) == "x"
    else:
        assert "none of the keys" in refuse(token, [mine(**labels)])


def test_a_public_key_does_not_decrypt() -> None:
    """A key without its private half is passed over."""
    public = jose.import_key(encryption_key(ALG).as_dict(private=False))
    assert "none of the keys" in refuse(encrypt("x", ALG, ENC, encryption_key(ALG)), [public])


def test_the_kid_selects_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """IDT-41, IDT-45: the named key is tried first, and the others after it."""
    other = ECKey.generate_key("P-256").as_dict(private=True)
    keys = [jose.import_key({**other, "kid": "old"}), mine(kid="new")]
    tried: list[str | None] = []
    original = jose._try_decrypt  # pyright: ignore[reportPrivateUsage]

    def record(token: str, key: jose.Key, *rest: Any) -> str | None:
        tried.append(key.kid)
        return original(token, key, *rest)

    monkeypatch.setattr(jose, "_try_decrypt", record)
    for kid, order in (("new", ["new"]), ("old", ["old", "new"]), ("gone", ["old", "new"])):
        token = encrypt("x", ALG, ENC, encryption_key(ALG), kid=kid)
        assert jose.decrypt(token, keys, alg=ALG, enc=ENC, limit=5000) == "x"
        assert tried == order
        tried.clear()


def test_nothing_is_imported_before_the_first_key() -> None:
    """The modules load neither joserfc nor cryptography; both wait for the first key."""
    code = (
        "import sys, ciba_core.jose.jose, ciba_core.jose.keys, ciba_core.tokens.signed_claims\n"
        "assert not {'joserfc', 'cryptography'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
