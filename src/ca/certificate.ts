// Reads one certificate (RFC 5280 section 4) into plain fields. Decides nothing: what the fields allow is the chain's affair.
import { RiprapError } from "../error.ts";
import {
  type DerElement,
  DerReader,
  readAscii,
  readBitString,
  readBoolean,
  readDer,
  readNamedBits,
  readOid,
  readSmallInteger,
  readTime,
  TAG,
} from "./der.ts";

export const OID = {
  ecPublicKey: "1.2.840.10045.2.1",
  p256: "1.2.840.10045.3.1.7",
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  commonName: "2.5.4.3",
  organization: "2.5.4.10",
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
} as const;

/** RFC 5280 section 4.2.1.3. */
export const KEY_USAGE = { digitalSignature: 0, keyCertSign: 5, cRLSign: 6 } as const;

/** Extensions that path validation here understands; any other critical one is refused. */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  OID.keyUsage,
  OID.subjectAltName,
  OID.basicConstraints,
  OID.nameConstraints,
  OID.extendedKeyUsage,
]);
/** OIDs of RSA's algorithms. */
const PKCS1 = "1.2.840.113549.1.1.";
/** No certificate of ours has more than 8; a bound keeps the duplicate check small. */
const EXTENSIONS_MAX = 32;
const NAMES_MAX = 64;
/** GeneralName tags (RFC 5280 section 4.2.1.6). */
const DNS_NAME = 0x82;
const URI_NAME = 0x86;

export interface NameConstraints {
  readonly permittedUris: readonly string[];
  readonly excludedUris: readonly string[];
  readonly permittedDns: readonly string[];
  readonly excludedDns: readonly string[];
  /** A name form, minimum or maximum that we do not process: the certificate cannot be relied on. */
  readonly unsupported: boolean;
}

export interface Certificate {
  readonly bytes: Uint8Array;
  /** What was signed. */
  readonly tbs: Uint8Array;
  readonly signature: Uint8Array;
  readonly signatureAlgorithm: string;
  /** Lower-case hexadecimal, without a leading zero octet. */
  readonly serial: string;
  /** DER of the names: compared octet by octet. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly commonName: string | undefined;
  readonly notBefore: number;
  readonly notAfter: number;
  /** DER of SubjectPublicKeyInfo. */
  readonly spki: Uint8Array;
  /** What key identifiers are made of: the octets of the key's bit string. */
  readonly keyBits: Uint8Array;
  /** Uncompressed P-256 point (65 octets, not yet checked to be on the curve), or undefined for any other key. */
  readonly publicKey: Uint8Array | undefined;
  readonly ca: boolean;
  readonly pathLength: number | undefined;
  readonly keyUsage: ReadonlySet<number> | undefined;
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly subjectKeyId: Uint8Array | undefined;
  readonly authorityKeyId: Uint8Array | undefined;
  readonly nameConstraints: NameConstraints | undefined;
  readonly extensions: ReadonlySet<string>;
  readonly critical: ReadonlySet<string>;
  readonly unknownCritical: readonly string[];
}

