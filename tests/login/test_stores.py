"""What is stored of a login: encrypted for one place, whole, and of this version."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any, Final

import pytest
from attrs import evolve
from joserfc import jwe
from joserfc.jwk import OctKey

from ciba_core import (
    AsyncStores,
    Begin,
    PrivateKeyJwt,
    RemoteSigner,
    Secret,
    Session,
    Step,
    StoredRecord,
    Stores,
    Transaction,
    UnsignedJwt,
    step,
)
from ciba_core.errors import (
    LoginUnderWay,
    SessionOfAnotherUser,
    StoredContentAltered,
    StoreError,
    UnknownStoreSecret,
    UnknownStoreVersion,
)
from ciba_core.jose.encryption import NotDecrypted, jwe_header, seal, unseal
from ciba_core.login.records import LoginRecords, StoredLogin
from ciba_core.login.sealing import Sealer
from ciba_core.provider.shared import NOTHING_SHARED
from ciba_core.states import FetchingKeys, SigningAuthentication
from tests.samples import (
    ACKNOWLEDGEMENT,
    CLIENT,
    NOW,
    PROVIDER,
    REQUEST,
    TOKENS,
    answer,
    awaiting,
    awaiting_keys,
    fetching,
    id_token,
    ones,
    pending,
    polling,
    reply,
)

OLD: Final = "an old secret of thirty-two octets or so"
NEW: Final = "a new secret of thirty-two octets or more"
PLACE: Final = ("session", "key", "client", "https://op.example")
TEXT: Final = '{"access_token":"SlAV32hkKG"}'


def header_of(sealed: str) -> dict[str, Any]:
    part = sealed.partition(".")[0]
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return header


def with_header(sealed: str, **members: object) -> str:
    octets = json.dumps(header_of(sealed) | members).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode() + "." + sealed.partition(".")[2]


# Sealing


def test_sealed_texts_come_back() -> None:
    """What was sealed for a place comes back there, and is not the same twice."""
    sealer = Sealer([NEW])
    for text in (TEXT, "", "Grüße €\U0001f600", "x" * 100_000):
        sealed = sealer.seal(text, PLACE)
        assert sealer.unseal(sealed, PLACE) == text
        assert sealer.seal(text, PLACE) != sealed
        assert sealed.isascii()


def test_the_form_of_a_sealed_text() -> None:
    """A compact JWE under dir and A256GCM, its key by HKDF (RFC 5869) from secret and place: stays so."""
    sealed = Sealer([NEW]).seal(TEXT, PLACE)
    root = hmac.new(b"\0" * 32, NEW.encode(), hashlib.sha256).digest()

    def expand(*purpose: str) -> bytes:
        info = json.dumps(["ciba_core", 1, *purpose], separators=(",", ":")).encode()
        return hmac.new(root, info + b"\x01", hashlib.sha256).digest()

    kid = base64.urlsafe_b64encode(expand("kid")[:12]).decode()
    assert header_of(sealed) == {"alg": "dir", "enc": "A256GCM", "v": 1, "kid": kid}
    key = OctKey.import_key(
        {"kty": "oct", "k": base64.urlsafe_b64encode(expand("content", *PLACE)).rstrip(b"=").decode()}
    )
    registry = jwe.JWERegistry(algorithms=["dir", "A256GCM"], strict_check_header=False)
    assert jwe.decrypt_compact(sealed, key, registry=registry).plaintext == TEXT.encode()


def test_secrets_rotate() -> None:
    """The first secret encrypts, all decrypt, in whatever order they are given."""
    old = Sealer([OLD]).seal(TEXT, PLACE)
    both = Sealer([NEW, OLD])
    assert both.unseal(old, PLACE) == TEXT
    assert Sealer([OLD, NEW]).unseal(old, PLACE) == TEXT
    new = both.seal(TEXT, PLACE)
    assert Sealer([NEW]).unseal(new, PLACE) == TEXT
    with pytest.raises(UnknownStoreSecret):
        Sealer([NEW]).unseal(old, PLACE)
    with pytest.raises(UnknownStoreSecret):
        Sealer([OLD]).unseal(new, PLACE)


@pytest.mark.parametrize("number", range(4))
def test_a_text_is_sealed_for_one_place(number: int) -> None:
    """What was stored under another key, as something else, for another client or provider is not taken."""
    sealer = Sealer([NEW])
    other = (*PLACE[:number], "other", *PLACE[number + 1 :])
    with pytest.raises(StoredContentAltered):
        sealer.unseal(sealer.seal(TEXT, other), PLACE)


def test_places_do_not_run_together() -> None:
    """Where one part of a place ends and the next begins counts."""
    sealer = Sealer([NEW])
    with pytest.raises(StoredContentAltered):
        sealer.unseal(sealer.seal(TEXT, ("a", "b")), ("ab", ""))
    with pytest.raises(StoredContentAltered):
        sealer.unseal(sealer.seal(TEXT, ('a","b',)), ("a", "b"))


def test_altered_texts_are_told() -> None:
    """A change of any character is noticed, and what is no sealed text at all too."""
    sealer = Sealer([NEW])
    sealed = sealer.seal(TEXT, PLACE)
    for position, character in enumerate(sealed):
        altered = sealed[:position] + ("A" if character != "A" else "B") + sealed[position + 1 :]
        with pytest.raises(StoreError):
            sealer.unseal(altered, PLACE)
    for text in (
        "",
        TEXT,
        "....",
        sealed[:-1],
        sealed + "A",
        sealed + ".A",
        sealed.rpartition(".")[0],
        "€",
        "\ud800",
    ):
        with pytest.raises(StoredContentAltered):
            sealer.unseal(text, PLACE)


@pytest.mark.parametrize("found", [b"\x00\xff", b"", None, 1, ["x"]])
def test_what_is_no_text_is_told(found: Any) -> None:
    """Whatever a store brings that is not text is its fault, and told as such."""
    with pytest.raises(StoredContentAltered, match="not text"):
        Sealer([NEW]).unseal(found, PLACE)


@pytest.mark.parametrize("version", [0, 2, "1", True, None, [1]])
def test_unknown_versions_are_told(version: object) -> None:
    """A text of another version is named as that, before anything else of it is looked at."""
    sealer = Sealer([NEW])
    with pytest.raises(UnknownStoreVersion):
        sealer.unseal(with_header(sealer.seal(TEXT, PLACE), v=version), PLACE)


@pytest.mark.parametrize("kid", ["other", None, 1, [], {}])
def test_unknown_secrets_are_told(kid: object) -> None:
    """A text under an unknown secret is named as that."""
    sealer = Sealer([NEW])
    with pytest.raises(UnknownStoreSecret):
        sealer.unseal(with_header(sealer.seal(TEXT, PLACE), kid=kid), PLACE)


@pytest.mark.parametrize(
    "members", [{"alg": "none"}, {"enc": "A128GCM"}, {"zip": "DEF"}, {"crit": ["v"]}, {"x": 1}]
)
def test_the_header_cannot_be_changed(members: dict[str, object]) -> None:
    """The header is under the seal too; other algorithms and compression are not even tried."""
    sealer = Sealer([NEW])
    with pytest.raises(StoredContentAltered):
        sealer.unseal(with_header(sealer.seal(TEXT, PLACE), **members), PLACE)


def test_a_text_under_another_secret_with_our_kid() -> None:
    """A secret's name is no proof of it."""
    ours, theirs = Sealer([NEW]).seal(TEXT, PLACE), Sealer([OLD]).seal(TEXT, PLACE)
    with pytest.raises(StoredContentAltered):
        Sealer([NEW]).unseal(ours.partition(".")[0] + "." + theirs.partition(".")[2], PLACE)


