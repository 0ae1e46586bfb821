// The CA of a node: make a trust domain, open the node's authority, enrol another node by file. The rooms are under ca/.

import { existsSync } from "node:fs";
import { findSigned, listSigned, type SignedQuery, type SignedSvid } from "./ca/audit.ts";
import { Authorities, type AuthoritiesOptions } from "./ca/authorities.ts";
import { openNodeAuthority } from "./ca/authority.ts";
import { currentBundle } from "./ca/bundle.ts";
import { parseCertificate } from "./ca/certificate.ts";
import { type CheckedCrl, type CrlCheckOptions, checkCrl as check } from "./ca/crl_check.ts";
import {
  grantEnrolment,
  type Installed,
  type InstallOptions,
  installGrant,
  type RequestOptions,
  requestEnrolment,
  type SignOptions,
} from "./ca/enrolment.ts";
import { type LiveIntermediate, readIntermediates } from "./ca/intermediate.ts";
import {
  type IssuingGrant,
  type IssuingRequest,
  openExportedRoot,
  openHeldRoot,
  type RootSigner,
  signIssuingCa,
} from "./ca/issuer.ts";
import { type JwtAuthority, type JwtOptions, openJwtKey } from "./ca/jwt.ts";
import { type CurvePoint, createKey, keyIdentifier, parsePublicKeyPem } from "./ca/key.ts";
import {
  type CaKey,
  type CustodyChange,
  type CustodySetting,
  exportKey,
  type KeyStore,
  likelyCustodies,
  moveCustody,
  openKeyStore,
} from "./ca/key_store.ts";
import { LIFE_POLICY, type LifePolicy } from "./ca/life_cycle.ts";
import type { IssuedSvid, NodeAuthority, OpenOptions, SvidRequest } from "./ca/node_authority.ts";
import {
  checkNodeStore as checkStoreOf,
  openNodeStore as openStoreOf,
  type RebuildOptions,
  type Rebuilt,
  rebuildNodeStore,
} from "./ca/node_store.ts";
import {
  installRenewal,
  isRenewalDue,
  type RenewalInstall,
  type RenewalOptions,
  type Renewed,
  requestRenewal,
} from "./ca/renewal.ts";
import { type RevokedSetOptions, readLiveSerials, readRevokedSets } from "./ca/revoked_set.ts";
import { createTrustDomain, type InitOptions } from "./ca/root.ts";
import {
  type AdoptedRoots,
  adoptRoots as adopt,
  type ListedRoot,
  listRoots as list,
  openRootKey as openKeyOf,
  type RootListOptions,
  type ToldRoot,
} from "./ca/root_list.ts";
import { caFiles, readCertificates, requireCa } from "./ca/state.ts";
import { openWitKey, type WitAuthority, type WitOptions } from "./ca/wit.ts";
import type { EnrolmentGrant, EnrolmentRequest } from "./enrolment.ts";
import { toPem, toPemBlock } from "./pem.ts";
import type { SerialSet } from "./serial_set.ts";
import type { Store } from "./store.ts";
import type { TrustBundle } from "./trust_bundle.ts";

export type { SignedQuery, SignedSvid } from "./ca/audit.ts";
export type {
  Authorities,
  AuthoritiesOptions,
  AuthorityList,
  AuthorityView,
  IntermediateView,
  StepDone,
  StepOptions,
} from "./ca/authorities.ts";
export type { PeerAccepted, PeerAnswer, PeerRefused, RefusalCode } from "./ca/chain.ts";
export type { CheckedCrl, CrlCheckOptions } from "./ca/crl_check.ts";
export type { Installed, InstallOptions, RequestOptions, SignOptions } from "./ca/enrolment.ts";
export type { LiveIntermediate } from "./ca/intermediate.ts";
export type { IssuingGrant, IssuingRequest, RootSigner } from "./ca/issuer.ts";
export type { IssuedJwtSvid, JwtAuthority, JwtOptions, JwtSvidRequest } from "./ca/jwt.ts";
export type { CustodyChange, CustodySetting, KeyModule, KeyStore } from "./ca/key_store.ts";
export type { AuthorityKind, LifePolicy } from "./ca/life_cycle.ts";
export type {
  AuthorityInfo,
  IssuedSvid,
  NodeAuthority,
  OpenOptions,
  Revocation,
  SvidRequest,
} from "./ca/node_authority.ts";
export type { RebuildOptions, Rebuilt } from "./ca/node_store.ts";
export type { RenewalOptions, Renewed } from "./ca/renewal.ts";
export type { RevokedId } from "./ca/revoked_id.ts";
export type { RevokedSetOptions } from "./ca/revoked_set.ts";
export type { InitOptions } from "./ca/root.ts";
export type { AdoptedRoots, ListedRoot, RootListOptions, ToldRoot } from "./ca/root_list.ts";
export type { TokenAlgorithm } from "./ca/token_key.ts";
export type { IssuedWitSvid, WitAuthority, WitOptions, WitSvidRequest } from "./ca/wit.ts";

