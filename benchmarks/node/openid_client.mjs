// Polls as often as a line on standard input says, by openid-client or by fetch alone, and says what it cost.
import { createInterface } from "node:readline";
import * as client from "openid-client";

const [url, clientId, clientSecret, authReqId] = process.argv.slice(2);
const config = new client.Configuration(
  { issuer: url, token_endpoint: `${url}/token` },
  clientId,
  undefined,
  client.ClientSecretBasic(clientSecret),
);
client.allowInsecureRequests(config);

async function openidClient(count) {
  const enough = new Error("enough");
  config[client.customFetch] = (target, options) => {
    if (count-- === 0) throw enough;
    return fetch(target, options);
  };
  // It waits for the interval by itself; 0 leaves the timer out.
  const acknowledgement = { auth_req_id: authReqId, expires_in: 1_000_000, interval: 0 };
  try {
    await client.pollBackchannelAuthenticationGrant(config, acknowledgement);
  } catch (error) {
    if (error !== enough && error.cause !== enough) throw error;
  }
}

async function bareFetch(count) {
  for (; count > 0; count--) {
    const basic = Buffer.from(`${clientId}:${clientSecret}`).toString("base64");
    const response = await fetch(`${url}/token`, {
      method: "POST",
      redirect: "manual",
      headers: { Accept: "application/json", Authorization: `Basic ${basic}` },
      body: new URLSearchParams({ grant_type: "urn:openid:params:grant-type:ciba", auth_req_id: authReqId }),
    });
    const answer = await response.json();
    if (answer.error !== "authorization_pending") throw new Error("unexpected answer");
  }
}

const contenders = { "openid-client": openidClient, fetch: bareFetch };
for await (const line of createInterface({ input: process.stdin })) {
  const { contender, count } = JSON.parse(line);
  const before = process.cpuUsage();
  await contenders[contender](count);
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ microseconds: user + system }));
}
// The keep-alive connections would hold the process for a few seconds.
process.exit(0);