@pytest.mark.parametrize(
    ("secrets", "error", "problem"),
    [
        ([], ValueError, "secrets must not be empty"),
        (["short"], ValueError, "secrets must have at least 32 octets each"),
        ([NEW, "x" * 31], ValueError, "secrets must have at least 32 octets each"),
        ("x" * 31, ValueError, "secrets must have at least 32 octets each"),
        ([NEW.encode()], TypeError, "secrets must be a sequence of secrets, each a str or Secret"),
        (None, TypeError, "secrets must be a sequence of secrets, each a str or Secret"),
        ({NEW: OLD}, TypeError, "secrets must be a sequence of secrets, each a str or Secret"),
    ],
)
def test_bad_secrets(secrets: Any, error: type[Exception], problem: str) -> None:
    """A secret that is no key is refused by the name of the parameter, and not shown."""
    with pytest.raises(error) as caught:
        Sealer(secrets)
    assert str(caught.value) == problem


def test_secrets_of_every_form() -> None:
    """A secret is text, wrapped or not, of at least 32 octets; one alone need not be in a list."""
    sealed = Sealer([NEW]).seal(TEXT, PLACE)
    given: list[Any] = [NEW, Secret(NEW), (NEW,), [Secret(NEW), OLD]]
    for secrets in given:
        assert Sealer(secrets).unseal(sealed, PLACE) == TEXT
    Sealer(["é" * 16])


