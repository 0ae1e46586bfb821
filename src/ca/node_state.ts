// What this node signs with and trusts now, read from its files and the table of authorities: its intermediate with the key, and the roots. Signs nothing.

import { RiprapError } from "../error.ts";
import type { Store } from "../store.ts";
import { AuthorityTable } from "./authority_table.ts";
import { type Certificate, parseCertificate, sameBytes } from "./certificate.ts";
import { issuersFault, rootFault } from "./chain.ts";
import { isSignedBy } from "./issuer_key.ts";
import { fingerprint } from "./key.ts";
import { type CaKey, type KeyStore, openKeyStore } from "./key_store.ts";
import { type AuthorityRecord, isInBundle } from "./life_cycle.ts";
import { type CaFiles, KEY_NAME, type NodeRecord, readCertificates, readRecord, requireCa } from "./state.ts";

/** The names that the intermediate's key goes between: the one in use, the next, and those that wait under an upstream CA. */
export const NODE_SLOTS: readonly string[] = [KEY_NAME.node, ...[1, 2, 3].map((i) => `${KEY_NAME.node}.${i}`)];

export interface CaGround {
  readonly files: CaFiles;
  readonly keys: KeyStore;
  readonly table: AuthorityTable;
}

export interface NodeState {
  readonly record: NodeRecord;
  readonly generation: number;
  /** The roots in the bundle. */
  readonly roots: readonly Certificate[];
  /** This node's intermediate, then what lies between it and the root. */
  readonly issuers: readonly [Certificate, ...Certificate[]];
  /** Where the key store has its key. */
  readonly keyName: string;
  /** The root that the intermediate leads to. */
  readonly anchor: AuthorityRecord;
}

/** `keys`: the store that the daemon shares among all who sign; one of its own unless given. */
export function openGround({ stateDir, store, keys }: { stateDir: string; store: Store; keys?: KeyStore }): CaGround {
  return { files: requireCa(stateDir), keys: keys ?? openKeyStore(stateDir), table: new AuthorityTable(store) };
}

/** Takes in roots that only the files know. Throws RiprapError `ca_state_invalid`, `ca_key_invalid`, `state_not_private`. */
export function loadNodeState(ground: CaGround, now: number): NodeState {
  const { files, table } = ground;
  const record = readRecord(files.record);
  const issuers = readCertificates(files.nodeChain) as [Certificate, ...Certificate[]];
  const filed = readCertificates(files.bundle);
  for (const root of filed) {
    const fault = rootFault(root, record.trustDomain);
    if (fault !== undefined) throw invalidState(files.bundle, fault);
  }
  const known = [...table.list("x509").map(({ material }) => parseCertificate(material)), ...filed];
  const fault = issuersFault(issuers, { trustDomain: record.trustDomain, anchors: known });
  if (fault !== undefined)
    throw invalidState(files.nodeChain, `its certificates do not lead to a root of ${record.trustDomain}: ${fault}`);
  const top = issuers.at(-1) as Certificate;
  const root = known.find((anchor) => isSignedBy(top, anchor));
  const anchorId = fingerprint((root as Certificate).bytes);
  takeIn(filed, { ground, anchorId, now });
  const records = table.list("x509");
  return {
    record,
    generation: table.generation,
    roots: records.filter(isInBundle).map(({ material }) => parseCertificate(material)),
    issuers,
    keyName: table.nodeKeyName(issuers[0].publicKey ?? new Uint8Array(0)) ?? KEY_NAME.node,
    anchor: records.find(({ id }) => id === anchorId) as AuthorityRecord,
  };
}

/** Throws RiprapError `ca_state_invalid` when the key is another than the certificate's, `ca_key_invalid`, and what the key store throws. */
export function openNodeKey({ files, keys }: CaGround, { issuers, keyName }: NodeState): CaKey {
  const { publicKey } = issuers[0];
  if (!NODE_SLOTS.some((name) => keys.has(name))) {
    const remedy = "restore it from a copy, or give this node up (remove ca/) and enrol it again";
    throw new RiprapError("ca_key_invalid", `Cannot use ${files.nodeKey}: it does not exist; ${remedy}`);
  }
  const names = [keyName, ...NODE_SLOTS.filter((name) => name !== keyName && keys.has(name))];
  // Without its database a node finds its key by trying.
  for (const name of keys.has(keyName) || names.length === 1 ? names : names.slice(1)) {
    const key = keys.openKey(name);
    if (publicKey !== undefined && sameBytes(publicKey, key.publicKey)) return key;
    key.close();
  }
  throw invalidState(files.nodeChain, "its first certificate is not for the key in node.key");
}

/** Is the key that signs under this authority on this node? */
export function isHeld({ keyName }: Pick<AuthorityRecord, "keyName">, keys: KeyStore): boolean {
  return keyName !== "" && keys.has(keyName);
}

/** Roots that came by a file (a set-up, an enrolment), and which of all signs for this node. */
function takeIn(
  filed: readonly Certificate[],
  { ground, anchorId, now }: { ground: CaGround; anchorId: string; now: number },
): void {
  const { keys, table } = ground;
  const unknown = filed.filter(({ bytes }) => table.find(fingerprint(bytes)) === undefined);
  const active = table.active("x509");
  const follows = active === undefined || (active.id !== anchorId && !isHeld(active, keys));
  if (unknown.length === 0 && !follows) return;
  table.transaction(() => {
    const occasion = { at: now, reason: "its file has it" };
    for (const root of unknown) table.add(publishedRoot(root, keys, now), occasion);
    const anchor = table.find(anchorId);
    if (follows && anchor !== undefined && anchor.phase !== "revoked") table.move(anchor, "active", occasion);
  });
}

/** The record of a root that is in the bundle. */
export function publishedRoot(
  { bytes, notAfter, publicKey }: Certificate,
  keys: KeyStore,
  now: number,
): AuthorityRecord {
  return {
    ...{ id: fingerprint(bytes), kind: "x509", phase: "published", algorithm: "ES256", material: bytes, notAfter },
    keyName: isKeyOf(publicKey, keys) ? KEY_NAME.root : "",
    chain: new Uint8Array(0),
    ...{ preparedAt: now, publishedAt: now, activatedAt: undefined },
    ...{ retiredAt: undefined, taintedAt: undefined, revokedAt: undefined },
  };
}

function isKeyOf(publicKey: Uint8Array | undefined, keys: KeyStore): boolean {
  if (publicKey === undefined || !keys.has(KEY_NAME.root)) return false;
  const key = keys.openKey(KEY_NAME.root);
  try {
    return sameBytes(key.publicKey, publicKey);
  } finally {
    key.close();
  }
}

export function invalidState(path: string, fact: string): RiprapError {
  return new RiprapError(
    "ca_state_invalid",
    `Cannot use ${path}: ${fact}; restore it from a copy, or set the CA up again`,
  );
}
