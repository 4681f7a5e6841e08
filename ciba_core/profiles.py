"""The profiles that are known: of the standard, of FAPI, of CAMARA, and of providers.

Nothing here is needed to talk to a provider; a profile tells of mistakes before they are sent, and sets what
would have to be looked up. What providers take changes without notice; each of these is one to start from::

    profile = attrs.evolve(profiles.AUTH0, requested_expiry=(1, 300))

Unless a description says otherwise, it follows the provider's documentation or source, and was not tried
against the service itself.
"""

from ciba_core.client.profiles import (
    APEREO_CAS,
    AUTH0,
    CAMARA,
    CONNECTID_AU,
    FAPI_CIBA,
    GENERIC,
    GLEWLWYD,
    GO_OIDC,
    KEYCLOAK,
    NODE_OIDC_PROVIDER,
    OKTA,
    OPEN_FINANCE_BRAZIL,
    PING_FEDERATE,
    PING_ONE,
    WSO2,
)

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
