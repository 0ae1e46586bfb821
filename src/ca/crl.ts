// Certificate revocation lists (RFC 5280 section 5): written by a CA of this node, read, and judged against the CA that they name. Pure.

import { RiprapError } from "../error.ts";
import { type Certificate, KEY_USAGE, OID, sameBytes } from "./certificate.ts";
import { CLOCK_SKEW_MAX_MS } from "./chain.ts";
import {
  type DerElement,
  DerReader,
  der,
  derOid,
  derTime,
  readBoolean,
  readDer,
  readOid,
  readSmallInteger,
  readTime,
  TAG,
} from "./der.ts";
import type { RevokedCertificate } from "./journal.ts";
import { keyIdentifier, verifyBytes } from "./key.ts";
import type { CaKey } from "./key_store.ts";

/** A hundred thousand entries of ours. */
export const CRL_BYTES_MAX = 8 << 20;
const CRL_EXTENSION = { number: "2.5.29.20", reason: "2.5.29.21" } as const;
const EXTENSIONS_MAX = 16;
/** RFC 5280 section 5.2.3: at most 20 octets. */
const NUMBER_OCTETS_MAX = 20;
const ECDSA_WITH_SHA256 = der(TAG.sequence, derOid(OID.ecdsaWithSha256));

/** RFC 5280 section 5.3.1, for the words that this node gives as reasons. */
const REASON_CODE: readonly (readonly [words: RegExp, code: number])[] = [
  [/compromise/i, 1],
  [/supersede|another identity|renewed/i, 4],
  [/ended|withdrawn|no rule/i, 5],
];

