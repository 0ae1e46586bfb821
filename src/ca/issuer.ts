// What the root of a trust domain signs where its key is, on a node or on a machine without a network: issuing CAs, and words about who may issue.
import { createPublicKey, sign } from "node:crypto";
import { RiprapError } from "../error.ts";
import { TrustDomain } from "../spiffe_id.ts";
import type { Store } from "../store.ts";
import { type Certificate, parseCertificate, sameBytes } from "./certificate.ts";
import { rootFault } from "./chain.ts";
import { keyIdentifier, parsePrivateKey, pointOf } from "./key.ts";
import type { CaKey, KeyStore } from "./key_store.ts";
import { loadNodeState, openGround } from "./node_state.ts";
import { BACKDATE_MS } from "./root.ts";
import { SerialSource } from "./svid.ts";
import { buildCaCertificate, readRequest } from "./x509.ts";

/** An issuing CA outlives several intermediates of a year, so that the root is fetched from its safe every few years. */
export const ISSUING_LIFETIME_MS = 5 * 365 * 24 * 3600 * 1000;
const REQUEST_MAX = 16_384;

/** The root's key with its certificate, wherever they came from. */
export interface RootSigner {
  readonly trustDomain: TrustDomain;
  readonly certificate: Certificate;
  readonly key: CaKey;
}

/**
 * A root key as it was exported (PKCS#8 DER; stays the caller's to wipe), with its certificate among `roots` (DER). Throws RiprapError
 * `ca_key_invalid`, `root_unknown`.
 */
export function openExportedRoot(
  pkcs8: Uint8Array,
  { roots, path }: { readonly roots: readonly Uint8Array[]; readonly path: string },
): RootSigner {
  const key = parsePrivateKey(pkcs8, path);
  const publicKey = pointOf(createPublicKey(key));
  const certificate = roots
    .map((bytes) => parseCertificate(bytes))
    .find((root) => root.publicKey !== undefined && sameBytes(root.publicKey, publicKey));
  if (certificate === undefined) {
    throw new RiprapError("root_unknown", `Cannot use the key ${path}: none of the roots given with it has this key`);
  }
  const caKey: CaKey = {
    publicKey,
    custody: "file",
    sign: (bytes) => Uint8Array.from(sign("sha256", bytes, key)),
    close: () => undefined,
  };
  return openRootSigner(certificate, caKey);
}

/** The root that signs on this node by its own key. Throws RiprapError `root_not_here`. */
export function openHeldRoot(options: { stateDir: string; store: Store; keys?: KeyStore; now: number }): RootSigner {
  const ground = openGround(options);
  const { keys, table } = ground;
  // Roots that only the files know are taken in first.
  loadNodeState(ground, options.now);
  const active = table.active("x509");
  if (active === undefined || active.chain.length > 0 || active.keyName === "" || !keys.has(active.keyName)) {
    const remedy = "do it where the exported root key is, with `riprap root sign`";
    throw new RiprapError("root_not_here", `Cannot sign as the root: its key is not on this node; ${remedy}`);
  }
  const certificate = parseCertificate(active.material);
  return openRootSigner(certificate, keys.openKey(active.keyName));
}

/** Throws RiprapError `root_unknown` for a certificate that is no root of a trust domain, or is not for the key. */
export function openRootSigner(certificate: Certificate, key: CaKey): RootSigner {
  const trustDomain = TrustDomain.tryParse((certificate.uris[0] ?? "").replace(/^spiffe:\/\//, ""));
  const fault = trustDomain === undefined ? "it is not of a trust domain" : rootFault(certificate, trustDomain);
  const isOwn = certificate.publicKey !== undefined && sameBytes(certificate.publicKey, key.publicKey);
  if (trustDomain !== undefined && fault === undefined && isOwn) return { trustDomain, certificate, key };
  throw new RiprapError("root_unknown", `Cannot sign as the root: ${fault ?? "its certificate is for another key"}`);
}

export interface IssuingRequest {
  /** PKCS#10 in DER, as `riprap authority csr` makes it. */
  readonly csr: Uint8Array;
  readonly lifetimeMs?: number;
  readonly now: number;
}

export interface IssuingGrant {
  readonly nodeName: string;
  /** Key identifier of the new CA, hexadecimal: how the fleet names it. */
  readonly authority: string;
  readonly serial: string;
  readonly notAfter: number;
  /** DER: its certificate, then the root's. */
  readonly chain: readonly [Uint8Array, Uint8Array];
}

/**
 * Signs an issuing CA: path length 1, the trust domain its only URI host; it signs the intermediates of nodes and ends with the root. Throws
 * RiprapError `request_forged`, `root_expired`.
 */
export async function signIssuingCa(root: RootSigner, request: IssuingRequest): Promise<IssuingGrant> {
  const { trustDomain, certificate, key } = root;
  const { csr, now, lifetimeMs = ISSUING_LIFETIME_MS } = request;
  const asked = csr.length > REQUEST_MAX ? undefined : await readRequest(csr);
  const nodeName = asked?.commonName;
  if (asked === undefined || nodeName === undefined || asked.uris.join() !== trustDomain.id.toString()) {
    const remedy = `make it with \`riprap authority csr\` on a node of ${trustDomain}`;
    throw new RiprapError(
      "request_forged",
      `Cannot sign the issuing CA: its request is none for ${trustDomain}; ${remedy}`,
    );
  }
  if (now > certificate.notAfter) {
    throw new RiprapError("root_expired", "Cannot sign the issuing CA: the root has expired; make a new one");
  }
  const notAfter = Math.min(wholeSecond(now + lifetimeMs), certificate.notAfter);
  const serial = Buffer.from(new SerialSource().next(now)).toString("hex");
  const bytes = await buildCaCertificate({
    trustDomain,
    commonName: nodeName,
    serial,
    point: asked.point,
    notBefore: Math.max(wholeSecond(now - BACKDATE_MS), certificate.notBefore),
    notAfter,
    pathLength: 1,
    constrain: true,
    issuer: { commonName: certificate.commonName ?? "root", subject: certificate.subject, key },
  });
  const authority = Buffer.from(keyIdentifier(asked.point)).toString("hex");
  return { nodeName, authority, serial, notAfter, chain: [bytes, certificate.bytes] };
}

function wholeSecond(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}
