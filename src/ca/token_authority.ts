// The authorities of one kind of token: their keys through the whole life, each step kept before the next. Signs with the active one; never shows a key.

import { createPublicKey, type KeyObject } from "node:crypto";
import type { Clock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import type { Store } from "../store.ts";
import type { JwtKey } from "../trust_bundle.ts";
import { AuthorityTable, type Occasion } from "./authority_table.ts";
import { type KeyStore, openKeyStore } from "./key_store.ts";
import { type AuthorityRecord, isInBundle, LIFE_POLICY, type LifePolicy, nextStep, type Step } from "./life_cycle.ts";
import {
  algorithmOf,
  createTokenKey,
  openTokenKey,
  recordOfKey,
  type TokenAlgorithm,
  type TokenAuthorityKind,
  tokenKeyOf,
} from "./token_key.ts";

export interface TokenAuthorityOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly store: Store;
  /** The one that the daemon shares among all who sign; one of its own unless given. */
  readonly keys?: KeyStore;
  /** Of keys that are made from now on; ES256 unless given. A key of the other kind is replaced in order. */
  readonly algorithm?: TokenAlgorithm;
  readonly policy?: LifePolicy;
}

export interface TokenSigner {
  readonly keyId: string;
  readonly algorithm: TokenAlgorithm;
  readonly privateKey: KeyObject;
  /** Milliseconds since the epoch: nothing that it signs is good for longer. */
  readonly notAfter: number;
}

/** A name for each key that may be there at once: one that signs, one that follows, those that have retired. */
const SLOTS_MAX = 64;

export class TokenAuthority {
  readonly #kind: TokenAuthorityKind;
  readonly #options: TokenAuthorityOptions;
  readonly #keys: KeyStore;
  readonly #table: AuthorityTable;
  readonly #opened = new Map<string, KeyObject>();
  readonly #public = new Map<string, JwtKey>();
  #published: { readonly generation: number; readonly keys: readonly JwtKey[] } | undefined;

  /** Takes in a key of a time before there was a life cycle. Throws RiprapError `ca_key_invalid`, `state_not_private`. */
  constructor(kind: TokenAuthorityKind, options: TokenAuthorityOptions) {
    this.#kind = kind;
    this.#options = options;
    this.#keys = options.keys ?? openKeyStore(options.stateDir);
    this.#table = new AuthorityTable(options.store);
    this.#adopt();
    this.signer();
  }

  /** Those in the bundle, in the order in which they came into it. */
  get keys(): readonly JwtKey[] {
    const { generation } = this.#table;
    if (this.#published?.generation !== generation) {
      const records = this.#table.list(this.#kind).filter(isInBundle);
      this.#published = { generation, keys: records.map((record) => this.#publicOf(record)) };
    }
    return this.#published.keys;
  }

