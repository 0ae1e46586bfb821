// An envelope: one message on the wire, signed with its subject, trust domain, sequence and time inside. Seals and opens; what came before is gate.ts's to know.
import { hash } from "node:crypto";
import { RiprapError } from "../error.ts";
import { TRUST_DOMAIN_MAX_BYTES } from "../spiffe_id.ts";
import { ED25519_KEY_BYTES, ED25519_SIGNATURE_BYTES, keyIdOf, type Signer, verifySignature } from "./curve.ts";
import { OctetReader, OctetWriter } from "./octet.ts";

/** Below the bound of 1 MiB that a NATS server has when nobody says otherwise. */
export const ENVELOPE_BYTES_MAX = 512 * 1024;
/** The rest is head and signature. */
export const PAYLOAD_BYTES_MAX = ENVELOPE_BYTES_MAX - 2048;
export const SUBJECT_BYTES_MAX = 512;
const TYPE_BYTES_MAX = 32;
const DIGEST_BYTES = 32;
const FORMAT = 1;
const DOMAIN = "riprap envelope 1";

export interface EnvelopeHead {
  readonly trustDomain: string;
  /** On which it is published; another is refused. */
  readonly subject: string;
  /** Ed25519 key of a node. */
  readonly author: Uint8Array;
  /** Counts the starts of its author, and what it was told of them. */
  readonly epoch: number;
  /** Counts what its author said on this subject in this epoch, from 1; 0 in a reply. */
  readonly sequence: number;
  /** Milliseconds since the epoch, by the author's clock. */
  readonly time: number;
  /** What the payload is. */
  readonly type: string;
  /** Of a reply: the id of the request's envelope; else empty. */
  readonly inReplyTo: string;
  /** SHA-256 of the payload: a head and its signature prove themselves without it. */
  readonly payloadDigest: Uint8Array;
}

export interface Envelope extends EnvelopeHead {
  readonly payload: Uint8Array;
  /** keyIdOf its author. */
  readonly authorId: string;
  /** First 128 bits of the SHA-256 of what is signed, hexadecimal. */
  readonly id: string;
  /** Head and signature without the payload: what shows somebody else, or its own author, that this was said. */
  readonly proof: Uint8Array;
}

export interface EnvelopeDraft extends Omit<EnvelopeHead, "author" | "payloadDigest"> {
  readonly payload: Uint8Array;
}

/** Signs a message; the octets to publish. A field out of its bounds is a programmer's mistake (RangeError). */
export function sealEnvelope(draft: EnvelopeDraft, signer: Signer): { bytes: Uint8Array; id: string } {
  if (draft.payload.length > PAYLOAD_BYTES_MAX)
    throw new RangeError(`a payload has at most ${PAYLOAD_BYTES_MAX} bytes`);
  if (signer.publicKey.length !== ED25519_KEY_BYTES) throw new RangeError("an envelope is signed with an Ed25519 key");
  const payloadDigest = hash("sha256", draft.payload, "buffer");
  const head = headBytes({ ...draft, author: signer.publicKey, payloadDigest });
  const signature = signer.sign(signedBytes(head));
  return { bytes: new OctetWriter().raw(head).raw(signature).bytes32(draft.payload).end(), id: idOf(head) };
}

/** The form, and that the payload is the one that was signed; the signature is verifyEnvelope's. Throws RiprapError `envelope_malformed`. */
export function parseEnvelope(bytes: Uint8Array): Envelope {
  try {
    if (bytes.length > ENVELOPE_BYTES_MAX) throw new Error(`it is longer than ${ENVELOPE_BYTES_MAX} bytes`);
    const reader = new OctetReader(bytes);
    const head = readHead(reader);
    const signed = bytes.subarray(0, reader.at);
    reader.raw(ED25519_SIGNATURE_BYTES);
    const proof = new Uint8Array(bytes.subarray(0, reader.at));
    const payload = reader.bytes32(PAYLOAD_BYTES_MAX);
    reader.end();
    if (!hash("sha256", payload, "buffer").equals(head.payloadDigest)) throw new Error("its payload was changed");
    return { ...head, payload, authorId: keyIdOf(head.author), id: idOf(signed), proof };
  } catch (cause) {
    throw new RiprapError("envelope_malformed", `Cannot read the message: ${(cause as Error).message}`, { cause });
  }
}

export function verifyEnvelope(envelope: Pick<Envelope, "proof" | "author">): boolean {
  const { proof, author } = envelope;
  const head = proof.subarray(0, -ED25519_SIGNATURE_BYTES);
  return verifySignature(signedBytes(head), proof.subarray(-ED25519_SIGNATURE_BYTES), author);
}

/** The head that a proof shows, when the signature on it is good; undefined for anything else. */
export function readProof(proof: Uint8Array): EnvelopeHead | undefined {
  if (proof.length > 2048) return undefined;
  try {
    const reader = new OctetReader(proof);
    const head = readHead(reader);
    reader.raw(ED25519_SIGNATURE_BYTES);
    reader.end();
    return verifyEnvelope({ proof, author: head.author }) ? head : undefined;
  } catch {
    // From a peer: whatever is wrong with it, it proves nothing.
    return undefined;
  }
}

function headBytes(head: EnvelopeHead): Uint8Array {
  return new OctetWriter()
    .u8(FORMAT)
    .text8(head.trustDomain)
    .text16(head.subject)
    .raw(head.author)
    .u48(head.epoch)
    .u48(head.sequence)
    .u48(head.time)
    .text8(head.type)
    .bytes8(Buffer.from(head.inReplyTo, "hex"))
    .raw(head.payloadDigest)
    .end();
}

function readHead(reader: OctetReader): EnvelopeHead {
  if (reader.u8() !== FORMAT) throw new Error(`it is not of format ${FORMAT}; use the same riprap on all nodes`);
  const trustDomain = reader.text8(TRUST_DOMAIN_MAX_BYTES);
  const subject = reader.text16(SUBJECT_BYTES_MAX);
  const author = reader.raw(ED25519_KEY_BYTES);
  const [epoch, sequence, time] = [reader.u48(), reader.u48(), reader.u48()];
  const type = reader.text8(TYPE_BYTES_MAX);
  const inReplyTo = Buffer.from(reader.bytes8(16)).toString("hex");
  if (inReplyTo.length !== 0 && inReplyTo.length !== 32) throw new Error("what it replies to is no id");
  const payloadDigest = reader.raw(DIGEST_BYTES);
  return { trustDomain, subject, author, epoch, sequence, time, type, inReplyTo, payloadDigest };
}

function idOf(head: Uint8Array): string {
  return hash("sha256", signedBytes(head), "hex").slice(0, 32);
}

function signedBytes(head: Uint8Array): Uint8Array {
  return new OctetWriter().text8(DOMAIN).raw(head).end();
}
