// What an Envoy's stream of secrets is told and what it answered: subscriptions, versions, nonces, taken or not. Knows no socket.

import type { Caller } from "./caller.ts";
import type { Feed, FeedParts } from "./feed.ts";
import type { Identified } from "./identity.ts";
import { CallRefusal } from "./refusal.ts";
import {
  type DeltaRequest,
  type DiscoveryRequest,
  encodeDeltaResponse,
  encodeDiscoveryResponse,
  isName,
  NAMES_MAX,
  SECRET_TYPE,
  type SecretResource,
} from "./sds_message.ts";
import { SecretSource, type Wanted } from "./sds_secret.ts";

/** What a request was, for the log and the counters. */
export type Heard =
  /** There may be something new to send. */
  | { readonly about: "subscription" }
  | { readonly about: "taken" }
  | { readonly about: "not taken"; readonly error: string }
  /** It speaks of an answer that is not the last: the client will see the last and ask again. */
  | { readonly about: "the past" };

const NOTHING: Wanted = { names: new Set(), hasValidator: false };

/** StreamSecrets and FetchSecrets: each answer is the whole state. */
export class StateFeed implements Feed {
  readonly #source: SecretSource;
  #wanted: Wanted | undefined;
  #count = 0;
  /** Name and version of each root that was sent. */
  #sentRoots = "";
  #sentNames = "";

  constructor(parts: FeedParts) {
    this.#source = new SecretSource(parts);
  }

  get renewAt(): number | undefined {
    return this.#source.renewAt;
  }

  get endsAt(): number | undefined {
    return this.#source.endsAt;
  }