  /** The key that signs now; where none can, the next one begins at once. Throws RiprapError `ca_key_invalid`. */
  signer(): TokenSigner {
    const now = this.#options.clock.now();
    let active = this.#table.active(this.#kind);
    if (active !== undefined && !this.#opened.has(active.id) && !this.#keys.has(active.keyName)) {
      // What it signed stays good; a key that is nowhere cannot sign again.
      this.#table.move(active, "retired", { at: now, forced: true, reason: "its key is gone" });
      active = undefined;
    }
    if (active === undefined || active.notAfter <= now) {
      this.advance();
      active = this.#table.active(this.#kind);
    }
    if (active === undefined) throw new TypeError(`no ${this.#kind} authority came of its steps`);
    const { id: keyId, algorithm, notAfter } = active;
    return { keyId, algorithm, notAfter, privateKey: this.#privateOf(active) };
  }

  /** Does all that time asks for. Each step is kept before the next, so that an end in between loses none and repeats none. */
  advance(): readonly Step[] {
    const done: Step[] = [];
    for (;;) {
      const step = this.#next();
      if (step === undefined) return done;
      this.#do(step);
      done.push(step);
    }
  }

  /** Makes the next key and puts it into the bundle. Throws RiprapError `authority_prepared` when there is one. */
  prepare(occasion: Occasion): AuthorityRecord {
    const waiting = this.#table.list(this.#kind).find(({ phase }) => phase === "prepared" || phase === "published");
    if (waiting?.phase === "published") {
      const remedy = `${waiting.id} waits for its time; activate or revoke it first`;
      throw new RiprapError("authority_prepared", `Cannot prepare another ${this.#kind} authority: ${remedy}`);
    }
    // One that was cut off between two steps goes on.
    const { id } = waiting ?? this.#create(occasion);
    this.#table.move(this.#found(id), "published", occasion);
    return this.#found(id);
  }

  activate(record: AuthorityRecord, occasion: Occasion): void {
    // Opened first: a key that cannot be opened must not become the one that signs.
    this.#privateOf(record);
    this.#table.move(record, "active", occasion);
  }

  /** Out of the bundle, and its key is gone. */
  revoke(record: AuthorityRecord, occasion: Occasion): void {
    this.#table.move(record, "revoked", occasion);
    this.#opened.delete(record.id);
    if (record.keyName !== "") this.#keys.remove(record.keyName);
  }

  #next(): Step | undefined {
    const { algorithm, clock, policy = LIFE_POLICY } = this.#options;
    const about = { now: clock.now(), policy, ...(algorithm === undefined ? {} : { algorithm }) };
    return nextStep(this.#kind, this.#table.list(this.#kind), about);
  }

  #do(step: Step): void {
    const occasion = { at: this.#options.clock.now(), reason: "its time has come" };
    if (step.do === "prepare") this.#create(occasion);
    else if (step.do === "publish") this.#table.move(this.#found(step.id), "published", occasion);
    else if (step.do === "activate") this.activate(this.#found(step.id), { ...occasion, forced: step.early });
    else this.revoke(this.#found(step.id), occasion);
  }

  #create(occasion: Occasion): AuthorityRecord {
    const { algorithm = "ES256", policy = LIFE_POLICY } = this.#options;
    const plan = { kind: this.#kind, algorithm, keyName: this.#freeSlot() };
    const record = createTokenKey(this.#keys, { ...plan, now: occasion.at, lifetimeMs: policy.tokenKeyLifetimeMs });
    this.#table.add(record, occasion);
    return record;
  }

  /** A key that no record names came of a start that did not end: the next one takes its place. */
  #freeSlot(): string {
    const used = new Set(this.#table.list(this.#kind).map(({ keyName }) => keyName));
    const names = Array.from({ length: SLOTS_MAX }, (_, i) => (i === 0 ? this.#kind : `${this.#kind}.${i}`));
    const free = names.find((name) => !used.has(name));
    if (free !== undefined) return free;
    throw new RiprapError(
      "authority_prepared",
      `Cannot prepare another ${this.#kind} authority: ${SLOTS_MAX} are there`,
    );
  }

  #adopt(): void {
    const { clock, policy = LIFE_POLICY } = this.#options;
    if (!this.#keys.has(this.#kind) || this.#table.list(this.#kind).length > 0) return;
    const key = createPublicKey(openTokenKey(this.#keys, this.#kind));
    const at = clock.now();
    const plan = { kind: this.#kind, algorithm: algorithmOf(key), keyName: this.#kind, now: at };
    const record = recordOfKey(key, { ...plan, lifetimeMs: policy.tokenKeyLifetimeMs });
    this.#table.add({ ...record, phase: "active", publishedAt: at, activatedAt: at }, { at, reason: "it was there" });
  }

  #found(id: string): AuthorityRecord {
    return this.#table.resolve(id);
  }

  #privateOf({ id, keyName }: AuthorityRecord): KeyObject {
    const known = this.#opened.get(id);
    if (known !== undefined) return known;
    const key = openTokenKey(this.#keys, keyName);
    this.#opened.set(id, key);
    return key;
  }

  #publicOf(record: AuthorityRecord): JwtKey {
    const known = this.#public.get(record.id) ?? tokenKeyOf(record);
    this.#public.set(record.id, known);
    return known;
  }
}
