// How this tab becomes allowed to look: one-time link in the #fragment, or the demo's open session.
// Tokens live in sessionStorage only: cookies and localStorage leak between programs on localhost ports.

const TOKEN = 'eegloop.token';
const STOP_TOKEN = 'eegloop.stop_token';

export type SignIn = { ok: true; token: string } | { ok: false; reason: 'no-link' | 'used-link' | 'unreachable' };

/** Used where a browser refuses sessionStorage: the page then works until it is reloaded, STOP included. */
const memory = new Map<string, string>();

function read(key: string): string | null {
  try {
    return sessionStorage.getItem(key) ?? memory.get(key) ?? null;
  } catch {
    return memory.get(key) ?? null;
  }
}

function write(key: string, value: string | null): void {
  if (value === null) memory.delete(key);
  else memory.set(key, value);
  try {
    if (value === null) sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, value);
  } catch {
    // Kept in memory alone.
  }
}

/** The stop-only token survives everything, also the end of the session it came with. */
export function stopToken(): string | null {
  return read(STOP_TOKEN);
}

/** What opens this page's requests over HTTP; null while signed out. */
export function pageToken(): string | null {
  return read(TOKEN);
}

export function keepStopToken(token: string): void {
  write(STOP_TOKEN, token);
}

/** A token was refused: forget it (never the stop token). */
export function forgetToken(): void {
  write(TOKEN, null);
}

/** Takes the secret out of the address bar before anything else can see it. */
export function takeSecret(): string | null {
  const match = /^#link=([A-Za-z0-9_~.-]+)$/.exec(location.hash);
  if (match === null) return null;
  history.replaceState(null, '', location.pathname + location.search);
  return match[1] ?? null;
}

/** The token of this tab, a redeemed link, or a demo session, in this order of preference: link first. */
export async function signIn(secret: string | null): Promise<SignIn> {
  let reason: 'no-link' | 'used-link' | 'unreachable' = 'no-link';
  if (secret !== null) {
    const redeemed = await ask('/api/v1/link/redeem', { secret });
    if (redeemed === 'unreachable') return { ok: false, reason: 'unreachable' };
    if (redeemed !== 'refused') return keep(redeemed);
    reason = 'used-link';
  }
  const token = read(TOKEN);
  if (token !== null) return { ok: true, token };
  const demo = await ask('/api/v1/demo/session', {});
  if (demo === 'unreachable') return { ok: false, reason: 'unreachable' };
  if (demo !== 'refused') return keep(demo);
  return { ok: false, reason };
}

interface Tokens {
  token: string;
  stop_token: string;
}

function keep(tokens: Tokens): SignIn {
  write(TOKEN, tokens.token);
  keepStopToken(tokens.stop_token);
  return { ok: true, token: tokens.token };
}

async function ask(path: string, body: object): Promise<Tokens | 'refused' | 'unreachable'> {
  try {
    const response = await fetch(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
      cache: 'no-store',
      signal: AbortSignal.timeout(25_000), // a service that has just started answers when it knows its headset
    });
    if (!response.ok) return response.status >= 500 ? 'unreachable' : 'refused';
    const tokens = (await response.json()) as Partial<Tokens>;
    if (typeof tokens.token !== 'string' || typeof tokens.stop_token !== 'string') return 'refused';
    return tokens as Tokens;
  } catch {
    return 'unreachable';
  }
}
