// When an SVID is renewed, and when a failed renewal is tried again. Pure: times and a random number in, a time out.

/** Apart by a tenth of the life either way, so that processes that began together do not renew together. */
export const RENEWAL_JITTER = 0.1;
const KEY_RETRY_LEAST_MS = 2000; // a slow machine's module may take a second
const KEY_RETRY_MOST_MS = 10_000; // the module answers within milliseconds
const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30_000;

export interface SvidTerm {
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  readonly notAfter: number;
}

/** Half of the life after issue, give or take the jitter; `random` in [0, 1). */
export function renewalTime({ issuedAt, notAfter }: SvidTerm, random: number): number {
  const life = Math.max(0, notAfter - issuedAt);
  return issuedAt + life * (0.5 + RENEWAL_JITTER * (2 * random - 1));
}

/** When a key that the module owes is asked for again: soon enough to try several times before the SVID ends. */
export function keyRetryTime(now: number, term: SvidTerm | undefined): number {
  const left = term === undefined ? Number.POSITIVE_INFINITY : term.notAfter - now;
  return now + Math.min(Math.max(left / 8, KEY_RETRY_LEAST_MS), KEY_RETRY_MOST_MS);
}

/** After `attempts` failures: doubling from a second to half a minute, and never past half of what is left of the SVID. */
export function retryTime(now: number, term: SvidTerm | undefined, attempts: number): number {
  const wait = Math.min(RETRY_FIRST_MS * 2 ** Math.min(attempts, 10), RETRY_MOST_MS);
  const left = term === undefined ? Number.POSITIVE_INFINITY : term.notAfter - now;
  return now + (left > 0 ? Math.max(Math.min(wait, left / 2), RETRY_FIRST_MS / 4) : wait);
}