def test_a_sealer_shows_nothing() -> None:
    """Neither a sealer nor what holds one shows a secret; nor do the errors show what was stored."""
    store: Any = object()
    other: Any = object()
    for value in (
        Sealer([NEW]),
        Stores(transactions=store, sessions=other, secrets=[NEW]),
        StoredRecord(TEXT, "1"),
    ):
        assert "secret of" not in repr(value)
        assert "SlAV32hkKG" not in repr(value)


# The part of jose


def test_seal_and_unseal() -> None:
    """Only the same key opens what was sealed; whatever is no JWE is refused."""
    key, other = b"k" * 32, b"o" * 32
    token = seal(TEXT, key, {"v": 1})
    assert unseal(token, key) == TEXT
    header = jwe_header(token)
    assert not isinstance(header, NotDecrypted)
    assert header["v"] == 1
    assert isinstance(unseal(token, other), NotDecrypted)
    for text in ("", "x", "e30", "W10.a.b.c.d"[:3]):
        if text == "e30":
            assert jwe_header(text) == {}
        else:
            assert jwe_header(text) == NotDecrypted("an encrypted token without a readable header")


# The two bundles


@pytest.mark.parametrize("bundle", [Stores, AsyncStores])
def test_stores_check_their_secrets(bundle: Any) -> None:
    """The secrets are checked when the stores are put together; a ready-made sealer will do, too."""
    store, other = object(), object()
    sealer = Sealer([NEW])
    assert bundle(transactions=store, sessions=other, secrets=sealer).sealer is sealer
    assert bundle(transactions=store, sessions=other, secrets=[NEW]).sealer.secrets == (Secret(NEW),)
    with pytest.raises(ValueError, match="at least 32 octets"):
        bundle(transactions=store, sessions=other, secrets=["short"])


@pytest.mark.parametrize("bundle", [Stores, AsyncStores])
def test_one_store_for_both_is_none(bundle: Any) -> None:
    """Login and session have the same key: in one store each would overwrite the other, after the approval."""
    store = object()
    with pytest.raises(ValueError, match=r"^sessions must be another store than transactions"):
        bundle(transactions=store, sessions=store, secrets=[NEW])


# Sessions


def session(login: str = "1", **claims: Any) -> Session:
    found = answer(polling(), reply(200, {**TOKENS, "id_token": id_token(**claims)})).transaction.tokens
    assert found is not None
    return Session(found, login)


def plain_session() -> Session:
    return Session(evolve(session().tokens, id_token=None, id_token_claims=None), "1")


def test_whose_session_it_is() -> None:
    """Issuer and subject together name a user; without an ID Token there is no telling."""
    assert session().user == ("https://server.example.com", "248289761001")
    assert plain_session().user is None


def test_which_session_may_replace_another() -> None:
    """Only a session of the same user may, of the same issuer, known for certain."""
    old, new = evolve(session("1"), revision="7"), session("2")
    assert old.replaced_by(new) == new
    assert old.replaced_by(new).revision == "7"
    other_claims = dict(session().tokens.id_token_claims or {}) | {"iss": "https://other.example"}
    same_subject = Session(evolve(session().tokens, id_token_claims=other_claims), "1")
    for old, new in (
        (session(), session(sub="another")),
        (session(), same_subject),
        (session(), plain_session()),
        (plain_session(), session()),
        (plain_session(), plain_session()),
    ):
        with pytest.raises(SessionOfAnotherUser) as caught:
            old.replaced_by(new)
        assert "248289761001" not in str(caught.value)


