// A log-in through the provider in a real browser, and what must not come of it. Each check prints a line; the first that fails ends it.
//
//   GRANARY=http://localhost:PORT CHROMIUM=PATH WORK=FOLDER node login.mjs enter|attack|again
//
// enter    logs erin in, looks at everything that came of it, and leaves an API token of hers in $WORK/token
// attack   does what an attacker would with the answers of both sides
// again    logs erin in once more, says in $WORK/again what she is, and out again
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { chromium } from 'playwright-core'

const { GRANARY, CHROMIUM, WORK } = process.env
const SESSION = '__Host-granary'
const ATTEMPT = '__Host-granary-login'
// Whom the provider knows under which subject (provider.mjs).
const SUBJECTS = { erin: '4711', frank: '4712' }
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  // Root has no sandbox; containers have a small /dev/shm.
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
})

function holds(what) {
  console.log(`   ${what}`)
}

function same(what, expected, actual) {
  assert.deepEqual(actual, expected, `${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`)
  holds(what)
}

function begin(returnTo = '/auth/session') {
  return `${GRANARY}/auth/login/corp?return_to=${encodeURIComponent(returnTo)}`
}

async function cookie(context, name) {
  return (await context.cookies(GRANARY)).find((cookie) => cookie.name === name)
}

// Fills in the provider's pages until it sends the browser away from it.
async function fillIn(page, name) {
  await page.locator('input[name=login]').fill(SUBJECTS[name])
  await page.locator('input[name=password]').fill('any')
  await page.locator('button[type=submit]').click()
  await page.locator('input[name=prompt][value=consent]').waitFor({ state: 'attached' })
}

// A person who was at the provider never before. Stops at the last page of the provider's: `consent` goes on from there.
async function arrive(returnTo, name) {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(begin(returnTo))
  await fillIn(page, name)
  return { context, page }
}

async function consent(page) {
  const left = page.waitForURL((url) => url.href.startsWith(GRANARY))
  await page.locator('button[type=submit]').click()
  await left
}

async function logIn(name, returnTo) {
  const arrived = await arrive(returnTo, name)
  await consent(arrived.page)
  return arrived
}

// Consents as the page would, and returns the callback's URL instead of going there.
async function intercept(page) {
  const consent = await page.locator('form').getAttribute('action')
  let answer = await page.request.post(consent, { form: { prompt: 'consent' }, maxRedirects: 0 })
  for (;;) {
    const to = new URL(answer.headers().location, answer.url()).href
    if (to.startsWith(GRANARY)) return to
    answer = await page.request.get(to, { maxRedirects: 0 })
  }
}

// What a script of the page asks: with the cookie, which it cannot read.
function ask(page, path, { method = 'GET', headers = {}, body } = {}) {
  return page.evaluate(
    async ({ path, method, headers, body }) => {
      const answer = await fetch(path, { method, headers, body })
      const text = await answer.text()
      return { status: answer.status, json: text.startsWith('{') ? JSON.parse(text) : null }
    },
    { path, method, headers, body },
  )
}

async function isLoggedIn(page) {
  return (await ask(page, '/auth/session')).status
}

async function cookiesAreHeldBack(context, page) {
  const session = await cookie(context, SESSION)
  assert.ok(session, `no cookie ${SESSION}`)
  const { secure, httpOnly, sameSite, path, domain } = session
  same('the session is Secure, HttpOnly, SameSite=Lax, for this host only',
    { secure: true, httpOnly: true, sameSite: 'Lax', path: '/', domain: 'localhost' }, { secure, httpOnly, sameSite, path, domain })
  same('no script reads it', '', await page.evaluate(() => document.cookie))
  same('the cookie of the attempt is gone', undefined, await cookie(context, ATTEMPT))
}

async function theRequestIsProtected() {
  const answer = await fetch(begin(), { redirect: 'manual' })
  const to = new URL(answer.headers.get('location'))
  same('a log-in begins with 303', 303, answer.status)
  for (const name of ['state', 'nonce', 'code_challenge']) {
    assert.ok((to.searchParams.get(name) ?? '').length >= 32, `${name} is missing or short in ${to}`)
  }
  same('with state, nonce and S256', 'S256', to.searchParams.get('code_challenge_method'))
  const other = new URL((await fetch(begin(), { redirect: 'manual' })).headers.get('location'))
  for (const name of ['state', 'nonce', 'code_challenge']) {
    assert.notEqual(other.searchParams.get(name), to.searchParams.get(name), `${name} is the same twice`)
  }
  holds('each attempt has its own')
}

async function csrfCounts(page, csrf) {
  const body = JSON.stringify({ name: 'from-the-browser' })
  const json = { 'Content-Type': 'application/json' }
  const post = (headers) => ask(page, '/api/v1/tokens', { method: 'POST', headers: { ...json, ...headers }, body })
  same('no token without the CSRF header', 403, (await post({})).status)
  same('nor with another', 403, (await post({ 'X-CSRF-Token': 'a'.repeat(csrf.length) })).status)
  same('nor a log-out', 403, (await ask(page, '/auth/logout', { method: 'POST' })).status)
  const made = await post({ 'X-CSRF-Token': csrf })
  same('a token with it', 201, made.status)
  assert.match(made.json.data.token, /^grn_t_/)
  await writeFile(`${WORK}/token`, made.json.data.token, { mode: 0o600 })
}

