// The roots of the trust domain through their life, and this node's intermediate under the active one. Each step is kept before the next.

import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Clock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import { toPem } from "../pem.ts";
import { writePrivateFile } from "../private_file.ts";
import type { Store } from "../store.ts";
import type { Occasion } from "./authority_table.ts";
import { type Certificate, parseCertificate } from "./certificate.ts";
import { Journal } from "./journal.ts";
import { fingerprint } from "./key.ts";
import type { KeyStore } from "./key_store.ts";
import { type AuthorityRecord, isInBundle, LIFE_POLICY, type LifePolicy, nextStep, type Step } from "./life_cycle.ts";
import {
  type CaGround,
  isHeld,
  loadNodeState,
  NODE_SLOTS,
  type NodeState,
  openGround,
  publishedRoot,
} from "./node_state.ts";
import { certificatesOf, createRoot, journalIntermediate, NODE_LIFETIME_MS, openSigner } from "./root.ts";
import { KEY_NAME, ROOTS_MAX, writeCertificates } from "./state.ts";
import { parseUpstreamChain, type UpstreamChain } from "./upstream.ts";
import { buildCaCertificate, buildUpstreamRequest } from "./x509.ts";

export interface RootAuthorityOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly store: Store;
  readonly keys?: KeyStore;
  readonly policy?: LifePolicy;
}

export type RootStep = Step | { readonly do: "renew"; readonly id: string };

/** In the key store: the key that an upstream CA is asked to sign. */
const UPSTREAM_KEY = "upstream";
/** An intermediate is made anew when a third of its life is left: long before anything ends with it. */
const RENEW_AT = 2 / 3;

export class RootAuthority {
  readonly #options: RootAuthorityOptions;
  readonly #ground: CaGround;
  readonly #journal: Journal;

  constructor(options: RootAuthorityOptions) {
    this.#options = options;
    this.#ground = openGround(options);
    this.#journal = new Journal(options.store);
  }

  /** Does all that time, or a step that was begun, asks for. */
  async advance(): Promise<readonly RootStep[]> {
    const done: RootStep[] = [];
    const { policy = LIFE_POLICY, clock } = this.#options;
    const { table } = this.#ground;
    const step = nextStep("x509", table.list("x509"), { now: clock.now(), policy });
    if (step?.do === "publish") {
      const prepared = table.resolve(step.id);
      this.#publish(prepared, { at: clock.now(), reason: "its time has come" });
      done.push(step);
    }
    const active = table.active("x509");
    if (active !== undefined && this.#isIntermediateDue(active)) {
      await this.renewIntermediate({ at: clock.now(), reason: "its time has come" });
      done.push({ do: "renew", id: active.id });
    }
    this.#writeBundle();
    return done;
  }

