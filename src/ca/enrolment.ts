// Enrolment of a node by values that a person carries: the request for an intermediate, the root's grant, its installation. Knows no file format.
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import type { Clock } from "../clock.ts";
import {
  type EnrolmentGrant,
  type EnrolmentRequest,
  enrolmentGrantBytes,
  enrolmentRequestBytes,
  parseFingerprint,
  parseIdPrefixes,
  parseNodeName,
  rootFingerprint,
} from "../enrolment.ts";
import { RiprapError } from "../error.ts";
import { removePrivateFile } from "../private_file.ts";
import { TrustDomain } from "../spiffe_id.ts";
import { openStore, storePath } from "../store.ts";
import { type Certificate, parseCertificate, sameBytes } from "./certificate.ts";
import { CLOCK_SKEW_MAX_MS, issuersFault, PATH_CERTIFICATES_MAX, rootFault } from "./chain.ts";
import { isSignedBy } from "./issuer_key.ts";
import { Journal } from "./journal.ts";
import { keyIdentifier, verifyBytes } from "./key.ts";
import { type CaKey, type CustodySetting, type KeyStore, openKeyStore } from "./key_store.ts";
import { loadNodeState, openGround } from "./node_state.ts";
import { journalIntermediate, NODE_LIFETIME_MS, openSigner } from "./root.ts";
import {
  type CaFiles,
  caFiles,
  ensureCaDirectory,
  KEY_NAME,
  type NodeRecord,
  ROOTS_MAX,
  readRecord,
  requireCa,
  requireNoCa,
  writeCertificates,
  writeRecord,
} from "./state.ts";
import { buildCaCertificate, buildRequest, readRequest } from "./x509.ts";

/** A request that lay about for longer belongs to a machine that nobody remembers. */
export const REQUEST_LIFETIME_MS = 7 * 24 * 3600 * 1000;
const NODE_LIFETIME_MIN_SECONDS = 60;
const NODE_LIFETIME_MAX_SECONDS = 3650 * 24 * 3600;

export interface RequestOptions {
  readonly stateDir: string;
  readonly trustDomain: string;
  readonly nodeName: string;
  readonly clock: Clock;
  /** Of the node's keys; a file when not given. */
  readonly custody?: CustodySetting;
}

/** Makes the node's key (it never leaves stateDir/ca) and the request for it. */
export async function requestEnrolment(options: RequestOptions): Promise<EnrolmentRequest> {
  const { stateDir, clock } = options;
  const trustDomain = TrustDomain.parse(options.trustDomain);
  const nodeName = parseNodeName(options.nodeName);
  const files = ensureCaDirectory(stateDir);
  requireNoCa(files);
  const key = openOrCreatePendingKey(
    { files, keys: openKeyStore(stateDir, { custody: options.custody ?? "file" }) },
    trustDomain,
    nodeName,
  );
  const createdAt = Math.floor(clock.now() / 1000) * 1000;
  const csr = await buildRequest(trustDomain, nodeName, key);
  const unsigned = {
    trustDomain: trustDomain.name,
    nodeName,
    createdAt,
    expiresAt: createdAt + REQUEST_LIFETIME_MS,
    csr,
  };
  writeRecord(files.pendingRecord, { trustDomain, nodeName, idPrefixes: [`${trustDomain.id}/`] });
  return { ...unsigned, signature: key.sign(enrolmentRequestBytes(unsigned)) };
}

export interface SignOptions {
  readonly stateDir: string;
  readonly request: EnrolmentRequest;
  /** 60 s to 10 years; a year when absent. The intermediate ends with the root if that is sooner. */
  readonly lifetimeSeconds?: number;
  /** Which IDs the node may issue; all of the trust domain when absent. */
  readonly idPrefixes?: readonly string[];
  /** Sign although the name has an intermediate: that one is revoked. */
  readonly replace?: boolean;
  /** The node itself asks for its next one, which the caller has made sure of: the one it has stays good until its end. */
  readonly isRenewal?: boolean;
  /** The machine that was granted this key asks again, because the answer was lost; the caller has made sure that it is the same. */
  readonly isRetry?: boolean;
  /** The join token that it came with: who let it in takes it into the roster, as what the token says. */
  readonly token?: string;
  readonly clock: Clock;
}

