// The roots of the trust domain through their life, and this node's intermediate under the active one. Each step is kept before the next.

import { hash } from "node:crypto";
import type { Clock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import type { Store } from "../store.ts";
import type { Occasion } from "./authority_table.ts";
import { parseCertificate } from "./certificate.ts";
import { Journal } from "./journal.ts";
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
import { buildCaCertificate } from "./x509.ts";

export interface RootAuthorityOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly store: Store;
  readonly keys?: KeyStore;
  readonly policy?: LifePolicy;
}

export type RootStep = Step | { readonly do: "renew"; readonly id: string };

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
      // An upstream's answer is awaited: what has no certificate yet is no root to tell of.
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
    this.#publish(table.resolve(record.id), occasion);
    return table.resolve(record.id);
  }

  /** From here on it signs, first this node's own intermediate. Throws RiprapError `root_not_here`, `ca_key_invalid`. */
  async activate(record: AuthorityRecord, occasion: Occasion): Promise<void> {
    // Opened first: a key that cannot be opened must not become the one that signs.
    openSigner(record, this.#ground.keys).key.close();
    this.#ground.table.move(record, "active", occasion);
    await this.renewIntermediate(occasion);
  }

  /** Out of the bundle, and its key is gone: nothing under it is good any more. */
  revoke(record: AuthorityRecord, occasion: Occasion): void {
    const { keys, table } = this.#ground;
    table.move(record, "revoked", occasion);
    this.#writeBundle();
    if (record.keyName !== "") keys.remove(record.keyName);
  }

  /** A new key and certificate for this node, under the active root. The certificate's file is the switch: before it, all is as it was. */
  async renewIntermediate(occasion: Occasion): Promise<void> {
    const { files, keys, table } = this.#ground;
    const active = table.active("x509");
    if (active === undefined)
      throw new RiprapError("root_not_here", "Cannot renew the intermediate: no root signs; activate one first");
    const before = this.#state();
    const signer = openSigner(active, keys);
    const next = NODE_SLOTS.find((name) => name !== before.keyName) as string;
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
    table.renewed(active, occasion);
    keys.remove(before.keyName);
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
    const { anchor, issuers } = this.#state();
    if (anchor.id !== active.id) return true;
    const { notBefore, notAfter } = issuers[0];
    const now = this.#options.clock.now();
    // One that ends with its root gains nothing by being made anew.
    return now > notBefore + (notAfter - notBefore) * RENEW_AT && notAfter < endOf(active);
  }

  #state(): NodeState {
    return loadNodeState(this.#ground, this.#options.clock.now());
  }

  #publish(record: AuthorityRecord, occasion: Occasion): void {
    this.#ground.table.move(record, "published", occasion);
    this.#writeBundle();
  }

  /** The file is a copy for people and for a lost database; the table is what counts. */
  #writeBundle(): void {
    const { files, table } = this.#ground;
    const roots = table.list("x509").filter(isInBundle);
    if (roots.length > 0)
      writeCertificates(
        files.bundle,
        roots.map(({ material }) => material),
      );
  }

  /** A key that no record names came of a step that did not end: the next one takes its place. */
  #freeSlot(records: readonly AuthorityRecord[]): string {
    const used = new Set(records.map(({ keyName }) => keyName));
    const names = Array.from({ length: ROOTS_MAX + 1 }, (_, i) => (i === 0 ? KEY_NAME.root : `${KEY_NAME.root}.${i}`));
    return names.find((name) => !used.has(name)) as string;
  }
}

/** When what is between the signing key and the root ends, the root included. */
function endOf({ notAfter, chain }: AuthorityRecord): number {
  return Math.min(notAfter, ...certificatesOf(chain).map((certificate) => certificate.notAfter));
}
