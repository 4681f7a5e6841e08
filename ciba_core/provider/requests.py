"""Requests to the provider's endpoints, for a transaction and for what comes after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import define

from ciba_core.client.authentication import CredentialsContext
from ciba_core.client.config import ClientConfig
from ciba_core.client.headers import HeaderContext, HeaderFields, own_headers
from ciba_core.jose.dpop import DpopKey, origin, supplied_nonce
from ciba_core.jose.keys import Signer
from ciba_core.jose.unsigned_jwt import AudiencePolicy, NotSigned, RemoteSigner, UnsignedJwt, signed
from ciba_core.provider.draft import Draft
from ciba_core.provider.metadata import ProviderMetadata
from ciba_core.provider.shared import Shared
from ciba_core.values.errors import LocalProtocolError
from ciba_core.values.form import encode_pairs
from ciba_core.values.http import FORM_HEADERS, Headers, HttpRequest, HttpResponse, Purpose
from ciba_core.values.json import NO_MEMBERS
from ciba_core.values.secret import Secret

__all__ = ["ACCEPT_KEYS", "RequestMaker", "with_nonce"]


# Some servers answer 406 to whoever does not name the media type that they know (RFC 9110 15.5.7).
ACCEPT_KEYS: Final[Headers] = (("Accept", "application/jwk-set+json, application/json, */*;q=0.1"),)


# Not frozen, though nothing changes it: one is made for every request, and freezing costs time.
@define(weakref_slot=False, eq=False)
class RequestMaker:
    """Makes one request, at one moment."""

    client: ClientConfig
    provider: ProviderMetadata
    number: int
    """`HttpRequest.id` of the request, or of the draft that it begins as."""
    now: float
    """POSIX seconds."""
    shared: Shared
    headers: HeaderFields = NO_MEMBERS
    """Those of the authentication request, beside those of the client."""

    def context(
        self, url: str, audience: AudiencePolicy, signing_algs: tuple[str, ...] | None
    ) -> CredentialsContext:
        """Return what a JWT for this request is made from; its own settings may name another audience."""
        client, provider = self.client, self.provider
        return CredentialsContext(
            client_id=client.client_id,
            issuer=provider.issuer,
            token_endpoint=provider.token_endpoint,
            endpoint_url=url,
            now=self.now,
            entropy=client.entropy,
            audience=audience,
            signing_algs=signing_algs,
        )

    def endpoint(self, name: str) -> str:
        """Return the URL of an endpoint, by its member name in the metadata.

        Raises:
            LocalProtocolError: the provider has no such endpoint.

        """
        url = self.provider.endpoint(name, mutual_tls=self.client.mutual_tls)
        if url is None:
            raise LocalProtocolError(f"{name}: the provider names none")
        return url

    def form_post(
        self,
        purpose: Purpose,
        url: str,
        parameters: Iterable[tuple[str, str | UnsignedJwt]] = (),
        *,
        form: str = "",
        dpop_key: DpopKey | None = None,
    ) -> HttpRequest | Draft | NotSigned:
        """Build an authenticated request of the form that all endpoints of the provider take.

        `form` is what is encoded already. JWTs are signed here, the one place where a signer is called; where
        one cannot be called, the draft of the request comes back; where one raised something, or returned
        what is no signature, `NotSigned`.
        """
        client = self.client
        context = self.context(
            url,
            client.profile.assertion_audience,
            self.provider.token_endpoint_auth_signing_alg_values_supported,
        )
        credentials = client.authentication.credentials(context)
        headers = FORM_HEADERS + credentials.headers
        plain: list[tuple[str, str]] = []
        remote: list[tuple[str, UnsignedJwt]] = []
        own = credentials.parameters
        if client.profile.send_client_id and not any(name == "client_id" for name, _ in own):
            own = (("client_id", client.client_id), *own)
        for name, value in (*parameters, *own):
            if isinstance(value, str):
                plain.append((name, value))
            elif isinstance(value.signer, RemoteSigner):
                remote.append((name, value))
            else:
                jwt = _signed(value, value.signer)
                if isinstance(jwt, NotSigned):
                    return jwt
                plain.append((name, jwt))
        if plain:
            pairs = encode_pairs(plain)
            form = f"{form}&{pairs}" if form else pairs
        if remote:
            return Draft(
                id=self.number,
                unsigned=tuple(remote),
                purpose=purpose,
                url=url,
                headers=headers,
                form=form,
                dpop_key=dpop_key,
            )
        return self._request(purpose, "POST", url, headers, form, dpop_key=dpop_key)

    def signed_post(self, draft: Draft, signatures: tuple[bytes, ...]) -> HttpRequest | NotSigned:
        """Make the request of a draft and its signatures.

        `NotSigned` comes back if a signature is not of the form that its algorithm has, or came too late.

        Raises:
            LocalProtocolError: there are not as many signatures as JWTs.

        """
        body = draft.body(signatures)
        if isinstance(body, NotSigned):
            return body
        if draft.expires_at is not None and self.now >= draft.expires_at:
            return NotSigned("it was signed too late")
        return self._request(
            draft.purpose,
            "POST",
            draft.url,
            draft.headers,
            body,
            dpop_key=draft.dpop_key,
            number=draft.id,
        )

    def keys(self) -> HttpRequest:
        """Ask for the provider's key set.

        Raises:
            LocalProtocolError: the metadata names none.

        """
        url = self.provider.jwks_uri
        if url is None:
            # This was checked before the search for a key began; after a restart the metadata may differ.
            raise LocalProtocolError("jwks_uri: without it, what was signed cannot be validated")
        return self._request(Purpose.KEYS, "GET", url, ACCEPT_KEYS)

    def resource(
        self, purpose: Purpose, url: str, accept: str, access_token: Secret, dpop_key: DpopKey | None
    ) -> HttpRequest:
        """Make a request that an access token authorises (RFC 6750 2.1, RFC 9449 7.1)."""
        scheme = "Bearer" if dpop_key is None else "DPoP"
        headers: Headers = (("Accept", accept), ("Authorization", f"{scheme} {access_token.reveal()}"))
        return self._request(purpose, "GET", url, headers, dpop_key=dpop_key, access_token=access_token)

    def _proof(
        self, key: DpopKey, method: str, url: str, body: bytes, access_token: Secret | None
    ) -> tuple[str, str]:
        proof = key.proof(
            method=method,
            url=url,
            now=self.now,
            jti=self.client.entropy(16),
            nonce=self.shared.dpop_nonces.get(origin(url)),
            access_token=access_token,
            claims=self.client.dpop_proof_claims.of(url, body),
        )
        return "DPoP", proof

    def _request(
        self,
        purpose: Purpose,
        method: str,
        url: str,
        headers: Headers,
        form: str = "",
        *,
        dpop_key: DpopKey | None = None,
        access_token: Secret | None = None,
        number: int | None = None,
    ) -> HttpRequest:
        client = self.client
        if client.headers or self.headers:
            context = HeaderContext(purpose, url, self.now, client.entropy)
            headers += own_headers(
                client.headers, self.headers, context, issuer=self.provider.issuer, hosts=client.headers_to
            )
        body = form.encode("ascii")
        if dpop_key is not None:
            headers += (self._proof(dpop_key, method, url, body, access_token),)
        return HttpRequest(
            id=self.number if number is None else number,
            purpose=purpose,
            method=method,
            url=url,
            headers=headers,
            body=body,
            connect_timeout=client.connect_timeout,
            timeout=client.timeout,
            response_limit=client.limits.body,
        )


def _signed(jwt: UnsignedJwt, signer: Signer) -> str | NotSigned:
    try:
        signature = signer.sign(jwt.octets)
    except Exception as error:  # noqa: BLE001  # whatever the embedder's key store raises
        # Only the class name is shown: the message of an embedder's exception may contain secrets.
        return NotSigned(type(error).__name__)
    return signed(jwt, signature)


def with_nonce(shared: Shared, url: str, response: HttpResponse) -> Shared:
    """Remember the nonce that an answer brought for the server of that URL (RFC 9449 8.2), if any."""
    nonce = supplied_nonce(response)
    return shared if nonce is None else shared.with_dpop_nonce(origin(url), nonce)