/** Signs a node's intermediate, on the node that holds the root. Refuses by code; see src/ca.ts. */
export async function grantEnrolment(options: SignOptions): Promise<EnrolmentGrant> {
  const { stateDir, request, clock } = options;
  const now = clock.now();
  requireCa(stateDir);
  const store = openStore(storePath(stateDir));
  try {
    const ground = openGround({ stateDir, store });
    const { record, roots } = loadNodeState(ground, now);
    const { trustDomain } = record;
    const active = ground.table.active("x509");
    if (active === undefined) throw requestRefused("root_not_here", "no root signs here; activate one first");
    const root = openSigner(active, ground.keys);
    const idPrefixes = parseIdPrefixes(options.idPrefixes ?? [`${trustDomain.id}/`], trustDomain);
    const lifetimeMs = parseLifetime(options.lifetimeSeconds);
    const point = await checkRequest(request, trustDomain, now);
    const journal = new Journal(store);
    const { token, replace = false } = options;
    const { nodeName } = request;
    // It may have been journalled and never signed.
    const wasJournalled = token !== undefined && journal.hasTokenKey(keyIdentifier(point), { node: nodeName, token });
    const isRetry = options.isRetry === true || wasJournalled;
    const context = { by: "enrolment", requestedAt: request.createdAt, idPrefixes, token };
    const plan = journal.transaction(() => {
      if (!isRetry) requireNewKey(journal, point);
      if (options.isRenewal !== true) admitName(journal, { nodeName, now, replace, own: isRetry ? point : undefined });
      return journalIntermediate(root, journal, {
        trustDomain,
        nodeName,
        point,
        lifetimeMs,
        now,
        context,
      });
    });
    // Nothing leaves that a power cut could take back, nor what the caller kept before: a token that is spent.
    store.settle();
    const unsigned = {
      trustDomain: trustDomain.name,
      nodeName,
      idPrefixes,
      issuedAt: Math.floor(now / 1000) * 1000,
      expiresAt: plan.notAfter,
      chain: [await buildCaCertificate(plan), ...root.above],
      roots: roots.map((certificate) => certificate.bytes),
    };
    return { ...unsigned, signature: root.key.sign(enrolmentGrantBytes(unsigned)) };
  } finally {
    store.close();
  }
}

export interface InstallOptions {
  readonly stateDir: string;
  readonly grant: EnrolmentGrant;
  readonly clock: Clock;
  /** SHA-256 of the root in hexadecimal (colons and upper case are taken): without it, the grant's own root is believed. */
  readonly rootFingerprint?: string;
}

export interface Installed {
  readonly trustDomain: string;
  readonly nodeName: string;
  readonly rootFingerprint: string;
  /** Whether that fingerprint was given by the caller, and so known by another way than the grant. */
  readonly pinned: boolean;
  readonly expiresAt: Date;
}

/** Takes the grant for this node's own request and key, and nothing else. Refuses by code; see src/ca.ts. */
export function installGrant({ stateDir, grant, clock, rootFingerprint: wanted }: InstallOptions): Installed {
  const files = requirePending(stateDir);
  const { trustDomain, nodeName } = readRecord(files.pendingRecord);
  if (grant.trustDomain !== trustDomain.name) {
    throw grantRefused(
      "grant_foreign",
      `it is for the trust domain ${quote(grant.trustDomain)}, and this node asked to join ${trustDomain}`,
    );
  }
  if (grant.nodeName !== nodeName)
    throw grantRefused(
      "grant_other_node",
      `it is for the node ${quote(grant.nodeName)}, and this one asked as ${nodeName}`,
    );
  const idPrefixes = parseIdPrefixes(grant.idPrefixes, trustDomain);
  const { issuer, signer, root, roots } = readGrantChain(grant, trustDomain);
  const fingerprint = rootFingerprint(root.bytes);
  if (wanted !== undefined && fingerprint !== parseFingerprint(wanted)) {
    throw grantRefused("grant_wrong_root", `its root has the fingerprint ${fingerprint}, which is not the one given`);
  }
  if (!verifyBytes(enrolmentGrantBytes(grant), grant.signature, signer.publicKey)) {
    throw grantRefused(
      "grant_forged",
      "it is not signed by its root as it stands; someone changed it, or it was damaged on the way",
    );
  }
  const keys = openKeyStore(stateDir);
  const key = keys.openKey(KEY_NAME.pending);
  if (!sameBytes(issuer.keyBits, key.publicKey)) {
    throw grantRefused(
      "grant_other_key",
      "it is for a key that this node does not have; give it the grant for its latest request",
    );
  }
  requireCurrent(issuer, root, clock.now());
  install({ files, keys }, { record: { trustDomain, nodeName, idPrefixes }, chain: grant.chain, roots });
  return {
    trustDomain: trustDomain.name,
    nodeName,
    rootFingerprint: fingerprint,
    pinned: wanted !== undefined,
    expiresAt: new Date(issuer.notAfter),
  };
}

