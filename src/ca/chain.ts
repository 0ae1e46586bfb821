// Turns a peer's certificate chain into a SPIFFE ID and a key, or into a refusal with its TLS alert. Never throws, never reads a file or a clock.
import { describeError } from "../error.ts";
import { SpiffeId, type TrustDomain } from "../spiffe_id.ts";
import { type Certificate, KEY_USAGE, OID, parseCertificate, sameBytes } from "./certificate.ts";
import { isSignatureTaken, isSignedBy, issuerKeyFault } from "./issuer_key.ts";
import { keyIdentifier, keyOfPoint } from "./key.ts";
import { nameConstraintFault } from "./name_constraint.ts";
import { readsTheSame } from "./second_reader.ts";

/** As kernel/abi.h RIPRAP_CHAIN_CERTS_MAX: what a TLS Certificate message may carry. */
export const CHAIN_CERTIFICATES_MAX = 8;
/** As kernel/abi.h RIPRAP_CHAIN_MAX. */
export const CHAIN_BYTES_MAX = 16384;
/** Leaf, node intermediate, and one issuing node between it and the root (DESIGN section 3). */
export const PATH_CERTIFICATES_MAX = 3;
/** How far a peer's clock may run ahead of ours: notBefore may lie this far in our future. notAfter gets no grace. */
export const CLOCK_SKEW_MAX_MS = 60_000;

/** Every refusal and its alert (RFC 8446 section 6.2). */
export const REFUSAL_ALERT = {
  chain_empty: 116, // certificate_required
  chain_too_long: 42, // bad_certificate
  chain_too_deep: 42,
  certificate_malformed: 42,
  certificate_ambiguous: 42,
  algorithm_weak: 42,
  signature_wrong: 42,
  issuer_mismatch: 42,
  leaf_is_ca: 42,
  leaf_key_usage: 42,
  extended_key_usage: 42,
  leaf_names: 42,
  leaf_spiffe_id: 42,
  issuer_not_ca: 42,
  issuer_key_usage: 42,
  issuer_names: 42,
  path_length: 42,
  name_constraint: 42,
  key_type: 43, // unsupported_certificate
  critical_extension: 43,
  revoked: 44, // certificate_revoked
  expired: 45, // certificate_expired: also the alert of a certificate that is not valid yet
  not_yet_valid: 45,
  foreign_trust_domain: 48, // unknown_ca
  unknown_root: 48,
  internal: 80, // internal_error
} as const;

export type RefusalCode = keyof typeof REFUSAL_ALERT;

export interface PeerAccepted {
  readonly ok: true;
  readonly spiffeId: SpiffeId;
  /** Uncompressed P-256 point, 65 bytes. */
  readonly publicKey: Uint8Array;
  /** The earliest end in the path, the root's included. */
  readonly notAfter: Date;
  /** Serial numbers of the path from the leaf up, without the root's: revoking one of them ends this answer. */
  readonly serials: readonly string[];
  /** Key identifiers (40 hexadecimal digits) of who signed each of them: a serial number is one of its signer's. */
  readonly signers: readonly string[];
  /** DER of the root that the path ends in: where it is trusted no longer, this answer ends. */
  readonly root: Uint8Array;
}

export interface PeerRefused {
  readonly ok: false;
  /** TLS alert number for the peer. */
  readonly alert: number;
  readonly code: RefusalCode;
  readonly message: string;
}

export type PeerAnswer = PeerAccepted | PeerRefused;

export interface ChainContext {
  readonly trustDomain: TrustDomain;
  /** Roots of the trust domain, already read. */
  readonly anchors: readonly Certificate[];
  /** Milliseconds since the epoch. */
  readonly now: number;
  isRevoked(serial: string): boolean;
  /** Roots of another trust domain, by which its leaves alone are judged; undefined or none: it is not trusted. */
  foreignAnchors?(trustDomain: TrustDomain): readonly Certificate[] | undefined;
}

type Fault = readonly [code: RefusalCode, fact: string];
type Path = readonly [first: Certificate, ...issuers: Certificate[]];

/** X509-SVID section 5 over RFC 5280 section 6: `chain` is DER, leaf first, each issued by the next, the root optional at the end. */
export function verifyChain(chain: readonly Uint8Array[], context: ChainContext): PeerAnswer {
  try {
    const fault = boundFault(chain);
    if (fault !== undefined) return refuse(fault);
    const scope = scopeOf(chain[0] as Uint8Array, context);
    const path = readPath(chain, scope.anchors);
    return "fault" in path ? refuse(path.fault) : judgePath(path.path, scope);
  } catch (thrown) {
    // Ours to mend: no chain should get here. The peer is refused all the same.
    return refuse(["internal", describeError(thrown)]);
  }
}