/** Throws RiprapError `der_malformed` or `certificate_malformed` on anything that is not exactly one DER certificate of version 3. */
export function parseCertificate(bytes: Uint8Array): Certificate {
  const outer = readDer(bytes, TAG.sequence);
  const tbs = outer.next(TAG.sequence);
  const signatureAlgorithm = outer.next(TAG.sequence);
  const signature = readBitString(outer.next(TAG.bitString));
  outer.end();

  const fields = new DerReader(tbs.content);
  if (fields.peek() !== 0xa0) throw malformed("it is not of version 3");
  const version = fields.enter(0xa0);
  if (readSmallInteger(version.next(TAG.integer)) !== 2) throw malformed("it is not of version 3");
  version.end();
  const serial = readSerial(fields.next(TAG.integer));
  if (!sameBytes(fields.next(TAG.sequence).bytes, signatureAlgorithm.bytes))
    throw malformed("it names two signature algorithms");
  const issuer = fields.next(TAG.sequence);
  const validity = fields.enter(TAG.sequence);
  const notBefore = readTime(validity.next());
  const notAfter = readTime(validity.next());
  validity.end();
  const subject = fields.next(TAG.sequence);
  const key = readPublicKey(fields.next(TAG.sequence));
  const extensions = fields.optional(0xa3);
  fields.end();
  return {
    bytes,
    tbs: tbs.bytes,
    signature,
    signatureAlgorithm: readAlgorithm(signatureAlgorithm),
    serial,
    issuer: issuer.bytes,
    subject: subject.bytes,
    commonName: readCommonName(subject),
    notBefore,
    notAfter,
    ...key,
    ...readExtensions(extensions),
  };
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

/** RFC 5280 section 4.1.2.2: positive, at most 20 octets. */
function readSerial(element: DerElement): string {
  const { content } = element;
  if (content.length > 20 || (content[0] as number) >= 0x80)
    throw malformed("its serial number is negative or too long");
  const serial = Buffer.from(content)
    .toString("hex")
    .replace(/^00(?=.)/, "");
  if (/^0+$/.test(serial)) throw malformed("its serial number is zero");
  return serial;
}

/**
 * The algorithm as the standards have it: without parameters (RFC 5758 section 3.2), of RSA in PKCS#1 with NULL (RFC 4055 section 5). With others, a
 * name that nothing accepts.
 */
function readAlgorithm(element: DerElement): string {
  const reader = new DerReader(element.content);
  const oid = readOid(reader.next(TAG.oid));
  if (oid.startsWith(PKCS1)) {
    if (reader.done) return `${oid} without its parameter`;
    const parameter = reader.next();
    if (parameter.tag === TAG.null && parameter.content.length === 0 && reader.done) return oid;
    return `${oid} with parameters`;
  }
  return reader.done ? oid : `${oid} with parameters`;
}

function readPublicKey(element: DerElement): Pick<Certificate, "spki" | "keyBits" | "publicKey"> {
  const info = new DerReader(element.content);
  const algorithm = info.enter(TAG.sequence);
  const keyBits = readBitString(info.next(TAG.bitString));
  info.end();
  const isEc = readOid(algorithm.next(TAG.oid)) === OID.ecPublicKey && algorithm.peek() === TAG.oid;
  const isP256 = isEc && readOid(algorithm.next()) === OID.p256 && algorithm.done;
  const publicKey = isP256 && keyBits.length === 65 && keyBits[0] === 4 ? keyBits : undefined;
  return { spki: element.bytes, keyBits, publicKey };
}

function readCommonName(subject: DerElement): string | undefined {
  for (const sets = new DerReader(subject.content); !sets.done; ) {
    const attribute = sets.enter(TAG.set).enter(TAG.sequence);
    if (readOid(attribute.next(TAG.oid)) !== OID.commonName) continue;
    const value = attribute.next();
    attribute.end();
    return value.tag === TAG.utf8String || value.tag === TAG.printableString ? readAscii(value.content) : undefined;
  }
  return undefined;
}

type ExtensionFields = Pick<
  Certificate,
  | "ca"
  | "pathLength"
  | "keyUsage"
  | "extendedKeyUsage"
  | "uris"
  | "dnsNames"
  | "subjectKeyId"
  | "authorityKeyId"
  | "nameConstraints"
  | "extensions"
  | "critical"
  | "unknownCritical"
>;

function readExtensions(wrapper: DerElement | undefined): ExtensionFields {
  const values = new Map<string, Uint8Array>();
  const critical = new Set<string>();
  if (wrapper !== undefined) {
    const outer = new DerReader(wrapper.content);
    const list = outer.enter(TAG.sequence);
    outer.end();
    while (!list.done) readExtension(list.enter(TAG.sequence), values, critical);
  }
  const constraints = readBasicConstraints(values.get(OID.basicConstraints));
  const names = readSubjectAltName(values.get(OID.subjectAltName));
  const usage = values.get(OID.keyUsage);
  const extendedUsage = values.get(OID.extendedKeyUsage);
  const nameConstraints = values.get(OID.nameConstraints);
  return {
    ...constraints,
    ...names,
    keyUsage: usage === undefined ? undefined : readNamedBits(only(usage, TAG.bitString)),
    extendedKeyUsage: extendedUsage === undefined ? undefined : readOids(extendedUsage),
    subjectKeyId: readSubjectKeyId(values.get(OID.subjectKeyId)),
    authorityKeyId: readAuthorityKeyId(values.get(OID.authorityKeyId)),
    nameConstraints: nameConstraints === undefined ? undefined : readNameConstraints(nameConstraints),
    extensions: new Set(values.keys()),
    critical,
    unknownCritical: [...critical].filter((oid) => !UNDERSTOOD.has(oid)),
  };
}

function readExtension(reader: DerReader, values: Map<string, Uint8Array>, critical: Set<string>): void {
  const oid = readOid(reader.next(TAG.oid));
  const flag = reader.optional(TAG.boolean);
  const value = reader.next(TAG.octetString).content;
  reader.end();
  if (values.has(oid)) throw malformed(`it has the extension ${oid} twice`);
  if (values.size >= EXTENSIONS_MAX) throw malformed(`it has more than ${EXTENSIONS_MAX} extensions`);
  values.set(oid, value);
  if (flag === undefined) return;
  if (!readBoolean(flag)) throw malformed("it encodes a default value");
  critical.add(oid);
}

function only(bytes: Uint8Array, tag: number): DerElement {
  const reader = new DerReader(bytes);
  const element = reader.next(tag);
  reader.end();
  return element;
}

function readBasicConstraints(bytes: Uint8Array | undefined): Pick<Certificate, "ca" | "pathLength"> {
  if (bytes === undefined) return { ca: false, pathLength: undefined };
  const reader = readDer(bytes, TAG.sequence);
  const flag = reader.optional(TAG.boolean);
  const ca = flag !== undefined && readBoolean(flag);
  if (flag !== undefined && !ca) throw malformed("it encodes a default value");
  const length = reader.optional(TAG.integer);
  reader.end();
  if (length !== undefined && !ca) throw malformed("it has a path length and is no CA");
  return { ca, pathLength: length === undefined ? undefined : readSmallInteger(length) };
}

function readSubjectAltName(bytes: Uint8Array | undefined): Pick<Certificate, "uris" | "dnsNames"> {
  const uris: string[] = [];
  const dnsNames: string[] = [];
  if (bytes === undefined) return { uris, dnsNames };
  const reader = readDer(bytes, TAG.sequence);
  if (reader.done) throw malformed("its list of names is empty");
  for (let count = 0; !reader.done; count += 1) {
    if (count >= NAMES_MAX) throw malformed(`it has more than ${NAMES_MAX} names`);
    const name = reader.next();
    if ((name.tag & 0xc0) !== 0x80) throw malformed("its list of names holds something else");
    if (name.tag === URI_NAME) uris.push(readAscii(name.content));
    if (name.tag === DNS_NAME) dnsNames.push(readAscii(name.content));
  }
  return { uris, dnsNames };
}

function readOids(bytes: Uint8Array): readonly string[] {
  const oids: string[] = [];
  for (const reader = readDer(bytes, TAG.sequence); !reader.done; ) oids.push(readOid(reader.next(TAG.oid)));
  return oids;
}

function readSubjectKeyId(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : only(bytes, TAG.octetString).content;
}

function readAuthorityKeyId(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : readDer(bytes, TAG.sequence).optional(0x80)?.content;
}

function readNameConstraints(bytes: Uint8Array): NameConstraints {
  const reader = readDer(bytes, TAG.sequence);
  const permitted = readSubtrees(reader.optional(0xa0));
  const excluded = readSubtrees(reader.optional(0xa1));
  reader.end();
  return {
    permittedUris: permitted.uris,
    excludedUris: excluded.uris,
    permittedDns: permitted.dns,
    excludedDns: excluded.dns,
    unsupported: permitted.unsupported || excluded.unsupported,
  };
}

function readSubtrees(list: DerElement | undefined): { uris: string[]; dns: string[]; unsupported: boolean } {
  const trees = { uris: [] as string[], dns: [] as string[], unsupported: false };
  if (list === undefined) return trees;
  for (const reader = new DerReader(list.content); !reader.done; ) {
    const subtree = reader.enter(TAG.sequence);
    const base = subtree.next();
    if (base.tag === URI_NAME) trees.uris.push(readAscii(base.content));
    else if (base.tag === DNS_NAME) trees.dns.push(readAscii(base.content));
    else trees.unsupported = true;
    if (!subtree.done) trees.unsupported = true;
    if (trees.uris.length + trees.dns.length > NAMES_MAX)
      throw malformed(`it has more than ${NAMES_MAX} name constraints`);
  }
  return trees;
}

function malformed(what: string): RiprapError {
  return new RiprapError("certificate_malformed", `Cannot read the certificate: ${what}`);
}