def test_a_session_is_renewed() -> None:
    """Refreshed tokens take the place of the old ones in the same session, if they are of the same user."""
    for old in (evolve(session("1"), revision="7"), evolve(plain_session(), revision="7")):
        tokens = evolve(old.tokens, access_token=Secret("new"))
        new = old.renewed(tokens)
        assert new == Session(tokens, "1")
        assert new.revision == "7"
    for one, other in (
        (session(), session(sub="another")),
        (session(), plain_session()),
        (plain_session(), session()),
    ):
        with pytest.raises(SessionOfAnotherUser):
            one.renewed(other.tokens)


def test_a_session_is_made_of_tokens() -> None:
    """Nothing else can be a session, and none shows its tokens."""
    with pytest.raises(TypeError, match="tokens must be TokenResponse"):
        Session("token", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert str(TOKENS["access_token"]) not in repr(session())
    assert "248289761001" not in repr(session())


# Records


def records(**changes: Any) -> LoginRecords:
    settings: dict[str, Any] = {
        "client": CLIENT,
        "provider": PROVIDER,
        "sealer": Sealer([NEW]),
        "session_key": "key",
    }
    return LoginRecords(**settings | changes)


def record(text: str) -> StoredRecord:
    return StoredRecord(text, "1")


@pytest.mark.parametrize(
    "transaction",
    [awaiting(), pending(), polling(), fetching(), answer(polling(), reply(200, TOKENS)).transaction, None],
    ids=lambda tx: type(tx.state).__name__ if tx else "stored",
)
def test_logins_come_back(transaction: Transaction | None) -> None:
    """A login comes back as it was, in whatever state."""
    login = StoredLogin(id="1", transaction=transaction, busy_until=NOW + 1.5, busy_for=1.5, expires_at=NOW)
    text = records().seal(login)
    assert records().unseal(record(text)) == login
    assert records(sealer=Sealer([OLD, NEW])).unseal(record(text)) == login


def test_sessions_come_back() -> None:
    """A session comes back as it was."""
    for each in (session(), plain_session()):
        found = records().unseal_session(record(records().seal_session(each)))
        assert found == each
        assert found.revision == "1"


@pytest.mark.parametrize(
    "changes",
    [
        {"session_key": "another"},
        {"client": evolve(CLIENT, client_id="another")},
        {"provider": evolve(PROVIDER, issuer="https://another.example")},
    ],
    ids=["key", "client", "provider"],
)
def test_records_belong_to_one_key_client_and_provider(changes: dict[str, Any]) -> None:
    """A record of another key, client or provider is not taken, nor is a session for a login."""
    login, its_session = (
        records().seal(StoredLogin(id="1", transaction=pending())),
        records().seal_session(session()),
    )
    with pytest.raises(StoredContentAltered):
        records(**changes).unseal(record(login))
    with pytest.raises(StoredContentAltered):
        records(**changes).unseal_session(record(its_session))
    with pytest.raises(StoredContentAltered):
        records().unseal(record(its_session))
    with pytest.raises(StoredContentAltered):
        records().unseal_session(record(login))


@pytest.mark.parametrize("key", ["", "a\x00b", "\ud800"])
def test_session_keys_are_text(key: str) -> None:
    """A session key is text that any store can have for a key."""
    with pytest.raises(ValueError, match="session_key must"):
        records(session_key=key)


# Logins


def test_a_login_begins() -> None:
    """A login has a name of its own, from the client's source of randomness, and nothing else."""
    login = StoredLogin.begin(evolve(CLIENT, entropy=ones))
    assert login == StoredLogin(id="_" * 21 + "w", transaction=None)


def test_what_is_stored_of_a_step() -> None:
    """While a request is under way the login is busy: as long as it may take, and a little more."""
    begun = step(Transaction(client=CLIENT, provider=PROVIDER), Begin(REQUEST), NOW)
    login = StoredLogin.begin(CLIENT).at(begun, NOW)
    assert login.transaction == begun.transaction
    assert (login.busy_until, login.busy_for) == (NOW + 55, 55)
    assert CLIENT.connect_timeout + CLIENT.timeout + 5 == 55
    acknowledged = answer(begun.transaction, reply(200, ACKNOWLEDGEMENT))
    login = login.at(acknowledged, NOW)
    assert (login.seconds_busy(NOW), login.expires_at) == (0, NOW + 120)
    # With tokens in hand it has no end of its own any more, but it is kept as long as before.
    login = login.at(answer(polling(), reply(200, TOKENS), shared=NOTHING_SHARED), NOW)
    assert isinstance(login.transaction, Transaction)
    assert isinstance(login.transaction.state, FetchingKeys)
    assert login.expires_at == NOW + 120
    assert login.stored() == evolve(login, transaction=None)


def test_a_draft_keeps_a_login_busy() -> None:
    """While signatures are made the login is busy: as long as they are of use, and a little more."""
    client = evolve(CLIENT, authentication=PrivateKeyJwt(RemoteSigner("hsm", alg="ES256"), lifetime=45))
    begun = step(Transaction(client=client, provider=PROVIDER), Begin(REQUEST), NOW)
    assert begun.draft is not None
    login = StoredLogin.begin(client).at(begun, NOW + 2)
    assert login.seconds_busy(NOW + 2) == 48
    assert login.seconds_busy(NOW + 47) == 3
    with pytest.raises(LoginUnderWay):
        login.check_over(NOW + 10_000)
    # What can be signed at any time does not keep others from going on for good.
    draft = evolve(begun.draft, unsigned=(("a", UnsignedJwt(b"a.b", RemoteSigner("hsm", alg="ES256"))),))
    waiting = evolve(begun.transaction, state=SigningAuthentication(REQUEST.requested(), draft))
    assert StoredLogin.begin(client).at(Step(waiting, draft=draft), NOW).seconds_busy(NOW) == 5


def test_how_long_a_login_is_kept() -> None:
    """A day longer than the provider knows it, or from now on."""
    login = StoredLogin(id="1", transaction=None, expires_at=NOW + 120)
    assert login.forget_at(NOW) == NOW + 120 + 86_400
    assert login.forget_at(NOW + 500) == NOW + 500 + 86_400


def test_how_long_a_login_is_busy() -> None:
    """Until its request has had its time; never longer than that, whatever the clocks of others say."""
    login = StoredLogin(id="1", transaction=polling(), busy_until=NOW + 55, busy_for=55)
    assert login.seconds_busy(NOW) == 55
    assert login.seconds_busy(NOW + 50) == 5
    assert login.seconds_busy(NOW + 55) == 0
    assert login.seconds_busy(NOW + 99) == 0
    assert login.seconds_busy(NOW - 10_000) == 55


@pytest.mark.parametrize(
    ("transaction", "over_at"),
    [
        (awaiting(), None),
        (pending(), NOW + 120),
        (polling(), NOW + 120),
        (fetching(), None),
        (awaiting_keys(), None),
        (answer(awaiting(), reply(400, {"error": "invalid_scope"})).transaction, NOW),
        (answer(polling(), reply(200, TOKENS)).transaction, None),
        (None, NOW),
    ],
    ids=lambda value: type(value.state).__name__ if isinstance(value, Transaction) else "",
)
def test_when_another_login_may_begin(transaction: Transaction | None, over_at: float | None) -> None:
    """When one ended badly, its tokens are in the session, or its time is over; not while it may have tokens."""
    login = StoredLogin(id="1", transaction=transaction)
    assert login.is_finished == (transaction is None or transaction.is_finished)
    if over_at is None or over_at > NOW:
        with pytest.raises(LoginUnderWay, match="session_key"):
            login.check_over((over_at or NOW + 1e9) - 1)
    if over_at is not None:
        login.check_over(over_at)
    if over_at is not None and over_at > NOW:
        # A poll that was sent in time is answered later.
        with pytest.raises(LoginUnderWay):
            evolve(login, busy_until=over_at + 9).check_over(over_at + 8)
        evolve(login, busy_until=over_at + 9).check_over(over_at + 9)
