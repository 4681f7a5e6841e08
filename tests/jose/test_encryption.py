"""JSON Web Encryption, held against joserfc used directly."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, Final

import pytest
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from ciba_core.jose import encryption
from ciba_core.jose.algorithms import CONTENT_ENCRYPTIONS, KEY_MANAGEMENT_ALGORITHMS
from ciba_core.jose.encryption import NotDecrypted, decrypt
from ciba_core.jose.key_import import Key, content_encryption_key
from tests.jose.joserfc_side import DEEP, SECRET, part
from tests.made_keys import import_key


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


@pytest.mark.parametrize("enc", CONTENT_ENCRYPTIONS)
@pytest.mark.parametrize("alg", KEY_MANAGEMENT_ALGORITHMS)
def test_every_encryption_is_undone(alg: str, enc: str) -> None:
    """IDT-01, IDT-40..42: what joserfc encrypted to a key pair or to the client secret is read."""
    if alg.startswith(("RSA", "ECDH")):
        theirs = encryption_key(alg)
        key = import_key(theirs.as_dict(private=True))
    else:
        theirs, key = content_key(alg, enc), content_encryption_key(SECRET, alg, enc)
    assert decrypt(encrypt("a.b.c", alg, enc, theirs), [key], alg=alg, enc=enc, limit=5000) == "a.b.c"


def test_encryption_to_x25519() -> None:
    """RFC 8037 3.2: ECDH-ES goes with X25519, too."""
    theirs = OKPKey.generate_key("X25519")
    key = import_key(theirs.as_dict(private=True))
    token = encrypt("x", "ECDH-ES", "A128GCM", theirs)
    assert decrypt(token, [key], alg="ECDH-ES", enc="A128GCM", limit=5000) == "x"


ALG: Final = "ECDH-ES+A128KW"
ENC: Final = "A128GCM"


def mine(**labels: Any) -> Key:
    return import_key({**encryption_key(ALG).as_dict(private=True), **labels})


def refuse(token: str, keys: list[Key] | None = None, *, alg: str = ALG, limit: int = 5000) -> str:
    refused = decrypt(token, [mine()] if keys is None else keys, alg=alg, enc=ENC, limit=limit)
    assert isinstance(refused, NotDecrypted)
    assert "MARKER" not in repr(refused)
    return refused.reason


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
    assert decrypt(good, [mine()], alg=ALG, enc=ENC, limit=len(good)) == "MARKER"


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
    key = content_encryption_key(SECRET, "dir", ENC)
    head, _, rest = encrypt("x", "dir", ENC, content_key("dir", ENC)).partition("..")
    assert decrypt(f"{head}..{rest}", [key], alg="dir", enc=ENC, limit=5000) == "x"
    assert "none of the keys" in refuse(f"{head}.AAAA.{rest}", [key], alg="dir")


def test_content_that_is_no_text() -> None:
    """IDT-43: octets that are not UTF-8 are neither a signed token nor JSON."""
    assert "none of the keys" in refuse(encrypt(b"MARKER \xff", ALG, ENC, encryption_key(ALG)))


def test_long_headers_of_encrypted_tokens() -> None:
    """A header with a certificate chain in it is no obstacle."""
    token = encrypt("x", ALG, ENC, encryption_key(ALG), x5c=["A" * 2000])
    assert decrypt(token, [mine()], alg=ALG, enc=ENC, limit=5000) == "x"


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
        assert decrypt(token, [mine(**labels)], alg=ALG, enc=ENC, limit=5000) == "x"
    else:
        assert "none of the keys" in refuse(token, [mine(**labels)])


def test_a_public_key_does_not_decrypt() -> None:
    """A key without its private half is passed over."""
    public = import_key(encryption_key(ALG).as_dict(private=False))
    assert "none of the keys" in refuse(encrypt("x", ALG, ENC, encryption_key(ALG)), [public])


def test_the_kid_selects_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """IDT-41, IDT-45: the named key is tried first, and the others after it."""
    other = ECKey.generate_key("P-256").as_dict(private=True)
    keys = [import_key({**other, "kid": "old"}), mine(kid="new")]
    tried: list[str | None] = []
    original = encryption._try_decrypt  # pyright: ignore[reportPrivateUsage]

    def record(token: str, key: Key, *rest: Any) -> str | None:
        tried.append(key.kid)
        return original(token, key, *rest)

    monkeypatch.setattr(encryption, "_try_decrypt", record)
    for kid, order in (("new", ["new"]), ("old", ["old", "new"]), ("gone", ["old", "new"])):
        token = encrypt("x", ALG, ENC, encryption_key(ALG), kid=kid)
        assert decrypt(token, keys, alg=ALG, enc=ENC, limit=5000) == "x"
        assert tried == order
        tried.clear()
