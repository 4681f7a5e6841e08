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
//
// Every other name is unknown to it.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

console.info = console.error; // the package announces itself there; standard output has one line only

const { Provider, errors } = await import('oidc-provider');

const USERS = new Set(['alice', 'bob', 'carol', 'dave']);

async function approve(request) {
  const grant = new provider.Grant({ accountId: request.accountId, clientId: request.clientId });
  grant.addOIDCScope(request.scope);
  await grant.save();
  await provider.backchannelResult(request, grant);
}

const ciba = {
  enabled: true,
  deliveryModes: ['poll', 'ping'],
  processLoginHint: (ctx, hint) => (USERS.has(hint) ? hint : undefined),
  processLoginHintToken: () => undefined,
  validateRequestContext: () => {},
  verifyUserCode: () => {},
  async triggerAuthenticationDevice(ctx, request) {
    if (request.accountId === 'alice') {
      await approve(request);
    } else if (request.accountId === 'bob') {
      await provider.backchannelResult(request, new errors.AccessDenied('the user said no'));
    }
  },
};

const server = createServer();
// Node closes an idle connection after 5 s, which is just the interval of a poll. A poll that meets the close
// is one more way to lose an answer: a matter for the tests of the adapters, not for these.
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1');
await once(server, 'listening');

const issuer = `http://127.0.0.1:${server.address().port}`;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const provider = new Provider(issuer, {
  clients: Object.values(JSON.parse(readFileSync(new URL('clients.json', import.meta.url)))),
  cookies: { keys: [randomBytes(16).toString('hex')] },
  features: { ciba, devInteractions: { enabled: false } },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', kid: 'rsa', use: 'sig' }] },
});

provider.on('grant.error', async (ctx, error) => {
  if (error.error === 'authorization_pending') {
    const request = await provider.BackchannelAuthenticationRequest.find(ctx.oidc.params.auth_req_id);
    if (request.accountId === 'dave') {
      await approve(request);
    }
  }
});
provider.on('server_error', (ctx, error) => console.error(error));

server.on('request', provider.callback());
process.stdin.resume().on('close', () => process.exit());
console.log(JSON.stringify({ issuer }));
