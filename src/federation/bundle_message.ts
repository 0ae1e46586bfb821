// A trust bundle as one trust domain says it to others over a broker: the octets, what its signature covers, and whether it may be looked at. Verifies no chain.

import { RiprapError } from "../error.ts";
import { TRUST_DOMAIN_MAX_BYTES, type TrustDomain } from "../spiffe_id.ts";
import { verifySignature } from "./curve.ts";
import { SUBJECT_BYTES_MAX } from "./envelope.ts";
import { OctetReader, OctetWriter } from "./octet.ts";
import { fleetSubjects } from "./subject.ts";

/** Below what a NATS server takes unless told otherwise; some hundred JWT keys. Larger bundles go over HTTPS. */
export const BUNDLE_MESSAGE_MAX = 512 * 1024;
export const BUNDLE_DOCUMENT_MAX = BUNDLE_MESSAGE_MAX - 32 * 1024;
/** An SVID and at most two CAs below the root. */
const CHAIN_MAX = 3;
const CERTIFICATE_BYTES_MAX = 8192;
/** DER of two 33-byte integers. */
const SIGNATURE_MAX = 72;
/** The clocks of two fleets, and a broker that queues for a moment. */
export const BUNDLE_FUTURE_MAX_MS = 60_000;
export const BUNDLE_STALE_MAX_MS = 300_000;
const FORMAT = 1;
const DOMAIN = "riprap foreign bundle 1";

export interface BundleSaid {
  readonly trustDomain: string;
  /** On which it is published; another is refused. */
  readonly subject: string;
  /** Milliseconds since the epoch, by the author's clock. */
  readonly time: number;
  /** DER of the X509-SVID that signed it, and of the CAs below the root. */
  readonly chain: readonly Uint8Array[];
  /** SPIFFE's JSON form. */
  readonly document: string;
}

export interface BundleMessage extends BundleSaid {
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

export const BUNDLE_REFUSALS = [
  "too_often",
  "too_large",
  "malformed",
  "wrong_subject",
  "unknown_domain",
  "has_endpoint",
  "stale",
  "from_future",
  "replayed",
  "unpinned",
  "wrong_pin",
  "chain_refused",
  "forged",
  "not_taken",
] as const;
export type BundleRefusal = (typeof BUNDLE_REFUSALS)[number];

/** `sign`: ECDSA P-256 with SHA-256 in DER, by the key of the chain's first certificate. A field out of its bounds is RiprapError `bundle_too_large`. */
export function writeBundleMessage(said: BundleSaid, sign: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const { trustDomain, subject, time, chain, document } = said;
  const body = Buffer.from(document);
  if (body.length > BUNDLE_DOCUMENT_MAX) {
    const remedy = "let the others fetch it from an endpoint (bundleListen, webListen)";
    const fact = `it has ${body.length} bytes, and a message holds ${BUNDLE_DOCUMENT_MAX}; ${remedy}`;
    throw new RiprapError("bundle_too_large", `Cannot say the trust bundle of ${trustDomain} over the broker: ${fact}`);
  }
  const writer = new OctetWriter().u8(FORMAT).text8(trustDomain).text16(subject).u48(time).u8(chain.length);
  for (const certificate of chain) writer.bytes16(certificate);
  const head = writer.bytes32(body).end();
  return new OctetWriter()
    .raw(head)
    .bytes8(sign(signedBytes(head)))
    .end();
}

/** The form alone. Throws RiprapError `bundle_malformed`. */
export function parseBundleMessage(bytes: Uint8Array): BundleMessage {
  try {
    const reader = new OctetReader(bytes);
    if (reader.u8() !== FORMAT) throw new Error(`it is not of format ${FORMAT}`);
    const trustDomain = reader.text8(TRUST_DOMAIN_MAX_BYTES);
    const subject = reader.text16(SUBJECT_BYTES_MAX);
    const time = reader.u48();
    const count = reader.u8();
    if (count === 0 || count > CHAIN_MAX) throw new Error(`its chain has ${count} certificates`);
    const chain = Array.from({ length: count }, () => reader.bytes16(CERTIFICATE_BYTES_MAX));
    const document = Buffer.from(reader.bytes32(BUNDLE_DOCUMENT_MAX)).toString("utf8");
    const signed = signedBytes(bytes.subarray(0, reader.at));
    const signature = reader.bytes8(SIGNATURE_MAX);
    reader.end();
    return { trustDomain, subject, time, chain, document, signed, signature };
  } catch (cause) {
    throw new RiprapError("bundle_malformed", `Cannot read the bundle message: ${(cause as Error).message}`, { cause });
  }
}

/** Whether it was signed by the key (65 bytes) as it stands. */
export function verifyBundleMessage({ signed, signature }: BundleMessage, publicKey: Uint8Array): boolean {
  return verifySignature(signed, signature, publicKey);
}

export type BundleFault = readonly [code: BundleRefusal, fact: string];

/** What is wrong with a message of this trust domain before any key is looked at. `last`: time of the last that was taken. */
export function bundleMessageFault(
  { trustDomain, subject, time }: BundleSaid,
  on: { readonly subject: string; readonly of: TrustDomain; readonly now: number; readonly last: number | undefined },
): BundleFault | undefined {
  const seconds = Math.round((time - on.now) / 1000);
  if (trustDomain !== on.of.name || subject !== on.subject || subject !== fleetSubjects(trustDomain).bundle)
    return ["wrong_subject", `it was signed for ${subject} of ${trustDomain}`];
  if (time > on.now + BUNDLE_FUTURE_MAX_MS) return ["from_future", `its clock is ${seconds} s ahead of ours`];
  if (time < on.now - BUNDLE_STALE_MAX_MS) return ["stale", `it is ${-seconds} s old, or its clock is behind ours`];
  return on.last !== undefined && time <= on.last ? ["replayed", "it, or a later one, was heard already"] : undefined;
}

function signedBytes(head: Uint8Array): Uint8Array {
  return new OctetWriter().text8(DOMAIN).raw(head).end();
}
