// A CA outside of riprap above this trust domain: what it must have signed before this node takes it, each refusal with its sentence. Pure.

import { RiprapError } from "../error.ts";
import type { TrustDomain } from "../spiffe_id.ts";
import { type Certificate, KEY_USAGE, OID, parseCertificate, sameBytes } from "./certificate.ts";
import { CLOCK_SKEW_MAX_MS, issuersFault, PATH_CERTIFICATES_MAX, rootFault } from "./chain.ts";
import { nameConstraintFault } from "./name_constraint.ts";

/** Room for a chain in PEM with the comments that openssl writes around each certificate. */
export const UPSTREAM_BYTES_MAX = 128 * 1024;
const CERTIFICATES_MAX = 8;
const BLOCK = /-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----/g;

export interface UpstreamContext {
  readonly trustDomain: TrustDomain;
  /** Of the key that the request was for. */
  readonly publicKey: Uint8Array;
  readonly now: number;
  /** Roots in the bundle: one of them may be left out of the file. */
  readonly roots: readonly Certificate[];
}

export interface UpstreamChain {
  /** `issuing` signs the intermediates of nodes; `intermediate` is this node's own. */
  readonly role: "issuing" | "intermediate";
  /** This node's certificate first, without the root. */
  readonly chain: readonly [Certificate, ...Certificate[]];
  readonly root: Certificate;
}

/**
 * Reads what the upstream CA answered: our certificate, those above it, the root last. Throws RiprapError `upstream_malformed`, `upstream_wrong_key`,
 * `upstream_not_ca`, `upstream_foreign_domain`, `upstream_name_constraint`, `upstream_path_length`, `upstream_expired`, `upstream_not_yet_valid`,
 * `upstream_chain_invalid`.
 */
export function parseUpstreamChain(text: string, context: UpstreamContext): UpstreamChain {
  const { chain, root } = splitRoot(readPem(text), context.roots);
  const [own] = chain;
  if (own.publicKey === undefined || !sameBytes(own.publicKey, context.publicKey)) {
    const remedy =
      "give the certificate for the latest `riprap authority csr`, this node's first and its CA's after it";
    throw refused("upstream_wrong_key", `its first certificate is not for the key of this node's request; ${remedy}`);
  }
  requireCa(own);
  requireName(own, context.trustDomain);
  requireConstraint(own, context.trustDomain);
  for (const certificate of [...chain, root]) requireCurrent(certificate, context.now);
  const role = roleOf(own, chain.length);
  requireChain({ role, chain, root }, context.trustDomain);
  return { role, chain, root };
}

function readPem(text: string): Certificate[] {
  if (text.length > UPSTREAM_BYTES_MAX)
    throw refused("upstream_malformed", `it is longer than ${UPSTREAM_BYTES_MAX} bytes`);
  if (text.includes("PRIVATE KEY"))
    throw refused("upstream_malformed", "it holds a private key, which must stay where it was made");
  const blocks = [...text.matchAll(BLOCK)].map(([, body]) =>
    Buffer.from((body as string).replaceAll(/\s/g, ""), "base64"),
  );
  if (blocks.length === 0 || blocks.length > CERTIFICATES_MAX)
    throw refused(
      "upstream_malformed",
      `it holds ${blocks.length} certificates in PEM, and 1 to ${CERTIFICATES_MAX} are wanted`,
    );
  return blocks.map((bytes, i) => {
    try {
      return parseCertificate(Uint8Array.from(bytes));
    } catch (cause) {
      throw refused("upstream_malformed", `certificate ${i} cannot be read: ${(cause as Error).message}`, cause);
    }
  });
}

function splitRoot(
  certificates: readonly Certificate[],
  roots: readonly Certificate[],
): { chain: readonly [Certificate, ...Certificate[]]; root: Certificate } {
  const last = certificates.at(-1) as Certificate;
  const isRoot = certificates.length > 1 && sameBytes(last.issuer, last.subject);
  const chain = (isRoot ? certificates.slice(0, -1) : certificates) as unknown as readonly [
    Certificate,
    ...Certificate[],
  ];
  const top = chain.at(-1) as Certificate;
  const root = isRoot ? last : roots.find(({ subject }) => sameBytes(subject, top.issuer));
  if (root !== undefined) return { chain, root };
  throw refused(
    "upstream_chain_invalid",
    "its last certificate is no root; put the upstream CA's own certificate at the end",
  );
}

