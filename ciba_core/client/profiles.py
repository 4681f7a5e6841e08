"""The profiles that are known: of the standard, of FAPI, of CAMARA, and of providers.

Nothing here is needed to talk to a provider; a profile tells of mistakes before they are sent, and sets what
would have to be looked up. What providers take changes without notice; each of these is one to start from::

    profile = attrs.evolve(profiles.AUTH0, requested_expiry=(1, 300))

Unless a description says otherwise, it follows the provider's documentation or source, and was not tried
against the service itself.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve

from ciba_core.client.binding_message import BindingMessageLimits
from ciba_core.client.hints import HintFormat
from ciba_core.client.polling import PollingPolicy
from ciba_core.client.profile import Profile
from ciba_core.jose.unsigned_jwt import Audience

__all__ = [
    "APEREO_CAS",
    "AUTH0",
    "CAMARA",
    "CONNECTID_AU",
    "FAPI_CIBA",
    "GENERIC",
    "GLEWLWYD",
    "GO_OIDC",
    "KEYCLOAK",
    "NODE_OIDC_PROVIDER",
    "OKTA",
    "OPEN_FINANCE_BRAZIL",
    "PING_FEDERATE",
    "PING_ONE",
    "WSO2",
]

_SECRETS: Final = ("client_secret_basic", "client_secret_post")
_CERTIFICATES: Final = ("tls_client_auth", "self_signed_tls_client_auth")

GENERIC: Final = Profile(name="generic")
"""CIBA Core 1.0 and nothing else: the default."""

FAPI_CIBA: Final = Profile(
    name="FAPI-CIBA",
    delivery_modes=("poll", "ping"),
    authentication_methods=("private_key_jwt", *_CERTIFICATES),
    signing_algorithms=("PS256", "ES256"),
    signed_requests="required",
    request_lifetime=3600,
    assertion_audience=Audience.ISSUER,
    request_audience=Audience.ISSUER,
    fixed_audiences=True,
    sender_constrained_tokens=True,
    one_of=("binding_message", "authorization_details", "claims"),
)
"""FAPI: Client Initiated Backchannel Authentication Profile, with the stricter choice wherever FAPI 1.0 and
2.0 leave one: signed requests, PS256 or ES256 for all that is signed, no push, no secrets, tokens bound to a
certificate or by DPoP, the issuer as the one audience.

What is authorised has to be in the request, or a binding message with it (5.2.3.1); where it is in the scope
or in an extension parameter, evolve `one_of`. Left to the application: asking for a level of authentication
by ``acr_values`` or ``claims`` and looking at ``acr`` (5.2.3.1), keeping intents out of hints (5.2.2), the
versions and cipher suites of TLS (7.9)."""

CONNECTID_AU: Final = evolve(
    FAPI_CIBA,
    name="ConnectID Australia FAPI-CIBA 02",
    delivery_modes=("poll",),
    authentication_methods=("private_key_jwt",),
    signing_algorithms=("PS256",),
    required=("binding_message",),
    one_of=(),
)
"""ConnectID FAPI-CIBA Profile 1.0, Implementers' Draft 02 (December 2025), on top of `FAPI_CIBA`: poll,
``private_key_jwt``, PS256, and a binding message in every request.

What is known of the device that the user is at goes into ``extra={"request_context": {...}}``, a JSON object
(FAPI-CIBA 5.3). Identity claims are asked for by ``claims``.

Not verified: which members of ``request_context`` the scheme asks for. Modes, method and algorithm are those
that the OpenID Foundation's conformance suite tests with."""

OPEN_FINANCE_BRAZIL: Final = evolve(
    FAPI_CIBA,
    name="Open Finance Brazil",
    delivery_modes=("ping",),
    authentication_methods=("private_key_jwt",),
    signing_algorithms=("PS256",),
    single_scope=r"consent:\S+",
    required=("login_hint",),
    forbidden=("requested_expiry",),
    one_of=(),
)
"""The FAPI-CIBA profile of Open Finance Brazil (CIBA-BR), on top of `FAPI_CIBA`: ping, ``private_key_jwt``
over mutual TLS, PS256. What is authorised is a consent that was made before: its identifier is the
``login_hint``, and in the scope as ``consent:...``. ``requested_expiry`` is not honoured there, and so not
sent.

From the OpenID Foundation's guide to its conformance tests; the profile itself is a beta (v2.1.0-beta2), and
was not read in full."""

CAMARA: Final = Profile(
    name="CAMARA",
    delivery_modes=("poll",),
    authentication_methods=("private_key_jwt",),
    assertion_audience=Audience.CALLED_ENDPOINT,
    request_audience=Audience.CALLED_ENDPOINT,
    polling=PollingPolicy(first_poll_after=0),
    single_scope=r"dpv:[A-Za-z0-9_-]+",
    required=("login_hint",),
    forbidden=("acr_values", "binding_message", "user_code", "requested_expiry"),
    login_hint_formats=(HintFormat.PHONE, HintFormat.IP_PORT, HintFormat.OPERATOR_TOKEN),
)
"""The Security and Interoperability Profile of the CAMARA project, r4.2, for mobile networks' interfaces.

The first poll follows the acknowledgement at once, since the network often knows the user without asking. The
scope needs exactly one purpose, such as ``dpv:FraudPreventionAndDetection``. Signed requests are recommended.

A provider without DPoP answers a proof with bearer tokens: ``dpop_bound_access_tokens="if_supported"`` takes
them. One that lists ``x-camara:bh`` or ``x-camara:qh`` in its metadata wants them in proofs:
`ClientConfig.dpop_proof_claims`.

An operator may demand more; that any takes the first poll so early was not tried."""

