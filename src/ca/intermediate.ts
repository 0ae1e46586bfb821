// The intermediates that this node signed and that live: what a roster of nodes is made from. Reads the journal alone.
import type { Store } from "../store.ts";

export interface LiveIntermediate {
  readonly nodeName: string;
  /** Key identifier: 40 hexadecimal digits. */
  readonly authority: string;
  /** What its node may issue; undefined where the journal does not say: all of the trust domain. */
  readonly idPrefixes: readonly string[] | undefined;
  readonly signedAt: number;
  /** The join token that its node came with; undefined for every other way. */
  readonly token: string | undefined;
}

interface Row {
  node: string;
  key_id: Uint8Array;
  signed_at: number;
  context: string;
}

/** Those that have not ended and are not revoked, the oldest first. The journal's tables must be there. */
export function readIntermediates(store: Store, now: number): readonly LiveIntermediate[] {
  const rows = store
    .prepare<Row>(
      `SELECT node, key_id, signed_at, context FROM ca_authority
       WHERE kind = 'intermediate' AND not_after > ? AND serial NOT IN (SELECT serial FROM ca_revocation) ORDER BY signed_at`,
    )
    .all(now);
  return rows.map(({ node, key_id, signed_at, context }) => {
    const { idPrefixes, token } = JSON.parse(context) as { idPrefixes?: readonly string[]; token?: string };
    return { nodeName: node, authority: Buffer.from(key_id).toString("hex"), idPrefixes, signedAt: signed_at, token };
  });
}
