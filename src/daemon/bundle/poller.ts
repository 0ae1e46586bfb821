// Keeps the bundles of other trust domains fresh: a loop for each endpoint, few at a time. What came is the book's to take or refuse.

import type { Clock } from "../../clock.ts";
import { describeError, RiprapError } from "../../error.ts";
import { fetchBundleDocument } from "../../federation/bundle_client.ts";
import { nextFetchMs } from "../../federation/bundle_schedule.ts";
import type { BundleEndpoint, ForeignTrustDomain } from "../../resource.ts";
import type { TrustDomain } from "../../spiffe_id.ts";
import type { BundleBook } from "../bundle.ts";
import type { Log } from "../log.ts";
import { Waker } from "../waker.ts";
import type { Answered } from "./exchange.ts";

/** Each may hold an answer of 4 MiB. */
const FETCHES_MAX = 8;

export interface PollerParts {
  readonly book: Pick<BundleBook, "held" | "take" | "onChange" | "bundleOf">;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** Is it this node's own trust domain? */
  isOwn(trustDomain: TrustDomain): boolean;
  exchange(url: URL, endpoint: BundleEndpoint, signal: AbortSignal): Promise<Answered>;
}

/** Times in milliseconds since the epoch. */
export interface PollState {
  readonly failures: number;
  readonly error: string | undefined;
  readonly fetchedAt: number | undefined;
  readonly nextAt: number | undefined;
}

interface Loop {
  /** Of the resource: a loop goes on while it stays the same. */
  readonly key: string;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
  /** Ends the wait before the next fetch. */
  readonly waker: Waker;
  state: PollState;
}

interface FollowedDomain {
  readonly trustDomain: TrustDomain;
  readonly endpoint: BundleEndpoint;
}

export class BundlePoller {
  readonly #parts: PollerParts;
  readonly #loops = new Map<string, Loop>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #isClosed = false;
  readonly #forget: () => void;

  constructor(parts: PollerParts) {
    this.#parts = parts;
    // A first bundle may be what an endpoint of https_spiffe could not be authenticated without.
    this.#forget = parts.book.onChange(() => {
      for (const loop of this.#loops.values()) if (loop.state.failures > 0) loop.waker.wake();
    });
  }

  /** The rules in force name these: loops of others end, and those whose endpoint is another begin anew. */
  configure(trustDomains: readonly ForeignTrustDomain[]): void {
    if (this.#isClosed) return;
    const wanted = new Map<string, FollowedDomain>();
    for (const { trustDomain, endpoint } of trustDomains)
      if (endpoint !== undefined) wanted.set(trustDomain.name, { trustDomain, endpoint });
    for (const [name, loop] of [...this.#loops]) {
      const domain = wanted.get(name);
      if (domain !== undefined && keyOf(domain.endpoint) === loop.key) continue;
      loop.stop.abort();
      this.#loops.delete(name);
    }
    for (const [name, domain] of wanted) if (!this.#loops.has(name)) this.#loops.set(name, this.#start(domain));
  }

  stateOf(trustDomain: TrustDomain): PollState | undefined {
    return this.#loops.get(trustDomain.name)?.state;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#forget();
    for (const { stop } of this.#loops.values()) stop.abort();
    await Promise.allSettled([...this.#loops.values()].map(({ ended }) => ended));
  }

  #start(domain: FollowedDomain): Loop {
    const stop = new AbortController();
    const state: PollState = { failures: 0, error: undefined, fetchedAt: undefined, nextAt: undefined };
    const start = Promise.withResolvers<void>();
    const ended = start.promise.then(() => this.#follow(domain, loop));
    const loop: Loop = { key: keyOf(domain.endpoint), stop, ended, waker: new Waker(this.#parts.clock), state };
    ended.catch((thrown: unknown) => {
      this.#parts.log.error("a loop of the daemon ended", { error: describeError(thrown) });
    });
    start.resolve();
    return loop;
  }

  async #follow(domain: FollowedDomain, loop: Loop): Promise<void> {
    const { book, clock, random } = this.#parts;
    const { signal } = loop.stop;
    while (!signal.aborted) {
      await this.#inTurn(() => this.#fetchOnce(domain, loop));
      if (signal.aborted) return;
      const held = book.held(domain.trustDomain);
      const { failures } = loop.state;
      const hint = { refreshHintSeconds: held?.bundle.refreshHintSeconds, failures, isHeld: held !== undefined };
      const wait = nextFetchMs(hint, random());
      loop.state = { ...loop.state, nextAt: clock.now() + wait };
      await loop.waker.sleep(wait, signal);
    }
  }

  async #fetchOnce({ trustDomain, endpoint }: FollowedDomain, loop: Loop): Promise<void> {
    const { book, clock, log } = this.#parts;
    const { signal } = loop.stop;
    if (signal.aborted) return;
    const { url, profile } = endpoint;
    try {
      if (endpoint.profile === "https_spiffe") this.#requireBundleOf(endpoint.spiffeId.trustDomain);
      const document = await fetchBundleDocument(url, async (next) => {
        const { response, server } = await this.#parts.exchange(next, endpoint, signal);
        const { status } = response;
        log.info("a bundle endpoint was asked", {
          trustDomain: trustDomain.name,
          url: next.href,
          profile,
          server,
          status,
        });
        return response;
      });
      // The rules may trust it no longer, or trust it by another endpoint.
      if (signal.aborted) return;
      book.take(trustDomain, document, { source: "endpoint" });
      loop.state = { failures: 0, error: undefined, fetchedAt: clock.now(), nextAt: undefined };
    } catch (thrown) {
      if (signal.aborted) return;
      const code = thrown instanceof RiprapError ? thrown.code : "internal";
      this.#failed(loop, { trustDomain, error: describeError(thrown), code });
    }
  }

  /** Our own trust domain's is always held. */
  #requireBundleOf(server: TrustDomain): void {
    if (this.#parts.book.bundleOf(server) !== undefined || this.#parts.isOwn(server)) return;
    const remedy = `set the first one with \`riprap bundle set ${server} FILE\`, or in its TrustDomain resource`;
    throw new RiprapError(
      "endpoint_untrusted",
      `Cannot authenticate the endpoint: no bundle of ${server} is held; ${remedy}`,
    );
  }

  #failed(loop: Loop, { trustDomain, error, code }: { trustDomain: TrustDomain; error: string; code: string }): void {
    const failures = loop.state.failures + 1;
    // Once for each thing that is wrong: an endpoint may be away for a week.
    const isNew = loop.state.error !== error;
    loop.state = { ...loop.state, failures, error };
    const facts = { trustDomain: trustDomain.name, code, failures, error };
    if (isNew) this.#parts.log.warn("a bundle of another trust domain could not be renewed", facts);
    else this.#parts.log.debug("a bundle of another trust domain could not be renewed", facts);
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    if (this.#running >= FETCHES_MAX) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#running += 1;
    try {
      await work();
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }
}

function keyOf(endpoint: BundleEndpoint): string {
  return `${endpoint.profile} ${endpoint.url.href} ${endpoint.profile === "https_spiffe" ? endpoint.spiffeId : ""}`;
}
