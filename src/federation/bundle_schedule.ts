// When a bundle is fetched again. Pure: the last outcome and a random number in, a wait out.

/** SPIFFE Trust Domain and Bundle section 6.1: what a bundle without a hint means. */
export const REFRESH_DEFAULT_MS = 300_000;
/** A hint of a second would make every node a burden to the endpoint. */
export const REFRESH_LEAST_MS = 30_000;
/** A hint of a year would leave a withdrawn root trusted for a year. */
export const REFRESH_MOST_MS = 24 * 3600 * 1000;
/** Nodes that started together do not ask together: a tenth earlier, never later than the hint. */
const JITTER = 0.1;
const RETRY_FIRST_MS = 5_000;

export interface FetchOutcome {
  /** Of the bundle that is held; undefined: it has none, or nothing is held. */
  readonly refreshHintSeconds: number | undefined;
  /** In a row, the last included; 0: the last one was good. */
  readonly failures: number;
  readonly isHeld: boolean;
}

/**
 * The hint, within bounds. After a failure 30 s, doubling to five minutes, and never later than the hint (SPIFFE Federation section 6.2: not
 * aggressively); while nothing is held from 5 s on.
 */
export function nextFetchMs({ refreshHintSeconds, failures, isHeld }: FetchOutcome, random: number): number {
  const hint = refreshHintSeconds === undefined ? REFRESH_DEFAULT_MS : refreshHintSeconds * 1000;
  const interval = Math.min(Math.max(hint, REFRESH_LEAST_MS), REFRESH_MOST_MS);
  const retry = RETRY_FIRST_MS * 2 ** Math.min(Math.max(failures - 1, 0), 20);
  const most = isHeld ? Math.min(interval, REFRESH_DEFAULT_MS) : REFRESH_DEFAULT_MS;
  const wait = failures === 0 ? interval : Math.min(isHeld ? Math.max(retry, REFRESH_LEAST_MS) : retry, most);
  return Math.round(wait * (1 - JITTER * random));
}
