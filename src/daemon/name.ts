// Keeps the addresses of service names fresh: asked again as their records expire. An address that is gone is kept a while, for programs remember it too.

import { lookup, Resolver } from "node:dns/promises";
import { isIP } from "node:net";
import type { Clock } from "../clock.ts";
import { describeError } from "../error.ts";
import type { ServiceAddresses } from "../policy.ts";
import { Deadlines } from "./deadline.ts";
import type { Log } from "./log.ts";

const TTL_LEAST_MS = 5_000; // a record of TTL 0 must not become a loop
const TTL_MOST_MS = 300_000; // and one of a day must not hide a move for so long
const RETRY_MS = 10_000;
/** An address that a name no longer has is still good for this long, or for its last TTL if that is more. */
const LINGER_MS = 60_000;
const ADDRESSES_MAX = 64; // of one name
const LOOKUP_TTL_MS = 30_000; // /etc/hosts and the like carry no TTL

export interface ResolvedAddress {
  readonly address: string;
  readonly ttlMs: number;
}

/** Every address that programs on this machine may get for the name. Rejects when it has none. */
export type ResolveName = (name: string) => Promise<readonly ResolvedAddress[]>;

export interface NameKeeperParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly resolve?: ResolveName;
  /** The addresses of some name have changed. */
  readonly onChange: () => void;
}

interface Entry {
  /** Address to the time until which it counts. */
  readonly until: Map<string, number>;
  fault: string | undefined;
}

export class NameKeeper {
  readonly #parts: NameKeeperParts;
  readonly #resolve: ResolveName;
  readonly #entries = new Map<string, Entry>();
  readonly #due: Deadlines<string>;

  constructor(parts: NameKeeperParts) {
    this.#parts = parts;
    this.#resolve = parts.resolve ?? resolveByMachine;
    this.#due = new Deadlines(parts.clock);
  }

  /** What each name resolves to now; a name that never did is not there. */
  addresses(): ServiceAddresses {
    const known = new Map<string, readonly string[]>();
    for (const [name, { until }] of this.#entries) if (until.size > 0) known.set(name, [...until.keys()].sort());
    return known;
  }

  get warnings(): readonly string[] {
    return [...this.#entries].flatMap(([name, { fault, until }]) => {
      if (fault === undefined) return [];
      const kept = until.size === 0 ? "rules that name it match nothing" : "its last known addresses are kept";
      return [`Cannot resolve ${name}: ${fault}; ${kept}. Check the name and this node's resolver.`];
    });
  }

  /** From now on these names and no others. Resolves when each new one was asked for once, or after `patienceMs`. */
  async watch(names: readonly string[], patienceMs: number): Promise<void> {
    for (const name of this.#entries.keys()) {
      if (names.includes(name)) continue;
      this.#entries.delete(name);
      this.#due.delete(name);
    }
    const fresh = names.filter((name) => !this.#entries.has(name));
    if (fresh.length === 0) return;
    for (const name of fresh) this.#entries.set(name, { until: new Map(), fault: undefined });
    const enough = new AbortController();
    let isLate = false;
    const answers = Promise.all(fresh.map((name) => this.#ask(name))).then((changed) => {
      enough.abort();
      if (isLate && changed.includes(true)) this.#parts.onChange();
    });
    const patience = this.#parts.clock.sleep(patienceMs, enough.signal).then(
      () => {
        isLate = true;
      },
      () => undefined,
    );
    await Promise.race([answers, patience]);
  }

  /** Asks again as records expire, until the signal. */
  run(signal: AbortSignal): Promise<void> {
    return this.#due.run((name) => {
      this.#ask(name).then((changed) => {
        if (changed && !signal.aborted) this.#parts.onChange();
      });
    }, signal);
  }

  /** True when the set of addresses changed. */
  async #ask(name: string): Promise<boolean> {
    const { clock, log } = this.#parts;
    let found: readonly ResolvedAddress[] = [];
    let fault: string | undefined;
    try {
      found = await this.#resolve(name);
    } catch (thrown) {
      fault = describeError(thrown);
    }
    const entry = this.#entries.get(name);
    if (entry === undefined) return false;
    if (fault !== undefined && entry.fault === undefined)
      log.warn("a service name could not be resolved", { name, error: fault });
    entry.fault = fault;
    const now = clock.now();
    if (fault !== undefined) {
      this.#due.set(name, now + RETRY_MS);
      return false;
    }
    const changed = refresh(entry.until, found, now);
    const shortest = Math.min(TTL_MOST_MS, ...found.map(({ ttlMs }) => ttlMs));
    this.#due.set(name, now + Math.max(TTL_LEAST_MS, shortest));
    if (changed)
      log.info("the addresses of a service name changed", { name, addresses: [...entry.until.keys()].join(" ") });
    return changed;
  }
}

/** Adds what was found, drops what has lingered long enough; true when the set changed. Bounded. */
export function refresh(until: Map<string, number>, found: readonly ResolvedAddress[], now: number): boolean {
  const before = [...until.keys()].sort().join(" ");
  for (const { address, ttlMs } of found.slice(0, ADDRESSES_MAX)) {
    until.set(address, now + Math.max(LINGER_MS, Math.min(ttlMs, TTL_MOST_MS)));
  }
  for (const [address, end] of until) if (end <= now) until.delete(address);
  const byEnd = [...until].sort(([, a], [, b]) => b - a);
  for (const [address] of byEnd.slice(ADDRESSES_MAX)) until.delete(address);
  return before !== [...until.keys()].sort().join(" ");
}

/** As getaddrinfo gives it (/etc/hosts first), with the DNS records' own TTL where there are some. */
export const resolveByMachine: ResolveName = async (name) => {
  const resolver = new Resolver({ timeout: 2000, tries: 2 });
  const [v4, v6, system] = await Promise.allSettled([
    resolver.resolve4(name, { ttl: true }),
    resolver.resolve6(name, { ttl: true }),
    lookup(name, { all: true }),
  ]);
  const found = new Map<string, number>();
  if (system.status === "fulfilled") for (const { address } of system.value) found.set(address, LOOKUP_TTL_MS);
  for (const records of [v4, v6]) {
    if (records.status === "fulfilled") for (const { address, ttl } of records.value) found.set(address, ttl * 1000);
  }
  const addresses = [...found]
    .filter(([address]) => isIP(address) !== 0)
    .map(([address, ttlMs]) => ({ address, ttlMs }));
  if (addresses.length > 0) return addresses;
  throw system.status === "rejected" ? system.reason : new Error("it has no address");
};
