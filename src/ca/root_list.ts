// The roots of this node as the fleet is told of them, and as the fleet tells: read from the table of authorities, and brought up to what stands.

import type { Store } from "../store.ts";
import { parseCertificate, sameBytes } from "./certificate.ts";
import { rootFault } from "./chain.ts";
import { fingerprint } from "./key.ts";
import type { CaKey, KeyStore } from "./key_store.ts";
import { type AuthorityRecord, isInBundle } from "./life_cycle.ts";
import { isHeld, loadNodeState, openGround, publishedRoot } from "./node_state.ts";
import { ROOTS_MAX } from "./state.ts";

export interface RootListOptions {
  readonly stateDir: string;
  readonly store: Store;
  readonly keys?: KeyStore;
  readonly now: number;
}

export interface ListedRoot {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly phase: "published" | "active" | "retired" | "revoked";
  /** Its own key is on this node: as a root it can speak here. */
  readonly isHeld: boolean;
}

/**
 * In the order in which they were published; those that nobody has heard of are left out, and those whom nobody brings in any more. Throws what openAuthority throws
 * for the files.
 */
export function listRoots(options: RootListOptions): readonly ListedRoot[] {
  const ground = openGround(options);
  loadNodeState(ground, options.now);
  const told = ground.table.toldRoots();
  return ground.table.list("x509").flatMap((record) => {
    const { id, phase, material, chain } = record;
    if (told.get(id)?.hasFallen === true) return [];
    const holds = chain.length === 0 && isHeld(record, ground.keys);
    return phase === "prepared" || record.publishedAt === undefined
      ? []
      : [{ certificate: material, phase, isHeld: holds }];
  });
}

/** The key of a root that listRoots shows as held here; the caller closes it. */
export function openRootKey(certificate: Uint8Array, options: RootListOptions): CaKey {
  const { keys, table } = openGround(options);
  return keys.openKey(table.resolve(fingerprint(certificate)).keyName);
}

export interface ToldRoot {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly isRevoked: boolean;
}

export interface AdoptedRoots {
  /** Fingerprints. */
  readonly added: readonly string[];
  readonly revoked: readonly string[];
  /** A sentence for each that cannot be a root here. */
  readonly refused: readonly string[];
}

/**
 * Roots that the fleet tells of come into the bundle of this node; those that it says are revoked leave it, and those that came so and that it names no
 * more, because the word that brought them in has fallen, until it names them again. Any other root stays as it is. In one commit.
 */
export function adoptRoots(told: readonly ToldRoot[], options: RootListOptions): AdoptedRoots {
  const ground = openGround(options);
  const { record, keyName } = loadNodeState(ground, options.now);
  const { table, keys } = ground;
  const occasion = { at: options.now, reason: "a root says so to the fleet" };
  const named = new Map(told.map((root) => [fingerprint(root.certificate), root]));
  const earlier = table.toldRoots();
  const added: string[] = [];
  const revoked: string[] = [];
  const refused: string[] = [];
  const refuse = (id: string, fact: string) => void refused.push(`the root ${id.slice(0, 16)} was not taken: ${fact}`);
  const revoke = (known: AuthorityRecord, why = occasion) => {
    table.move(known, "revoked", why);
    if (known.keyName !== "" && known.keyName !== keyName) keys.remove(known.keyName);
    revoked.push(known.id);
  };
  table.transaction(() => {
    for (const [id, { hasFallen }] of earlier) {
      const known = table.find(id);
      if (hasFallen || named.has(id) || known === undefined || known.phase === "revoked") continue;
      table.noteTold(id, true);
      revoke(known, { ...occasion, reason: "the fleet's word that brought it in stands no more" });
    }
    for (const [id, { certificate, isRevoked }] of named) {
      const known = table.find(id);
      const hasFallen = earlier.get(id)?.hasFallen === true;
      if (isRevoked) {
        if (hasFallen) table.noteTold(id, false);
        if (known !== undefined && known.phase !== "revoked") revoke(known);
      } else if (known === undefined) {
        const root = tryParse(certificate);
        const fault = root === undefined ? "it is no certificate" : rootFault(root, record.trustDomain);
        const live = table.list("x509").filter((other) => isInBundle(other) || other.phase === "prepared");
        if (root === undefined || fault !== undefined) refuse(id, fault ?? "it is no certificate");
        else if (live.length >= ROOTS_MAX) refuse(id, `${ROOTS_MAX} are there`);
        else {
          table.add(publishedRoot(root, keys, options.now), occasion);
          table.noteTold(id, false);
          added.push(id);
        }
      } else if (hasFallen) {
        table.noteTold(id, false);
        table.move(known, "published", occasion);
        added.push(id);
      }
    }
  });
  return { added, revoked, refused };
}

function tryParse(bytes: Uint8Array) {
  try {
    const root = parseCertificate(bytes);
    return sameBytes(root.bytes, bytes) ? root : undefined;
  } catch {
    // Nothing of this CA's: the caller says so.
    return undefined;
  }
}