async function enter() {
  await theRequestIsProtected()
  const { context, page } = await logIn('erin')
  same('back where it began', `${GRANARY}/auth/session`, page.url())
  await cookiesAreHeldBack(context, page)
  const session = await ask(page, '/auth/session')
  same('the session says who it is', [200, true, 'erin', 'corp'],
    [session.status, session.json.ok, session.json.data.user, session.json.data.provider])
  same('so does the API', 'erin', (await ask(page, '/api/v1/me')).json.data.user)
  await csrfCounts(page, session.json.data.csrf)
  same('another browser is nobody', 401, (await fetch(`${GRANARY}/auth/session`)).status)
}

// Who has the address of a callback gets nothing for it: it was used, or it belongs to another browser.
async function callbacksCountOnce() {
  const { context, page } = await arrive('/auth/session', 'erin')
  const attempt = await cookie(context, ATTEMPT)
  const callback = page.waitForRequest((request) => request.url().startsWith(`${GRANARY}/auth/callback/`))
  await consent(page)
  const url = (await callback).url()
  assert.ok(await cookie(context, SESSION), 'the callback logged nobody in')
  for (const [what, cookies] of [['', []], [' with its cookie', [attempt]]]) {
    await context.clearCookies({ domain: 'localhost' })
    await context.addCookies(cookies)
    same(`a callback that was used${what} is refused`, 400, (await page.goto(url)).status())
    same('and leaves no session', undefined, await cookie(context, SESSION))
  }
}

async function callbacksStayInTheirBrowser() {
  const { page: victims } = await arrive('/auth/session', 'erin')
  const url = await intercept(victims)
  const thief = await browser.newContext()
  const page = await thief.newPage()
  for (const what of ['without', 'with']) {
    if (what === 'with') await page.goto(begin())
    same(`a callback in another browser ${what} an attempt of its own is refused`, 400, (await page.goto(url)).status())
    same('and logs nobody in', undefined, await cookie(thief, SESSION))
  }
}

async function strangersAreRefused() {
  for (const [what, change] of [
    ['a state that nobody gave out', (to) => to.searchParams.set('state', 'a'.repeat(43))],
    ['no state', (to) => to.searchParams.delete('state')],
    ['no code', (to) => to.searchParams.delete('code')],
    ['the code of nobody', (to) => to.searchParams.set('code', 'a'.repeat(43))],
  ]) {
    const { context, page } = await arrive('/auth/session', 'frank')
    const to = new URL(await intercept(page))
    change(to)
    const status = (await page.goto(to.href)).status()
    assert.ok(status >= 400 && status < 500, `${what}: ${status}`)
    same(`${what} logs nobody in`, undefined, await cookie(context, SESSION))
  }
}

// A redirect out of here would make the log-in a lure; each of these must end at this server or be refused.
async function returnsStayHere() {
  const away = ['https://evil.example/', '//evil.example/', '/\\evil.example/', '/\t/evil.example/', 'javascript:alert(1)', '/auth/../../evil.example']
  for (const to of away) {
    const context = await browser.newContext()
    const page = await context.newPage()
    const outside = []
    page.on('request', (request) => {
      if (new URL(request.url()).hostname.endsWith('evil.example')) outside.push(request.url())
    })
    const answer = await page.goto(begin(to))
    if (answer.status() === 200) {
      await fillIn(page, 'erin')
      await consent(page)
      same(`return_to=${JSON.stringify(to)} stays here`, new URL(GRANARY).origin, new URL(page.url()).origin)
    } else {
      same(`return_to=${JSON.stringify(to)} is refused`, 400, answer.status())
    }
    same('and asks nobody else', [], outside)
    await context.close()
  }
}

async function attack() {
  await callbacksCountOnce()
  await callbacksStayInTheirBrowser()
  await strangersAreRefused()
  await returnsStayHere()
}

async function again() {
  const { context, page } = await logIn('erin')
  const me = await ask(page, '/api/v1/me')
  await writeFile(`${WORK}/again`, JSON.stringify(me.json.data))
  const former = await cookie(context, SESSION)
  const { csrf } = (await ask(page, '/auth/session')).json.data
  same('a log-out', 204, (await ask(page, '/auth/logout', { method: 'POST', headers: { 'X-CSRF-Token': csrf } })).status)
  same('takes the cookie', undefined, await cookie(context, SESSION))
  same('and ends the session', 401, await isLoggedIn(page))
  await context.addCookies([former])
  same('for whoever kept the cookie, too', 401, await isLoggedIn(page))
}

const parts = { enter, attack, again }
try {
  await parts[process.argv[2]]()
} finally {
  await browser.close()
}