function requireCa(own: Certificate): void {
  if (!own.ca || !own.critical.has(OID.basicConstraints))
    throw refused("upstream_not_ca", "it is no CA's; have it signed with critical basicConstraints CA:TRUE");
  const { keyUsage } = own;
  const isSigner = keyUsage?.has(KEY_USAGE.keyCertSign) === true && keyUsage.has(KEY_USAGE.cRLSign);
  if (!isSigner || !own.critical.has(OID.keyUsage))
    throw refused(
      "upstream_not_ca",
      "it may not sign certificates and CRLs; have it signed with critical keyUsage keyCertSign, cRLSign",
    );
}

function requireName(own: Certificate, trustDomain: TrustDomain): void {
  const wanted = trustDomain.id.toString();
  if (own.uris.length === 1 && own.uris[0] === wanted) return;
  const fact =
    own.uris.length === 0
      ? `it has no URI name, and ${wanted} is wanted`
      : `it has the URI name ${JSON.stringify(own.uris.join(", ").slice(0, 120))}, and ${wanted} alone is wanted`;
  throw refused("upstream_foreign_domain", `${fact}; have its CA copy the name from the request`);
}

/** RFC 5280 section 4.2.1.10: whoever takes the node takes no other trust domain. */
function requireConstraint(own: Certificate, trustDomain: TrustDomain): void {
  const constraints = own.nameConstraints;
  const remedy = `have it signed with critical nameConstraints permitted;URI:${trustDomain.name}`;
  const fault = (fact: string) => refused("upstream_name_constraint", `${fact}; ${remedy}`);
  if (constraints === undefined || !own.critical.has(OID.nameConstraints))
    throw fault("it has no critical name constraints, and could sign for every trust domain");
  const fact = nameConstraintFault(constraints, { ...own, dnsNames: [] });
  if (fact !== undefined) throw fault(`its name constraints do not let it sign for ${trustDomain}: ${fact}`);
  const others = constraints.permittedUris.filter((host) => host.toLowerCase() !== trustDomain.name);
  if (constraints.permittedUris.length === 0) throw fault("its name constraints permit every URI");
  if (others.length > 0) throw fault(`its name constraints permit ${others.join(", ").slice(0, 120)} too`);
}

function requireCurrent({ notBefore, notAfter, commonName }: Certificate, now: number): void {
  const which = `the certificate of ${JSON.stringify((commonName ?? "").slice(0, 80))}`;
  if (now > notAfter) throw refused("upstream_expired", `${which} ended at ${new Date(notAfter).toISOString()}`);
  if (now < notBefore - CLOCK_SKEW_MAX_MS)
    throw refused(
      "upstream_not_yet_valid",
      `${which} begins at ${new Date(notBefore).toISOString()}; check both clocks`,
    );
}

function roleOf({ pathLength }: Certificate, length: number): UpstreamChain["role"] {
  if (pathLength === undefined) {
    const remedy = "have it signed with pathlen:0 for this node alone, or pathlen:1 to sign for nodes";
    throw refused("upstream_path_length", `it has no path length; ${remedy}`);
  }
  const role = pathLength === 0 ? "intermediate" : "issuing";
  // Below an issuing CA come a node's intermediate and the SVID; below an intermediate the SVID.
  const most = PATH_CERTIFICATES_MAX - (role === "issuing" ? 2 : 1);
  if (length <= most) return role;
  const fact = `${length - 1} CAs lie between it and the root, and riprap takes ${most - 1} there`;
  throw refused("upstream_path_length", fact);
}

function requireChain({ role, chain, root }: UpstreamChain, trustDomain: TrustDomain): void {
  const below = chain.length + (role === "issuing" ? 1 : 0);
  if (root.pathLength !== undefined && below > root.pathLength) {
    const fact = `its root allows ${root.pathLength} CAs below itself, and there would be ${below}`;
    throw refused("upstream_path_length", fact);
  }
  const fact = rootFault(root, trustDomain);
  if (fact !== undefined) throw refused("upstream_chain_invalid", `its root cannot be one of ${trustDomain}: ${fact}`);
  const fault = issuersFault(chain, { trustDomain, anchors: [root] });
  if (fault !== undefined) throw refused("upstream_chain_invalid", `its certificates do not hold: ${fault}`);
}

function refused(code: string, fact: string, cause?: unknown): RiprapError {
  return new RiprapError(code, `Cannot install the upstream CA's certificate: ${fact}`, { cause });
}
