// A real authorization server for the end-to-end tests: client credentials, resource indicators and
// JWT access tokens (RFC 9068), with two listeners on loopback:
//
//   the issuer    what the gateway and the callers see; it can be taken down and brought back
//   the control   what only the harness sees: rotate and withdraw keys, stop, start, count fetches
//
// The first line on standard output is JSON with both addresses. `--stopped` starts with the issuer
// down, so that its address is known before it answers.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { generateKeyPair, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

import Provider, { errors } from 'oidc-provider';

const RESOURCE = 'https://api.acme.example';
const SCOPES = ['orders:read', 'orders:write'];
const ACCESS_TOKEN_SECONDS = 300;

const KEY_TYPES = {
  RS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

const generate = promisify(generateKeyPair);

async function newKey(alg) {
  const [type, options] = KEY_TYPES[alg];
  const { privateKey } = await generate(type, options);
  return {
    ...privateKey.export({ format: 'jwk' }),
    kid: `${alg.toLowerCase()}-${randomBytes(6).toString('hex')}`,
    alg,
    use: 'sig',
  };
}

class AuthorizationServer {
  #issuer;
  #keys = [];
  #listener;
  #port = 0;
  #callback;

  counts = { jwks: 0, discovery: 0, token: 0 };
  signing = {};

  async listen() {
    this.#listener = createServer((request, response) => {
      const path = request.url.split('?')[0];
      if (path === '/jwks') this.counts.jwks += 1;
      if (path.startsWith('/.well-known/')) this.counts.discovery += 1;
      if (path === '/token') this.counts.token += 1;
      this.#callback(request, response);
    });
    this.#listener.keepAliveTimeout = 1000;
    this.#listener.listen(this.#port, '127.0.0.1');
    await once(this.#listener, 'listening');
    this.#port = this.#listener.address().port;
    this.#issuer = `http://127.0.0.1:${this.#port}`;
  }

  async close() {
    if (!this.#listener) return;
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    this.#listener.closeAllConnections();
    this.#listener = undefined;
    await closed;
  }

  get issuer() {
    return this.#issuer;
  }

  get running() {
    return this.#listener !== undefined;
  }

  // Adds one key for each algorithm and signs with the new ones; the old ones stay published.
  async rotate() {
    const added = await Promise.all(Object.keys(KEY_TYPES).map(newKey));
    this.#keys = [...added, ...this.#keys];
    this.signing = Object.fromEntries(added.map((key) => [key.alg, key.kid]));
    this.#publish();
  }

  // Withdraws every key that is not the newest of its algorithm.
  withdraw() {
    const current = new Set(Object.values(this.signing));
    this.#keys = this.#keys.filter((key) => current.has(key.kid));
    this.#publish();
  }

  // A provider's keys are fixed when it is made, so each change of keys makes a new one.
  #publish() {
    const client = (alg) => ({
      client_id: `orders-client-${alg.toLowerCase()}`,
      client_secret: `secret-of-orders-client-${alg.toLowerCase()}`,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    });
    const provider = new Provider(this.#issuer, {
      clients: Object.keys(KEY_TYPES).map(client),
      jwks: { keys: this.#keys },
      scopes: SCOPES,
      clientAuthMethods: ['client_secret_basic'],
      enabledJWA: { idTokenSigningAlgValues: Object.keys(KEY_TYPES) },
      ttl: { ClientCredentials: ACCESS_TOKEN_SECONDS },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (ctx, resource, { clientId }) => {
            if (resource !== RESOURCE) throw new errors.InvalidTarget();
            const alg = Object.keys(KEY_TYPES).find((a) => clientId.endsWith(a.toLowerCase()));
            return {
              scope: SCOPES.join(' '),
              audience: RESOURCE,
              accessTokenFormat: 'jwt',
              accessTokenTTL: ACCESS_TOKEN_SECONDS,
              jwt: { sign: { alg, kid: this.signing[alg] } },
            };
          },
        },
      },
    });
    this.#callback = provider.callback();
  }
}

const server = new AuthorizationServer();
await server.listen();
await server.rotate();
if (process.argv.includes('--stopped')) await server.close();

const controls = {
  '/control/rotate': () => server.rotate(),
  '/control/withdraw': () => server.withdraw(),
  '/control/stop': () => server.close(),
  '/control/start': () => server.running || server.listen(),
  '/control/stats': () => {},
};

const control = createServer(async (request, response) => {
  const action = controls[request.url];
  if (!action) {
    response.writeHead(404).end();
    return;
  }
  try {
    await action();
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ ...server.counts, signing: server.signing }));
  } catch (error) {
    response.writeHead(500).end(String(error.stack));
  }
});
control.listen(0, '127.0.0.1');
await once(control, 'listening');

process.stdout.write(`${JSON.stringify({
  issuer: server.issuer,
  control: `http://127.0.0.1:${control.address().port}`,
  resource: RESOURCE,
})}\n`);

// The harness holds standard input open; when it goes away, so does this server.
process.stdin.resume();
process.stdin.once('end', () => process.exit(0));
process.stdin.once('close', () => process.exit(0));
