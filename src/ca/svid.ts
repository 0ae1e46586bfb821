// Builds X509-SVIDs from a DER template of the issuer. Knows the profile (X509-SVID.md); never the journal, the time or whether the ID is allowed.
import { randomFillSync } from "node:crypto";
import { RiprapError } from "../error.ts";
import { SPIFFE_ID_MAX_BYTES, type SpiffeId } from "../spiffe_id.ts";
import { type Certificate, OID } from "./certificate.ts";
import { der, derOid, derTime, TAG } from "./der.ts";
import { DerWriter } from "./der_writer.ts";
import { keyIdentifier, P256_SPKI_PREFIX } from "./key.ts";
import type { CaKey } from "./key_store.ts";

/**
 * 20 octets, the most that RFC 5280 section 4.1.2.2 allows: six of time, 14 random. In the order of time, so that the journal only grows at its
 * end: were the thousands of a second in disorder, each commit would write as many pages as it has rows.
 */
export const SERIAL_BYTES = 20;
const SERIAL_RANDOM_BYTES = 14;
/** Of the two octets below the second. */
const SERIAL_TICKS_PER_MS = 65.536;
/** 2026-01-01. Thirty bits of seconds reach to 2060 and go round then: order is lost once, uniqueness never. */
const SERIAL_EPOCH_SECONDS = 1_767_225_600;
/** A day: past it, an SVID outlives every posture check that was made when it was issued. An hour or less is the rule. */
export const SVID_LIFETIME_MAX_MS = 24 * 3600 * 1000;
/** More names than any workload has, few enough that the chain stays small. */
export const DNS_NAMES_MAX = 16;
const SERIAL_POOL = 256;
/** The longest SPIFFE ID, the most and longest DNS names, and a kilobyte for everything else. */
const SVID_BYTES_MAX = SPIFFE_ID_MAX_BYTES + DNS_NAMES_MAX * 256 + 1024;

/** Two headers of four octets at most, and the octet before a bit string. */
const CERTIFICATE_EXTRA_BYTES = 9;

const VERSION_3 = der(0xa0, der(TAG.integer, Uint8Array.of(2)));
const ECDSA_WITH_SHA256 = der(TAG.sequence, derOid(OID.ecdsaWithSha256));
const EMPTY_NAME = der(TAG.sequence);
const SUBJECT_AND_KEY_HEAD = Buffer.concat([EMPTY_NAME, P256_SPKI_PREFIX]);
const CRITICAL = der(TAG.boolean, Uint8Array.of(0xff));
/** The extension's octets up to the 20 of the identifier. */
const SUBJECT_KEY_ID_HEAD = extension(OID.subjectKeyId, false, der(TAG.octetString, new Uint8Array(20))).subarray(
  0,
  -20,
);
const SUBJECT_ALT_NAME_HEAD = Buffer.concat([derOid(OID.subjectAltName), CRITICAL]);

export interface SvidContent {
  readonly serial: Buffer;
  readonly spiffeId: SpiffeId;
  readonly dnsNames: readonly string[];
  readonly point: Uint8Array;
  /** Milliseconds since the epoch, whole seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** One issuer's template: all octets that do not change from SVID to SVID are laid out once. */
export class SvidTemplate {
  readonly #key: CaKey;
  readonly #writer = new DerWriter(SVID_BYTES_MAX);
  readonly #algorithmAndIssuer: Uint8Array;
  readonly #usages: Uint8Array;
  readonly #authorityKeyId: Uint8Array;
  #validity = { notBefore: Number.NaN, notAfter: Number.NaN, bytes: EMPTY_NAME };

