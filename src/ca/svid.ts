// Builds X509-SVIDs from a DER template of the issuer. Knows the profile (X509-SVID.md); never the journal, the time or whether the ID is allowed.
import { randomFillSync } from "node:crypto";
import { RiprapError } from "../error.ts";
import type { SpiffeId } from "../spiffe_id.ts";
import { type Certificate, OID } from "./certificate.ts";
import { ascii, der, derOid, derTime, TAG } from "./der.ts";
import { type CaKey, keyIdentifier, signBytes } from "./key.ts";
import { P256_SPKI_PREFIX } from "./x509.ts";

/** 16 octets, the first of them 0x40 to 0x7F: positive, of constant length, 126 random bits (RFC 5280 section 4.1.2.2 wants 64 by custom). */
export const SERIAL_BYTES = 16;
/** More names than any workload has, few enough that the chain stays small. */
export const DNS_NAMES_MAX = 16;
const SERIAL_POOL = 256;

const VERSION_3 = der(0xa0, der(TAG.integer, Uint8Array.of(2)));
const ECDSA_WITH_SHA256 = der(TAG.sequence, derOid(OID.ecdsaWithSha256));
const EMPTY_NAME = der(TAG.sequence);
const SPKI_PREFIX = Uint8Array.from(P256_SPKI_PREFIX);
const SUBJECT_KEY_ID = derOid(OID.subjectKeyId);
const SUBJECT_ALT_NAME = derOid(OID.subjectAltName);
const CRITICAL = der(TAG.boolean, Uint8Array.of(0xff));

export interface SvidContent {
  readonly serial: Uint8Array;
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
  readonly #head: Uint8Array;
  readonly #extensions: Uint8Array;
  readonly #authorityKeyId: Uint8Array;
  #validity = { notBefore: Number.NaN, notAfter: Number.NaN, bytes: EMPTY_NAME };

  constructor(issuer: Certificate, key: CaKey) {
    this.#key = key;
    this.#head = Buffer.concat([ECDSA_WITH_SHA256, issuer.subject]);
    this.#extensions = Buffer.concat([
      // digitalSignature alone: bit 0 of one octet, seven bits unused.
      extension(derOid(OID.keyUsage), true, der(TAG.bitString, Uint8Array.of(7, 0x80))),
      extension(derOid(OID.extendedKeyUsage), false, der(TAG.sequence, derOid(OID.serverAuth), derOid(OID.clientAuth))),
      extension(derOid(OID.basicConstraints), true, der(TAG.sequence)),
    ]);
    const issuerKeyId = issuer.subjectKeyId ?? keyIdentifier(key.point);
    this.#authorityKeyId = extension(derOid(OID.authorityKeyId), false, der(TAG.sequence, der(0x80, issuerKeyId)));
  }

  /** The signed certificate. */
  sign(content: SvidContent): Uint8Array {
    const tbs = der(
      TAG.sequence,
      VERSION_3,
      der(TAG.integer, content.serial),
      this.#head,
      this.#validityOf(content),
      EMPTY_NAME,
      SPKI_PREFIX,
      content.point,
      der(
        0xa3,
        der(TAG.sequence, this.#extensions, subjectKeyId(content.point), this.#authorityKeyId, subjectAltName(content)),
      ),
    );
    const signature = signBytes(tbs, this.#key.privateKey);
    return der(TAG.sequence, tbs, ECDSA_WITH_SHA256, der(TAG.bitString, Uint8Array.of(0), signature));
  }

  #validityOf({ notBefore, notAfter }: SvidContent): Uint8Array {
    if (this.#validity.notBefore !== notBefore || this.#validity.notAfter !== notAfter) {
      this.#validity = { notBefore, notAfter, bytes: der(TAG.sequence, derTime(notBefore), derTime(notAfter)) };
    }
    return this.#validity.bytes;
  }
}

/** Serial numbers from the system's generator, drawn in handfuls because each draw is a system call. */
export class SerialSource {
  readonly #pool = new Uint8Array(SERIAL_BYTES * SERIAL_POOL);
  #at = this.#pool.length;

  next(): Uint8Array {
    if (this.#at === this.#pool.length) {
      randomFillSync(this.#pool);
      this.#at = 0;
    }
    const serial = this.#pool.slice(this.#at, this.#at + SERIAL_BYTES);
    this.#at += SERIAL_BYTES;
    serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
    return serial;
  }
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

function subjectKeyId(point: Uint8Array): Uint8Array {
  return extension(SUBJECT_KEY_ID, false, der(TAG.octetString, keyIdentifier(point)));
}

/** Critical, because the subject is empty (X509-SVID section 3.1). The URI comes first. */
function subjectAltName({ spiffeId, dnsNames }: SvidContent): Uint8Array {
  const names = dnsNames.map((name) => der(0x82, ascii(name)));
  return extension(SUBJECT_ALT_NAME, true, der(TAG.sequence, der(0x86, ascii(spiffeId.toString())), ...names));
}

function extension(oid: Uint8Array, critical: boolean, value: Uint8Array): Uint8Array {
  return critical
    ? der(TAG.sequence, oid, CRITICAL, der(TAG.octetString, value))
    : der(TAG.sequence, oid, der(TAG.octetString, value));
}
