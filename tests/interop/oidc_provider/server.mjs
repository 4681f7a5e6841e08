// An OpenID Provider on an ephemeral loopback port, for the interop tests.
//
// Writes one line of JSON, {"issuer": "http://127.0.0.1:PORT"}, to standard output when it is ready, and ends
// when standard input is closed, so that it never outlives the process that started it. Its clients are those
// of clients.json; its users are scripted by name:
//
//   alice  approves before the authentication request is answered
//   dave   approves after one token request was answered with authorization_pending
//   bob    denies before the authentication request is answered
//   carol  never answers
//   erin   approves half a second after the authentication request was answered
//   rita   as alice, and the provider then signs with a new RS256 key
//
// Every other name is unknown to it. Clients in ping mode are called back at the URL that the variable
// NOTIFICATION_ENDPOINT of the environment names, which has to be https. The client dpop-nonce has to show a
// nonce in its DPoP proofs; of the authorization details of type payment, 100 at most are granted.
//
// The endpoints of mtls_endpoint_aliases are on another port, over TLS that asks for a client certificate. The
// variable CERTIFICATES names a directory with authority.pem, whose certificates are trusted, server.pem, with
// a key, and self-signed-tls.pem, whose certificate is registered for the client self-signed-tls.
//
// GET /proofs is no endpoint of the provider: it tells which requests came with a DPoP proof since it was last
// asked, how each was answered, and whether there was a nonce in the proof.

import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';

console.info = console.error; // the package announces itself there; standard output has one line only

const { Provider, errors } = await import('oidc-provider');

const USERS = new Set(['alice', 'bob', 'carol', 'dave', 'erin', 'rita']);
const PRIVATE = new Set(['d', 'p', 'q', 'dp', 'dq', 'qi']);

const pem = (name) => readFileSync(`${process.env.CERTIFICATES}/${name}.pem`);
const clients = Object.values(JSON.parse(readFileSync(new URL('clients.json', import.meta.url))));
for (const client of clients) {
  // A client registers its public keys; the file has the private ones, for the tests.
  for (const key of client.jwks?.keys ?? []) {
    PRIVATE.forEach((member) => delete key[member]);
  }
  if (client.backchannel_token_delivery_mode === 'ping') {
    client.backchannel_client_notification_endpoint = process.env.NOTIFICATION_ENDPOINT;
  }
  if (client.client_id === 'self-signed-tls') {
    const { publicKey, raw } = new X509Certificate(pem('self-signed-tls'));
    client.jwks = { keys: [{ ...publicKey.export({ format: 'jwk' }), x5c: [raw.toString('base64')] }] };
  }
}

function signingKey(alg, kind, options) {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, kid: `${alg}-${randomBytes(4).toString('hex')}`, use: 'sig' };
}

const rs256 = () => signingKey('RS256', 'rsa', { modulusLength: 2048 });
const keys = [
  rs256(),
  signingKey('PS256', 'rsa', { modulusLength: 2048 }),
  signingKey('ES256', 'ec', { namedCurve: 'P-256' }),
  signingKey('Ed25519', 'ed25519'),
];

const plain = createServer();
const mutualTls = createTlsServer({
  ca: pem('authority'),
  cert: pem('server'),
  key: pem('server'),
  requestCert: true,
  rejectUnauthorized: false, // a self-signed certificate has no authority; the provider looks at what came
});
// Node closes an idle connection after 5 s, which is just the interval of a poll. A poll that meets the close
// is one more way to lose an answer: a matter for the tests of the adapters, not for these.
const servers = [plain, mutualTls];
for (const server of servers) {
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}

const issuer = `http://127.0.0.1:${plain.address().port}`;
const alias = (path) => `https://127.0.0.1:${mutualTls.address().port}${path}`;
const cookieKeys = [randomBytes(16).toString('hex')];
const nonceSecret = randomBytes(32);

// Where providers keep what they issue: one map for all that follow one another in this process.
const stored = new Map();

class Adapter {
  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload) {
    stored.set(`${this.model}:${id}`, structuredClone(payload));
  }

  async find(id) {
    return structuredClone(stored.get(`${this.model}:${id}`));
  }

  async consume(id) {
    stored.get(`${this.model}:${id}`).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    stored.delete(`${this.model}:${id}`);
  }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of stored) {
      if (payload.grantId === grantId && key.startsWith(`${this.model}:`)) {
        stored.delete(key);
      }
    }
  }
}