/**
 * Why a node's own CA certificates (its intermediate first) do not lead to a root of the trust domain, or undefined when they do.
 * Time is left out: a node whose intermediate has ended still starts, to say so.
 */
export function issuersFault(
  issuers: Path,
  context: Pick<ChainContext, "trustDomain" | "anchors">,
): string | undefined {
  const fault =
    first(issuers, formFault) ??
    first(issuers, (issuer) => issuerFault(issuer, context.trustDomain)) ??
    linkFault(issuers);
  if (fault !== undefined) return fault[1];
  const anchor = findAnchor(issuers, context.anchors);
  if ("fault" in anchor) return anchor.fault[1];
  const whole = [...issuers, anchor.root];
  return first(issuers, (certificate, i) => signatureFault(certificate, whole[i + 1] as Certificate, i))?.[1];
}

/** Why a certificate cannot be a root of the trust domain, or undefined when it can: a self-signed CA of the SPIFFE profile. */
export function rootFault(root: Certificate, trustDomain: TrustDomain): string | undefined {
  const fault =
    formFault(root, 0) ??
    issuerFault(root, trustDomain) ??
    (isIssuedBy(root, root) ? undefined : (["issuer_mismatch", "a root names another issuer"] as const));
  return (fault ?? signatureFault(root, root, 0))?.[1];
}

function boundFault(chain: readonly Uint8Array[]): Fault | undefined {
  if (chain.length === 0) return ["chain_empty", "it holds no certificate"];
  if (chain.length > CHAIN_CERTIFICATES_MAX)
    return ["chain_too_long", `it holds more than ${CHAIN_CERTIFICATES_MAX} certificates`];
  const bytes = chain.reduce((sum, certificate) => sum + certificate.length, 0);
  return bytes > CHAIN_BYTES_MAX ? ["chain_too_long", `it is longer than ${CHAIN_BYTES_MAX} bytes`] : undefined;
}

/** Trust domains are never mixed: a leaf is judged by the roots of its own trust domain, and by no other's. */
function scopeOf(leaf: Uint8Array, context: ChainContext): ChainContext {
  if (context.foreignAnchors === undefined) return context;
  const trustDomain = foreignDomainOf(leaf, context.trustDomain);
  const anchors = trustDomain === undefined ? [] : (context.foreignAnchors(trustDomain) ?? []);
  // Without roots it is held against our own domain, and refused as a stranger to it.
  return trustDomain === undefined || anchors.length === 0 ? context : { ...context, trustDomain, anchors };
}

function foreignDomainOf(leaf: Uint8Array, own: TrustDomain): TrustDomain | undefined {
  try {
    const id = SpiffeId.tryParse(parseCertificate(leaf).uris[0] ?? "");
    return id === undefined || id.isMemberOf(own) ? undefined : id.trustDomain;
  } catch {
    // What is wrong with it is said where the whole path is read.
    return undefined;
  }
}

/** The path without the root, should the peer have sent that too. */
function readPath(chain: readonly Uint8Array[], anchors: readonly Certificate[]): { path: Path } | { fault: Fault } {
  const path: Certificate[] = [];
  for (const bytes of chain) {
    const last = path.length > 0 && path.length === chain.length - 1;
    if (last && anchors.some((anchor) => sameBytes(anchor.bytes, bytes))) break;
    if (path.length >= PATH_CERTIFICATES_MAX) {
      return {
        fault: ["chain_too_deep", `more than ${PATH_CERTIFICATES_MAX - 1} certificates lie between it and the root`],
      };
    }
    try {
      path.push(parseCertificate(bytes));
    } catch (thrown) {
      return { fault: ["certificate_malformed", `certificate ${path.length}: ${describeError(thrown)}`] };
    }
  }
  return { path: path as unknown as Path };
}

function judgePath(path: Path, context: ChainContext): PeerAnswer {
  const [leaf, ...issuers] = path;
  const spiffeId = SpiffeId.tryParse(leaf.uris[0] ?? "");
  // Cheap checks first: a stranger's chain costs no signature before its shape is right.
  const fault =
    first(path, formFault) ??
    leafFault(leaf) ??
    idFault(leaf, spiffeId, context.trustDomain) ??
    first(issuers, (issuer) => issuerFault(issuer, context.trustDomain)) ??
    first(path, (certificate, i) => validityFault(certificate, `certificate ${i}`, context.now)) ??
    linkFault(path);
  if (fault !== undefined || spiffeId === undefined)
    return refuse(fault ?? ["leaf_spiffe_id", "it holds no SPIFFE ID"]);

  const anchor = findAnchor(path, context.anchors);
  if ("fault" in anchor) return refuse(anchor.fault);
  const whole = [...path, anchor.root];
  const lastFault =
    validityFault(anchor.root, "its root", context.now) ??
    first(path, (certificate, i) => signatureFault(certificate, whole[i + 1] as Certificate, i)) ??
    first(path, (certificate, i) => revocationFault(certificate, i, context)) ??
    first(path, ambiguityFault);
  if (lastFault !== undefined) return refuse(lastFault);
  return {
    ok: true,
    spiffeId,
    publicKey: Uint8Array.from(leaf.publicKey as Uint8Array),
    notAfter: new Date(Math.min(...whole.map((certificate) => certificate.notAfter))),
    serials: path.map((certificate) => certificate.serial),
    signers: whole.slice(1).map(({ keyBits }) => Buffer.from(keyIdentifier(keyBits)).toString("hex")),
    root: anchor.root.bytes,
  };
}

