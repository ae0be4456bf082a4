// A certified OpenID provider (npm's oidc-provider) on this machine, with its own pages to log in and to consent.
//
//   ISSUER=http://127.0.0.1:PORT REDIRECT=URL CLIENT_ID=.. CLIENT_SECRET=.. node provider.mjs
//
// Whoever gives the number of one of these people is let in as that one. `PUT /control/groups/NAME` with a JSON list sets what the provider says of NAME's groups.
import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import Provider from 'oidc-provider'

const { ISSUER, REDIRECT, CLIENT_ID, CLIENT_SECRET } = process.env
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' })
const people = new Map([['4711', 'erin'], ['4712', 'frank']])
const groups = new Map()

const provider = new Provider(ISSUER, {
  clients: [{ client_id: CLIENT_ID, client_secret: CLIENT_SECRET, redirect_uris: [REDIRECT] }],
  jwks: { keys: [{ ...key, alg: 'RS256', use: 'sig', kid: 'the-only-one' }] },
  cookies: { keys: ['only-for-tests'] },
  features: { devInteractions: { enabled: true } },
  pkce: { required: () => true },
  // What is asked for stands in the ID token too, as with the providers that people have.
  conformIdTokenClaims: false,
  claims: {
    openid: ['sub', 'groups'],
    profile: ['name', 'preferred_username'],
    email: ['email', 'email_verified'],
    groups: ['groups'],
  },
  scopes: ['openid', 'profile', 'email', 'groups'],
  findAccount: (_, sub) => {
    const name = people.get(sub)
    if (!name) return undefined
    const email = { email: `${name}@corp.example`, email_verified: true }
    return { accountId: sub, claims: () => ({ sub, name, preferred_username: name, ...email, groups: groups.get(name) ?? [] }) }
  },
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
})

const answer = provider.callback()
const server = createServer(async (request, response) => {
  const [, control, what, name] = request.url.split('/')
  if (control !== 'control') return answer(request, response)
  if (request.method !== 'PUT' || what !== 'groups') return response.writeHead(404).end()
  groups.set(name, JSON.parse(await text(request)))
  return response.writeHead(204).end()
})
const { hostname, port } = new URL(ISSUER)
server.listen(Number(port), hostname)
