// The trust bundle as this node publishes it: the roots and its JWT key, with a sequence number that grows when they change.

import { createHash } from "node:crypto";
import { TrustDomain } from "../spiffe_id.ts";
import type { Store } from "../store.ts";
import type { TrustBundle } from "../trust_bundle.ts";
import type { JwtAuthority } from "./jwt.ts";
import type { NodeAuthority } from "./node_authority.ts";
import type { WitAuthority } from "./wit.ts";

/** How soon others should look again (SPIFFE Trust Domain and Bundle section 4.1.2). */
export const REFRESH_HINT_SECONDS = 300;

const MIGRATIONS = [
  "CREATE TABLE ca_bundle (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, digest TEXT NOT NULL) STRICT",
];

export function currentBundle(
  store: Store,
  authority: Pick<NodeAuthority, "bundle" | "trustDomain">,
  jwt: Pick<JwtAuthority, "keys">,
  wit?: Pick<WitAuthority, "keys">,
): TrustBundle {
  const x509 = authority.bundle;
  const hash = createHash("sha256");
  for (const root of x509) hash.update(root);
  const { keys } = jwt;
  const witKeys = wit?.keys ?? [];
  const digest = hash.update([...keys, ...witKeys].map(({ keyId }) => keyId).join()).digest("hex");
  return {
    trustDomain: TrustDomain.parse(authority.trustDomain),
    x509,
    jwt: keys,
    ...(witKeys.length === 0 ? {} : { wit: witKeys }),
    sequence: sequenceOf(store, digest),
    refreshHintSeconds: REFRESH_HINT_SECONDS,
  };
}

function sequenceOf(store: Store, digest: string): bigint {
  store.migrate("ca_bundle", MIGRATIONS);
  const read = store.prepare<{ sequence: number; digest: string }>("SELECT sequence, digest FROM ca_bundle");
  const { sequence, isNew } = store.transaction(() => {
    const last = read.get();
    if (last?.digest === digest) return { sequence: BigInt(last.sequence), isNew: false };
    const next = BigInt(last?.sequence ?? 0) + 1n;
    keepSequence(store, next, digest);
    return { sequence: next, isNew: true };
  });
  // Whoever has seen this number must never see another bundle under it.
  if (isNew) store.settle();
  return sequence;
}

/** The bundle of a node whose database is lost goes on above this. */
export function beginSequence(store: Store, sequence: bigint): void {
  store.migrate("ca_bundle", MIGRATIONS);
  keepSequence(store, sequence, "");
}

function keepSequence(store: Store, sequence: bigint, digest: string): void {
  store
    .prepare("INSERT INTO ca_bundle VALUES (1, ?1, ?2) ON CONFLICT (id) DO UPDATE SET sequence = ?1, digest = ?2")
    .run(sequence, digest);
}
