// Reads what a Workload API sends of X509-SVIDs into certificates and PEM. Trusts no field: a server that sends nonsense is refused.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { pemOfCertificates, pemOfKey } from "../daemon/workload_api/pem.ts";
import { lastOf, readFields, textsOf } from "../daemon/workload_api/protobuf.ts";
import { RiprapError } from "../error.ts";
import { SpiffeId, TrustDomain } from "../spiffe_id.ts";

const CERTIFICATES_MAX = 1024;

export interface ReceivedSvid {
  readonly spiffeId: string;
  readonly serial: string;
  readonly notAfter: Date;
  /** PEM by file name: `svid.pem` (the chain), `key.pem`, `bundle.pem`, and `bundle.DOMAIN.pem` for each other trust domain. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** The default SVID of an X509SVIDResponse. RiprapError `message_invalid` or `spiffe_id_invalid`. */
export function readX509Svid(message: Uint8Array): ReceivedSvid {
  const fields = readFields(message);
  const first = fields.find(({ number, bytes }) => number === 1 && bytes !== undefined)?.bytes;
  if (first === undefined) throw invalid("it holds no SVID");
  const svid = readFields(first);
  const spiffeId = SpiffeId.parse(textsOf(svid, 1).at(-1) ?? "").toString();
  const chain = certificatesOf(lastOf(svid, 2));
  const key = lastOf(svid, 3) ?? new Uint8Array();
  const [leaf] = chain as [X509Certificate, ...X509Certificate[]];
  if (!isKeyOf(leaf, key)) throw invalid("its key is not that of its certificate");
  if (!leaf.subjectAltName?.split(", ").includes(`URI:${spiffeId}`)) throw invalid("its certificate is for another ID");
  const federated = fields.filter(({ number, bytes }) => number === 3 && bytes !== undefined);
  return {
    spiffeId,
    serial: leaf.serialNumber.toLowerCase(),
    notAfter: leaf.validToDate,
    files: new Map([
      ["svid.pem", pemOf(chain)],
      ["key.pem", pemOfKey(key)],
      ["bundle.pem", pemOf(certificatesOf(lastOf(svid, 4)))],
      ...federated.map(({ bytes }) => foreignBundle(bytes as Uint8Array)),
    ]),
  };
}

/** The name of the file cannot leave the folder: a trust domain's name has no slash. */
function foreignBundle(entry: Uint8Array): [string, Uint8Array] {
  const fields = readFields(entry);
  const id = textsOf(fields, 1).at(-1) ?? "";
  const { name } = TrustDomain.parse(id.replace(/^spiffe:\/\//, ""));
  return [`bundle.${name}.pem`, pemOf(certificatesOf(lastOf(fields, 2)))];
}

function pemOf(certificates: readonly X509Certificate[]): Uint8Array {
  return pemOfCertificates(certificates.map(({ raw }) => raw));
}

/** DER certificates that follow one another, one at least. */
function certificatesOf(bytes: Uint8Array | undefined): readonly X509Certificate[] {
  const certificates: X509Certificate[] = [];
  for (let rest = bytes ?? new Uint8Array(); rest.length > 0; ) {
    const certificate = rest.subarray(0, lengthOf(rest));
    if (certificates.length === CERTIFICATES_MAX) throw invalid("it has too many certificates");
    certificates.push(parseCertificate(certificate));
    rest = rest.subarray(certificate.length);
  }
  if (certificates.length === 0) throw invalid("certificates are missing");
  return certificates;
}

/** Of a DER sequence, its head included. */
function lengthOf(bytes: Uint8Array): number {
  const [tag, first = 0] = bytes;
  if (tag !== 0x30) throw invalid("there is no certificate where one should begin");
  if (first < 0x80) return 2 + first;
  const octets = first & 0x7f;
  if (octets === 0 || octets > 3 || bytes.length < 2 + octets) throw invalid("a certificate has no length");
  let length = 0;
  for (const octet of bytes.subarray(2, 2 + octets)) length = length * 256 + octet;
  return 2 + octets + length;
}

function parseCertificate(bytes: Uint8Array): X509Certificate {
  try {
    const certificate = new X509Certificate(bytes);
    if (certificate.raw.equals(bytes)) return certificate;
  } catch {
    // Said below: what cannot be read is no certificate.
  }
  throw invalid("a certificate cannot be read");
}

function isKeyOf(leaf: X509Certificate, pkcs8: Uint8Array): boolean {
  try {
    return leaf.checkPrivateKey(createPrivateKey({ key: Buffer.from(pkcs8), format: "der", type: "pkcs8" }));
  } catch {
    return false;
  }
}

function invalid(fact: string): RiprapError {
  return new RiprapError("message_invalid", `Cannot use the answer of the Workload API: ${fact}`);
}