/** Algorithms and extensions: the same for every certificate of a path. */
function formFault(certificate: Certificate, i: number): Fault | undefined {
  if (!isSignatureTaken(certificate.signatureAlgorithm)) {
    const fact = `certificate ${i} is signed with ${certificate.signatureAlgorithm}`;
    return ["algorithm_weak", `${fact}; only ECDSA and RSA (PKCS#1 v1.5) with SHA-256 and longer are accepted`];
  }
  const keyFault = certificate.ca ? issuerKeyFault(certificate) : leafKeyFault(certificate);
  if (keyFault !== undefined) return ["key_type", `certificate ${i} holds ${keyFault}`];
  if (certificate.unknownCritical.length > 0) {
    return [
      "critical_extension",
      `certificate ${i} has the critical extension ${certificate.unknownCritical[0]}, which riprap does not know`,
    ];
  }
  const uses = certificate.extendedKeyUsage;
  if (uses !== undefined && !(uses.includes(OID.serverAuth) && uses.includes(OID.clientAuth))) {
    return [
      "extended_key_usage",
      `certificate ${i} limits its extended key usage and does not name both serverAuth and clientAuth`,
    ];
  }
  return undefined;
}

/** The kernel's handshake knows no other key. */
function leafKeyFault({ publicKey }: Certificate): string | undefined {
  const isPoint = publicKey !== undefined && keyOfPoint(publicKey) !== undefined;
  return isPoint ? undefined : "a key that is not an uncompressed P-256 point";
}

/** X509-SVID sections 2, 4 and 5.2. */
function leafFault(leaf: Certificate): Fault | undefined {
  if (leaf.ca) return ["leaf_is_ca", "its first certificate is a CA's, and a CA may not speak for a workload"];
  const { keyUsage } = leaf;
  if (keyUsage === undefined || !leaf.critical.has(OID.keyUsage))
    return ["leaf_key_usage", "its key usage is absent or not critical"];
  if (keyUsage.has(KEY_USAGE.keyCertSign) || keyUsage.has(KEY_USAGE.cRLSign)) {
    return ["leaf_key_usage", "its key usage allows signing certificates or CRLs"];
  }
  if (!keyUsage.has(KEY_USAGE.digitalSignature)) return ["leaf_key_usage", "its key usage lacks digitalSignature"];
  if (leaf.nameConstraints !== undefined)
    return ["name_constraint", "its first certificate carries name constraints and is no CA"];
  if (leaf.uris.length !== 1)
    return ["leaf_names", `it has ${leaf.uris.length} URI names, and an X509-SVID has exactly one`];
  const unnamed = leaf.subject.length === 2;
  return unnamed && !leaf.critical.has(OID.subjectAltName)
    ? ["leaf_names", "its subject is empty and its alternative name is not critical"]
    : undefined;
}

function idFault(leaf: Certificate, id: SpiffeId | undefined, trustDomain: TrustDomain): Fault | undefined {
  if (id === undefined)
    return ["leaf_spiffe_id", `its URI name ${JSON.stringify(leaf.uris[0]?.slice(0, 80))} is no SPIFFE ID`];
  if (!id.isMemberOf(trustDomain)) {
    const fact = `${id} is not of the trust domain ${trustDomain}, and no bundle of ${id.trustDomain} is held`;
    return ["foreign_trust_domain", fact];
  }
  return id.path === "" ? ["leaf_spiffe_id", `${id} is the trust domain's own ID, which only its CAs have`] : undefined;
}