interface Ground {
  readonly files: CaFiles;
  readonly keys: KeyStore;
}

/** The key of the latest request is kept for the same name, so that asking again does not make an earlier grant worthless. */
function openOrCreatePendingKey({ files, keys }: Ground, trustDomain: TrustDomain, nodeName: string): CaKey {
  if (!existsSync(files.pendingRecord)) return keys.createKey(KEY_NAME.pending);
  const earlier = readRecord(files.pendingRecord);
  const same = earlier.trustDomain.equals(trustDomain) && earlier.nodeName === nodeName;
  return same ? keys.openKey(KEY_NAME.pending) : keys.createKey(KEY_NAME.pending);
}

/** The requester's point, once everything that it says of itself is proven by its key. */
async function checkRequest(request: EnrolmentRequest, trustDomain: TrustDomain, now: number): Promise<Uint8Array> {
  if (request.trustDomain !== trustDomain.name) {
    throw requestRefused(
      "request_foreign",
      `it asks to join ${quote(request.trustDomain)}, and this is ${trustDomain}`,
    );
  }
  parseNodeName(request.nodeName);
  const asked = await readRequest(request.csr);
  if (asked === undefined)
    throw requestRefused(
      "request_forged",
      "its PKCS#10 request is malformed, not for a P-256 key, or not signed by that key",
    );
  if (!verifyBytes(enrolmentRequestBytes(request), request.signature, asked.point)) {
    throw requestRefused(
      "request_forged",
      "it is not signed by the key it asks for; someone changed it, or it was damaged on the way",
    );
  }
  if (asked.commonName !== request.nodeName || asked.uris.join() !== trustDomain.id.toString()) {
    throw requestRefused("request_forged", "its PKCS#10 request names another node or trust domain");
  }
  if (now > request.expiresAt || request.expiresAt - request.createdAt > REQUEST_LIFETIME_MS) {
    throw requestRefused("request_expired", "it has expired; run `riprap enrol request` on the node again");
  }
  if (now < request.createdAt - CLOCK_SKEW_MAX_MS)
    throw requestRefused("request_not_yet_valid", "it was made in the future; check both clocks");
  return asked.point;
}

/** Nothing is signed twice: no key, */
function requireNewKey(journal: Journal, point: Uint8Array): void {
  if (journal.hasAuthorityKey(keyIdentifier(point)))
    throw requestRefused("request_repeated", "its key has an intermediate already; nothing is signed twice");
}

/** and no name that is in use, but by the key `own`. */
function admitName(
  journal: Journal,
  { nodeName, now, replace, own }: { nodeName: string; now: number; replace: boolean; own: Uint8Array | undefined },
): void {
  for (const { serial, keyId, notAfter } of journal.liveIntermediates(nodeName, now)) {
    const isOwn = own !== undefined && sameBytes(keyId, keyIdentifier(own));
    if (!replace && !isOwn) {
      const fact = `a node of the name ${nodeName} is enrolled until ${new Date(notAfter).toISOString()}; choose another name, or replace that node`;
      throw requestRefused("node_enrolled", fact);
    }
    journal.addRevocation({ serial, reason: "superseded", revokedAt: now, keepUntil: notAfter });
  }
}

