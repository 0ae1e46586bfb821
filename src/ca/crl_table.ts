// The CRLs that this node signed, one in force for each issuer, in SQLite: a number is used once, and never a lower one after it.

import { createHash } from "node:crypto";
import type { Store } from "../store.ts";
import type { CrlContent } from "./crl.ts";
import type { RevokedCertificate } from "./journal.ts";

/** A day, as an SVID lives at most: who has not fetched for longer knows nothing. A new one comes at half of it. */
export const CRL_LIFETIME_MS = 24 * 3_600_000;

const MIGRATIONS = [
  `CREATE TABLE ca_crl (
     issuer BLOB PRIMARY KEY, number INTEGER NOT NULL, this_update INTEGER NOT NULL, digest TEXT NOT NULL, crl BLOB NOT NULL
   ) STRICT, WITHOUT ROWID;`,
];

interface Row {
  number: number;
  this_update: number;
  digest: string;
  crl: Uint8Array;
}

export interface CrlSource {
  readonly now: number;
  list(): readonly RevokedCertificate[];
  sign(content: CrlContent): Uint8Array;
}

export class CrlTable {
  readonly #store: Store;

  constructor(store: Store) {
    store.migrate("ca_crl", MIGRATIONS);
    this.#store = store;
  }

  /** The CRL in force when it still says all there is to say and half of its time is left; else the next, kept when this returns. */
  current(issuer: Uint8Array, source: CrlSource): Uint8Array {
    const { crl, isNew } = this.#store.transaction(() => this.#current(issuer, source));
    // Whoever has seen this number must never see another list under it.
    if (isNew) this.#store.settle();
    return crl;
  }

  /** The list of a node whose database is lost goes on above this number. */
  begin(issuer: Uint8Array, number: number): void {
    this.#keep(issuer, { number, this_update: 0, digest: "", crl: new Uint8Array(0) });
  }

  #current(issuer: Uint8Array, { now, list, sign }: CrlSource): { crl: Uint8Array; isNew: boolean } {
    const last = this.#store.prepare<Row>("SELECT * FROM ca_crl WHERE issuer = ?").get(issuer);
    const revoked = list();
    const digest = digestOf(revoked);
    const isFresh = last !== undefined && now >= last.this_update && now < last.this_update + CRL_LIFETIME_MS / 2;
    if (isFresh && last.digest === digest) return { crl: last.crl, isNew: false };
    const number = (last?.number ?? 0) + 1;
    const thisUpdate = Math.floor(now / 1000) * 1000;
    const crl = sign({ number: BigInt(number), thisUpdate, nextUpdate: thisUpdate + CRL_LIFETIME_MS, revoked });
    this.#keep(issuer, { number, this_update: thisUpdate, digest, crl });
    return { crl, isNew: true };
  }

  #keep(issuer: Uint8Array, { number, this_update, digest, crl }: Row): void {
    this.#store
      .prepare("INSERT OR REPLACE INTO ca_crl VALUES (?, ?, ?, ?, ?)")
      .run(issuer, number, this_update, digest, crl);
  }
}

function digestOf(revoked: readonly RevokedCertificate[]): string {
  const hash = createHash("sha256");
  for (const { serial } of revoked) hash.update(Uint8Array.of(serial.length)).update(serial);
  return hash.digest("hex");
}
