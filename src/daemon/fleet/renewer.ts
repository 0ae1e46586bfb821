// Keeps this node's intermediate young: asks issuing nodes for the next one long before the end; and signs those of others where this node issues.

import {
  createRenewalRequest,
  installRenewedIntermediate,
  type KeyStore,
  needsRenewal,
  openNodeKeys,
} from "../../ca.ts";
import type { Clock } from "../../clock.ts";
import type { EnrolmentGrant, EnrolmentRequest } from "../../enrolment.ts";
import { describeError, RiprapError } from "../../error.ts";
import {
  encodeEnrolmentGrant,
  encodeEnrolmentRequest,
  parseEnrolmentGrant,
  parseEnrolmentRequest,
} from "../../federation/enrolment.ts";
import type { Store } from "../../store.ts";
import type { Fleet } from "../fleet.ts";
import type { Log } from "../log.ts";
import { Waker } from "../waker.ts";
import type { Reply, Said } from "./wire.ts";

export interface RenewerParts {
  readonly fleet: Pick<Fleet, "self" | "nodes" | "ask" | "journal">;
  readonly stateDir: string;
  readonly store: Store;
  readonly keys?: KeyStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** Of this node's intermediate, milliseconds. */
  validity(): { readonly notBefore: number; readonly notAfter: number };
  /** The root above it has retired: it is made anew under the next one, however young it is. */
  isRootEnding(): boolean;
  /** The fleet has revoked it: nobody takes what it signs. */
  isRevoked(): boolean;
  /** This node's entry in the roster does not have it: others take it for nobody's. */
  isUnnamed(): boolean;
  /** On an issuing node: its entry names what it signs with. Never throws. */
  nameSelf(): void;
  /** Signs for a node of the roster; the one that it has stays good. */
  sign(request: EnrolmentRequest, idPrefixes: readonly string[]): Promise<EnrolmentGrant>;
  /** The roster's entry of a node names the authority that it has now. */
  nameAuthority(node: string, grant: EnrolmentGrant): void;
  /** The intermediate is another from now on. */
  onRenewed(): void;
}

const LOOK_EVERY_MS = 600_000;
/** While nobody takes what this node signs. */
const URGENT_EVERY_MS = 10_000;
/** The word of the issuing node that signed has come by then, unless another of a later revision stands: it signed by an old state. */
const NAMED_WITHIN_MS = 30_000;
/** What an issuing node needs for one, with much beside it. */
const SIGNING_MS = 400;
const ANSWER_MS = 15_000;
/** For one node, by this issuing node: it needs one in months, but an answer may be lost, and its person may ask too. */
const SIGNED_MAX = 3;
const SIGNED_WITHIN_MS = 180_000;
const RENEW = "renew";
const RENEWED = "renewed";
const REFUSED = "refused";

export class Renewer {
  readonly counters = { renewed: 0, failed: 0, signed: 0 };
  readonly #parts: RenewerParts;
  readonly #waker: Waker;
  /** When each node was signed for; only those of late. */
  readonly #signed = new Map<string, readonly number[]>();

  constructor(parts: RenewerParts) {
    this.#parts = parts;
    this.#waker = new Waker(parts.clock);
  }

  /** Of the newest that came; 0: none since start. */
  notAfter = 0;
  #faults: string[] = [];
  /** When another is asked for because the roster does not name this one; undefined while it does. */
  #askUnnamedAt: number | undefined;

  /** Why nobody signed the last time, for a person. */
  get fault(): string {
    return this.#faults.length === 0 ? "the roster has no issuing node that is active" : this.#faults.join("; ");
  }

  /** Until the signal. A node that signs by its own root renews without anyone (authority keeper). */
  async run(signal: AbortSignal): Promise<void> {
    const { random } = this.#parts;
    while (!signal.aborted) {
      const isServed = await this.lookNow();
      const isUrgent = this.#parts.isUnnamed() || (!isServed && this.#isWorthless());
      const every = isUrgent ? URGENT_EVERY_MS : LOOK_EVERY_MS;
      // All nodes are told at the same moment, and one issuing node may have to answer them.
      const spread = this.#parts.fleet.nodes().length * SIGNING_MS * random();
      await this.#waker.sleep(every * (0.5 + random()), signal, spread);
    }
  }

  /** Something has changed that this node's intermediate rests on. */
  soon(): void {
    this.#waker.wake();
  }

