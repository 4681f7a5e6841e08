"""OpenID Connect Client-Initiated Backchannel Authentication (CIBA) without I/O.

See `ciba_core.transaction.step` for how to drive a transaction, `ciba_core.errors` for what can go wrong,
`ciba_core.testing` for a simulated provider.

Public are the names in `ciba_core.__all__`, and those in the `__all__` of seven modules: `errors`, `events`,
`hints`, `notification`, `profiles`, `states` and `testing`.

Of `ciba_adapters`, the modules without a leading underscore are public; `ciba_adapters.cli` is a command, and
only what it does is. All other modules and names are private and can change in any release, whether or not
they are in the `__all__` of their module.
"""

from ciba_core import errors, events, hints, profiles, states
from ciba_core.callbacks.routing import Received, Routes, RoutingStore, receive
from ciba_core.client.authentication import (
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretJwt,
    ClientSecretPost,
    Credentials,
    CredentialsContext,
    NoClientAuthentication,
    PrivateKeyJwt,
    SelfSignedTlsClientAuth,
    TlsClientAuth,
)
from ciba_core.client.binding_message import BindingMessageLimits, binding_code
from ciba_core.client.config import ClientConfig
from ciba_core.client.headers import HeaderContext
from ciba_core.client.polling import PollingPolicy
from ciba_core.client.profile import Profile
from ciba_core.client.registered import IdTokenPolicy, UserInfoPolicy
from ciba_core.client.request import AuthenticationRequest
from ciba_core.client.signed_request import RequestSigning
from ciba_core.jose.dpop import DpopKey, ProofClaims
from ciba_core.jose.keys import DecryptionKey, KeySet, Signer, SigningKey
from ciba_core.jose.unsigned_jwt import Audience, RemoteSigner, UnsignedJwt
from ciba_core.login.flow import (
    Act,
    Advance,
    Answer,
    Flow,
    Left,
    Load,
    LoginFlow,
    Now,
    Pause,
    Release,
    Save,
    StoreFailed,
    Waiting,
    Wish,
)
from ciba_core.login.records import (
    LoginRecords,
    Session,
    StoredLogin,
    callback_key,
    seal_callback,
    session_key_of,
)
from ciba_core.login.sealing import Sealer
from ciba_core.login.stores import (
    AsyncClaimingStore,
    AsyncSessionStore,
    AsyncStores,
    AsyncTransactionStore,
    BasicStore,
    Claimed,
    ClaimingStore,
    ClaimingStoreMethods,
    Claims,
    SessionStore,
    StoredCallback,
    StoredRecord,
    Stores,
    TransactionStore,
)
from ciba_core.notification import Notification, token_hash
from ciba_core.operations.discovery import Discovery
from ciba_core.operations.driving import proceed
from ciba_core.operations.operation import Operation, OperationInput, OperationStep
from ciba_core.operations.refresh import Refresh
from ciba_core.operations.revocation import Revocation
from ciba_core.operations.userinfo import UserInfo
from ciba_core.pool.limits import ProviderLimits
from ciba_core.pool.schedule import (
    Action,
    Broken,
    Ended,
    Handle,
    Moved,
    Reply,
    Schedule,
    Send,
    Sign,
)
from ciba_core.provider.draft import Draft
from ciba_core.provider.fit import check_fit
from ciba_core.provider.metadata import MetadataDocument, ProviderMetadata, metadata_urls
from ciba_core.provider.shared import Shared
from ciba_core.tokens.grant_audit import GrantAudit, GrantedItem, Verdict
from ciba_core.tokens.issued import OriginalGrant, TokenResponse
from ciba_core.transaction.inputs import (
    Begin,
    Cancel,
    Input,
    NotificationReceived,
    RequestFailed,
    ResponseReceived,
    Resumed,
    SignaturesMade,
    SigningFailed,
    TimerFired,
)
from ciba_core.transaction.step import step
from ciba_core.transaction.transaction import Step, Transaction
from ciba_core.values.http import Delivery, HttpRequest, HttpResponse, Purpose
from ciba_core.values.limits import Limits
from ciba_core.values.secret import Guarded, Secret

__all__ = [
    "Act",
    "Action",
    "Advance",
    "Answer",
    "AsyncClaimingStore",
    "AsyncSessionStore",
    "AsyncStores",
    "AsyncTransactionStore",
    "Audience",
    "AuthenticationRequest",
    "BasicStore",
    "Begin",
    "BindingMessageLimits",
    "Broken",
    "Cancel",
    "Claimed",
    "ClaimingStore",
    "ClaimingStoreMethods",
    "Claims",
    "ClientAuthentication",
    "ClientConfig",
    "ClientSecretBasic",
    "ClientSecretJwt",
    "ClientSecretPost",
    "Credentials",
    "CredentialsContext",
    "DecryptionKey",
    "Delivery",
    "Discovery",
    "DpopKey",
    "Draft",
    "Ended",
    "Flow",
    "GrantAudit",
    "GrantedItem",
    "Guarded",
    "Handle",
    "HeaderContext",
    "HttpRequest",
    "HttpResponse",
    "IdTokenPolicy",
    "Input",
    "KeySet",
    "Left",
    "Limits",
    "Load",
    "LoginFlow",
    "LoginRecords",
    "MetadataDocument",
    "Moved",
    "NoClientAuthentication",
    "Notification",
    "NotificationReceived",
    "Now",
    "Operation",
    "OperationInput",
    "OperationStep",
    "OriginalGrant",
    "Pause",
    "PollingPolicy",
    "PrivateKeyJwt",
    "Profile",
    "ProofClaims",
    "ProviderLimits",
    "ProviderMetadata",
    "Purpose",
    "Received",
    "Refresh",
    "Release",
    "RemoteSigner",
    "Reply",
    "RequestFailed",
    "RequestSigning",
    "ResponseReceived",
    "Resumed",
    "Revocation",
    "Routes",
    "RoutingStore",
    "Save",
    "Schedule",
    "Sealer",
    "Secret",
    "SelfSignedTlsClientAuth",
    "Send",
    "Session",
    "SessionStore",
    "Shared",
    "Sign",
    "SignaturesMade",
    "Signer",
    "SigningFailed",
    "SigningKey",
    "Step",
    "StoreFailed",
    "StoredCallback",
    "StoredLogin",
    "StoredRecord",
    "Stores",
    "TimerFired",
    "TlsClientAuth",
    "TokenResponse",
    "Transaction",
    "TransactionStore",
    "UnsignedJwt",
    "UserInfo",
    "UserInfoPolicy",
    "Verdict",
    "Waiting",
    "Wish",
    "__version__",
    "binding_code",
    "callback_key",
    "check_fit",
    "errors",
    "events",
    "hints",
    "metadata_urls",
    "proceed",
    "profiles",
    "receive",
    "seal_callback",
    "session_key_of",
    "states",
    "step",
    "token_hash",
]

__version__ = "0.1.0.dev0"