/**
 * Makes a trust domain on its first node: a root (10 years) and this node's intermediate (1 year), in stateDir/ca, keys 0600.
 * Throws RiprapError `trust_domain_invalid`, `trust_domain_unconstrainable`, `node_name_invalid`, `ca_exists`, `enrolment_pending`,
 * `state_not_private`.
 */
export function initTrustDomain(options: InitOptions): Promise<void> {
  return createTrustDomain(options);
}

/** Opens this node's CA. Throws RiprapError `ca_not_initialised`, `ca_state_invalid`, `ca_key_invalid`, `state_not_private`. The store stays the caller's. */
export function openAuthority(options: OpenOptions): NodeAuthority {
  return openNodeAuthority(options);
}

/** How long keys are published ahead and sign: as usual, but for what is given. */
export function lifePolicy(over: Partial<LifePolicy>): LifePolicy {
  return { ...LIFE_POLICY, ...over };
}

/** Opens the life cycle of this node's authorities, making token keys where there are none. Throws what openAuthority and openJwtAuthority throw. */
export function openAuthorities(options: AuthoritiesOptions): Authorities {
  return new Authorities(options);
}

/** Opens this node's JWT authority, making its key when there is none. Throws RiprapError `ca_not_initialised`, `ca_key_invalid`, `state_not_private`. */
export function openJwtAuthority(options: JwtOptions): JwtAuthority {
  return openJwtKey(options);
}

/** Opens this node's WIT authority, as openJwtAuthority does. Only where the configuration asks for WIT-SVIDs: their standard is incubating. */
export function openWitAuthority(options: WitOptions): WitAuthority {
  return openWitKey(options);
}

/** What this node tells others to trust: the roots of its trust domain and its own JWT keys. Its sequence number is kept in the store. */
export function trustBundle(
  store: Store,
  authority: Pick<NodeAuthority, "bundle" | "trustDomain">,
  jwt: Pick<JwtAuthority, "keys">,
  wit?: Pick<WitAuthority, "keys">,
): TrustBundle {
  return currentBundle(store, authority, jwt, wit);
}

/** SVIDs with keys of their own, for workloads that must hold them themselves: PKCS#8 DER, to be wiped after use. Throws what issueX509Svids throws. */
export function issueWithNewKeys(
  authority: Pick<NodeAuthority, "issueX509Svids">,
  requests: readonly Omit<SvidRequest, "publicKey">[],
): (IssuedSvid & { readonly privateKey: Uint8Array })[] {
  const keys = requests.map(() => createKey());
  const wanted = requests.map((request, index) => ({ ...request, publicKey: keys[index]?.point as CurvePoint }));
  try {
    const svids = authority.issueX509Svids(wanted);
    return svids.map((svid, index) => ({ ...svid, privateKey: keys[index]?.pkcs8 as Uint8Array }));
  } catch (thrown) {
    for (const { pkcs8 } of keys) pkcs8.fill(0);
    throw thrown;
  }
}

/** What this node signed and still has in its journals, the latest first: for whom, by which rule and labels, revoked or not. */
export function signedSvids(store: Store, query: SignedQuery): readonly SignedSvid[] {
  return listSigned(store, query);
}

/** The X509-SVID that this node signed under a serial number in hexadecimal, if its journal still has it. */
export function signedUnder(store: Store, serial: string): SignedSvid | undefined {
  return findSigned(store, serial);
}

/** Serial numbers that this node signed under one of its authorities and that have not ended, 20 octets each, but for those of the last ten seconds. */
export function liveSerials(store: Store, of: { readonly authority: string; readonly now: number }): Uint8Array {
  return readLiveSerials(store, of).serials;
}

/** Of revoked serial numbers the exact sets for all that this node signed under the authority until ten seconds ago. */
export function revokedSets(store: Store, options: RevokedSetOptions): readonly SerialSet[] {
  return readRevokedSets(store, options);
}

export interface PublicKeyRequest {
  readonly spiffeId: string;
  /** PEM of a P-256 public key (`-----BEGIN PUBLIC KEY-----`). */
  readonly publicKeyPem: string;
  readonly lifetimeSeconds: number;
  readonly dnsNames?: readonly string[];
  readonly context: Record<string, unknown>;
}