  /** True when there is a new intermediate. Never rejects. */
  async lookNow(): Promise<boolean> {
    const { fleet, clock, validity, isRootEnding, isRevoked } = this.#parts;
    const self = fleet.self;
    if (self?.state !== "active") return false;
    if (self.isIssuer) {
      // It signs for itself, and has just become one as a rule.
      if (this.#parts.isUnnamed()) this.#parts.nameSelf();
      return false;
    }
    const now = clock.now();
    const isDue = isRevoked() || isRootEnding() || needsRenewal(validity(), now) || this.#isUnnamedForLong(now);
    return isDue ? this.renew() : false;
  }

  #isUnnamedForLong(now: number): boolean {
    if (!this.#parts.isUnnamed()) {
      this.#askUnnamedAt = undefined;
      return false;
    }
    this.#askUnnamedAt ??= now + NAMED_WITHIN_MS;
    if (now < this.#askUnnamedAt) return false;
    // The one that signs now may have an old state too.
    this.#askUnnamedAt = now + LOOK_EVERY_MS;
    this.#parts.log.warn("the roster does not name this node's intermediate, and it asks for another");
    return true;
  }

  #isWorthless(): boolean {
    const { clock, validity, isRevoked } = this.#parts;
    return isRevoked() || validity().notAfter <= clock.now();
  }

  /** Asks every issuing node in an order of chance until one signs. */
  async renew(): Promise<boolean> {
    const { fleet, log, random } = this.#parts;
    const issuers = fleet.nodes().filter(({ isIssuer, state }) => isIssuer && state === "active");
    this.#faults = [];
    for (const { name } of issuers.sort(() => random() - 0.5)) {
      try {
        await this.#renewBy(name);
        return true;
      } catch (thrown) {
        this.counters.failed += 1;
        this.#faults.push(`${name}: ${describeError(thrown)}`);
        log.warn("an issuing node did not renew the intermediate", { node: name, error: describeError(thrown) });
      }
    }
    return false;
  }

  /** On an issuing node. Undefined for a question of another kind. */
  async answer({ node, type, payload }: Said): Promise<Reply | undefined> {
    if (type !== RENEW) return undefined;
    const { fleet, sign, nameAuthority, log } = this.#parts;
    try {
      const self = fleet.self;
      if (self?.isIssuer !== true || self.state !== "active") throw refused("this node does not issue");
      const request = parseEnrolmentRequest(Buffer.from(payload).toString("utf8"));
      const member = fleet.nodes().find(({ name }) => name === node);
      // The envelope was signed by its fleet key: it asks for itself, as what the roster says it is.
      if (request.nodeName !== node || member === undefined) throw refused(`${node} asks for ${request.nodeName}`);
      const grant = await this.#signInTurn(node, () => sign(request, member.idPrefixes));
      nameAuthority(node, grant);
      this.counters.signed += 1;
      fleet.journal.record("intermediate renewed", node, `until ${new Date(grant.expiresAt).toISOString()}`);
      return { type: RENEWED, payload: new TextEncoder().encode(encodeEnrolmentGrant(grant)) };
    } catch (thrown) {
      log.warn("an intermediate was not renewed", { node, error: describeError(thrown) });
      return { type: REFUSED, payload: new TextEncoder().encode(describeError(thrown).slice(0, 500)) };
    }
  }

  /** Each costs a signature for good, a line of the journal and a word to the whole fleet. */
  async #signInTurn(node: string, work: () => Promise<EnrolmentGrant>): Promise<EnrolmentGrant> {
    const now = this.#parts.clock.now();
    for (const [name, times] of this.#signed) {
      const late = times.filter((time) => Math.abs(now - time) < SIGNED_WITHIN_MS);
      if (late.length > 0) this.#signed.set(name, late);
      else this.#signed.delete(name);
    }
    const times = this.#signed.get(node) ?? [];
    if (times.length >= SIGNED_MAX) {
      const minutes = SIGNED_WITHIN_MS / 60_000;
      throw refused(`${node} was given ${SIGNED_MAX} within ${minutes} minutes; ask again in ${minutes}`);
    }
    this.#signed.set(node, [...times, now]);
    try {
      return await work();
    } catch (thrown) {
      this.#signed.set(node, (this.#signed.get(node) ?? []).slice(0, -1));
      throw thrown;
    }
  }

  async #renewBy(node: string): Promise<void> {
    const { fleet, stateDir, store, clock, log, onRenewed } = this.#parts;
    const options = { stateDir, store, keys: this.#parts.keys ?? openNodeKeys(stateDir), now: clock.now() };
    const request = await createRenewalRequest(options);
    const question = { type: RENEW, payload: new TextEncoder().encode(encodeEnrolmentRequest(request)) };
    const said = await fleet.ask(node, question, ANSWER_MS);
    const text = Buffer.from(said.payload).toString("utf8");
    if (said.type !== RENEWED) throw refused(`${node} says: ${text}`);
    const now = clock.now();
    const isRevoked = this.#parts.isRevoked();
    const { notAfter } = installRenewedIntermediate(parseEnrolmentGrant(text), { ...options, now, isRevoked });
    this.counters.renewed += 1;
    this.notAfter = notAfter.getTime();
    fleet.journal.record("intermediate renewed", node, `until ${notAfter.toISOString()}`);
    log.info("this node has a new intermediate", { by: node, notAfter: notAfter.toISOString() });
    onRenewed();
  }
}

function refused(fact: string): RiprapError {
  return new RiprapError("renewal_refused", `Cannot renew the intermediate: ${fact}`);
}
