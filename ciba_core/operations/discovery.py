"""Fetching the metadata of an issuer (OpenID Connect Discovery 1.0 4, RFC 8414 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import field, frozen

from ciba_core.client.config import DEFAULT_ENTROPY
from ciba_core.client.headers import (
    ExtraHeaders,
    HeaderContext,
    check_headers,
    check_hosts,
    own_headers,
    to_headers,
)
from ciba_core.operations.operation import CANCELLED, Awaited, Done, Operation, OperationStep
from ciba_core.provider.answers import is_busy, is_redirect, note_success, retry_after, violation
from ciba_core.provider.metadata import MetadataDocument, metadata_urls
from ciba_core.provider.shared import Shared
from ciba_core.transaction.inputs import RequestFailed, ResponseReceived
from ciba_core.values import check
from ciba_core.values.errors import (
    CibaError,
    Endpoint,
    LocalProtocolError,
    ProviderUnavailable,
    RemoteProtocolError,
    TransportError,
)
from ciba_core.values.http import HttpRequest, HttpResponse, Purpose
from ciba_core.values.json import NO_MEMBERS, FrozenMapping, JsonFault
from ciba_core.values.lenient import ProviderDeviation, parse_body
from ciba_core.values.limits import Limits

__all__ = ["Discovery"]

_DOCUMENT: Final = "OpenID Connect Discovery 4.2"
_LONGEST_SHOWN: Final = 256
_NOT_TO_BE_HAD: Final = "the provider's metadata could not be fetched"


@frozen(weakref_slot=False)
class Discovery(Operation[MetadataDocument]):
    """Fetching the metadata of an issuer, one request at a time; the result is a `MetadataDocument`.

    The document is looked for at each of `metadata_urls`, or at `metadata_url` alone. It counts only if the
    issuer in it is the one that was asked for, code point by code point (OpenID Connect Discovery 4.3,
    RFC 8414 3.3), wherever it lies. Redirects are not followed: a document that was moved elsewhere is not
    the issuer's own. Its body decides: another media type, or none, and the statuses 201 to 203 are noted in
    `OperationStep.events`; what is not JSON, such as a page of HTML, is no document.

    Errors: `RemoteProtocolError` when there is no document, its issuer differs, or it breaks a rule;
    `ProviderUnavailable`; `TransportError`. Nobody was asked anything yet: a discovery can be repeated.

    Raises:
        LocalProtocolError: the issuer is not an ``https`` URL without query and fragment (RFC 8414 2), or
            `metadata_url` is not an ``https`` URL.
        TypeError, ValueError: another argument is of the wrong type or out of range; the message names it.

    """

    issuer: str
    metadata_url: str | None = field(default=None, kw_only=True)
    """Where the document lies, for a provider that has it at none of `metadata_urls`, or that is reached by
    another name than the one in its issuer."""
    allow_loopback_http: bool = field(default=False, kw_only=True, validator=check.flag)
    limits: Limits = field(factory=Limits, validator=check.a(Limits), kw_only=True)
    connect_timeout: float = field(default=10.0, validator=check.seconds(0.001, 3600), kw_only=True)
    """Seconds to get a connection."""
    timeout: float = field(default=30.0, validator=check.seconds(0.001, 3600), kw_only=True)
    """Seconds from sending a request to the end of its answer."""
    headers: ExtraHeaders = field(
        default=NO_MEMBERS, converter=to_headers, validator=check_headers, kw_only=True
    )
    """Header fields to send along, as `ClientConfig.headers`."""
    headers_to: tuple[str, ...] = field(
        default=(), converter=check.to_strings, validator=check_hosts, kw_only=True
    )
    """Hosts to which they go beside the issuer's, as `ClientConfig.headers_to`."""
    entropy: Callable[[int], bytes] = field(default=DEFAULT_ENTROPY, kw_only=True, repr=False, eq=False)
    """The source of randomness that `HeaderContext` has, as `ClientConfig.entropy`."""
    tried: tuple[str, ...] = field(default=(), kw_only=True, repr=False)
    """The result of each request so far; not for callers to set."""

    def __attrs_post_init__(self) -> None:
        problem = check.url_problem(self.issuer, allow_loopback_http=self.allow_loopback_http, query=False)
        if problem is not None:
            raise LocalProtocolError(f"issuer {problem}")
        if self.metadata_url is not None:
            problem = check.url_problem(self.metadata_url, allow_loopback_http=self.allow_loopback_http)
            if problem is not None:
                raise LocalProtocolError(f"metadata_url {problem}")

    @property
    def _places(self) -> tuple[str, ...]:
        return metadata_urls(self.issuer) if self.metadata_url is None else (self.metadata_url,)

    def _begin(self, now: float, shared: Shared) -> OperationStep[MetadataDocument]:
        return self._ask(self.tried, now, shared)

    def _ask(self, tried: tuple[str, ...], now: float, shared: Shared) -> OperationStep[MetadataDocument]:
        url = self._places[len(tried)]
        context = HeaderContext(Purpose.METADATA, url, now, self.entropy)
        own = own_headers(self.headers, NO_MEMBERS, context, issuer=self.issuer, hosts=self.headers_to)
        request = HttpRequest(
            id=len(tried) + 1,
            purpose=Purpose.METADATA,
            method="GET",
            url=url,
            headers=(("Accept", "application/json"), *own),
            body=b"",
            connect_timeout=self.connect_timeout,
            timeout=self.timeout,
            response_limit=self.limits.body,
        )
        return self._sent(request, shared, tried=tried)

    def _cancelled(self) -> CibaError:
        return TransportError(_NOT_TO_BE_HAD, reason=CANCELLED)

    def _go_on(
        self,
        input: Awaited,  # noqa: A002
        now: float,
        shared: Shared,
    ) -> OperationStep[MetadataDocument]:
        if isinstance(input, RequestFailed):
            return self._finished(self._lost(input.reason), shared)
        assert isinstance(input, ResponseReceived)  # noqa: S101  # it neither signs nor waits; for the type checker
        response = input.response
        if is_busy(response):
            # A busy provider does not say that there is no document: the other places are not tried.
            return self._finished(self._unavailable(response, now), shared)
        what = f"status {response.status}"
        if is_redirect(response):
            what = f"a redirect with status {response.status}, which is not followed"
        if response.is_success:
            noted: list[ProviderDeviation] = []
            members = self._members(response, noted)
            if members is not JsonFault.SYNTAX:
                return self._finished(self._document(members), shared, *noted)
            what = f"status {response.status} with a body that is not JSON"
        tried = self._tried(what)
        if len(tried) < len(self._places):
            return self._ask(tried, now, shared)
        nowhere = f"no document at any place: {'; '.join(tried)}"
        return self._finished(violation(Endpoint.METADATA, nowhere, "RFC 8414 3.2"), shared)

    def _tried(self, what: str) -> tuple[str, ...]:
        """Return what came at each place, this one included."""
        return (*self.tried, f"{self._places[len(self.tried)]}: {what}")

    def _lost(self, reason: str) -> TransportError:
        # The message names the earlier places too: the document may belong at one of them.
        return TransportError(f"{_NOT_TO_BE_HAD}: {'; '.join(self._tried('no answer'))}", reason=reason)

    def _unavailable(self, response: HttpResponse, now: float) -> ProviderUnavailable:
        what = f"status {response.status}"
        return ProviderUnavailable(
            f"the provider's metadata cannot be had just now: {'; '.join(self._tried(what))}",
            reason=what,
            status=response.status,
            retry_after=retry_after(response, now),
        )

    def _members(
        self, response: HttpResponse, noted: list[ProviderDeviation]
    ) -> dict[str, Any] | JsonFault | RemoteProtocolError:
        oversize = self.limits.exceeded_by(response)
        if oversize is not None:
            return violation(Endpoint.METADATA, oversize, "size limit")
        note_success(response, noted)
        return parse_body(response.body, depth_limit=self.limits.json_depth, noted=noted)

    def _document(
        self, members: dict[str, Any] | JsonFault | RemoteProtocolError
    ) -> Done[MetadataDocument] | RemoteProtocolError:
        if isinstance(members, RemoteProtocolError):
            return members
        if isinstance(members, JsonFault):
            return violation(Endpoint.METADATA, f"the document is {members.value}", _DOCUMENT)
        problem = self._issuer_problem(members)
        if problem is not None:
            return violation(Endpoint.METADATA, problem, "OpenID Connect Discovery 4.3, RFC 8414 3.3")
        return Done(MetadataDocument(self.issuer, FrozenMapping(members), self.allow_loopback_http))

    def _issuer_problem(self, members: dict[str, Any]) -> str | None:
        published = members.get("issuer")
        if published == self.issuer:
            return None
        if published is None:
            return f"issuer is missing in the document; {self.issuer!r} was asked for"
        # The two usually differ in a slash, a port or a name. One sees that only by comparing both.
        # A value that is not a URL could be anything, and is not shown.
        problem = check.url_problem(published, allow_loopback_http=True, query=False)
        shown = "(no URL)" if problem is not None or len(published) > _LONGEST_SHOWN else repr(published)
        return f"the issuer in the document, {shown}, is not the one that was asked for, {self.issuer!r}"
