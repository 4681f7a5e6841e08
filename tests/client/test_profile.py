from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest
from joserfc.jwk import RSAKey

from ciba_core import (
    AuthenticationRequest,
    Begin,
    BindingMessageLimits,
    ClientAuthentication,
    ClientConfig,
    ClientSecretBasic,
    ClientSecretJwt,
    ClientSecretPost,
    HttpRequest,
    IdTokenPolicy,
    NoClientAuthentication,
    Notification,
    NotificationReceived,
    PollingPolicy,
    PrivateKeyJwt,
    Profile,
    RemoteSigner,
    RequestSigning,
    Secret,
    SelfSignedTlsClientAuth,
    SigningKey,
    Step,
    TlsClientAuth,
    Transaction,
    UserInfoPolicy,
    hints,
    profiles,
    step,
)
from ciba_core.errors import AccessDenied, BindingMessageUnfit, ExpiredToken, LocalProtocolError
from ciba_core.hints import HintFormat
from ciba_core.jose.unsigned_jwt import Audience
from tests.jwt_samples import FAPI_SIGNER, opened
from tests.samples import ACKNOWLEDGEMENT, AUTH_REQ_ID, NOW, PROVIDER, answer, fire, id_token, reply, sent

ALL: list[Profile] = [getattr(profiles, name) for name in profiles.__all__]
PS256_SIGNER = SigningKey.from_jwk(RSAKey.generate_key(2048).as_dict(private=True), alg="PS256")
SECRET = "a secret of at least thirty-two octets"
METHODS: list[ClientAuthentication] = [
    ClientSecretBasic(SECRET),
    ClientSecretPost(SECRET),
    ClientSecretJwt(SECRET),
    PrivateKeyJwt(FAPI_SIGNER),
    TlsClientAuth(),
    SelfSignedTlsClientAuth(),
    NoClientAuthentication(),
]


RESERVED = ("sub", "iss", "exp", "jti", "client_id", "client_secret", "request", "auth_req_id")
"""Some of what a parameter cannot be called."""


def client(**changes: Any) -> ClientConfig:
    arguments: dict[str, Any] = {
        "client_id": "x",
        "authentication": PrivateKeyJwt(FAPI_SIGNER),
        "id_token": IdTokenPolicy(signed_response_alg="ES256"),
    }
    return ClientConfig(**(arguments | changes))


FAPI_CLIENT: dict[str, Any] = {
    "request_signing": RequestSigning(FAPI_SIGNER),
    "dpop_bound_access_tokens": True,
}


def request(**changes: Any) -> AuthenticationRequest:
    arguments: dict[str, Any] = {"scope": "openid", "login_hint": "alice"}
    return AuthenticationRequest(**(arguments | changes))


def refused(profile: Profile, **changes: Any) -> str:
    """What the profile says of a request."""
    with pytest.raises(LocalProtocolError, match=rf"\(profile {profile.name}\)$") as caught:
        profile.check_request(request(**changes))
    assert not isinstance(caught.value, BindingMessageUnfit)
    return str(caught.value)


def refused_client(profile: Profile, **changes: Any) -> str:
    """What the profile says of a client."""
    with pytest.raises(ValueError, match=rf"\(profile {profile.name}\)$") as caught:
        profile.check_client(client(**changes))
    return str(caught.value)


def methods(profile: Profile) -> set[str]:
    """The client authentication methods that the profile takes."""
    taken: set[str] = set()
    for method in METHODS:
        try:
            profile.check_client(client(authentication=method, **FAPI_CLIENT))
        except ValueError as problem:
            assert str(problem).startswith("authentication must be")  # noqa: PT017  # or else it is taken
        else:
            taken.add(method.method)
    return taken


# ---- what every profile is


def test_generic_asks_for_nothing() -> None:
    """CIBA-7.1: the default is the standard alone."""
    assert Profile(name="generic") == profiles.GENERIC
    assert profiles.GENERIC.scope == ("openid",)
    assert profiles.GENERIC.polling == PollingPolicy()
    for method in METHODS:
        for mode in ("poll", "ping", "push"):
            profiles.GENERIC.check_client(client(authentication=method, backchannel_token_delivery_mode=mode))
    profiles.GENERIC.check_request(
        request(
            binding_message="Überweisung 25 €",
            user_code="1",
            requested_expiry=10**6,
            acr_values="a",
            extra={"x": 1},
        )
    )
    profiles.GENERIC.check_request(request(scope="email", openid=False))