// What came with a DPoP proof, each with its response, which has a status by the time that somebody asks.
let proofs = [];

function answer(request, response, callback) {
  if (request.url === '/proofs') {
    response.end(JSON.stringify(proofs.map(({ nonce, path, response: { statusCode } }) => [path, statusCode, nonce])));
    proofs = [];
    return;
  }
  const proof = request.headers.dpop;
  if (proof !== undefined) {
    const claims = JSON.parse(Buffer.from(proof.split('.')[1], 'base64url'));
    proofs.push({ nonce: claims.nonce !== undefined, path: request.url, response });
  }
  callback(request, response);
}

// Whose DPoP proof it is. At the UserInfo endpoint the provider looks at the proof before it knows the client.
function clientOf({ oidc }) {
  return oidc.client?.clientId ?? stored.get(`AccessToken:${oidc.getAccessToken({ acceptDPoP: true })}`)?.clientId;
}

// Serve with the keys as they are now.
function serve() {
  const provider = new Provider(issuer, {
    adapter: Adapter,
    clientAuthMethods: [...new Set(clients.map((client) => client.token_endpoint_auth_method))],
    clients,
    cookies: { keys: cookieKeys },
    discovery: {
      mtls_endpoint_aliases: {
        backchannel_authentication_endpoint: alias('/backchannel'),
        revocation_endpoint: alias('/token/revocation'),
        token_endpoint: alias('/token'),
        userinfo_endpoint: alias('/me'),
      },
    },
    features: {
      ciba: {
        enabled: true,
        deliveryModes: ['poll', 'ping'],
        processLoginHint: (ctx, hint) => (USERS.has(hint) ? hint : undefined),
        processLoginHintToken: () => undefined,
        validateRequestContext: () => {},
        verifyUserCode: () => {},
        async triggerAuthenticationDevice(ctx, request) {
          if (request.accountId === 'alice' || request.accountId === 'rita') {
            await approve(request);
          } else if (request.accountId === 'erin') {
            setTimeout(() => approve(request), 500);
          } else if (request.accountId === 'bob') {
            await provider.backchannelResult(request, new errors.AccessDenied('the user said no'));
          }
          if (request.accountId === 'rita') {
            keys.unshift(rs256());
            serve();
          }
        },
      },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      mTLS: {
        enabled: true,
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateBoundAccessTokens: true,
        certificateSubjectMatches: (ctx, property, expected) => (
          property === 'tls_client_auth_san_dns'
            && ctx.socket.getPeerX509Certificate().checkHost(expected) === expected
        ),
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(), // there is none on the plain port
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
      },
      dPoP: {
        enabled: true,
        nonceSecret,
        requireNonce: (ctx) => clientOf(ctx) === 'dpop-nonce',
      },
      encryption: { enabled: true },
      jwtUserinfo: { enabled: true },
      requestObjects: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ scope: 'pay', accessTokenFormat: 'opaque' }),
      },
      revocation: { enabled: true },
      richAuthorizationRequests: {
        enabled: true,
        types: { payment: { validate() {} } },
        authorizationDetailsForGrantSource: (ctx, source) => source.rar,
        authorizationDetailsForAccessToken: (ctx, token, source) => source.rar,
        authorizationDetailsForIntrospection: (ctx, token) => token.rar,
      },
    },
    // The dispatcher that comes along refuses to connect to loopback.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    jwks: { keys },
    rotateRefreshToken: true,
  });

  async function approve(request) {
    const grant = new provider.Grant({ accountId: request.accountId, clientId: request.clientId });
    grant.addOIDCScope(request.scope);
    await grant.save();
    const asked = request.params.authorization_details;
    const rar = asked && JSON.parse(asked).map((one) => ({ ...one, amount: Math.min(one.amount, 100) }));
    await provider.backchannelResult(request, grant, { rar });
  }

  provider.on('grant.error', async (ctx, error) => {
    if (error.error === 'authorization_pending') {
      const request = await provider.BackchannelAuthenticationRequest.find(ctx.oidc.params.auth_req_id);
      if (request.accountId === 'dave') {
        await approve(request);
      }
    }
  });
  provider.on('server_error', (ctx, error) => console.error(error));

  const callback = provider.callback();
  for (const server of servers) {
    server.removeAllListeners('request');
    server.on('request', (request, response) => answer(request, response, callback));
  }
}

serve();
process.stdin.resume().on('close', () => process.exit());
console.log(JSON.stringify({ issuer }));
