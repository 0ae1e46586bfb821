// Every authority of this node under one roof: what there is, and the steps that people and time ask for. The steps themselves are in the rooms beside it.

import type { Clock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import { toPemBlock } from "../pem.ts";
import type { Store } from "../store.ts";
import { type AuthorityEvent, AuthorityTable, type Occasion } from "./authority_table.ts";
import { type KeyStore, openKeyStore } from "./key_store.ts";
import {
  type Action,
  type AuthorityKind,
  type AuthorityPhase,
  type AuthorityRecord,
  isInBundle,
  LIFE_POLICY,
  type LifePolicy,
  requireAllowed,
  shortId,
  usableFrom,
} from "./life_cycle.ts";
import { isHeld } from "./node_state.ts";
import { RootAuthority } from "./root_authority.ts";
import { TokenAuthority } from "./token_authority.ts";
import type { TokenAlgorithm, TokenAuthorityKind } from "./token_key.ts";

export interface AuthoritiesOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly store: Store;
  /** The one that the daemon shares among all who sign; one of its own unless given. */
  readonly keys?: KeyStore;
  readonly policy?: LifePolicy;
  /** Of token keys made from now on. */
  readonly algorithm?: TokenAlgorithm;
  /** Keep an authority for WIT-SVIDs too. */
  readonly wit?: boolean;
  /** Before a root ends (its certificate, DER) or another is made (undefined): throws where others could not be told of it. */
  beforeRootMoves?(ending: Uint8Array | undefined): void;
}

/** Times as people and programs read them; absent: not yet. */
export interface AuthorityView {
  readonly id: string;
  readonly kind: AuthorityKind;
  readonly phase: AuthorityPhase;
  readonly algorithm: TokenAlgorithm;
  /** Is the key that signs under it on this node? */
  readonly isHeld: boolean;
  readonly isTainted: boolean;
  readonly notAfter: string;
  readonly preparedAt: string;
  readonly publishedAt?: string;
  /** While it is published: when others can be expected to know it. */
  readonly usableFrom?: string;
  readonly activatedAt?: string;
  readonly retiredAt?: string;
  readonly taintedAt?: string;
  readonly revokedAt?: string;
}

export interface IntermediateView {
  readonly node: string;
  readonly serial: string;
  readonly notBefore: string;
  readonly notAfter: string;
  /** ID of the root that it leads to. */
  readonly root: string;
}

export interface AuthorityList {
  readonly trustDomain: string;
  readonly authorities: readonly AuthorityView[];
  readonly intermediate: IntermediateView;
}

export interface StepOptions {
  readonly force?: boolean;
  /** Goes to the account of steps. */
  readonly reason?: string;
}

/** What a step did to whom. */
export interface StepDone {
  readonly done: Action | "prepare" | "renew" | "install";
  readonly authority: AuthorityView;
  /** Sentences about what follows from it. */
  readonly notes: readonly string[];
}

export class Authorities {
  readonly #options: AuthoritiesOptions;
  readonly #table: AuthorityTable;
  readonly #keys: KeyStore;
  readonly #roots: RootAuthority;
  readonly #tokens: ReadonlyMap<TokenAuthorityKind, TokenAuthority>;

  constructor(options: AuthoritiesOptions) {
    this.#options = options;
    this.#table = new AuthorityTable(options.store);
    this.#keys = options.keys ?? openKeyStore(options.stateDir);
    this.#roots = new RootAuthority(options);
    const kinds: readonly TokenAuthorityKind[] = options.wit === true ? ["jwt", "wit"] : ["jwt"];
    this.#tokens = new Map(kinds.map((kind) => [kind, new TokenAuthority(kind, options)]));
  }

  /** Grows with every change, of this process or another. */
  get generation(): number {
    return this.#table.generation;
  }

  list(): AuthorityList {
    const { record, issuers, anchor } = this.#roots.intermediate();
    const { serial, notBefore, notAfter } = issuers[0];
    return {
      trustDomain: record.trustDomain.name,
      authorities: this.#table.list().map((authority) => this.#view(authority)),
      intermediate: {
        node: record.nodeName,
        serial,
        notBefore: new Date(notBefore).toISOString(),
        notAfter: new Date(notAfter).toISOString(),
        root: anchor.id,
      },
    };
  }