@pytest.mark.parametrize("profile", ALL, ids=lambda profile: profile.name)
def test_profiles_are_data(profile: Profile) -> None:
    """A profile is a value: equal to its copy, hashable, changed by one `evolve`, none of a class of its own."""
    assert type(profile) is Profile
    assert attrs.evolve(profile) == profile
    assert hash(attrs.evolve(profile)) == hash(profile)
    changed = attrs.evolve(profile, requested_expiry=(1, 60))
    assert changed != profile
    with pytest.raises(LocalProtocolError):
        changed.check_request(request(requested_expiry=61))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        profile.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("profile", ALL, ids=lambda profile: profile.name)
def test_a_profile_says_what_to_ask_for(profile: Profile) -> None:
    """V-AUTH0-05, CAM-07: the scope of a profile goes into a request as it is."""
    assert request(scope=profile.scope).scope == "openid"


def test_names_of_profiles_are_distinct() -> None:
    """Messages say which profile speaks."""
    assert len({profile.name for profile in ALL}) == len(ALL)


# ---- wrong profiles


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": ""}, ValueError),
        ({"name": None}, TypeError),
        ({"delivery_modes": ()}, ValueError),
        ({"delivery_modes": ("pull",)}, ValueError),
        ({"delivery_modes": "poll"}, TypeError),
        ({"authentication_methods": "private_key_jwt"}, TypeError),
        ({"authentication_methods": ("",)}, ValueError),
        ({"signing_algorithms": ("none",)}, ValueError),
        ({"signing_algorithms": ()}, ValueError),
        ({"signing_algorithms": "PS256"}, TypeError),
        ({"signed_requests": True}, ValueError),
        ({"request_lifetime": 3601}, ValueError),
        ({"request_lifetime": 0}, ValueError),
        ({"assertion_audience": ()}, ValueError),
        ({"assertion_audience": None}, TypeError),
        ({"request_audience": 5}, TypeError),
        ({"fixed_audiences": 1}, TypeError),
        ({"send_client_id": None}, TypeError),
        ({"sender_constrained_tokens": "dpop"}, TypeError),
        ({"polling": 0}, TypeError),
        ({"scope": "openid"}, TypeError),
        ({"scope": (5,)}, TypeError),
        ({"scope": ("email",)}, ValueError),
        ({"single_scope": "("}, ValueError),
        ({"single_scope": ("a",)}, TypeError),
        ({"required": "login_hint"}, TypeError),
        ({"required": ("login_hint",), "forbidden": ("login_hint",)}, ValueError),
        ({"required": ("login_hint", "id_token_hint")}, ValueError),
        ({"one_of": ("claims",), "forbidden": ("claims", "resource")}, ValueError),
        ({"forbidden": ("login_hint", "login_hint_token", "id_token_hint")}, ValueError),
        ({"forbidden": ("a\nb",)}, ValueError),
        ({"parameter_names": ()}, TypeError),
        ({"parameter_names": {"expiry": "request_expiry"}}, ValueError),
        ({"parameter_names": {"requested_expiry": 5}}, TypeError),
        ({"parameter_names": {"requested_expiry": "user_code"}}, ValueError),
        ({"parameter_names": {"requested_expiry": "a", "user_code": "a"}}, ValueError),
        *(({"parameter_names": {"login_hint": name}}, ValueError) for name in RESERVED),
        ({"login_hint_formats": ("tel:",)}, TypeError),
        ({"login_hint_formats": HintFormat.PHONE}, TypeError),
        ({"login_hint_formats": (HintFormat.PHONE,), "forbidden": ("login_hint",)}, ValueError),
        ({"binding_message": 20}, TypeError),
        ({"requested_expiry": 300}, TypeError),
        ({"requested_expiry": (1, 2, 3)}, TypeError),
        ({"requested_expiry": (5, 1)}, ValueError),
        ({"requested_expiry": (0, 1)}, ValueError),
        ({"denied_may_mean_expired": 1}, TypeError),
    ],
    ids=str,
)
def test_wrong_profiles(changes: dict[str, Any], error: type[Exception]) -> None:
    """A member of the wrong kind, or members that contradict each other, fail when built; the member is named."""
    arguments: dict[str, Any] = {"name": "mine"}
    with pytest.raises(error, match=rf"^{next(iter(changes))}\b"):
        Profile(**(arguments | changes))
    with pytest.raises(error, match=rf"^{next(iter(changes))}\b"):
        attrs.evolve(profiles.GENERIC, **changes)


def test_unknown_members() -> None:
    """A member that a profile does not have is a TypeError that names it, in `evolve`, too."""
    unknown: dict[str, Any] = {"binding_mesage": BindingMessageLimits()}
    with pytest.raises(TypeError, match="binding_mesage"):
        Profile(name="mine", **unknown)
    with pytest.raises(TypeError, match="binding_mesage"):
        attrs.evolve(profiles.AUTH0, **unknown)