  constructor(issuer: Certificate, key: CaKey) {
    this.#key = key;
    this.#algorithmAndIssuer = Buffer.concat([ECDSA_WITH_SHA256, issuer.subject]);
    this.#usages = Buffer.concat([
      // digitalSignature alone: bit 0 of one octet, seven bits unused.
      extension(OID.keyUsage, true, der(TAG.bitString, Uint8Array.of(7, 0x80))),
      extension(OID.extendedKeyUsage, false, der(TAG.sequence, derOid(OID.serverAuth), derOid(OID.clientAuth))),
      extension(OID.basicConstraints, true, der(TAG.sequence)),
    ]);
    const issuerKeyId = issuer.subjectKeyId ?? keyIdentifier(key.publicKey);
    this.#authorityKeyId = extension(OID.authorityKeyId, false, der(TAG.sequence, der(0x80, issuerKeyId)));
  }

  /** The signed certificate. */
  sign(content: SvidContent): Uint8Array {
    this.#writeTbs(content);
    const tbs = this.#writer.view();
    const signature = this.#key.sign(tbs);
    return joined(tbs, signature);
  }

  /** TBSCertificate, its last field first. */
  #writeTbs(content: SvidContent): void {
    const writer = this.#writer;
    writer.reset();
    const end = writer.mark;
    this.#writeNames(content);
    writer.bytes(this.#authorityKeyId);
    writer.bytes(keyIdentifier(content.point));
    writer.bytes(SUBJECT_KEY_ID_HEAD);
    writer.bytes(this.#usages);
    writer.header(TAG.sequence, end);
    writer.header(0xa3, end);
    writer.bytes(content.point);
    writer.bytes(SUBJECT_AND_KEY_HEAD);
    writer.bytes(this.#validityOf(content));
    writer.bytes(this.#algorithmAndIssuer);
    const serial = writer.mark;
    writer.bytes(content.serial);
    writer.header(TAG.integer, serial);
    writer.bytes(VERSION_3);
    writer.header(TAG.sequence, end);
  }

  /** Critical, because the subject is empty (X509-SVID section 3.1). The URI comes first. */
  #writeNames({ spiffeId, dnsNames }: SvidContent): void {
    const writer = this.#writer;
    const end = writer.mark;
    for (let index = dnsNames.length - 1; index >= 0; index--) this.#writeName(0x82, dnsNames[index] as string);
    this.#writeName(0x86, spiffeId.toString());
    writer.header(TAG.sequence, end);
    writer.header(TAG.octetString, end);
    writer.bytes(SUBJECT_ALT_NAME_HEAD);
    writer.header(TAG.sequence, end);
  }

  #writeName(tag: number, text: string): void {
    const end = this.#writer.mark;
    this.#writer.ascii(text);
    this.#writer.header(tag, end);
  }

  #validityOf({ notBefore, notAfter }: SvidContent): Uint8Array {
    if (this.#validity.notBefore !== notBefore || this.#validity.notAfter !== notAfter) {
      this.#validity = { notBefore, notAfter, bytes: der(TAG.sequence, derTime(notBefore), derTime(notAfter)) };
    }
    return this.#validity.bytes;
  }
}

/** Serial numbers: 112 bits from the system's generator, drawn in handfuls because each draw is a system call. */
export class SerialSource {
  readonly #pool = new Uint8Array(SERIAL_RANDOM_BYTES * SERIAL_POOL);
  #at = this.#pool.length;

  next(now: number): Buffer {
    if (this.#at === this.#pool.length) {
      randomFillSync(this.#pool);
      this.#at = 0;
    }
    const serial = firstSerial(now);
    const ticks = Math.floor((now % 1000) * SERIAL_TICKS_PER_MS);
    serial[4] = ticks >>> 8;
    serial[5] = ticks & 0xff;
    // Not by views of the pool: making one costs more than these few octets.
    for (let at = SERIAL_BYTES - SERIAL_RANDOM_BYTES; at < SERIAL_BYTES; at++)
      serial[at] = this.#pool[this.#at++] as number;
    return serial;
  }
}

/** The lowest serial of a second: everything below it was signed before. Its first octet is 0x40 to 0x7F, so the number is positive. */
export function firstSerial(now: number): Buffer {
  const seconds = (Math.floor(now / 1000) - SERIAL_EPOCH_SECONDS) & 0x3fff_ffff;
  const serial = Buffer.alloc(SERIAL_BYTES);
  serial.writeUInt32BE(seconds + 0x4000_0000, 0);
  return serial;
}

/** Throws RiprapError `dns_name_invalid`: host names in lower case, no wildcard, no trailing dot (RFC 5280 section 4.2.1.6). */
export function parseDnsNames(names: readonly string[]): readonly string[] {
  if (names.length > DNS_NAMES_MAX) {
    throw new RiprapError(
      "dns_name_invalid",
      `Cannot issue an SVID: it would have ${names.length} DNS names, and ${DNS_NAMES_MAX} is the most`,
    );
  }
  for (const name of names) {
    const labels = name.split(".");
    if (name.length <= 253 && labels.every((label) => /^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$/.test(label))) continue;
    throw new RiprapError(
      "dns_name_invalid",
      `Cannot issue an SVID: ${JSON.stringify(name.slice(0, 80))} is no host name in lower case`,
    );
  }
  return names;
}

/** Certificate (RFC 5280 section 4.1): as der() would have it, in one copy. */
function joined(tbs: Uint8Array, signature: Uint8Array): Uint8Array {
  const writer = new DerWriter(tbs.length + ECDSA_WITH_SHA256.length + signature.length + CERTIFICATE_EXTRA_BYTES);
  const end = writer.mark;
  writer.bytes(signature);
  // No unused bits.
  writer.octet(0);
  writer.header(TAG.bitString, end);
  writer.bytes(ECDSA_WITH_SHA256);
  writer.bytes(tbs);
  writer.header(TAG.sequence, end);
  return writer.view();
}

function extension(oid: string, critical: boolean, value: Uint8Array): Uint8Array {
  const flag = critical ? [CRITICAL] : [];
  return der(TAG.sequence, derOid(oid), ...flag, der(TAG.octetString, value));
}