  /** The latest steps first. */
  events(limit: number): readonly AuthorityEvent[] {
    return this.#table.events(limit);
  }

  /** Makes the next one and puts it into the bundle. Throws RiprapError `authority_prepared`, `root_not_here`, `authority_unknown`. */
  async prepare(kind: AuthorityKind, { reason }: StepOptions = {}): Promise<StepDone> {
    const occasion = this.#occasion(reason, false);
    if (kind === "x509") this.#options.beforeRootMoves?.(undefined);
    const made = kind === "x509" ? await this.#roots.prepare(occasion) : this.#token(kind).prepare(occasion);
    const from = new Date(usableFrom(made, this.#policy) ?? occasion.at).toISOString();
    return {
      done: "prepare",
      authority: this.#view(made),
      notes: [`It is in the bundle, and may sign from ${from} on.`],
    };
  }

  /** Throws RiprapError `authority_unknown`, and what requireAllowed throws. */
  async activate(id: string, options: StepOptions = {}): Promise<StepDone> {
    const record = this.#require("activate", id, options);
    if (record.kind === "x509") this.#beforeEnd(this.#table.active("x509"));
    await this.#activate(record, this.#occasion(options.reason, this.#isEarly(record)));
    const notes = this.#isEarly(record)
      ? ["It signs before its time: who has not seen the bundle since then refuses what it signs."]
      : [];
    return this.#done("activate", record, notes);
  }

  /**
   * Everything under it is to be made anew at once; then it is to be revoked. With `force` the active one too: another is made and signs at once.
   * A token key leaves the bundle here and now, since nobody can be made to fetch another token.
   */
  async taint(id: string, options: StepOptions = {}): Promise<StepDone> {
    const record = this.#require("taint", id, options);
    const occasion = this.#occasion(options.reason, options.force === true);
    const { kind } = record;
    if (kind === "x509" && record.phase === "active") this.#beforeEnd(record);
    if (record.phase === "active") await this.#replace(record, occasion);
    if (kind === "x509") {
      this.#table.taint(record, occasion);
      const nodes = this.#roots.nodesUnder(record);
      const note = `These nodes have intermediates under it, which end with it: ${nodes.join(", ")}. Enrol them again, then revoke it.`;
      return this.#done("taint", record, nodes.length === 0 ? [] : [note]);
    }
    this.#table.transaction(() => {
      this.#table.taint(record, occasion);
      this.#token(kind).revoke(this.#table.resolve(record.id), occasion);
    });
    return this.#done("taint", record, ["It has left the bundle: the tokens that it signed are good no longer."]);
  }

  /** Out of the bundle; its key is gone. */
  async revoke(id: string, options: StepOptions = {}): Promise<StepDone> {
    const record = this.#require("revoke", id, options);
    const occasion = this.#occasion(options.reason, options.force === true);
    if (record.kind === "x509") {
      const nodes = this.#roots.nodesUnder(record);
      if (nodes.length > 0 && options.force !== true) {
        const fact = `the intermediates of ${nodes.join(", ")} would end with it; enrol them again first, or give --force`;
        throw new RiprapError("authority_in_use", `Cannot revoke the x509 authority ${shortId(record.id)}: ${fact}`);
      }
      if (options.force !== true) this.#beforeEnd(record);
      this.#roots.revoke(record, occasion);
      const note = `The intermediates of these nodes ended with it: ${nodes.join(", ")}.`;
      return this.#done("revoke", record, nodes.length === 0 ? [] : [note]);
    }
    this.#token(record.kind).revoke(record, occasion);
    return this.#done("revoke", record, []);
  }

  /** A new key and certificate for this node's intermediate. Throws RiprapError `root_not_here`. */
  async renewIntermediate({ reason }: StepOptions = {}): Promise<StepDone> {
    await this.#roots.renewIntermediate(this.#occasion(reason, false));
    return this.#done("renew", this.#roots.intermediate().anchor, []);
  }

