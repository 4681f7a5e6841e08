"""The simulated provider's metadata (OpenID Connect Discovery 3, RFC 8414 2, CIBA Core 4)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .jose import ASYMMETRIC, CONTENT_ENCRYPTIONS, HMAC, KEY_MANAGEMENT
from .script import AUTHENTICATION_METHODS, CIBA_GRANT, DELIVERY_MODES, REFRESH_GRANT, SimulatedClient

__all__ = ["metadata"]


def metadata(
    issuer: str, clients: Iterable[SimulatedClient], authorization_details_types: Collection[str] | None
) -> dict[str, object]:
    """Return the metadata of a provider. The delivery modes are those that its clients are registered for."""
    base = issuer.removesuffix("/")
    signing = [*ASYMMETRIC, *HMAC]
    modes = {client.backchannel_token_delivery_mode for client in clients}
    document: dict[str, object] = {
        "issuer": issuer,
        "token_endpoint": f"{base}/token",
        "backchannel_authentication_endpoint": f"{base}/bc-authorize",
        "jwks_uri": f"{base}/jwks",
        "revocation_endpoint": f"{base}/revoke",
        "userinfo_endpoint": f"{base}/userinfo",
        "backchannel_token_delivery_modes_supported": [mode for mode in DELIVERY_MODES if mode in modes],
        "backchannel_user_code_parameter_supported": True,
        "backchannel_authentication_request_signing_alg_values_supported": list(ASYMMETRIC),
        "grant_types_supported": [CIBA_GRANT, REFRESH_GRANT],
        "token_endpoint_auth_methods_supported": list(AUTHENTICATION_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": signing,
        "revocation_endpoint_auth_methods_supported": list(AUTHENTICATION_METHODS),
        "revocation_endpoint_auth_signing_alg_values_supported": signing,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": signing,
        "id_token_encryption_alg_values_supported": list(KEY_MANAGEMENT),
        "id_token_encryption_enc_values_supported": list(CONTENT_ENCRYPTIONS),
        "userinfo_signing_alg_values_supported": signing,
        "dpop_signing_alg_values_supported": list(ASYMMETRIC),
        "claims_parameter_supported": True,
        "tls_client_certificate_bound_access_tokens": True,
    }
    if authorization_details_types is not None:
        document["authorization_details_types_supported"] = list(authorization_details_types)
    return document