/**
 * An SVID for a peer that is no riprap workload and keeps its own key. Answers the chain in PEM, the SVID first, without the root.
 * Throws what NodeAuthority.issueX509Svid throws.
 */
export function issueForPublicKey(
  authority: NodeAuthority,
  request: PublicKeyRequest,
): { serial: string; notAfter: Date; chainPem: string } {
  const { publicKeyPem, ...rest } = request;
  const { serial, notAfter, chain } = authority.issueX509Svid({ ...rest, publicKey: parsePublicKeyPem(publicKeyPem) });
  return { serial, notAfter, chainPem: toPem(chain) };
}

/** Does this node belong to a trust domain? */
export function isSetUp(stateDir: string): boolean {
  return existsSync(caFiles(stateDir).record);
}

/** The database of a node; the caller closes it. Throws RiprapError `store_lost`, `store_damaged`, `store_unusable`, `state_not_private`. */
export function openNodeStore(stateDir: string): Store {
  return openStoreOf(stateDir);
}

/** Reads the whole database of a node, also beside its daemon. Throws RiprapError `store_lost`, `store_damaged`, `store_unusable`. */
export function checkNodeStore(stateDir: string): void {
  checkStoreOf(stateDir);
}

/**
 * Begins another database for a node whose own is lost or damaged, which is put aside. Only while no daemon runs. Throws RiprapError
 * `ca_not_initialised`, `store_intact`, and what openAuthority throws for the files.
 */
export function rebuildStore(options: RebuildOptions): Rebuilt {
  return rebuildNodeStore(options);
}

/** The keys and secrets of this node, by name, in the custody of this host. stateDir/ca must be there. */
export function openNodeKeys(stateDir: string): KeyStore {
  return openKeyStore(stateDir);
}

/** What a person may choose for keys; `auto`: a TPM, else a systemd credential, else a file. */
export const CUSTODY_SETTINGS: readonly CustodySetting[] = ["auto", "tpm", "systemd", "file"];

/**
 * Moves every key and secret of a node to another custody, while no daemon runs: made and read back before the old copy goes. Throws RiprapError
 * `ca_not_initialised`, `custody_unavailable`, `custody_busy`, `tpm_unusable`, `tpm_refused`, `credential_missing`, `credential_refused`, `seal_invalid`.
 */
export function moveNodeCustody(stateDir: string, to: CustodySetting): CustodyChange {
  requireCa(stateDir);
  return moveCustody(stateDir, to);
}

export interface CustodyView {
  readonly custody: KeyStore["custody"];
  readonly keys: readonly { readonly name: string; readonly sealed: boolean }[];
  /** Better than a file, best first, as far as one sees without trying. */
  readonly available: readonly string[];
}

/** What keeps each key and secret of a node. Throws RiprapError `ca_not_initialised`, `seal_invalid`, `state_not_private`. */
export function nodeCustody(stateDir: string): CustodyView {
  requireCa(stateDir);
  const keys = openKeyStore(stateDir);
  return { custody: keys.custody, keys: keys.list(), available: likelyCustodies() };
}

/** Writes a key in the open to a new file (0600), outside its custody. Throws RiprapError `key_unknown`, `file_exists`, and what opening it throws. */
export function exportNodeKey(stateDir: string, what: { name: string; file: string; remove: boolean }): void {
  requireCa(stateDir);
  exportKey(openKeyStore(stateDir), what);
}

/**
 * The P-256 point (65 bytes) of each certificate (DER) that has one: a CA with another key is outside of riprap, and says nothing to a fleet. Throws
 * for what is no certificate.
 */
export function publicKeysOf(certificates: readonly Uint8Array[]): readonly Uint8Array[] {
  return certificates.flatMap((bytes) => parseCertificate(bytes).publicKey ?? []);
}

/** DER of this node's own CA certificates, its intermediate first, without the root. Throws what openAuthority throws for the files. */
export function readNodeChain(stateDir: string): readonly Uint8Array[] {
  return readCertificates(requireCa(stateDir).nodeChain).map(({ bytes }) => bytes);
}

/** The intermediates that this node signed, those for itself among them, and that neither ended nor are revoked. */
export function listIntermediates(store: Store, now: number): readonly LiveIntermediate[] {
  return readIntermediates(store, now);
}

/** How certificates and the fleet name the key of an authority: 40 hexadecimal digits. */
export function authorityIdOf(publicKey: Uint8Array): string {
  return Buffer.from(keyIdentifier(publicKey)).toString("hex");
}