  /** Throws CallRefusal for what no answer can be given to. */
  hear(request: DiscoveryRequest): Heard {
    requireSecrets(request.typeUrl);
    const earlier = this.#wanted;
    if (earlier !== undefined && request.nonce !== this.#nonce) return { about: "the past" };
    const names = namesOf(request.names);
    this.#wanted = { names, hasValidator: request.hasValidator ?? earlier?.hasValidator ?? false };
    if (earlier === undefined || !isSameSet(earlier.names, names)) return { about: "subscription" };
    if (request.error !== undefined) return { about: "not taken", error: request.error };
    return { about: "taken" };
  }

  async next(caller: Caller, identified: Identified): Promise<Uint8Array | undefined> {
    const wanted = this.#wanted ?? NOTHING;
    const roots = this.#source.roots(wanted);
    const svidNames = this.#source.svidNames(wanted, identified);
    requireAll(wanted, [...roots.map(({ name }) => name), ...svidNames]);
    const rootsNow = roots.map(({ name, version }) => `${name} ${version}`).join("\n");
    const namesNow = svidNames.join("\n");
    const isSvidGood = svidNames.length === 0 || this.#source.isGood(identified);
    if (this.#count > 0 && isSvidGood && rootsNow === this.#sentRoots && namesNow === this.#sentNames) return undefined;
    const svids = svidNames.length === 0 ? [] : await this.#source.svids(svidNames, { caller, identified });
    this.#count += 1;
    this.#sentRoots = rootsNow;
    this.#sentNames = namesNow;
    return encodeDiscoveryResponse([...roots, ...svids], { version: String(this.#count), nonce: this.#nonce });
  }

  get #nonce(): string {
    return this.#count === 0 ? "" : String(this.#count);
  }
}

/** DeltaSecrets: what is new, and what is gone. Each message counts, so that none is made before the last has left. */
export class DeltaFeed implements Feed {
  readonly #source: SecretSource;
  readonly #isBlocked: () => boolean;
  #wanted: Wanted | undefined;
  #isEverything = false;
  #count = 0;
  /** Name → version that the client has; empty: it was told that there is none. */
  readonly #told = new Map<string, string>();

  constructor(parts: FeedParts, isBlocked: () => boolean) {
    this.#source = new SecretSource(parts);
    this.#isBlocked = isBlocked;
  }

  get renewAt(): number | undefined {
    return this.#source.renewAt;
  }

  get endsAt(): number | undefined {
    return this.#source.endsAt;
  }

  /** Throws CallRefusal for what no answer can be given to. */
  hear(request: DeltaRequest): Heard {
    requireSecrets(request.typeUrl);
    const earlier = this.#wanted;
    const isFirst = earlier === undefined;
    if (isFirst) {
      this.#isEverything = request.subscribe.length === 0;
      for (const [name, version] of request.known) if (isName(name)) this.#told.set(name, version);
    }
    const names = new Set(earlier?.names);
    for (const name of namesOf(request.subscribe)) {
      names.add(name);
      // Asked for anew: told anew, though it has not changed.
      if (!isFirst) this.#told.delete(name);
    }
    for (const name of request.unsubscribe) {
      names.delete(name);
      this.#told.delete(name);
    }
    if (names.size > NAMES_MAX) throw tooMany();
    this.#wanted = { names, hasValidator: request.hasValidator ?? earlier?.hasValidator ?? false };
    if (isFirst || request.subscribe.length > 0) return { about: "subscription" };
    if (request.error !== undefined) return { about: "not taken", error: request.error };
    return request.nonce === String(this.#count) ? { about: "taken" } : { about: "the past" };
  }

  async next(caller: Caller, identified: Identified): Promise<Uint8Array | undefined> {
    if (this.#isBlocked()) return undefined;
    const wanted = this.#wanted ?? NOTHING;
    if (wanted.names.size === 0 && !this.#isEverything) return undefined;
    const roots = this.#source.roots(wanted);
    const svidNames = this.#source.svidNames(wanted, identified);
    const isSvidGood = this.#source.isGood(identified) && svidNames.every((name) => this.#told.has(name));
    const needsSvid = svidNames.length > 0 && !isSvidGood;
    const svids = needsSvid ? await this.#source.svids(svidNames, { caller, identified }) : [];
    const changed = [...roots.filter(({ name, version }) => this.#told.get(name) !== version), ...svids];
    const there = new Set([...roots.map(({ name }) => name), ...svidNames]);
    const asked = this.#isEverything ? [...this.#told.keys()] : [...wanted.names];
    const removed = asked.filter((name) => !there.has(name) && this.#told.get(name) !== "");
    if (changed.length === 0 && removed.length === 0 && this.#count > 0) return undefined;
    this.#tell(changed, removed);
    const stamp = { version: String(this.#count), nonce: String(this.#count) };
    return encodeDeltaResponse({ changed, removed }, stamp);
  }

  #tell(changed: readonly SecretResource[], removed: readonly string[]): void {
    this.#count += 1;
    for (const { name, version } of changed) this.#told.set(name, version);
    for (const name of removed) {
      if (this.#isEverything) this.#told.delete(name);
      else this.#told.set(name, "");
    }
  }
}

function requireSecrets(typeUrl: string): void {
  if (typeUrl === "" || typeUrl === SECRET_TYPE) return;
  throw new CallRefusal("invalidArgument", "only secrets are served here");
}

function namesOf(list: readonly string[]): ReadonlySet<string> {
  const names = new Set(list.filter((name) => name !== "" && name !== "*"));
  if (names.size > NAMES_MAX) throw tooMany();
  for (const name of names) if (!isName(name)) throw new CallRefusal("invalidArgument", "a name is too long");
  return names;
}

function tooMany(): CallRefusal {
  return new CallRefusal("invalidArgument", `more than ${NAMES_MAX} names are asked for`);
}

/** A name that is another's SVID, or of a trust domain that is not held: the client waits in vain, and is to know why. */
function requireAll({ names }: Wanted, given: readonly string[]): void {
  const there = new Set(given);
  const missing = [...names].filter((name) => !there.has(name));
  if (missing.length === 0) return;
  const list = missing.slice(0, 4).map((name) => JSON.stringify(name.slice(0, 200)));
  throw new CallRefusal(
    "permissionDenied",
    `the workload is not entitled to ${list.join(", ")}, or there is no such secret`,
  );
}

function isSameSet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((name) => b.has(name));
}
