// The two values that enrolment by file carries between nodes, and the exact octets that their signatures cover. Signs and stores nothing.
import { hash } from "node:crypto";
import { RiprapError } from "./error.ts";
import { SpiffeId, type TrustDomain } from "./spiffe_id.ts";

/** What a node that wants to join asks of the one that holds the root. */
export interface EnrolmentRequest {
  readonly trustDomain: string;
  readonly nodeName: string;
  /** Milliseconds since the epoch, whole seconds. */
  readonly createdAt: number;
  readonly expiresAt: number;
  /** PKCS#10, DER. */
  readonly csr: Uint8Array;
  /** By the key of the PKCS#10 request, over enrolmentRequestBytes: nobody else can date or rename it. */
  readonly signature: Uint8Array;
}

/** What the root-holding node answers. */
export interface EnrolmentGrant {
  readonly trustDomain: string;
  readonly nodeName: string;
  /** The IDs that this node may issue: a SPIFFE ID, or a prefix that ends in '/'. */
  readonly idPrefixes: readonly string[];
  readonly issuedAt: number;
  /** When its intermediate ends. */
  readonly expiresAt: number;
  /** DER, the node's intermediate first, without the root. */
  readonly chain: readonly Uint8Array[];
  /** DER, every root of the trust domain. */
  readonly roots: readonly Uint8Array[];
  /** By the CA that signed the chain's first certificate, over enrolmentGrantBytes. */
  readonly signature: Uint8Array;
}

/** Length of an X.520 common name is at most 64; node names are DNS labels of at most 63. */
const NODE_NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
export const ID_PREFIXES_MAX = 64;

/** Throws RiprapError `node_name_invalid`. */
export function parseNodeName(text: string): string {
  if (NODE_NAME.test(text)) return text;
  const fact = "a node name is 1 to 63 characters of a-z, 0-9 and '-', and begins and ends with a letter or digit";
  throw new RiprapError("node_name_invalid", `Cannot use the node name ${JSON.stringify(text.slice(0, 80))}: ${fact}`);
}

/** Throws RiprapError `id_prefix_invalid`: each is a SPIFFE ID of the trust domain with a path, or such an ID (or the domain) followed by '/'. */
export function parseIdPrefixes(prefixes: readonly string[], trustDomain: TrustDomain): readonly string[] {
  if (prefixes.length === 0 || prefixes.length > ID_PREFIXES_MAX) {
    throw new RiprapError(
      "id_prefix_invalid",
      `Cannot use the ID prefixes: a node has 1 to ${ID_PREFIXES_MAX} of them, and these are ${prefixes.length}`,
    );
  }
  for (const prefix of prefixes) {
    const id = SpiffeId.tryParse(prefix.replace(/\/$/, ""));
    if (id === undefined || !id.isMemberOf(trustDomain) || (id.path === "" && !prefix.endsWith("/"))) {
      const remedy = `give an ID of ${trustDomain} such as ${trustDomain.id}/group/, with the '/' for all that lies below it`;
      throw new RiprapError(
        "id_prefix_invalid",
        `Cannot use the ID prefix ${JSON.stringify(prefix.slice(0, 120))}: ${remedy}`,
      );
    }
  }
  return [...prefixes];
}

/** Whether an ID is one of those that the prefixes allow: exactly, or below a prefix that ends in '/'. */
export function isWithinPrefixes(id: string, prefixes: readonly string[]): boolean {
  return prefixes.some((prefix) =>
    prefix.endsWith("/") ? id.length > prefix.length && id.startsWith(prefix) : id === prefix,
  );
}

/** What the requester signs. Every field has its length before it, so that no two requests give the same octets. */
export function enrolmentRequestBytes(request: Omit<EnrolmentRequest, "signature">): Uint8Array {
  const { trustDomain, nodeName, createdAt, expiresAt, csr } = request;
  return joined(["riprap enrolment request 1", trustDomain, nodeName, String(createdAt), String(expiresAt), csr]);
}

/** What the root signs. */
export function enrolmentGrantBytes(grant: Omit<EnrolmentGrant, "signature">): Uint8Array {
  const { trustDomain, nodeName, idPrefixes, issuedAt, expiresAt, chain, roots } = grant;
  const counts = `${idPrefixes.length} ${chain.length} ${roots.length}`;
  const head = ["riprap enrolment grant 1", trustDomain, nodeName, String(issuedAt), String(expiresAt), counts];
  return joined([...head, ...idPrefixes, ...chain, ...roots]);
}

/** SHA-256 of a root certificate in lower-case hexadecimal: what two people compare over the telephone. */
export function rootFingerprint(root: Uint8Array): string {
  return hash("sha256", root, "hex");
}

function joined(fields: readonly (string | Uint8Array)[]): Uint8Array {
  const parts = fields.flatMap((field) => {
    const bytes = Buffer.from(field as string);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return [length, bytes];
  });
  return Buffer.concat(parts);
}

/** Takes what openssl and people write: colons, spaces and upper case. Throws RiprapError `fingerprint_invalid`. */
export function parseFingerprint(text: string): string {
  const digits = text.replace(/[\s:]/g, "").toLowerCase();
  if (/^[0-9a-f]{64}$/.test(digits)) return digits;
  throw new RiprapError(
    "fingerprint_invalid",
    "Cannot use the root fingerprint: it is not a SHA-256 in hexadecimal (64 digits)",
  );
}