def test_lists_will_do() -> None:
    """Where a tuple is meant, a list is taken, and cannot be changed afterwards."""
    given = ["poll"]
    made = Profile(
        name="mine",
        delivery_modes=given,
        required=["login_hint"],
        login_hint_formats=[HintFormat.PHONE],
        requested_expiry=[1, 5],
    )
    given.append("push")
    assert made.delivery_modes == ("poll",)
    assert hash(made)


@pytest.mark.parametrize(("allowed", "alg"), [("EdDSA", "Ed25519"), ("Ed25519", "EdDSA"), ("EdDSA", "EdDSA")])
def test_an_algorithm_with_two_names_is_one(allowed: str, alg: str) -> None:
    """REG-07, RFC 9864: by whichever name a profile allows it, a client may use it by the other."""
    profile = Profile(name="mine", signing_algorithms=(allowed,))
    changes = {
        "authentication": PrivateKeyJwt(RemoteSigner("x", alg=alg)),
        "id_token": IdTokenPolicy(signed_response_alg=alg),
    }
    profile.check_client(client(**changes))
    assert refused_client(profile, **(changes | {"id_token": IdTokenPolicy()})).startswith("id_token")


# ---- FAPI-CIBA


FAPI = profiles.FAPI_CIBA


def test_fapi_client() -> None:
    """FAPI-01, FAPI-02, FAPI-14, FAPI-20: what a FAPI client looks like, in poll and ping mode."""
    for mode in ("poll", "ping"):
        FAPI.check_client(client(backchannel_token_delivery_mode=mode, **FAPI_CLIENT))
    certificate = FAPI_CLIENT | {
        "authentication": TlsClientAuth(),
        "dpop_bound_access_tokens": False,
        "tls_client_certificate_bound_access_tokens": True,
    }
    FAPI.check_client(client(**certificate))


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        pytest.param(
            {"backchannel_token_delivery_mode": "push"},
            "backchannel_token_delivery_mode",
            id="FAPI-05 FAPI-33",
        ),
        pytest.param({"request_signing": None}, "request_signing", id="FAPI-02"),
        pytest.param({"id_token": IdTokenPolicy()}, "id_token", id="FAPI-15"),
        pytest.param({"id_token": IdTokenPolicy(signed_response_alg="ES384")}, "id_token", id="FAPI-14"),
        pytest.param(
            {"userinfo": UserInfoPolicy(signed_response_alg="RS256")}, "userinfo", id="FAPI-14 UserInfo"
        ),
        pytest.param({"dpop_bound_access_tokens": False}, "dpop_bound_access_tokens", id="FAPI2-01"),
        pytest.param(
            {"authentication": PrivateKeyJwt(FAPI_SIGNER, audience=Audience.TOKEN_ENDPOINT)},
            "authentication",
            id="FAPI-34",
        ),
        pytest.param(
            {"authentication": PrivateKeyJwt(FAPI_SIGNER, audience=[Audience.ISSUER])},
            "authentication",
            id="FAPI2-04",
        ),
        pytest.param(
            {"request_signing": RequestSigning(FAPI_SIGNER, audience="https://other.example")},
            "request_signing",
            id="CIBA-7.1.1-06",
        ),
    ],
)
def test_no_fapi_client(changes: dict[str, Any], setting: str) -> None:
    """FAPI: each strict choice is checked by itself; the setting is named."""
    assert refused_client(FAPI, **(FAPI_CLIENT | changes)).startswith(setting)


