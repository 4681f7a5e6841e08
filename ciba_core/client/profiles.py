"""The profiles that are known: of the standard, of FAPI, of CAMARA, and of providers.

Nothing here is needed to talk to a provider; a profile tells of mistakes before they are sent, and sets what
would have to be looked up. What providers take changes without notice; each of these is one to start from::

    profile = attrs.evolve(profiles.AUTH0, requested_expiry=(1, 300))

Unless a description says otherwise, it follows the provider's documentation or source, and was not tried
against the service itself.
"""

from __future__ import annotations

from typing import Final

from ciba_core.client.binding_message import BindingMessageLimits
from ciba_core.client.hints import HintFormat
from ciba_core.client.polling import PollingPolicy
from ciba_core.client.profile import Profile
from ciba_core.jose.unsigned_jwt import Audience

__all__ = [
    "AUTH0",
    "CAMARA",
    "FAPI_CIBA",
    "GENERIC",
    "KEYCLOAK",
    "NODE_OIDC_PROVIDER",
    "OKTA",
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
"""The Security and Interoperability Profile of the CAMARA project, for the interfaces of mobile networks.

The first poll follows the acknowledgement at once, since the network often knows the user without asking. The
scope needs exactly one purpose, such as ``dpv:FraudPreventionAndDetection``. Signed requests are recommended.

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
"""Keycloak; tried against 26.4. Of the hints, only the kind that the realm is configured for works:
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