  /** PKCS#10 in PEM, for a CA outside of riprap that is to sign this node's intermediate, or (`issuing`) a CA that signs nodes' intermediates. */
  async request(role: "intermediate" | "issuing"): Promise<string> {
    return toPemBlock("CERTIFICATE REQUEST", await this.#roots.request(role));
  }

  /** Takes that CA's answer in PEM. Throws RiprapError as RootAuthority.install does. */
  async install(pem: string, { reason }: StepOptions = {}): Promise<StepDone> {
    const record = await this.#roots.install(pem, this.#occasion(reason, false));
    const from = usableFrom(record, this.#policy);
    const waits = `Its root is in the bundle: all that this root signs for the trust domain is believed. Activate it from ${new Date(from ?? 0).toISOString()} on.`;
    return this.#done("install", record, record.phase === "published" ? [waits] : []);
  }

  /** Tainted roots under which nothing of another node lives: they can go as soon as this node's SVIDs are made anew. */
  spentRoots(): readonly string[] {
    const tainted = this.#table
      .list("x509")
      .filter(({ phase, taintedAt }) => phase === "retired" && taintedAt !== undefined);
    return tainted.filter((root) => this.#roots.nodesUnder(root).length === 0).map(({ id }) => id);
  }

  /** Does all that time, or a step that was begun, asks for. True when something was done. */
  async advance(): Promise<boolean> {
    const before = this.generation;
    await this.#roots.advance();
    for (const authority of this.#tokens.values()) authority.advance();
    return this.generation !== before;
  }

  #beforeEnd(root: AuthorityRecord | undefined): void {
    if (root !== undefined) this.#options.beforeRootMoves?.(root.material);
  }

  async #activate(record: AuthorityRecord, occasion: Occasion): Promise<void> {
    if (record.kind === "x509") await this.#roots.activate(record, occasion);
    else this.#token(record.kind).activate(record, occasion);
  }

  async #replace({ kind }: AuthorityRecord, occasion: Occasion): Promise<void> {
    const waiting = this.#table.list(kind).find(({ phase }) => phase === "published");
    const next = waiting?.id ?? (await this.prepare(kind, { reason: occasion.reason ?? "" })).authority.id;
    await this.#activate(this.#table.resolve(next), occasion);
  }

  #require(action: Action, id: string, { force = false }: StepOptions): AuthorityRecord {
    const record = this.#table.resolve(id);
    requireAllowed(action, record, { now: this.#options.clock.now(), policy: this.#policy, force });
    return record;
  }

  #isEarly(record: AuthorityRecord): boolean {
    return (usableFrom(record, this.#policy) ?? 0) > this.#options.clock.now();
  }

  get #policy(): LifePolicy {
    return this.#options.policy ?? LIFE_POLICY;
  }

  #token(kind: TokenAuthorityKind): TokenAuthority {
    return this.#tokens.get(kind) ?? new TokenAuthority(kind, this.#options);
  }

  #occasion(reason: string | undefined, forced: boolean): Occasion {
    return { at: this.#options.clock.now(), forced, reason: (reason ?? "").slice(0, 256) };
  }

  #done(done: StepDone["done"], { id }: AuthorityRecord, notes: readonly string[]): StepDone {
    return { done, authority: this.#view(this.#table.resolve(id)), notes };
  }

  #view(record: AuthorityRecord): AuthorityView {
    const {
      id,
      kind,
      phase,
      algorithm,
      notAfter,
      preparedAt,
      publishedAt,
      activatedAt,
      retiredAt,
      taintedAt,
      revokedAt,
    } = record;
    const from = phase === "published" ? usableFrom(record, this.#policy) : undefined;
    const times = { publishedAt, usableFrom: from, activatedAt, retiredAt, taintedAt, revokedAt };
    return {
      ...{ id, kind, phase, algorithm },
      isHeld: isHeld(record, this.#keys),
      isTainted: taintedAt !== undefined && isInBundle(record),
      notAfter: new Date(notAfter).toISOString(),
      preparedAt: new Date(preparedAt).toISOString(),
      ...Object.fromEntries(
        Object.entries(times)
          .filter(([, time]) => time !== undefined)
          .map(([name, time]) => [name, new Date(time as number).toISOString()]),
      ),
    };
  }
}