def test_fapi_methods() -> None:
    """FAPI-01, FAPI-18, FAPI2-02: `private_key_jwt` or a certificate; no secrets, and not nothing."""
    assert methods(FAPI) == {"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}


class Rs256:
    alg = "RS256"
    kid = None

    def sign(self, octets: bytes, /) -> bytes:
        return octets


def test_fapi_algorithms() -> None:
    """FAPI-14, FAPI-15, FAPI-16: assertions and requests are signed with PS256 or ES256 and nothing else."""
    assert FAPI.signing_algorithms == ("PS256", "ES256")
    message = refused_client(FAPI, **FAPI_CLIENT, authentication=PrivateKeyJwt(Rs256()))
    assert message.startswith("authentication must be signed with PS256 or ES256, not RS256")
    assert refused_client(FAPI, **(FAPI_CLIENT | {"request_signing": RequestSigning(Rs256())})).startswith(
        "request_signing must be signed"
    )


def test_fapi_lifetime() -> None:
    """FAPI-06: a request lives 60 minutes at most; a profile can ask for less."""
    for lifetime, backdate in ((3600, 0), (3000, 600)):
        signing = RequestSigning(FAPI_SIGNER, lifetime=lifetime, backdate=backdate)
        FAPI.check_client(client(**(FAPI_CLIENT | {"request_signing": signing})))
        message = refused_client(
            attrs.evolve(FAPI, request_lifetime=3599), **(FAPI_CLIENT | {"request_signing": signing})
        )
        assert message.startswith("request_signing must not make requests valid for more than 3599 seconds")


def test_fapi_request() -> None:
    """FAPI-03: what is authorised is in the request, or a binding message is."""
    for context in (
        {"binding_message": "W4SCT"},
        {"authorization_details": [{"type": "payment_initiation"}]},
        {"claims": {"id_token": {"openbanking_intent_id": {"value": "1"}}}},
    ):
        FAPI.check_request(request(**context))
    assert refused(FAPI).startswith("one of binding_message, authorization_details, claims must be given")
    FAPI.check_request(request(binding_message="W4SCT", extra={"request_context": {"location": "x"}}))


# ---- CAMARA


CAMARA = profiles.CAMARA
PURPOSE = "openid dpv:FraudPreventionAndDetection number-verification:verify"
PHONE = {"scope": PURPOSE, "login_hint": hints.phone("+34666666666")}


def test_camara_client() -> None:
    """CAM-02, CAM-12, CAM-14, CAM-18: `private_key_jwt` in poll mode; signed requests and DPoP or not."""
    CAMARA.check_client(client())
    CAMARA.check_client(client(**FAPI_CLIENT))
    assert methods(CAMARA) == {"private_key_jwt"}
    for mode in ("ping", "push"):
        assert "must be poll" in refused_client(CAMARA, backchannel_token_delivery_mode=mode)


def test_camara_audience() -> None:
    """CAM-13, CAM-17: the called endpoint, unless the client chooses the issuer, which Core wants."""
    assert CAMARA.assertion_audience is Audience.CALLED_ENDPOINT
    assert CAMARA.request_audience is Audience.CALLED_ENDPOINT
    CAMARA.check_client(client(authentication=PrivateKeyJwt(FAPI_SIGNER, audience=Audience.ISSUER)))


def test_camara_polls_at_once() -> None:
    """The network often knows the user, so that the first answer may have tokens."""
    assert CAMARA.polling.first_poll_after == 0


@pytest.mark.parametrize(
    "hint",
    [
        hints.phone("+34666666666"),
        hints.ip_port("80.90.34.2", 16790),
        hints.ip_port("2001:db8::1"),
        hints.operator_token("x"),
        "tel:+34666666666",
    ],
)
def test_camara_hints(hint: Any) -> None:
    """CAM-05: the three forms, built here or written by hand."""
    CAMARA.check_request(request(scope=PURPOSE, login_hint=hint))


@pytest.mark.parametrize(
    "hint", ["+34666666666", "alice", "tel:34666666666", "ipport:80.90.34", "alice@example.com"]
)
def test_camara_other_hints(hint: str) -> None:
    """CAM-05, CAM-06: any other form is refused, and does not show."""
    message = refused(CAMARA, scope=PURPOSE, login_hint=hint)
    assert message.startswith("login_hint must be in the form of tel: or ipport: or operatortoken:")
    assert hint not in message


@pytest.mark.parametrize("other", ["login_hint_token", "id_token_hint"])
def test_camara_has_one_hint(other: str) -> None:
    """CAM-04: `login_hint` is the only hint."""
    assert refused(CAMARA, scope=PURPOSE, login_hint=None, **{other: id_token()}).startswith(
        "login_hint must be given"
    )


@pytest.mark.parametrize(
    "changes",
    [{"binding_message": "W4SCT"}, {"user_code": "1234"}, {"requested_expiry": 60}, {"acr_values": "a"}],
    ids=str,
)
def test_camara_has_no_such_parameters(changes: dict[str, Any]) -> None:
    """CAM-03, CAM-11: what an operator would ignore is not sent, so that nobody relies on it."""
    name = next(iter(changes))
    assert refused(CAMARA, **PHONE, **changes).startswith(f"{name} must not be given")


@pytest.mark.parametrize(
    "scope",
    ["openid", "openid sim-swap:check", f"{PURPOSE} dpv:Marketing", "openid dpv:", "openid xdpv:Marketing"],
)
def test_camara_purpose(scope: str) -> None:
    """CAM-09: exactly one purpose."""
    assert refused(CAMARA, **(PHONE | {"scope": scope})).startswith("scope must have exactly one value")


def test_camara_without_openid() -> None:
    """CAM-07, CAM-08, CAM-10: `openid` can be left out on purpose; `offline_access` can be asked for."""
    CAMARA.check_request(request(**(PHONE | {"scope": "dpv:Marketing", "openid": False})))
    CAMARA.check_request(request(**(PHONE | {"scope": f"{PURPOSE} offline_access"})))


# ---- Auth0


AUTH0 = profiles.AUTH0
AUTH0_REQUEST = {
    "login_hint": hints.iss_sub("https://tenant.auth0.com/", "auth0|1"),
    "binding_message": "Buy 1 ticket",
}


def test_auth0_client() -> None:
    """V-AUTH0-01, V-AUTH0-02: poll mode; secrets, keys and certificates; `client_id` in both forms."""
    assert methods(AUTH0) == {
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "tls_client_auth",
        "self_signed_tls_client_auth",
    }
    assert "must be poll" in refused_client(AUTH0, backchannel_token_delivery_mode="ping")
    assert AUTH0.send_client_id
    assert AUTH0.polling.safety_margin == 1


def test_auth0_hint() -> None:
    """V-AUTH0-03: the hint is JSON of three members, and the only one."""
    AUTH0.check_request(request(**AUTH0_REQUEST))
    assert refused(AUTH0, **(AUTH0_REQUEST | {"login_hint": "auth0|1"})).startswith(
        "login_hint must be in the form of iss_sub JSON"
    )
    assert refused(AUTH0, login_hint=None, id_token_hint=id_token(), binding_message="x").startswith(
        "login_hint must be given"
    )


def test_auth0_binding_message() -> None:
    """V-AUTH0-04: required, 64 characters of a small set; a space is taken."""
    assert refused(AUTH0, login_hint=AUTH0_REQUEST["login_hint"]).startswith("binding_message must be given")
    AUTH0.check_request(request(**(AUTH0_REQUEST | {"binding_message": "aZ09+-_.,:# " * 5})))
    for message in ("x" * 65, "Buy a ticket!", "50%", "a\u202eb"):
        with pytest.raises(BindingMessageUnfit, match=r"^binding_message: "):
            AUTH0.check_request(request(**(AUTH0_REQUEST | {"binding_message": message})))


def test_auth0_expiry() -> None:
    """V-AUTH0-07: up to three days."""
    for seconds in (1, 300, 259200):
        AUTH0.check_request(request(**AUTH0_REQUEST, requested_expiry=seconds))
    assert refused(AUTH0, **AUTH0_REQUEST, requested_expiry=259201).startswith(
        "requested_expiry must be from 1 to 259200"
    )


def test_auth0_extras() -> None:
    """V-AUTH0-06, V-AUTH0-13: `audience` and `authorization_details` go through."""
    AUTH0.check_request(
        request(
            **AUTH0_REQUEST, extra={"audience": "https://api.example"}, authorization_details=[{"type": "x"}]
        )
    )


# ---- the others


OKTA = profiles.OKTA


def test_okta_client() -> None:
    """V-OKTA-01, V-OKTA-05, V-OKTA-06: poll mode; secrets and keys; requests live an hour at most."""
    assert methods(OKTA) == {
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
        "private_key_jwt",
    }
    assert "must be poll" in refused_client(OKTA, backchannel_token_delivery_mode="ping")
    assert OKTA.request_lifetime == 3600
    assert OKTA.request_audience is Audience.ISSUER


def test_okta_request() -> None:
    """V-OKTA-02, V-OKTA-03: no `login_hint_token`; the expiry has another name, and is 300 seconds at most."""
    OKTA.check_request(request(requested_expiry=300))
    OKTA.check_request(request(login_hint=None, id_token_hint=id_token()))
    assert refused(OKTA, login_hint=None, login_hint_token="x").startswith(
        "login_hint_token must not be given"
    )
    assert refused(OKTA, requested_expiry=301).startswith("requested_expiry must be from 1 to 300")
    assert refused(OKTA, extra={"request_expiry": 60}).startswith(
        "extra must not contain request_expiry: give it as requested_expiry"
    )
    assert dict(OKTA.parameter_names) == {"requested_expiry": "request_expiry"}


@pytest.mark.parametrize(
    ("profile", "limit"),
    [
        pytest.param(profiles.KEYCLOAK, 50, id="V-KC-04"),
        pytest.param(profiles.NODE_OIDC_PROVIDER, 20, id="V-NOP-03"),
    ],
)
def test_binding_messages_without_spaces(profile: Profile, limit: int) -> None:
    """V-KC-04, V-NOP-03: letters, digits and a few signs, up to a limit."""
    profile.check_request(request(binding_message=("aZ09-._+/!?#" * 5)[:limit]))
    profile.check_request(request())
    for message in ("x" * (limit + 1), "a b", "a:b", "a,b", "ä"):
        with pytest.raises(BindingMessageUnfit):
            profile.check_request(request(binding_message=message))


@pytest.mark.parametrize(
    ("profile", "modes"),
    [
        pytest.param(profiles.KEYCLOAK, {"poll", "ping"}, id="V-KC-02"),
        pytest.param(profiles.NODE_OIDC_PROVIDER, {"poll", "ping"}, id="V-NOP-01"),
        pytest.param(profiles.PING_FEDERATE, {"poll", "ping"}, id="PingFederate"),
        pytest.param(profiles.PING_ONE, {"poll"}, id="V-PING-02"),
        pytest.param(profiles.WSO2, {"poll"}, id="WSO2"),
    ],
)
def test_delivery_modes(profile: Profile, modes: set[str]) -> None:
    """V-KC-02, V-NOP-01, V-PING-02: a mode that the provider does not have is refused when the client is built."""
    for mode in ("poll", "ping", "push"):
        if mode in modes:
            profile.check_client(client(backchannel_token_delivery_mode=mode))
        else:
            assert "backchannel_token_delivery_mode must be" in refused_client(
                profile, backchannel_token_delivery_mode=mode
            )


def test_glewlwyd() -> None:
    """The called endpoint as audience, `client_id` beside the assertion, and a JSON object as a hint."""
    glewlwyd = profiles.GLEWLWYD
    assert glewlwyd.send_client_id
    assert glewlwyd.assertion_audience is Audience.CALLED_ENDPOINT
    assert glewlwyd.request_audience is Audience.ISSUER
    glewlwyd.check_request(request(login_hint=hints.json_object({"username": "alice"})))
    for hint in ("alice", hints.email("alice@example.com")):
        assert "login_hint must be in the form of JSON object" in refused(glewlwyd, login_hint=hint)
    with pytest.raises(BindingMessageUnfit):
        glewlwyd.check_request(
            request(login_hint=hints.json_object({"username": "alice"}), binding_message="x" * 257)
        )


def test_apereo_cas_is_polled_late() -> None:
    """A poll too early is answered with `invalid_grant`, which is final: the first poll waits."""
    acknowledged = answer(
        begun(client(profile=profiles.APEREO_CAS), request()).transaction, reply(200, ACKNOWLEDGEMENT)
    )
    assert acknowledged.transaction.deadline == NOW + 30
    for mode in ("poll", "ping", "push"):
        profiles.APEREO_CAS.check_client(client(backchannel_token_delivery_mode=mode))


def test_pushed_id_tokens_without_at_hash_are_taken_from_go_oidc_alone() -> None:
    """CIBA-10.3-05: no other profile lets them pass, and `Profile` does not by default."""
    assert [profile.name for profile in ALL if not profile.at_hash_in_push] == ["go-oidc"]
    assert Profile(name="x").at_hash_in_push


CONNECTID = profiles.CONNECTID_AU
CONNECTID_CLIENT: dict[str, Any] = {
    "authentication": PrivateKeyJwt(PS256_SIGNER),
    "request_signing": RequestSigning(PS256_SIGNER),
    "id_token": IdTokenPolicy(signed_response_alg="PS256"),
    "dpop_bound_access_tokens": True,
}


def test_connectid_australia() -> None:
    """FAPI-42, FAPI-07: a binding message in each request, PS256, poll; `request_context` is an object."""
    CONNECTID.check_client(client(**CONNECTID_CLIENT))
    assert "must be poll" in refused_client(
        CONNECTID, **{**CONNECTID_CLIENT, "backchannel_token_delivery_mode": "ping"}
    )
    assert "signed with PS256" in refused_client(CONNECTID, **FAPI_CLIENT)
    for bound in (False, "if_supported"):
        assert "sender-constrained" in refused_client(
            CONNECTID, **{**CONNECTID_CLIENT, "dpop_bound_access_tokens": bound}
        )
    assert refused(CONNECTID).startswith("binding_message must be given")
    asked = request(binding_message="W4SCT", extra={"request_context": {"ip": "192.0.2.1"}})
    CONNECTID.check_request(asked)
    sent_form = form(sent(begun(client(profile=CONNECTID, **CONNECTID_CLIENT), asked)))
    assert opened(sent_form["request"])[1]["request_context"] == {"ip": "192.0.2.1"}


def test_open_finance_brazil() -> None:
    """FAPI-42: ping, PS256, and a consent that stands in hint and scope; no `requested_expiry`."""
    brazil = profiles.OPEN_FINANCE_BRAZIL
    brazil.check_client(client(**{**CONNECTID_CLIENT, "backchannel_token_delivery_mode": "ping"}))
    assert "must be ping" in refused_client(brazil, **CONNECTID_CLIENT)
    consent = "urn:bancoex:C1DD33123"
    brazil.check_request(request(scope=f"openid consent:{consent}", login_hint=consent))
    assert "scope must have exactly one value" in refused(brazil)
    scope = {"scope": f"openid consent:{consent}"}
    assert "requested_expiry must not be given" in refused(brazil, **scope, requested_expiry=60)


def test_ping_federate() -> None:
    """V-PING-01: `client_id` goes inside and outside of signed requests."""
    assert profiles.PING_FEDERATE.send_client_id


def test_ping_one() -> None:
    """V-PING-02: secrets and keys, as documented."""
    assert methods(profiles.PING_ONE) == methods(OKTA)


def test_wso2() -> None:
    """V-WSO2-01: letters, digits and spaces."""
    profiles.WSO2.check_request(request(binding_message="Approve 25 EUR"))
    with pytest.raises(BindingMessageUnfit):
        profiles.WSO2.check_request(request(binding_message="25.00"))


def test_unsigned_requests_only() -> None:
    """A profile can rule signed requests out, or a parameter that is an extension, too."""
    mine = Profile(name="mine", signed_requests="forbidden", forbidden=("nonce",), required=("audience",))
    assert refused_client(mine, request_signing=RequestSigning(FAPI_SIGNER)).startswith(
        "request_signing must not"
    )
    mine.check_client(client())
    assert refused(mine, extra={"audience": "x", "nonce": "y"}).startswith("nonce must not be given")
    assert refused(mine).startswith("audience must be given")
    mine.check_request(request(extra={"audience": "x"}))


def test_expiry_has_two_ends() -> None:
    """CIBA-7.1-25: a profile can have a least expiry as well as a most; without one asked for, neither counts."""
    mine = Profile(name="mine", requested_expiry=(60, 300))
    mine.check_request(request())
    for seconds in (60, 300):
        mine.check_request(request(requested_expiry=seconds))
    for seconds in (59, 301):
        assert refused(mine, requested_expiry=seconds).startswith("requested_expiry must be from 60 to 300")


def test_hints_of_another_kind_have_no_form() -> None:
    """The forms are those of `login_hint`; a token is not looked into."""
    mine = Profile(name="mine", login_hint_formats=(HintFormat.EMAIL,))
    mine.check_request(request(login_hint=None, login_hint_token="opaque"))
    mine.check_request(request(login_hint="alice@example.com"))
    assert refused(mine).startswith("login_hint must be in the form of email address")


# ---- what a transaction does with a profile


def begun(made: ClientConfig, asked: AuthenticationRequest) -> Step:
    return step(Transaction(client=made, provider=PROVIDER), Begin(asked), NOW)


def form(request: HttpRequest) -> dict[str, str]:
    """The form of a request, no name of which comes twice."""
    pairs = parse_qsl(request.body.decode(), strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def polled(made: ClientConfig, asked: AuthenticationRequest) -> Step:
    """The first poll, at its time."""
    return fire(answer(begun(made, asked).transaction, reply(200, ACKNOWLEDGEMENT)).transaction)


def test_a_profile_is_checked_when_the_client_is_built() -> None:
    """FAPI-02: what does not go with the profile is no configuration, whether built or evolved."""
    with pytest.raises(ValueError, match=r"^request_signing must be set: .*\(profile FAPI-CIBA\)$"):
        client(profile=FAPI, dpop_bound_access_tokens=True)
    made = client(profile=FAPI, **FAPI_CLIENT)
    with pytest.raises(ValueError, match=r"^backchannel_token_delivery_mode must be poll or ping"):
        attrs.evolve(made, backchannel_token_delivery_mode="push")
    assert "profile='FAPI-CIBA'" in repr(made)


def test_polling_is_that_of_the_profile() -> None:
    """V-AUTH0-10: the profile decides how to poll, unless the client does."""
    assert client(profile=CAMARA).polling.first_poll_after == 0
    mine = PollingPolicy(first_poll_after=3)
    assert client(profile=CAMARA, polling=mine).polling == mine
    assert client().polling == PollingPolicy()
    acknowledged = answer(
        begun(client(profile=CAMARA), request(**PHONE)).transaction, reply(200, ACKNOWLEDGEMENT)
    )
    assert acknowledged.transaction.deadline == NOW


@pytest.mark.parametrize(
    ("profile", "asked", "error"),
    [
        (profiles.KEYCLOAK, request(binding_message="a b"), BindingMessageUnfit),
        (CAMARA, request(scope=PURPOSE), LocalProtocolError),
        (OKTA, request(requested_expiry=301), LocalProtocolError),
        (profiles.GENERIC, request(binding_message="a\u202eb"), BindingMessageUnfit),
    ],
)
def test_nothing_is_sent_that_a_profile_rules_out(
    profile: Profile, asked: AuthenticationRequest, error: type[Exception]
) -> None:
    """CIBA-7.1-23, CAM-05, V-OKTA-03: the check comes before anything else; the transaction can still begin."""
    with pytest.raises(error):
        begun(client(profile=profile), asked)


def test_okta_has_its_own_name_for_the_expiry() -> None:
    """V-OKTA-03, CONFLICT-10: in the form and in a signed request; no other profile renames anything."""
    asked = request(requested_expiry=120)
    found = form(sent(begun(client(profile=OKTA), asked)))
    assert (found["request_expiry"], "requested_expiry" in found) == ("120", False)
    signed = form(sent(begun(client(profile=OKTA, request_signing=RequestSigning(FAPI_SIGNER)), asked)))
    claims = opened(signed["request"])[1]
    assert (claims["request_expiry"], "requested_expiry" in claims) == (120, False)
    assert claims["aud"] == PROVIDER.issuer
    for profile in ALL:
        assert profile is OKTA or not profile.parameter_names


@pytest.mark.parametrize(
    ("profile", "chosen", "at_request", "at_poll"),
    [
        (profiles.GENERIC, None, PROVIDER.issuer, PROVIDER.issuer),
        (FAPI, None, PROVIDER.issuer, PROVIDER.issuer),
        (CAMARA, None, PROVIDER.backchannel_authentication_endpoint, PROVIDER.token_endpoint),
        (CAMARA, Audience.ISSUER, PROVIDER.issuer, PROVIDER.issuer),
    ],
)
def test_audiences(profile: Profile, chosen: Audience | None, at_request: str, at_poll: str) -> None:
    """CONFLICT-01, CONFLICT-02, CAM-13, CAM-17, FAPI2-04: as the profile has it, unless the client chooses."""
    made = client(
        profile=profile,
        authentication=PrivateKeyJwt(FAPI_SIGNER, audience=chosen),
        request_signing=RequestSigning(FAPI_SIGNER, audience=chosen),
        dpop_bound_access_tokens=True,
    )
    asked = request(**PHONE) if profile is CAMARA else request(binding_message="W4SCT")
    first = form(sent(begun(made, asked)))
    assert opened(first["client_assertion"])[1]["aud"] == at_request
    assert opened(first["request"])[1]["aud"] == at_request
    assert opened(form(sent(polled(made, asked)))["client_assertion"])[1]["aud"] == at_poll


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.method)
def test_client_id_is_sent_along(method: ClientAuthentication) -> None:
    """V-AUTH0-02, V-PING-01, CIBA-7.1.1-19: once in each form, and in a signed request, whatever the
    method."""
    profile = profiles.PING_FEDERATE
    made = client(profile=profile, authentication=method, request_signing=RequestSigning(FAPI_SIGNER))
    first = form(sent(begun(made, request())))
    assert first["client_id"] == "x"
    assert opened(first["request"])[1]["client_id"] == "x"
    assert form(sent(polled(made, request())))["client_id"] == "x"
    generic = form(sent(begun(attrs.evolve(made, profile=profiles.GENERIC), request())))
    assert "client_id" not in opened(generic["request"])[1]


DENIAL = {"error": "access_denied", "error_description": "denied, or it has been expired"}


@pytest.mark.parametrize(
    ("profile", "before_the_end", "error"),
    [
        (AUTH0, 2.001, AccessDenied),
        (AUTH0, 2, ExpiredToken),
        (AUTH0, 0, ExpiredToken),
        (AUTH0, -5, ExpiredToken),
        (profiles.GENERIC, 0, AccessDenied),
    ],
)
def test_denied_may_mean_expired(profile: Profile, before_the_end: float, error: type[Exception]) -> None:
    """V-AUTH0-11: within one interval of the end, `access_denied` is expiry; what came is kept."""
    poll = polled(client(profile=profile), request(**AUTH0_REQUEST)).transaction
    end = NOW + 120
    tx = answer(poll, reply(400, DENIAL), now=end - before_the_end).transaction
    assert type(tx.error) is error
    assert isinstance(tx.error, (AccessDenied, ExpiredToken))
    assert (tx.error.error, tx.error.error_description, tx.error.status) == (*DENIAL.values(), 400)
    restored = Transaction.from_json(tx.to_json(), client=tx.client, provider=PROVIDER)
    assert restored == tx


def test_pushed_denial() -> None:
    """V-AUTH0-11: what is pushed is read as what is polled for."""
    made = client(
        profile=Profile(name="mine", denied_may_mean_expired=True), backchannel_token_delivery_mode="push"
    )
    pending = answer(begun(made, request()).transaction, reply(200, ACKNOWLEDGEMENT)).transaction
    pushed = NotificationReceived(Notification(Secret(AUTH_REQ_ID), {"auth_req_id": AUTH_REQ_ID, **DENIAL}))
    for now, error in ((NOW + 117, AccessDenied), (NOW + 118, ExpiredToken)):
        assert type(step(pending, pushed, now).transaction.error) is error


def test_slow_down_with_429() -> None:
    """V-AUTH0-10, CONFLICT-06: the body decides, not the status; the wait that was asked for is kept."""
    poll = polled(client(profile=AUTH0), request(**AUTH0_REQUEST)).transaction
    told = reply(429, {"error": "slow_down"}, ("Retry-After", "30"))
    tx = answer(poll, told, now=NOW + 3).transaction
    assert tx.error is None
    assert tx.deadline == NOW + 33
