"""JSON Web Signatures, held against joserfc used directly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from ciba_core.jose import signing
from ciba_core.jose.algorithms import ASYMMETRIC_ALGORITHMS, SIGNATURE_ALGORITHMS
from ciba_core.jose.encoding import base64url
from ciba_core.jose.signing import MalformedJws, compact, encoded, half_hash, parse_jws, signing_input, verify
from tests.jose.joserfc_side import DEEP, HEAD, NOTHING, b64, ours, part, private_key, token_of, unb64
from tests.jwt_samples import taken_apart
from tests.made_keys import import_key


@pytest.mark.parametrize("alg", SIGNATURE_ALGORITHMS)
def test_a_signature_made_by_joserfc_verifies(alg: str) -> None:
    """IDT-07: each algorithm of the list verifies what another implementation signed."""
    jws = taken_apart(token_of(alg))
    assert verify(jws, ours(alg), alg)
    assert jws.claims == {"sub": "x"}


@pytest.mark.parametrize("alg", ASYMMETRIC_ALGORITHMS)
def test_a_signature_made_here_verifies_by_joserfc(alg: str) -> None:
    """RFC 7518 3: each algorithm signs in the form that other implementations expect."""
    key = import_key(private_key(alg).as_dict(private=True))
    octets = signing_input({"alg": alg}, {"sub": "ä"})
    token = compact(octets, signing.sign(octets, key, alg))
    signed, _, signature = token.rpartition(".")
    assert JWSRegistry.algorithms[alg].verify(signed.encode(), unb64(signature), private_key(alg))
    assert json.loads(unb64(signed.split(".")[1])) == {"sub": "ä"}


def test_a_header_that_was_encoded_before_signs_the_same() -> None:
    """RFC 7515 5.1: a signer may encode its header once and for all."""
    header, claims = {"alg": "ES256", "kid": "k"}, {"sub": "ä"}
    assert signing_input(encoded(header), claims) == signing_input(header, claims)


@pytest.mark.parametrize(("alg", "half"), [("ES256", 32), ("ES384", 48), ("ES512", 66)])
def test_r_and_s_keep_their_leading_zeros(alg: str, half: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7518 3.4: R and S are each as long as the order of the curve, however small they come out."""
    key = import_key(private_key(alg).as_dict(private=True))

    class Small:
        def sign(self, *_: object) -> bytes:
            return encode_dss_signature(1, 0x8000)

    monkeypatch.setattr(key.inner, "_raw_value", Small())
    octets = signing.sign(b"octets", key, alg)
    assert octets == (1).to_bytes(half, "big") + (0x8000).to_bytes(half, "big")


@pytest.mark.parametrize(("alg", "half"), [("ES256", 32), ("ES384", 48), ("ES512", 66)])
def test_r_and_s_in_any_other_form_are_refused(alg: str, half: int) -> None:
    """RFC 7518 3.4: the same two numbers in DER, or longer or shorter than the curve's order, do not verify."""
    signed, _, part = token_of(alg).rpartition(".")
    r, s = unb64(part)[:half], unb64(part)[half:]
    assert verify(taken_apart(f"{signed}.{b64(r + s)}"), ours(alg), alg)
    der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    for other in (der, r + b"\0" + s, b"\0" + r + b"\0" + s, (r + s)[:-1], r + s + b"\0", s + r):
        assert not verify(taken_apart(f"{signed}.{b64(other)}"), ours(alg), alg)


@pytest.mark.parametrize("alg", SIGNATURE_ALGORITHMS)
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
    assert not verify(jws, ours(alg), alg)


@pytest.mark.parametrize("alg", SIGNATURE_ALGORITHMS)
@pytest.mark.parametrize("signature", [b"", b"\0", b"\0" * 64, b"\xff" * 64, b"\0" * 256, b"\xff" * 512])
def test_signatures_of_any_shape_are_refused_quietly(alg: str, signature: bytes) -> None:
    """IDT-07: empty, short, long and all-zero signatures are wrong signatures, not exceptions."""
    signed = token_of(alg).rpartition(".")[0]
    assert not verify(taken_apart(f"{signed}.{b64(signature)}"), ours(alg), alg)


def test_verification_never_goes_by_the_algorithm_of_the_token() -> None:
    """IDT-08: a token verifies by the algorithm that the caller chose, and not by its own."""
    jws = taken_apart(token_of("RS256"))
    assert not verify(jws, ours("RS256"), "PS256")
    assert not verify(jws, ours("ES256"), "RS256")
    assert not verify(taken_apart(token_of("RS384")), ours("RS384"), "RS256")


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
    assert alg not in import_key(OKPKey.generate_key("X25519").as_dict(private=False)).verifies


def test_a_public_key_does_not_sign() -> None:
    """A key without its private half is refused before anything is computed."""
    with pytest.raises(ValueError, match="not for signing with ES256"):
        signing.sign(b"x", ours("ES256"), "ES256")


# --- compact form ----------------------------------------------------------------------------------------


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
        problem = parse_jws(token, depth_limit=8)
        assert isinstance(problem, MalformedJws)
        assert message in problem.reason


@given(st.binary(max_size=100))
def test_base64url_of_any_octets(octets: bytes) -> None:
    """RFC 7515 2: the encoding is that of the standard library without padding, and comes back as it was."""
    assert base64url(octets) == b64(octets)
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
    assert half_hash(alg, "G5kXH2wHvUra0sHlDy1iTkDJgsgUO1bN") == value