function parseLifetime(seconds: number | undefined): number {
  if (seconds === undefined) return NODE_LIFETIME_MS;
  if (Number.isInteger(seconds) && seconds >= NODE_LIFETIME_MIN_SECONDS && seconds <= NODE_LIFETIME_MAX_SECONDS)
    return seconds * 1000;
  const range = `${NODE_LIFETIME_MIN_SECONDS} to ${NODE_LIFETIME_MAX_SECONDS}`;
  throw new RiprapError(
    "lifetime_invalid",
    `Cannot sign an intermediate: its lifetime is ${seconds} s; give whole seconds from ${range}`,
  );
}

/** Throws `ca_exists` when there is nothing to install into, `enrolment_not_requested` when nothing was asked. */
function requirePending(stateDir: string): CaFiles {
  const files = caFiles(stateDir);
  if (existsSync(files.record))
    throw grantRefused("ca_exists", `this node is already a member of a trust domain (${files.record})`);
  if (existsSync(files.pendingRecord)) return ensureCaDirectory(stateDir);
  throw grantRefused("enrolment_not_requested", "this node asked for nothing; run `riprap enrol request` first");
}

/** The certificates of a grant, and the CA that signed it. Throws RiprapError `grant_chain_invalid`. */
export function readGrantChain(
  grant: EnrolmentGrant,
  trustDomain: TrustDomain,
): { issuer: Certificate; signer: Certificate; root: Certificate; roots: Certificate[] } {
  const { chain, roots } = grant;
  if (chain.length === 0 || chain.length >= PATH_CERTIFICATES_MAX || roots.length === 0 || roots.length > ROOTS_MAX) {
    throw grantRefused("grant_chain_invalid", "it holds no certificates, or too many");
  }
  try {
    const [issuer, ...above] = chain.map(parseCertificate) as [Certificate, ...Certificate[]];
    const anchors = roots.map(parseCertificate);
    for (const anchor of anchors) {
      const fault = rootFault(anchor, trustDomain);
      if (fault !== undefined) throw new Error(fault);
    }
    const fault = issuersFault([issuer, ...above], { trustDomain, anchors });
    if (fault !== undefined) throw new Error(fault);
    const top = above.at(-1) ?? issuer;
    const root = anchors.find((anchor) => isSignedBy(top, anchor)) as Certificate;
    return { issuer, signer: above[0] ?? root, root, roots: anchors };
  } catch (cause) {
    throw new RiprapError(
      "grant_chain_invalid",
      `Cannot install the grant: its certificates do not hold: ${(cause as Error).message}`,
      { cause },
    );
  }
}

export function requireCurrent(issuer: Certificate, root: Certificate, now: number): void {
  if (now > issuer.notAfter || now > root.notAfter) {
    throw grantRefused(
      "grant_expired",
      `its certificate ended at ${new Date(Math.min(issuer.notAfter, root.notAfter)).toISOString()}; ask again`,
    );
  }
  if (now < issuer.notBefore - CLOCK_SKEW_MAX_MS) {
    throw grantRefused(
      "grant_not_yet_valid",
      `its certificate begins at ${new Date(issuer.notBefore).toISOString()}; check both clocks`,
    );
  }
}

/** The record comes last and the request leaves after it: a crash in between leaves a request whose grant can be installed again. */
function install(
  { files, keys }: Ground,
  { record, chain, roots }: { record: NodeRecord; chain: readonly Uint8Array[]; roots: readonly Certificate[] },
): void {
  keys.copy(KEY_NAME.pending, KEY_NAME.node);
  writeCertificates(
    files.bundle,
    roots.map((root) => root.bytes),
  );
  writeCertificates(files.nodeChain, chain);
  // A node that is set up has its database, so that one that is missing is one that is lost.
  openStore(storePath(dirname(files.directory))).close();
  writeRecord(files.record, record);
  removePrivateFile(files.pendingRecord);
  keys.remove(KEY_NAME.pending);
}

/** Text from a document, for a message: control characters escaped, cut at a bound. */
function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function requestRefused(code: string, fact: string): RiprapError {
  return new RiprapError(code, `Cannot sign the enrolment request: ${fact}`);
}

function grantRefused(code: string, fact: string): RiprapError {
  return new RiprapError(code, `Cannot install the grant: ${fact}`);
}
