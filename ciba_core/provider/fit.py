"""Whether a provider can do what a request asks for, as far as its metadata tells."""

from __future__ import annotations

from ciba_core.client.config import ClientConfig
from ciba_core.client.request import AuthenticationRequest
from ciba_core.jose.algorithms import HMAC_ALGORITHMS, names_of
from ciba_core.jose.dpop import DPOP_ALGORITHM
from ciba_core.jose.keys import KeySet
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.values.errors import LocalProtocolError

__all__ = ["bearer_will_do", "check_fit", "subject_issuer"]


def check_fit(
    request: AuthenticationRequest,
    client: ClientConfig,
    provider: ProviderMetadata,
    *,
    keys: KeySet | None = None,
) -> None:
    """Check a request against the client's profile and the provider's metadata, before anything is sent.

    `ciba_core.step` does so when a transaction begins. What the metadata does not say rules nothing out.

    Args:
        request: what is to be asked for.
        client: the client.
        provider: the provider's metadata.
        keys: the provider's key set, as far as it is known and fresh: one of its keys has to go with the
            algorithm of the ID Tokens.

    Raises:
        TypeError: an argument is of another type; the message names it.
        LocalProtocolError: the client's profile rules it out, or the provider does not support what is
            asked; the message names the parameter.

    """
    for name, value, kind in (
        ("request", request, AuthenticationRequest),
        ("client", client, ClientConfig),
        ("provider", provider, ProviderMetadata),
    ):
        if not isinstance(value, kind):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    client.profile.check_request(request)
    modes = provider.backchannel_token_delivery_modes_supported
    if modes is not None and client.backchannel_token_delivery_mode not in modes:
        raise LocalProtocolError(
            f"backchannel_token_delivery_mode: the provider does not support "
            f"{client.backchannel_token_delivery_mode!r}"
        )
    if client.backchannel_token_delivery_mode == "push" and not request.openid:  # noqa: S105  # a mode
        raise LocalProtocolError(
            "openid: in push mode the ID Token is what vouches for the tokens (CIBA Core 10.3.1)"
        )
    methods = provider.token_endpoint_auth_methods_supported
    if methods is not None and client.authentication.method not in methods:
        raise LocalProtocolError(
            f"authentication: the provider does not support {client.authentication.method!r} "
            "(token_endpoint_auth_methods_supported)"
        )
    _check_algorithm(
        "authentication",
        client.authentication.signing_alg,
        provider.token_endpoint_auth_signing_alg_values_supported,
        "token_endpoint_auth_signing_alg_values_supported",
    )
    _check_algorithm(
        "request_signing",
        None if client.request_signing is None else client.request_signing.signer.alg,
        provider.backchannel_authentication_request_signing_alg_values_supported,
        "backchannel_authentication_request_signing_alg_values_supported",
    )
    _check_algorithm(
        "dpop_bound_access_tokens",
        DPOP_ALGORITHM if client.dpop_bound_access_tokens and not bearer_will_do(client, provider) else None,
        provider.dpop_signing_alg_values_supported,
        "dpop_signing_alg_values_supported",
    )
    if (
        client.tls_client_certificate_bound_access_tokens
        and provider.tls_client_certificate_bound_access_tokens is False
    ):
        raise LocalProtocolError(
            "tls_client_certificate_bound_access_tokens: the provider does not support it (RFC 8705 3.3)"
        )
    if request.openid:
        alg = client.id_token.signed_response_alg
        supported = provider.id_token_signing_alg_values_supported
        _check_algorithm("id_token", alg, supported, "id_token_signing_alg_values_supported")
        if provider.jwks_uri is None and alg not in HMAC_ALGORITHMS:
            raise LocalProtocolError("jwks_uri: without it, ID Tokens of this provider cannot be validated")
        for what, name, values in (
            (
                client.id_token.encrypted_response_alg,
                "id_token_encryption_alg_values_supported",
                provider.id_token_encryption_alg_values_supported,
            ),
            (
                client.id_token.encrypted_response_enc,
                "id_token_encryption_enc_values_supported",
                provider.id_token_encryption_enc_values_supported,
            ),
        ):
            _check_algorithm("id_token", what, values, name)
        if keys is not None and alg not in HMAC_ALGORITHMS:
            fitting = any(keys.candidates(None, each) for each in names_of(alg))
            if not fitting:
                raise LocalProtocolError(f"id_token: the provider publishes no key for {alg} (jwks_uri)")
    if request.user_code is not None and provider.backchannel_user_code_parameter_supported is False:
        raise LocalProtocolError(
            "user_code: the provider does not support it (backchannel_user_code_parameter_supported)"
        )
    if request.claims is not None and provider.claims_parameter_supported is False:
        raise LocalProtocolError("claims: the provider does not support it (claims_parameter_supported)")
    types = provider.authorization_details_types_supported
    if types is not None and any(
        detail["type"] not in types for detail in request.authorization_details or ()
    ):
        raise LocalProtocolError(
            "authorization_details: the provider does not support a type that is used "
            "(authorization_details_types_supported)"
        )


def bearer_will_do(client: ClientConfig, provider: ProviderMetadata) -> bool:
    """Tell whether bearer tokens are accepted although tokens that are bound by DPoP are asked for.

    Only where the client says so, and the provider's metadata lists no algorithm for DPoP: from any other
    provider it would be a downgrade (RFC 9449 5).
    """
    return (
        client.dpop_bound_access_tokens == "if_supported" and not provider.dpop_signing_alg_values_supported
    )


def subject_issuer(client: ClientConfig, provider: ProviderMetadata) -> str | None:
    """Return the issuer whose subject identifiers name users to all clients (OpenID Connect Core 8).

    ``None`` where the client knows users by pairwise identifiers of its own.
    """
    registered = client.subject_type
    if registered is None and provider.subject_types_supported == ("pairwise",):
        registered = "pairwise"
    return None if registered == "pairwise" else provider.issuer


def _check_algorithm(setting: str, alg: str | None, supported: tuple[str, ...] | None, member: str) -> None:
    if alg is None or supported is None:
        return
    if set(names_of(alg)).isdisjoint(supported):
        raise LocalProtocolError(f"{setting}: the provider does not support {alg} ({member})")
