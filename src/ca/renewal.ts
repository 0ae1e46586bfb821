// A new intermediate for a node that has one, signed elsewhere: the request with a new key, and its installation. What was signed before stays good.
import {
  type EnrolmentGrant,
  type EnrolmentRequest,
  enrolmentGrantBytes,
  enrolmentRequestBytes,
  parseIdPrefixes,
} from "../enrolment.ts";
import { RiprapError } from "../error.ts";
import type { Store } from "../store.ts";
import { type Certificate, sameBytes } from "./certificate.ts";
import { REQUEST_LIFETIME_MS, readGrantChain, requireCurrent } from "./enrolment.ts";
import { verifyBytes } from "./key.ts";
import type { KeyStore } from "./key_store.ts";
import { type CaGround, loadNodeState, NODE_SLOTS, type NodeState, openGround } from "./node_state.ts";
import { writeCertificates, writeRecord } from "./state.ts";
import { buildRequest } from "./x509.ts";

/** When two thirds of its life are over: months before the end of a year. */
const RENEW_AT = 2 / 3;
/** In the key store: the key that was asked for and is not certified yet. */
const RENEWAL_KEY = "renewal";

export interface RenewalOptions {
  readonly stateDir: string;
  readonly store: Store;
  readonly keys?: KeyStore;
  readonly now: number;
}

/** Whether an intermediate with these dates (milliseconds) is to be made anew. */
export function isRenewalDue({ notBefore, notAfter }: { notBefore: number; notAfter: number }, now: number): boolean {
  return now > notBefore + (notAfter - notBefore) * RENEW_AT;
}

/** What an issuing node is asked, with a new key each time: nothing is signed twice, and an answer that was lost is not answered again. */
export async function requestRenewal(options: RenewalOptions): Promise<EnrolmentRequest> {
  const ground = openGround(options);
  const { trustDomain, nodeName } = loadNodeState(ground, options.now).record;
  const key = ground.keys.createKey(RENEWAL_KEY);
  try {
    const createdAt = Math.floor(options.now / 1000) * 1000;
    const csr = await buildRequest(trustDomain, nodeName, key);
    const expiresAt = createdAt + REQUEST_LIFETIME_MS;
    const unsigned = { trustDomain: trustDomain.name, nodeName, createdAt, expiresAt, csr };
    return { ...unsigned, signature: key.sign(enrolmentRequestBytes(unsigned)) };
  } finally {
    key.close();
  }
}

export interface RenewalInstall extends RenewalOptions {
  /** The former intermediate is revoked: what it signed is made anew. */
  readonly isRevoked?: boolean;
}

export interface Renewed {
  /** Uncompressed point of the new key, 65 bytes. */
  readonly publicKey: Uint8Array;
  readonly notAfter: Date;
}

/**
 * Takes the answer to requestRenewal: from the moment that the chain's file is there the new key signs, before it the old one does. Throws
 * RiprapError `renewal_not_requested`, `grant_foreign`, `grant_other_node`, `grant_other_key`, `grant_wrong_root`, `grant_chain_invalid`,
 * `grant_forged`, `grant_expired`, `grant_not_yet_valid`, `grant_older`, `id_prefix_invalid`.
 */
export function installRenewal(grant: EnrolmentGrant, options: RenewalInstall): Renewed {
  const ground = openGround(options);
  const before = loadNodeState(ground, options.now);
  const issuer = judgeGrant(grant, { ground, before, now: options.now });
  const { files, keys, table } = ground;
  const publicKey = issuer.publicKey as Uint8Array;
  const used = new Set(table.list("x509").map(({ keyName }) => keyName));
  const slot = NODE_SLOTS.find((name) => name !== before.keyName && !used.has(name));
  if (slot === undefined) throw refused("authority_prepared", "too many keys wait for a certificate on this node");
  keys.copy(RENEWAL_KEY, slot);
  table.nameNodeKey(publicKey, slot);
  // A node that lost a prefix must not sign below it with a key that no peer will believe there.
  writeRecord(files.record, {
    ...before.record,
    idPrefixes: parseIdPrefixes(grant.idPrefixes, before.record.trustDomain),
  });
  writeCertificates(files.nodeChain, grant.chain);
  const occasion = { at: options.now, reason: "an issuing node signed another" };
  table.renewed(before.anchor, occasion, options.isRevoked);
  keys.remove(RENEWAL_KEY);
  if (!used.has(before.keyName)) keys.remove(before.keyName);
  return { publicKey, notAfter: new Date(issuer.notAfter) };
}

function judgeGrant(
  grant: EnrolmentGrant,
  { ground, before, now }: { ground: CaGround; before: NodeState; now: number },
): Certificate {
  const { trustDomain, nodeName } = before.record;
  if (!ground.keys.has(RENEWAL_KEY)) throw refused("renewal_not_requested", "this node asked for nothing");
  if (grant.trustDomain !== trustDomain.name) throw refused("grant_foreign", `it is not for ${trustDomain}`);
  if (grant.nodeName !== nodeName) throw refused("grant_other_node", `it is not for the node ${nodeName}`);
  parseIdPrefixes(grant.idPrefixes, trustDomain);
  const { issuer, signer, root } = readGrantChain(grant, trustDomain);
  if (!before.roots.some(({ bytes }) => sameBytes(bytes, root.bytes))) {
    throw refused("grant_wrong_root", "its root is none of those that this node trusts");
  }
  if (!verifyBytes(enrolmentGrantBytes(grant), grant.signature, signer.publicKey)) {
    throw refused("grant_forged", "the CA that signed its certificate did not sign it as it stands");
  }
  const key = ground.keys.openKey(RENEWAL_KEY);
  const isOwn = sameBytes(issuer.keyBits, key.publicKey);
  key.close();
  if (!isOwn) throw refused("grant_other_key", "it is for a key that this node did not ask for");
  requireCurrent(issuer, root, now);
  if (issuer.notAfter < before.issuers[0].notAfter) {
    throw refused("grant_older", "its certificate ends before the one that this node has");
  }
  return issuer;
}

function refused(code: string, fact: string): RiprapError {
  return new RiprapError(code, `Cannot install the renewed intermediate: ${fact}`);
}
