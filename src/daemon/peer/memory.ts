// What the accepted peers rest on, kept in the state as well: a connection outlives the daemon that let it begin. Judges nothing.

import { describeError } from "../../error.ts";
import type { IssuedPath } from "../../federation/roster.ts";
import type { Store } from "../../store.ts";
import type { Log } from "../log.ts";

const MIGRATIONS = [
  `CREATE TABLE daemon_peer (
     leaf TEXT PRIMARY KEY, spiffe_id TEXT NOT NULL, certificates TEXT NOT NULL, root TEXT NOT NULL, not_after INTEGER NOT NULL
   ) STRICT;`,
];

/** Four times what the module caches (kernel/limits.h), at half a kilobyte: a connection outlives its answer there. */
const REMEMBERED_MAX = 16_384;

export interface AcceptedPath extends IssuedPath {
  /** SHA-256 of the root's DER. */
  readonly root: string;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

interface Row {
  leaf: string;
  spiffe_id: string;
  certificates: string;
  root: string;
  not_after: number;
}

export class PeerMemory {
  readonly #store: Store;
  readonly #log: Log;
  readonly #max: number;
  /** By the leaf; the oldest goes first. */
  readonly #paths = new Map<string, AcceptedPath>();
  /** Who is at the end of each path and who signed it, to the leaves that were shown. */
  readonly #holders = new Map<string, Set<string>>();
  readonly #ids = new Map<string, number>();

  constructor(store: Store, log: Log, max = REMEMBERED_MAX) {
    store.migrate("peer", MIGRATIONS);
    this.#store = store;
    this.#log = log;
    this.#max = max;
    for (const row of store.prepare<Row>("SELECT * FROM daemon_peer ORDER BY rowid").all())
      this.#add(row.leaf, pathOf(row));
  }

  [Symbol.iterator](): IterableIterator<[leaf: string, path: AcceptedPath]> {
    return this.#paths.entries();
  }

  /** Is there a path of this SPIFFE ID? */
  has(spiffeId: string): boolean {
    return this.#ids.has(spiffeId);
  }

  /** Takes the place of those that the same holder had from the same signers and that have ended: nobody revokes them any more. */
  put(leaf: string, path: AcceptedPath, now: number): void {
    const known = this.#paths.get(leaf);
    if (known !== undefined) this.#forget([leaf]);
    if (known !== undefined && isSame(known, path)) {
      this.#add(leaf, path);
      return;
    }
    const ended = [...(this.#holders.get(holderOf(path)) ?? [])].filter(
      (other) => (this.#paths.get(other)?.notAfter ?? 0) <= now,
    );
    this.#add(leaf, path);
    const oldest = this.#paths.size - ended.length > this.#max ? [...this.#paths.keys().take(1)] : [];
    this.#write(() => {
      this.#store
        .prepare("INSERT OR REPLACE INTO daemon_peer VALUES (?, ?, ?, ?, ?)")
        .run(leaf, path.spiffeId, JSON.stringify(path.certificates), path.root, path.notAfter);
      this.#remove([...ended, ...oldest]);
    });
    this.#forget([...ended, ...oldest]);
  }

  delete(leaves: readonly string[]): void {
    const known = leaves.filter((leaf) => this.#paths.has(leaf));
    if (known.length === 0) return;
    this.#write(() => this.#remove(known));
    this.#forget(known);
  }

  #add(leaf: string, path: AcceptedPath): void {
    this.#paths.set(leaf, path);
    const holder = holderOf(path);
    this.#holders.set(holder, (this.#holders.get(holder) ?? new Set()).add(leaf));
    this.#ids.set(path.spiffeId, (this.#ids.get(path.spiffeId) ?? 0) + 1);
  }

  #forget(leaves: readonly string[]): void {
    for (const leaf of leaves) {
      const path = this.#paths.get(leaf);
      if (path === undefined) continue;
      this.#paths.delete(leaf);
      const holder = holderOf(path);
      const others = this.#holders.get(holder);
      others?.delete(leaf);
      if (others?.size === 0) this.#holders.delete(holder);
      const left = (this.#ids.get(path.spiffeId) ?? 0) - 1;
      if (left > 0) this.#ids.set(path.spiffeId, left);
      else this.#ids.delete(path.spiffeId);
    }
  }

  #remove(leaves: readonly string[]): void {
    const remove = this.#store.prepare("DELETE FROM daemon_peer WHERE leaf = ?");
    for (const leaf of leaves) remove.run(leaf);
  }

  /** A full disk refuses nobody: this daemon remembers all the same. */
  #write(work: () => void): void {
    try {
      this.#store.transaction(work);
    } catch (thrown) {
      this.#log.warn("what a peer rests on could not be kept for the next start", { error: describeError(thrown) });
    }
  }
}

function holderOf({ spiffeId, certificates: [leaf, ...issuers], root }: AcceptedPath): string {
  return [spiffeId, leaf?.authority, ...issuers.map(({ serial }) => serial), root].join(" ");
}

function isSame(a: AcceptedPath, b: AcceptedPath): boolean {
  return a.root === b.root && JSON.stringify(a.certificates) === JSON.stringify(b.certificates);
}

function pathOf({ spiffe_id: spiffeId, certificates, root, not_after: notAfter }: Row): AcceptedPath {
  return { spiffeId, certificates: JSON.parse(certificates) as AcceptedPath["certificates"], root, notAfter };
}