AUTH0: Final = Profile(
    name="Auth0",
    delivery_modes=("poll",),
    authentication_methods=(*_SECRETS, "private_key_jwt", *_CERTIFICATES),
    send_client_id=True,
    polling=PollingPolicy(safety_margin=1.0),
    required=("login_hint", "binding_message"),
    login_hint_formats=(HintFormat.ISS_SUB,),
    binding_message=BindingMessageLimits(max_length=64, characters=r"A-Za-z0-9+\-_.,:# "),
    requested_expiry=(1, 259200),
    denied_may_mean_expired=True,
)
"""Auth0. The hint is ``hints.iss_sub("https://{domain}/", "auth0|...")``, with the slash.

Polling too fast makes the wait grow, so that a second is added to each. Up to 300 seconds of
``requested_expiry`` the user gets a push notification, beyond that an email.

Not verified: the space in binding messages, which the documentation leaves out of the list and has in its
examples; whether the service signs or encrypts anything by algorithms other than its defaults; limits on
``authorization_details``, which are documented and not checked here."""

OKTA: Final = Profile(
    name="Okta",
    delivery_modes=("poll",),
    authentication_methods=(*_SECRETS, "client_secret_jwt", "private_key_jwt"),
    request_lifetime=3600,
    forbidden=("login_hint_token",),
    parameter_names={"requested_expiry": "request_expiry"},
    requested_expiry=(1, 300),
)
"""Okta, which calls ``requested_expiry`` ``request_expiry``, and knows no hints but ``login_hint`` and
``id_token_hint``. Requests signed with a secret, which Okta offers and CIBA does not, cannot be made.

Not verified: what a binding message may be."""

KEYCLOAK: Final = Profile(
    name="Keycloak",
    delivery_modes=("poll", "ping"),
    binding_message=BindingMessageLimits(max_length=50, characters=r"A-Za-z0-9\-._+/!?#"),
)
"""Keycloak; tried against 26.7. Of the hints, only the kind that the realm is configured for works:
``login_hint`` by default. The realm decides on expiry, whatever ``requested_expiry`` says.

A wrong client secret is ``unauthorized_client`` here. A poll exactly at the interval is too early for it:
leave the safety margin of `PollingPolicy`. ``openid`` alone is granted as ``openid email profile``."""

NODE_OIDC_PROVIDER: Final = Profile(
    name="node-oidc-provider",
    delivery_modes=("poll", "ping"),
    binding_message=BindingMessageLimits(max_length=20, characters=r"A-Za-z0-9\-._+/!?#"),
)
"""node-oidc-provider 9 as it comes, by its source; its operator can replace the check of binding messages. An
authentication lasts 600 seconds at most."""

GLEWLWYD: Final = Profile(
    name="Glewlwyd",
    authentication_methods=(*_SECRETS, "client_secret_jwt", "private_key_jwt", *_CERTIFICATES),
    assertion_audience=Audience.CALLED_ENDPOINT,
    send_client_id=True,
    login_hint_formats=(HintFormat.JSON_OBJECT,),
    binding_message=BindingMessageLimits(max_length=256),
)
"""Glewlwyd; tried against 2.7.5, in all three modes, with secrets and keys. A ``login_hint`` is
``hints.json_object({"username": "alice"})``, or has ``sub`` instead. An assertion is for the URL that is
called, and ``client_id`` has to stand beside it.

Intervals do not matter to it, and it answers no poll with ``slow_down``. A user's refusal is pushed without
``auth_req_id``, against CIBA Core 12, and so it is not heard: in push mode it ends at the expiry, in ping
mode with the fallback poll (`PollingPolicy.ping_fallback`)."""

APEREO_CAS: Final = Profile(name="Apereo CAS", polling=PollingPolicy(first_poll_after=30.0))
"""Apereo CAS, which answers a poll before the user has decided with ``invalid_grant``. That is final
everywhere else, and is so here: prefer ping or push, where nothing is asked before. In poll mode the first
poll is late for that reason, and whoever has not decided by then has to be asked again; give
``PollingPolicy(first_poll_after=...)`` what your users need.

Not tried; from reports."""

GO_OIDC: Final = Profile(name="go-oidc", at_hash_in_push=False)
"""The Go library go-oidc, whose pushed ID Tokens have no ``at_hash``, though CIBA Core 10.3.1 demands it.
What is lost thereby: see `Profile.at_hash_in_push`. Where your provider has been repaired, use `GENERIC`.

By its source of June 2026; not tried."""

PING_FEDERATE: Final = Profile(name="PingFederate", delivery_modes=("poll", "ping"), send_client_id=True)
"""PingFederate, which wants ``client_id`` inside and outside of a signed request, and takes
``requested_expiry`` only to shorten what is configured (120 seconds by default).

Not verified: what a binding message may be."""

PING_ONE: Final = Profile(
    name="PingOne",
    delivery_modes=("poll",),
    authentication_methods=(*_SECRETS, "client_secret_jwt", "private_key_jwt"),
)
"""PingOne.

Not verified: what a binding message may be, and whether requests can be signed."""

WSO2: Final = Profile(
    name="WSO2", delivery_modes=("poll",), binding_message=BindingMessageLimits(characters="A-Za-z0-9 ")
)
"""WSO2 Identity Server, whose interval is 2 seconds by default.

Not verified: the characters of binding messages, and their length, of which nothing is known; whether ping
or push can be used (evolve `delivery_modes` where they can)."""
