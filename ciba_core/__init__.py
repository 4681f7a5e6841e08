"""OpenID Connect Client-Initiated Backchannel Authentication (CIBA) without I/O.

The public names; see `ciba_core.transaction` for how to drive a transaction, `ciba_core.errors` for what can
go wrong, `ciba_core.testing` for a simulated provider.
"""

from ciba_core import errors, events, states
from ciba_core.authentication_request import AuthenticationRequest
from ciba_core.client_auth import (
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    Credentials,
    CredentialsContext,
    NoClientAuthentication,
)
from ciba_core.config import ClientConfig, Limits
from ciba_core.http import Delivery, HttpRequest, HttpResponse, Purpose
from ciba_core.inputs import Begin, Cancel, Input, RequestFailed, ResponseReceived, Resumed, TimerFired
from ciba_core.metadata import Discovery, MetadataDocument, ProviderMetadata, metadata_urls
from ciba_core.polling import PollingPolicy
from ciba_core.secret import Secret
from ciba_core.token_response import TokenResponse
from ciba_core.transaction import Step, Transaction, step

__all__ = [
    "AuthenticationRequest",
    "Begin",
    "Cancel",
    "ClientAuthentication",
    "ClientConfig",
    "ClientSecretBasic",
    "ClientSecretPost",
    "Credentials",
    "CredentialsContext",
    "Delivery",
    "Discovery",
    "HttpRequest",
    "HttpResponse",
    "Input",
    "Limits",
    "MetadataDocument",
    "NoClientAuthentication",
    "PollingPolicy",
    "ProviderMetadata",
    "Purpose",
    "RequestFailed",
    "ResponseReceived",
    "Resumed",
    "Secret",
    "Step",
    "TimerFired",
    "TokenResponse",
    "Transaction",
    "__version__",
    "errors",
    "events",
    "metadata_urls",
    "states",
    "step",
]

__version__ = "0.1.0.dev0"