/** X509-SVID sections 3.2, 4.1 and 4.3; RFC 5280 section 4.2.1.9. */
function issuerFault(issuer: Certificate, trustDomain: TrustDomain): Fault | undefined {
  if (!issuer.ca || !issuer.critical.has(OID.basicConstraints))
    return ["issuer_not_ca", "a certificate above the first is not a CA's"];
  const { keyUsage } = issuer;
  if (keyUsage === undefined || !issuer.critical.has(OID.keyUsage) || !keyUsage.has(KEY_USAGE.keyCertSign)) {
    return ["issuer_key_usage", "a CA above it may not sign certificates by its key usage"];
  }
  if (issuer.uris.length > 1) return ["issuer_names", "a CA above it has more than one URI name"];
  const [uri] = issuer.uris;
  return uri !== undefined && uri !== trustDomain.id.toString()
    ? [
        "issuer_names",
        `a CA above it has the URI name ${JSON.stringify(uri.slice(0, 80))}, which is not the ID of ${trustDomain}`,
      ]
    : undefined;
}

function validityFault(certificate: Certificate, which: string, now: number): Fault | undefined {
  const span = `valid from ${iso(certificate.notBefore)} to ${iso(certificate.notAfter)}, and it is ${iso(now)}`;
  if (now < certificate.notBefore - CLOCK_SKEW_MAX_MS)
    return ["not_yet_valid", `${which} is not valid yet: ${span}; check both clocks`];
  return now > certificate.notAfter ? ["expired", `${which} has expired: ${span}`] : undefined;
}

/** Names, path lengths and name constraints inside the path; the root's come with findAnchor. */
function linkFault(path: Path): Fault | undefined {
  for (let i = 1; i < path.length; i += 1) {
    const issuer = path[i] as Certificate;
    if (!isIssuedBy(path[i - 1] as Certificate, issuer)) {
      return ["issuer_mismatch", `certificate ${i - 1} names another issuer than certificate ${i}`];
    }
    const fault = boundsFault(path.slice(0, i), issuer);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function isIssuedBy(certificate: Certificate, issuer: Certificate): boolean {
  const { authorityKeyId } = certificate;
  const { subjectKeyId } = issuer;
  const sameKey = authorityKeyId === undefined || subjectKeyId === undefined || sameBytes(authorityKeyId, subjectKeyId);
  return sameBytes(certificate.issuer, issuer.subject) && sameKey;
}

/** What an issuer's path length and name constraints say about all that lies below it. */
function boundsFault(below: readonly Certificate[], issuer: Certificate): Fault | undefined {
  // A self-issued certificate counts here although RFC 5280 section 6.1.4 (l) lets it pass: no node of ours makes one.
  const intermediates = below.filter((certificate) => certificate.ca).length;
  if (issuer.pathLength !== undefined && intermediates > issuer.pathLength) {
    return [
      "path_length",
      `a CA above it allows ${issuer.pathLength} further CAs below itself, and there are ${intermediates}`,
    ];
  }
  const constraints = issuer.nameConstraints;
  return constraints === undefined
    ? undefined
    : first(below, (certificate, i) => {
        const fact = nameConstraintFault(constraints, certificate);
        return fact === undefined ? undefined : ["name_constraint", `certificate ${i}: ${fact}`];
      });
}

function findAnchor(path: Path, anchors: readonly Certificate[]): { root: Certificate } | { fault: Fault } {
  const top = path.at(-1) as Certificate;
  const named = anchors.filter((anchor) => isIssuedBy(top, anchor));
  if (named.length === 0) return { fault: ["unknown_root", "no root of the trust domain issued its last certificate"] };
  const root = named.find((anchor) => isSignedBy(top, anchor));
  if (root === undefined)
    return { fault: ["signature_wrong", "its last certificate is not signed by the root that it names"] };
  const fault = boundsFault(path, root);
  return fault === undefined ? { root } : { fault };
}

function signatureFault(certificate: Certificate, issuer: Certificate, i: number): Fault | undefined {
  return isSignedBy(certificate, issuer)
    ? undefined
    : ["signature_wrong", `certificate ${i} is not signed by the key of its issuer`];
}

function revocationFault(certificate: Certificate, i: number, context: ChainContext): Fault | undefined {
  return context.isRevoked(certificate.serial)
    ? ["revoked", `certificate ${i} with serial number ${certificate.serial} is revoked`]
    : undefined;
}

function ambiguityFault(certificate: Certificate, i: number): Fault | undefined {
  return readsTheSame(certificate)
    ? undefined
    : ["certificate_ambiguous", `two parsers read certificate ${i} differently`];
}

function first<T>(items: readonly T[], fault: (item: T, i: number) => Fault | undefined): Fault | undefined {
  for (const [i, item] of items.entries()) {
    const found = fault(item, i);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** A refusal for a reason that no chain shows. */
export function refusePeer(code: RefusalCode, fact: string): PeerRefused {
  return refuse([code, fact]);
}

function refuse([code, fact]: Fault): PeerRefused {
  return {
    ok: false,
    alert: REFUSAL_ALERT[code],
    code,
    message: `Cannot accept the peer's certificate chain: ${fact}`,
  };
}

function iso(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