/** Reads and judges a CRL of this trust domain. Throws RiprapError `crl_malformed`, `der_malformed`, `crl_refused`, and what openAuthority throws for the files. */
export function checkCrl(options: CrlCheckOptions): CheckedCrl {
  return check(options);
}

/** The CRL of this node's intermediate in PEM. */
export function crlPem(authority: Pick<NodeAuthority, "crl">): string {
  return toPemBlock("X509 CRL", authority.crl());
}

/** The roots of the trust domain in PEM: what a peer that is no riprap node is given to trust. */
export function bundlePem(authority: NodeAuthority): string {
  return toPem(authority.bundle);
}

/**
 * On the node that wants to join: makes its key in stateDir/ca and the request for the root-holding node. Asking again under the same name keeps the key.
 * Throws RiprapError `trust_domain_invalid`, `node_name_invalid`, `ca_exists`, `state_not_private`.
 */
export function createEnrolmentRequest(options: RequestOptions): Promise<EnrolmentRequest> {
  return requestEnrolment(options);
}

/**
 * On the node that holds the root: signs the intermediate of another node. Throws RiprapError `root_not_here`, `root_expired`, `request_foreign`,
 * `request_forged`, `request_expired`, `request_not_yet_valid`, `request_repeated`, `node_enrolled`, `node_name_invalid`, `id_prefix_invalid`, `lifetime_invalid`.
 */
export function signEnrolment(options: SignOptions): Promise<EnrolmentGrant> {
  return grantEnrolment(options);
}

/**
 * On the node that asked: installs the grant, after which openAuthority works. Throws RiprapError `ca_exists`, `enrolment_not_requested`, `grant_foreign`,
 * `grant_other_node`, `grant_other_key`, `grant_chain_invalid`, `grant_wrong_root`, `grant_forged`, `grant_expired`, `grant_not_yet_valid`, `id_prefix_invalid`.
 */
export async function installEnrolment(options: InstallOptions): Promise<Installed> {
  return installGrant(options);
}

/** The root key on this node, for what only the root may sign. Close its `key` after use. Throws RiprapError `root_not_here`, and what openAuthority throws. */
export function openRoot(options: RenewalOptions): RootSigner {
  return openHeldRoot(options);
}

/** The roots of this node that others may have heard of, in the order in which they were published. Throws what openAuthority throws for the files. */
export function listRoots(options: RootListOptions): readonly ListedRoot[] {
  return list(options);
}

/** The key of a root that listRoots shows as held here. The caller closes it. */
export function openRootKey(certificate: Uint8Array, options: RootListOptions): CaKey {
  return openKeyOf(certificate, options);
}

/** Takes roots that the fleet tells of into the bundle, and those that are revoked out of it; whoever signs SVIDs or judges peers sees it at once. */
export function adoptRoots(told: readonly ToldRoot[], options: RootListOptions): AdoptedRoots {
  return adopt(told, options);
}

/** A root key that was exported, on whatever machine. Throws RiprapError `ca_key_invalid`, `root_unknown`. */
export function openRootExport(
  pkcs8: Uint8Array,
  from: { readonly roots: readonly Uint8Array[]; readonly path: string },
): RootSigner {
  return openExportedRoot(pkcs8, from);
}

/** Signs the CA of an issuing node: path length 1, five years. Throws RiprapError `request_forged`, `root_expired`. */
export function signIssuing(root: RootSigner, request: IssuingRequest): Promise<IssuingGrant> {
  return signIssuingCa(root, request);
}

/** Whether this node should ask an issuing node for its next intermediate. Times in milliseconds. */
export function needsRenewal(validity: { notBefore: number; notAfter: number }, now: number): boolean {
  return isRenewalDue(validity, now);
}

/** Makes the next key of this node's intermediate, and the request for it. Throws what openAuthority throws for the files. */
export function createRenewalRequest(options: RenewalOptions): Promise<EnrolmentRequest> {
  return requestRenewal(options);
}

/**
 * Installs the answer to createRenewalRequest; the old intermediate's SVIDs stay good. Throws RiprapError `renewal_not_requested`, `grant_foreign`,
 * `grant_other_node`, `grant_other_key`, `grant_wrong_root`, `grant_chain_invalid`, `grant_forged`, `grant_expired`, `grant_not_yet_valid`,
 * `grant_older`, `id_prefix_invalid`.
 */
export function installRenewedIntermediate(grant: EnrolmentGrant, options: RenewalInstall): Renewed {
  return installRenewal(grant, options);
}