  /** Makes a root and puts it into the bundle. Throws RiprapError `authority_prepared`, `root_not_here`. */
  async prepare(occasion: Occasion): Promise<AuthorityRecord> {
    const { keys, table } = this.#ground;
    const records = table.list("x509");
    const waiting = records.find(({ phase }) => phase === "prepared" || phase === "published");
    // Cut off between two steps: it goes on.
    if (waiting?.phase === "prepared") return this.#publish(waiting, occasion);
    const live = records.filter(({ phase }) => phase !== "revoked");
    if (waiting !== undefined || live.length >= ROOTS_MAX) {
      const fact = waiting === undefined ? `${ROOTS_MAX} are there` : `${waiting.id} waits for its time`;
      throw new RiprapError("authority_prepared", `Cannot prepare another root: ${fact}; activate or revoke it first`);
    }
    if (!live.some((root) => isHeld(root, keys))) {
      const remedy = "do it on the node that holds the root key, or install a certificate of an upstream CA";
      throw new RiprapError("root_not_here", `Cannot prepare another root: no root key is on this node; ${remedy}`);
    }
    const { trustDomain } = this.#state().record;
    const keyName = this.#freeSlot(records);
    const commonName = `root ${hash("sha256", `${keyName} ${occasion.at}`, "hex").slice(0, 8)}`;
    const plan = { keys, keyName, commonName, journal: this.#journal, trustDomain, now: occasion.at };
    const { certificate } = await createRoot(plan);
    const made = parseCertificate(certificate.bytes);
    const record = publishedRoot(made, keys, occasion.at);
    table.add({ ...record, keyName, phase: "prepared", publishedAt: undefined }, occasion);
    return this.#publish(table.resolve(record.id), occasion);
  }

  /** From here on it signs, first this node's own intermediate. Throws RiprapError `root_not_here`, `ca_key_invalid`. */
  async activate(record: AuthorityRecord, occasion: Occasion): Promise<void> {
    // Opened first: a key that cannot be opened must not become the one that signs.
    if (fixedChain(record) === undefined) openSigner(record, this.#ground.keys).key.close();
    else this.#ground.keys.openKey(record.keyName).close();
    this.#ground.table.move(record, "active", occasion);
    await this.renewIntermediate(occasion);
  }

  /** Out of the bundle, and its key is gone: nothing under it is good any more. */
  revoke(record: AuthorityRecord, occasion: Occasion): void {
    const { keys, table } = this.#ground;
    table.move(record, "revoked", occasion);
    this.#writeBundle();
    // Without its key a node could not even start, to say that it signs no more.
    if (record.keyName !== "" && record.keyName !== this.#state().keyName) keys.remove(record.keyName);
  }

  /** A new key and certificate for this node, under the active root. The certificate's file is the switch: before it, all is as it was. */
  async renewIntermediate(occasion: Occasion): Promise<void> {
    const { files, keys, table } = this.#ground;
    const active = table.active("x509");
    if (active === undefined)
      throw new RiprapError("root_not_here", "Cannot renew the intermediate: no root signs; activate one first");
    const before = this.#state();
    const fixed = fixedChain(active);
    if (fixed !== undefined) return this.#use(active, { chain: fixed, before, occasion });
    const signer = openSigner(active, keys);
    const next = this.freeNodeSlot();
    const key = keys.createKey(next);
    try {
      const { trustDomain, nodeName } = before.record;
      const request = { trustDomain, nodeName, point: key.publicKey, lifetimeMs: NODE_LIFETIME_MS, now: occasion.at };
      const context = { by: "renewal", reason: occasion.reason ?? "" };
      table.nameNodeKey(key.publicKey, next);
      const plan = journalIntermediate(signer, this.#journal, { ...request, context });
      writeCertificates(files.nodeChain, [await buildCaCertificate(plan), ...signer.above]);
    } finally {
      key.close();
      signer.key.close();
    }
    this.#settle(active, before, occasion);
  }

  /** The intermediate that an upstream CA signed becomes this node's. */
  #use(
    active: AuthorityRecord,
    { chain, before, occasion }: { chain: readonly Certificate[]; before: NodeState; occasion: Occasion },
  ): void {
    const { files, table } = this.#ground;
    if (before.keyName === active.keyName) {
      const remedy = "ask it for another with `riprap authority csr`";
      throw new RiprapError("upstream_needed", `Cannot renew the intermediate: an upstream CA signs it; ${remedy}`);
    }
    table.nameNodeKey(chain[0]?.publicKey ?? new Uint8Array(0), active.keyName);
    writeCertificates(
      files.nodeChain,
      chain.map(({ bytes }) => bytes),
    );
    this.#settle(active, before, occasion);
  }

  #settle(active: AuthorityRecord, before: NodeState, occasion: Occasion): void {
    const { keys, table } = this.#ground;
    table.renewed(active, occasion);
    // A root that waits or has retired may still be bound to the key.
    if (!table.list("x509").some(({ keyName }) => keyName === before.keyName)) keys.remove(before.keyName);
  }

  /** A name for the next key of the intermediate: neither in use nor waiting. */
  freeNodeSlot(): string {
    const used = new Set(this.#ground.table.list("x509").map(({ keyName }) => keyName));
    const { keyName } = this.#state();
    return NODE_SLOTS.find((name) => name !== keyName && !used.has(name)) as string;
  }

  /** PKCS#10 in DER for an upstream CA; asking again keeps the key, so that an answer on its way stays good. */
  async request(role: UpstreamChain["role"]): Promise<Uint8Array> {
    const { keys } = this.#ground;
    const { trustDomain, nodeName } = this.#state().record;
    const key = keys.has(UPSTREAM_KEY) ? keys.openKey(UPSTREAM_KEY) : keys.createKey(UPSTREAM_KEY);
    try {
      const pathLength = role === "issuing" ? 1 : 0;
      return await buildUpstreamRequest(trustDomain, { commonName: nodeName, key, pathLength });
    } finally {
      key.close();
    }
  }

  /**
   * Takes the answer: its root goes into the bundle, and signs when it is activated; below a root that signs already it is used at once.
   * Throws RiprapError `csr_missing`, `authority_prepared`, `authority_phase`, and what parseUpstreamChain throws.
   */
  async install(text: string, occasion: Occasion): Promise<AuthorityRecord> {
    const { keys, table } = this.#ground;
    const answer = this.#readUpstream(text, occasion.at);
    const id = fingerprint(answer.root.bytes);
    const known = table.find(id);
    const live = table.list("x509").filter(({ phase }) => phase !== "revoked");
    const other = live.find(
      (record) => record.id !== id && (record.phase === "prepared" || record.phase === "published"),
    );
    if (known !== undefined && known.phase !== "published" && known.phase !== "active")
      throw new RiprapError("authority_phase", `Cannot install a certificate under ${id}: that root is ${known.phase}`);
    if (known !== undefined && known.chain.length === 0 && isHeld(known, keys))
      throw new RiprapError("authority_phase", `Cannot install a certificate under ${id}: that root's own key is here`);
    if (known === undefined && (other !== undefined || live.length >= ROOTS_MAX)) {
      const fact = other === undefined ? `${ROOTS_MAX} roots are there` : `${other.id} waits for its time`;
      throw new RiprapError("authority_prepared", `Cannot install another root: ${fact}; activate or revoke it first`);
    }
    const keyName = answer.role === "intermediate" ? this.freeNodeSlot() : this.#freeSlot(table.list("x509"));
    const chain = Buffer.concat(answer.chain.map(({ bytes }) => bytes));
    keys.copy(UPSTREAM_KEY, keyName);
    if (known === undefined) {
      const record = publishedRoot(answer.root, keys, occasion.at);
      table.add({ ...record, keyName, chain, phase: "prepared", publishedAt: undefined }, occasion);
      this.#publish(table.resolve(id), occasion);
    } else {
      table.rekey(known, { keyName, chain }, occasion);
      if (known.phase === "active") await this.renewIntermediate(occasion);
      if (known.keyName !== "" && known.keyName !== this.#state().keyName) keys.remove(known.keyName);
    }
    keys.remove(UPSTREAM_KEY);
    return table.resolve(id);
  }

  #readUpstream(text: string, now: number): UpstreamChain {
    const { keys } = this.#ground;
    if (!keys.has(UPSTREAM_KEY)) {
      const remedy = "make a request with `riprap authority csr` first";
      throw new RiprapError(
        "csr_missing",
        `Cannot install the upstream CA's certificate: none was asked for; ${remedy}`,
      );
    }
    const key = keys.openKey(UPSTREAM_KEY);
    try {
      const { record, roots } = this.#state();
      return parseUpstreamChain(text, { trustDomain: record.trustDomain, publicKey: key.publicKey, now, roots });
    } finally {
      key.close();
    }
  }

  /** Other nodes' intermediates that live under the root, by name: they end with it. */
  nodesUnder({ activatedAt, retiredAt }: AuthorityRecord): readonly string[] {
    const now = this.#options.clock.now();
    const own = this.#state().record.nodeName;
    const nodes = this.#journal.liveNodes(now, { from: activatedAt ?? now, until: retiredAt ?? now });
    return nodes.filter((node) => node !== own);
  }

  /** What signs for this node now. */
  intermediate(): NodeState {
    return this.#state();
  }

  #isIntermediateDue(active: AuthorityRecord): boolean {
    if (!isHeld(active, this.#ground.keys)) return false;
    const { anchor, issuers, keyName } = this.#state();
    if (fixedChain(active) !== undefined) return keyName !== active.keyName;
    if (anchor.id !== active.id) return true;
    const { notBefore, notAfter } = issuers[0];
    const now = this.#options.clock.now();
    // One that ends with its root gains nothing by being made anew.
    return now > notBefore + (notAfter - notBefore) * RENEW_AT && notAfter < endOf(active);
  }

  #state(): NodeState {
    return loadNodeState(this.#ground, this.#options.clock.now());
  }

  #publish(record: AuthorityRecord, occasion: Occasion): AuthorityRecord {
    this.#ground.table.move(record, "published", occasion);
    this.#writeBundle();
    return this.#ground.table.resolve(record.id);
  }

  /** The file is a copy for people and for a lost database; the table is what counts. */
  #writeBundle(): void {
    const { files, table } = this.#ground;
    const roots = table.list("x509").filter(isInBundle);
    const text = toPem(roots.map(({ material }) => material));
    if (text !== "" && text !== readFileSync(files.bundle, "latin1")) writePrivateFile(files.bundle, Buffer.from(text));
  }

  /** A key that no record names came of a step that did not end: the next one takes its place. */
  #freeSlot(records: readonly AuthorityRecord[]): string {
    const used = new Set(records.map(({ keyName }) => keyName));
    const names = Array.from({ length: ROOTS_MAX + 1 }, (_, i) => (i === 0 ? KEY_NAME.root : `${KEY_NAME.root}.${i}`));
    return names.find((name) => !used.has(name)) as string;
  }
}

/** The intermediate of this node itself, with what is above it, where an upstream CA signed that: path length 0 signs SVIDs alone. */
function fixedChain({ chain }: AuthorityRecord): readonly Certificate[] | undefined {
  const certificates = certificatesOf(chain);
  return certificates[0]?.pathLength === 0 ? certificates : undefined;
}

/** When what is between the signing key and the root ends, the root included. */
function endOf({ notAfter, chain }: AuthorityRecord): number {
  return Math.min(notAfter, ...certificatesOf(chain).map((certificate) => certificate.notAfter));
}