export interface CrlContent {
  readonly number: bigint;
  /** Milliseconds since the epoch, whole seconds. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly revoked: readonly RevokedCertificate[];
}

/** Signed by `issuer`'s key; its CRL number is the caller's to let grow. */
export function writeCrl(content: CrlContent, issuer: Certificate, key: CaKey): Uint8Array {
  const { number, thisUpdate, nextUpdate, revoked } = content;
  const keyId = issuer.subjectKeyId ?? keyIdentifier(key.publicKey);
  const extensions = [
    extension(OID.authorityKeyId, der(TAG.sequence, der(0x80, keyId))),
    extension(CRL_EXTENSION.number, der(TAG.integer, unsigned(number))),
  ];
  const tbs = der(
    TAG.sequence,
    der(TAG.integer, Uint8Array.of(1)),
    ECDSA_WITH_SHA256,
    issuer.subject,
    derTime(thisUpdate),
    derTime(nextUpdate),
    // Absent when there is none (section 5.1.2.6).
    ...(revoked.length === 0 ? [] : [der(TAG.sequence, ...revoked.map(entry))]),
    der(0xa0, der(TAG.sequence, ...extensions)),
  );
  return der(TAG.sequence, tbs, ECDSA_WITH_SHA256, der(TAG.bitString, Uint8Array.of(0), key.sign(tbs)));
}

export interface Crl extends Omit<CrlContent, "revoked"> {
  readonly tbs: Uint8Array;
  readonly signature: Uint8Array;
  readonly signatureAlgorithm: string;
  readonly issuer: Uint8Array;
  readonly authorityKeyId: Uint8Array | undefined;
  /** Serials in lower-case hexadecimal → when they were revoked. */
  readonly serials: ReadonlyMap<string, number>;
}

/** Throws RiprapError `der_malformed` or `crl_malformed` on anything that is not exactly one complete CRL of version 2 that riprap understands. */
export function parseCrl(bytes: Uint8Array): Crl {
  if (bytes.length > CRL_BYTES_MAX) throw malformed(`it is longer than ${CRL_BYTES_MAX >> 20} MiB`);
  const outer = readDer(bytes, TAG.sequence);
  const tbs = outer.next(TAG.sequence);
  const algorithm = outer.next(TAG.sequence);
  const signature = outer.next(TAG.bitString).content;
  outer.end();
  if (signature[0] !== 0) throw malformed("its signature does not end on an octet");

  const fields = new DerReader(tbs.content);
  if (fields.peek() !== TAG.integer || readSmallInteger(fields.next()) !== 1) throw malformed("it is not of version 2");
  if (!sameBytes(fields.next(TAG.sequence).bytes, algorithm.bytes))
    throw malformed("it names two signature algorithms");
  const issuer = fields.next(TAG.sequence).bytes;
  const thisUpdate = readTime(fields.next());
  if (fields.done || fields.peek() === 0xa0 || fields.peek() === TAG.sequence)
    throw malformed("it does not say when the next one comes");
  const nextUpdate = readTime(fields.next());
  if (nextUpdate <= thisUpdate) throw malformed("the next one would come before it");
  const serials = readEntries(fields.optional(TAG.sequence));
  const extensions = readExtensions(fields.optional(0xa0));
  fields.end();
  const number = extensions.get(CRL_EXTENSION.number);
  if (number === undefined) throw malformed("it has no CRL number");
  return {
    tbs: tbs.bytes,
    signature: signature.subarray(1),
    signatureAlgorithm: readAlgorithm(algorithm),
    ...{ issuer, thisUpdate, nextUpdate, serials },
    number: readNumber(number),
    authorityKeyId: readKeyId(extensions.get(OID.authorityKeyId)),
  };
}

export interface CrlContext {
  /** Already judged: a CA of the trust domain in question. */
  readonly issuer: Certificate;
  readonly now: number;
  /** Of the last CRL that was taken from this issuer. */
  readonly lastNumber?: bigint;
}

/** Throws RiprapError `crl_refused` with the reason, unless the CRL is this issuer's, in force and none of before the last. */
export function requireCrl(crl: Crl, { issuer, now, lastNumber }: CrlContext): void {
  const fact = crlFault(crl, { issuer, now, ...(lastNumber === undefined ? {} : { lastNumber }) });
  if (fact !== undefined) throw new RiprapError("crl_refused", `Cannot take the CRL: ${fact}`);
}

function crlFault(crl: Crl, { issuer, now, lastNumber }: CrlContext): string | undefined {
  if (crl.signatureAlgorithm !== OID.ecdsaWithSha256)
    return `it is signed with ${crl.signatureAlgorithm}; only ECDSA with SHA-256 is accepted`;
  if (!sameBytes(crl.issuer, issuer.subject)) return "it names another issuer";
  const { authorityKeyId } = crl;
  if (
    authorityKeyId !== undefined &&
    issuer.subjectKeyId !== undefined &&
    !sameBytes(authorityKeyId, issuer.subjectKeyId)
  )
    return "it names another key than its issuer's";
  if (!issuer.ca || issuer.keyUsage?.has(KEY_USAGE.cRLSign) !== true)
    return "its issuer may not sign CRLs by its key usage";
  if (now < crl.thisUpdate - CLOCK_SKEW_MAX_MS)
    return `it begins at ${new Date(crl.thisUpdate).toISOString()}; check both clocks`;
  if (now > crl.nextUpdate) return `it ended at ${new Date(crl.nextUpdate).toISOString()}; fetch the next one`;
  if (lastNumber !== undefined && crl.number < lastNumber)
    return `its number ${crl.number} is lower than ${lastNumber}, which was taken before`;
  return verifyBytes(crl.tbs, crl.signature, issuer.publicKey ?? new Uint8Array(0))
    ? undefined
    : "it is not signed by the key of its issuer";
}

function entry({ serial, reason, revokedAt }: RevokedCertificate): Uint8Array {
  const code = REASON_CODE.find(([words]) => words.test(reason))?.[1];
  const value = code === undefined ? [] : [extension(CRL_EXTENSION.reason, der(0x0a, Uint8Array.of(code)))];
  return der(
    TAG.sequence,
    der(TAG.integer, serial),
    derTime(Math.floor(revokedAt / 1000) * 1000),
    ...(value.length === 0 ? [] : [der(TAG.sequence, ...value)]),
  );
}

function extension(oid: string, value: Uint8Array): Uint8Array {
  return der(TAG.sequence, derOid(oid), der(TAG.octetString, value));
}

/** The octets of a number that is not negative, its sign bit clear. */
function unsigned(number: bigint): Uint8Array {
  const digits = number.toString(16);
  const bytes = Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, "hex");
  return (bytes[0] as number) >= 0x80 ? Buffer.concat([Uint8Array.of(0), bytes]) : bytes;
}

