// What this node says of itself to the fleet: that it is there, what it has applied, and where its workloads listen. Says it again when it changes, and now and then.

import type { Clock } from "../../clock.ts";
import { ENDPOINTS_MAX, type EndpointBody, parseBody, writeBody } from "../../federation/body.ts";
import type { FleetState } from "../../federation/fleet_state.ts";
import { writeNodeKeys } from "../../federation/node_bundle.ts";
import type { StatementDraft } from "../../federation/statement.ts";
import type { FleetGeneration } from "../../fleet.ts";
import type { JwtKey } from "../../trust_bundle.ts";
import { VERSION } from "../../version.ts";
import { Waker } from "../waker.ts";

/** Looked at when something is to be said. */
export interface OwnWord {
  /** At which other nodes reach this one. */
  addresses(): readonly string[];
  endpoints(): EndpointBody["endpoints"];
  /** Under which this node signs JWT-SVIDs; none before they are made. */
  jwtKeys(): readonly JwtKey[];
}

export interface OwnVoiceParts {
  readonly nodeName: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly state: FleetState;
  readonly word: OwnWord;
  say(draft: Omit<StatementDraft, "trustDomain" | "revision">): unknown;
  /** It could not be said now; it is tried again. */
  onFault(thrown: unknown): void;
}

const PRESENCE_LEAST_MS = 30_000;
/** So that a fleet of any size hears about one presence a second. */
const PRESENCE_EACH_MS = 1000;
const PRESENCE_MOST_MS = 3_600_000;
/** An acknowledgement waits up to this long for each node of the fleet: a thousand at once would drown the next rule. */
const SOON_EACH_MS = 2;
const SOON_LEAST_MS = 20;
const LOOK_EVERY_MS = 5000;

export class OwnVoice {
  readonly #parts: OwnVoiceParts;
  #applied: FleetGeneration | undefined;
  #failure: string | undefined;
  readonly #waker: Waker;

  constructor(parts: OwnVoiceParts) {
    this.#parts = parts;
    this.#waker = new Waker(parts.clock);
  }

  /** Between two words of a node in a fleet of this size. */
  intervalMs(nodes: number): number {
    return Math.min(PRESENCE_MOST_MS, Math.max(PRESENCE_LEAST_MS, nodes * PRESENCE_EACH_MS));
  }

  /** Resources of this generation are in force, or cannot be. */
  applied(generation: FleetGeneration, failure: string | undefined): void {
    if (failure === undefined) this.#applied = generation;
    this.#failure = failure?.replaceAll(/\p{Cc}+/gu, " ").slice(0, 250);
    this.soon();
  }

  get own(): { readonly applied: FleetGeneration | undefined; readonly failure: string | undefined } {
    return { applied: this.#applied, failure: this.#failure };
  }

  soon(): void {
    this.#waker.wake();
  }

  /** Until the signal. Without a broker nobody hears: only what was applied is noted, for this node's own status. */
  async run(signal: AbortSignal, place: { hasBroker: boolean; isMember: () => boolean }): Promise<void> {
    const endpoints = place.hasBroker ? this.#sayEndpoints(signal, place.isMember) : Promise.resolve();
    await Promise.all([this.#sayPresence(signal, place), endpoints]);
  }

  async #sayPresence(signal: AbortSignal, { hasBroker, isMember }: Parameters<OwnVoice["run"]>[1]): Promise<void> {
    const { random, state } = this.#parts;
    while (!signal.aborted) {
      if (isMember()) this.#try(() => this.#presence());
      const nodes = state.list("node").length;
      const wait = hasBroker ? this.intervalMs(nodes) * (0.75 + random() / 2) : PRESENCE_MOST_MS;
      await this.#waker.sleep(wait, signal, SOON_LEAST_MS + nodes * SOON_EACH_MS * random());
    }
  }

  #try(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      this.#parts.onFault(thrown);
    }
  }

  #presence(): void {
    const { nodeName, clock, word, say } = this.#parts;
    const addresses = word.addresses().slice(0, 16);
    const body = { addresses, version: VERSION, applied: this.#applied, failure: this.#failure };
    say({ kind: "presence", name: nodeName, time: clock.now(), body: writeBody("presence", body) });
  }

  async #sayEndpoints(signal: AbortSignal, isMember: () => boolean): Promise<void> {
    const { clock } = this.#parts;
    while (!signal.aborted) {
      if (isMember()) {
        this.#try(() => this.#endpoints());
        this.#try(() => this.#keys());
      }
      await clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    }
  }

  #keys(): void {
    const { nodeName, clock, state, word, say } = this.#parts;
    const jwt = word.jwtKeys();
    if (jwt.length === 0) return;
    const body = writeNodeKeys(state.trustDomain, jwt);
    if (Buffer.compare(state.get("bundle", nodeName)?.body ?? new Uint8Array(), body) === 0) return;
    say({ kind: "bundle", name: nodeName, time: clock.now(), body });
  }

  #endpoints(): void {
    const { nodeName, clock, state, word, say } = this.#parts;
    const held = state.get("endpoint", nodeName);
    const before = held === undefined || held.isDeleted ? [] : parseBody("endpoint", held).endpoints;
    const endpoints = [...word.endpoints()].slice(0, ENDPOINTS_MAX).sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1));
    if (endpoints.map(textOf).join() === before.map(textOf).join()) return;
    say({ kind: "endpoint", name: nodeName, time: clock.now(), body: writeBody("endpoint", { endpoints }) });
  }
}

function textOf({ spiffeId, address, port }: EndpointBody["endpoints"][number]): string {
  return `${spiffeId} ${address} ${port}`;
}
