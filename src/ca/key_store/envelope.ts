// A secret on disk under the seal: AES-256-GCM, bound to its name and to what is said of it in the clear. Pure.
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

/** No DER, which begins a key that lies open, has this as its first octet. */
const MAGIC = Buffer.from("RPRSEAL1", "latin1");
export const SEAL_ID_BYTES = 16;
export const SEAL_SECRET_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** The point of a key; nothing for other secrets. */
const PUBLIC_BYTES_MAX = 255;
const HEAD_BYTES = MAGIC.length + SEAL_ID_BYTES + NONCE_BYTES + 1;
/** What an envelope adds to its secret at most. */
export const ENVELOPE_EXTRA_BYTES = HEAD_BYTES + PUBLIC_BYTES_MAX + TAG_BYTES;

export interface Seal {
  /** Names the seal in the clear, so that a file says by which one it is opened. */
  readonly id: Uint8Array;
  /** 32 bytes; wiped by whoever opened the seal. */
  readonly secret: Uint8Array;
}

export interface Sealed {
  readonly sealId: Uint8Array;
  /** In the clear, and authenticated: the point of a key. */
  readonly publicPart: Uint8Array;
}

/** The file of `name`: random nonces, of which one seal makes far fewer than 2^32 (SP 800-38D section 8.3). */
export function closeEnvelope(
  seal: Seal,
  name: string,
  content: { secret: Uint8Array; publicPart: Uint8Array },
): Uint8Array {
  const { secret, publicPart } = content;
  if (publicPart.length > PUBLIC_BYTES_MAX) throw new RangeError(`a public part has ${PUBLIC_BYTES_MAX} bytes at most`);
  const nonce = randomBytes(NONCE_BYTES);
  const head = Buffer.concat([MAGIC, seal.id, nonce, Uint8Array.of(publicPart.length), publicPart]);
  const cipher = createCipheriv("aes-256-gcm", seal.secret, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.concat([head, Buffer.from(name)]));
  return Buffer.concat([head, cipher.update(secret), cipher.final(), cipher.getAuthTag()]);
}

/** What a file says in the clear; undefined when it is no envelope, as a key that lies open. */
export function readEnvelope(file: Uint8Array): Sealed | undefined {
  if (file.length < HEAD_BYTES + TAG_BYTES || !MAGIC.equals(file.subarray(0, MAGIC.length))) return undefined;
  const publicLength = file[HEAD_BYTES - 1] as number;
  if (file.length < HEAD_BYTES + publicLength + TAG_BYTES) return undefined;
  return {
    sealId: file.slice(MAGIC.length, MAGIC.length + SEAL_ID_BYTES),
    publicPart: file.slice(HEAD_BYTES, HEAD_BYTES + publicLength),
  };
}

/** The secret, to be wiped; undefined when the file was changed, or is another name's or another seal's. */
export function openEnvelope(seal: Seal, name: string, file: Uint8Array): Uint8Array | undefined {
  const facts = readEnvelope(file);
  if (facts === undefined || !Buffer.from(seal.id).equals(facts.sealId)) return undefined;
  const body = HEAD_BYTES + facts.publicPart.length;
  const nonce = file.subarray(MAGIC.length + SEAL_ID_BYTES, HEAD_BYTES - 1);
  const decipher = createDecipheriv("aes-256-gcm", seal.secret, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.concat([file.subarray(0, body), Buffer.from(name)]));
  decipher.setAuthTag(file.subarray(file.length - TAG_BYTES));
  const secret = decipher.update(file.subarray(body, file.length - TAG_BYTES));
  try {
    decipher.final();
    return secret;
  } catch {
    secret.fill(0);
    return undefined;
  }
}