function readEntries(list: DerElement | undefined): ReadonlyMap<string, number> {
  const serials = new Map<string, number>();
  if (list === undefined) return serials;
  const reader = new DerReader(list.content);
  if (reader.done) throw malformed("its list of certificates is empty");
  while (!reader.done) {
    const fields = reader.enter(TAG.sequence);
    const serial = readSerial(fields.next(TAG.integer));
    const at = readTime(fields.next());
    const more = fields.optional(TAG.sequence);
    fields.end();
    if (more !== undefined) readEntryExtensions(more);
    if (serials.has(serial)) throw malformed("it has a certificate twice");
    serials.set(serial, at);
  }
  return serials;
}

/** Those that say which issuer an entry is of (an indirect CRL) are critical, and refused here. */
function readEntryExtensions(list: DerElement): void {
  for (const [oid, { isCritical }] of readList(new DerReader(list.content)))
    if (isCritical && oid !== CRL_EXTENSION.reason) throw malformed(`an entry has the critical extension ${oid}`);
}

/** A delta CRL and one for a part of the certificates say so in a critical extension: neither is the whole truth. */
function readExtensions(wrapper: DerElement | undefined): ReadonlyMap<string, Uint8Array> {
  if (wrapper === undefined) return new Map();
  const outer = new DerReader(wrapper.content);
  const list = readList(outer.enter(TAG.sequence));
  outer.end();
  const values = new Map<string, Uint8Array>();
  for (const [oid, { isCritical, value }] of list) {
    if (isCritical) throw malformed(`it has the critical extension ${oid}, which riprap does not know`);
    values.set(oid, value);
  }
  return values;
}

function readList(reader: DerReader): Map<string, { isCritical: boolean; value: Uint8Array }> {
  const list = new Map<string, { isCritical: boolean; value: Uint8Array }>();
  if (reader.done) throw malformed("a list of extensions is empty");
  while (!reader.done) {
    const fields = reader.enter(TAG.sequence);
    const oid = readOid(fields.next(TAG.oid));
    const flag = fields.optional(TAG.boolean);
    const value = fields.next(TAG.octetString).content;
    fields.end();
    if (list.has(oid)) throw malformed(`it has the extension ${oid} twice`);
    if (list.size >= EXTENSIONS_MAX) throw malformed(`it has more than ${EXTENSIONS_MAX} extensions`);
    if (flag !== undefined && !readBoolean(flag)) throw malformed("it encodes a default value");
    list.set(oid, { isCritical: flag !== undefined, value });
  }
  return list;
}

function readSerial({ content }: DerElement): string {
  if (content.length > 21 || content.length === 0 || (content[0] as number) >= 0x80)
    throw malformed("a serial number is negative or too long");
  return Buffer.from(content)
    .toString("hex")
    .replace(/^00(?=.)/, "");
}

function readNumber(value: Uint8Array): bigint {
  const { content } = only(value, TAG.integer);
  if (content.length > NUMBER_OCTETS_MAX || content.length === 0 || (content[0] as number) >= 0x80)
    throw malformed("its CRL number is negative or too long");
  return BigInt(`0x${Buffer.from(content).toString("hex")}`);
}

function readKeyId(value: Uint8Array | undefined): Uint8Array | undefined {
  return value === undefined ? undefined : readDer(value, TAG.sequence).optional(0x80)?.content;
}

function readAlgorithm({ content }: DerElement): string {
  const reader = new DerReader(content);
  const oid = readOid(reader.next(TAG.oid));
  return reader.done ? oid : `${oid} with parameters`;
}

function only(bytes: Uint8Array, tag: number): DerElement {
  const reader = new DerReader(bytes);
  const element = reader.next(tag);
  reader.end();
  return element;
}

function malformed(what: string): RiprapError {
  return new RiprapError("crl_malformed", `Cannot read the CRL: ${what}`);
}
