// Hybrid public key encryption (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, in the modes base and PSK. Knows no message and keeps no key.
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from "node:crypto";
import { RiprapError } from "../error.ts";
import { x25519PublicKey, x25519Shared } from "./curve.ts";

export const HPKE_KEY_BYTES = 32;
/** Section 9.5: a PSK of less could be guessed. */
export const PSK_BYTES_MIN = 32;
const HASH_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEM_ID = 0x0020;
const KDF_ID = 0x0001;

/** Section 7.3: the one that the runtime has and that the document gives vectors for with X25519. */
const AEAD_ID = 0x0001;
const AEAD = "aes-128-gcm";
const AEAD_KEY_BYTES = 16;

export interface HpkeKeyPair {
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
}

/** A secret that both sides know, and its name. Without it: mode base. */
export interface Psk {
  readonly secret: Uint8Array;
  readonly id: Uint8Array;
}

export interface HpkeOptions {
  readonly info: Uint8Array;
  readonly psk?: Psk;
}

/** One direction: what the sender seals, in order, the recipient opens in the same order. */
export interface HpkeContext {
  seal(aad: Uint8Array, plaintext: Uint8Array): Uint8Array;
  /** Throws RiprapError `hpke_open_failed`; the order then does not move. */
  open(aad: Uint8Array, ciphertext: Uint8Array): Uint8Array;
  /** A secret of both sides for another use (section 5.3). */
  export(exporterContext: Uint8Array, length: number): Uint8Array;
}

/** Section 7.1.3. `ikm` holds at least 32 bytes of entropy. */
export function deriveKeyPair(ikm: Uint8Array): HpkeKeyPair {
  const prk = labeledExtract(KEM_SUITE, new Uint8Array(), "dkp_prk", ikm);
  const privateKey = labeledExpand(KEM_SUITE, prk, "sk", new Uint8Array(), HPKE_KEY_BYTES);
  return { privateKey, publicKey: x25519PublicKey(privateKey) };
}

/** Section 5.1: for the holder of `publicKey`. `ephemeral` is for test vectors alone. Throws RiprapError `hpke_key_invalid`. */
export function setUpSender(
  publicKey: Uint8Array,
  options: HpkeOptions & { readonly ephemeral?: HpkeKeyPair },
): { enc: Uint8Array; context: HpkeContext } {
  const ephemeral = options.ephemeral ?? deriveKeyPair(randomBytes(HPKE_KEY_BYTES));
  const shared = decapsulated(ephemeral.privateKey, publicKey, Buffer.concat([ephemeral.publicKey, publicKey]));
  return { enc: ephemeral.publicKey, context: keySchedule(shared, options) };
}

/** Section 5.1: by the holder of the key. Throws RiprapError `hpke_key_invalid`. */
export function setUpRecipient(enc: Uint8Array, keyPair: HpkeKeyPair, options: HpkeOptions): HpkeContext {
  const shared = decapsulated(keyPair.privateKey, enc, Buffer.concat([enc, keyPair.publicKey]));
  return keySchedule(shared, options);
}

/** ExtractAndExpand of section 4.1 over the Diffie-Hellman secret. */
function decapsulated(privateKey: Uint8Array, publicKey: Uint8Array, kemContext: Uint8Array): Uint8Array {
  let dh: Uint8Array;
  try {
    dh = x25519Shared(privateKey, publicKey);
  } catch (cause) {
    throw new RiprapError("hpke_key_invalid", "Cannot agree on a secret: the other side's key is none", { cause });
  }
  const prk = labeledExtract(KEM_SUITE, new Uint8Array(), "eae_prk", dh);
  dh.fill(0);
  return labeledExpand(KEM_SUITE, prk, "shared_secret", kemContext, HASH_BYTES);
}

function keySchedule(shared: Uint8Array, { info, psk }: HpkeOptions): HpkeContext {
  if (psk !== undefined && (psk.secret.length < PSK_BYTES_MIN || psk.id.length === 0)) {
    throw new RangeError(`a PSK has ${PSK_BYTES_MIN} bytes or more, and a name`);
  }
  const suite = Buffer.concat([Buffer.from("HPKE"), u16(KEM_ID), u16(KDF_ID), u16(AEAD_ID)]);
  const none = new Uint8Array();
  const pskIdHash = labeledExtract(suite, none, "psk_id_hash", psk?.id ?? none);
  const infoHash = labeledExtract(suite, none, "info_hash", info);
  const context = Buffer.concat([Buffer.of(psk === undefined ? 0 : 1), pskIdHash, infoHash]);
  const secret = labeledExtract(suite, shared, "secret", psk?.secret ?? none);
  const key = labeledExpand(suite, secret, "key", context, AEAD_KEY_BYTES);
  const nonce = labeledExpand(suite, secret, "base_nonce", context, NONCE_BYTES);
  const exporter = labeledExpand(suite, secret, "exp", context, HASH_BYTES);
  shared.fill(0);
  return new Context({ suite, key, nonce, exporter });
}

interface Schedule {
  readonly suite: Uint8Array;
  readonly key: Uint8Array;
  readonly nonce: Uint8Array;
  readonly exporter: Uint8Array;
}

class Context implements HpkeContext {
  readonly #schedule: Schedule;
  #sequence = 0;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  seal(aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
    const { key } = this.#schedule;
    const sealed = sealAead({ key, nonce: this.#nonce(), aad }, plaintext);
    this.#sequence += 1;
    return sealed;
  }

  open(aad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
    const { key } = this.#schedule;
    const opened = openAead({ key, nonce: this.#nonce(), aad }, ciphertext);
    this.#sequence += 1;
    return opened;
  }

  export(exporterContext: Uint8Array, length: number): Uint8Array {
    return labeledExpand(this.#schedule.suite, this.#schedule.exporter, "sec", exporterContext, length);
  }

  /** Section 5.2: the sequence number is exclusive-ored onto the end of the base nonce. */
  #nonce(): Uint8Array {
    const nonce = Buffer.from(this.#schedule.nonce);
    nonce.writeUInt32BE((nonce.readUInt32BE(NONCE_BYTES - 4) ^ this.#sequence) >>> 0, NONCE_BYTES - 4);
    return nonce;
  }
}

export interface AeadInput {
  readonly key: Uint8Array;
  readonly nonce: Uint8Array;
  readonly aad: Uint8Array;
}

/** Ciphertext with its tag of 16 bytes at the end. A nonce is used once with a key. */
export function sealAead({ key, nonce, aad }: AeadInput, plaintext: Uint8Array): Uint8Array {
  const cipher = createCipheriv(AEAD, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(aad, { plaintextLength: plaintext.length });
  const body = [cipher.update(plaintext), cipher.final()];
  return new Uint8Array(Buffer.concat([...body, cipher.getAuthTag()]));
}

/** Throws RiprapError `hpke_open_failed`. */
export function openAead({ key, nonce, aad }: AeadInput, ciphertext: Uint8Array): Uint8Array {
  const length = ciphertext.length - TAG_BYTES;
  try {
    if (length < 0) throw new Error("it is shorter than its tag");
    const decipher = createDecipheriv(AEAD, key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(aad, { plaintextLength: length });
    decipher.setAuthTag(ciphertext.subarray(length));
    const body = [decipher.update(ciphertext.subarray(0, length)), decipher.final()];
    return new Uint8Array(Buffer.concat(body));
  } catch (cause) {
    throw new RiprapError("hpke_open_failed", "Cannot open what was sealed: it was changed, or sealed for another", {
      cause,
    });
  }
}

const KEM_SUITE = Buffer.concat([Buffer.from("KEM"), u16(KEM_ID)]);
const VERSION = Buffer.from("HPKE-v1");

function labeledExtract(suite: Uint8Array, salt: Uint8Array, label: string, ikm: Uint8Array): Uint8Array {
  return createHmac("sha256", salt).update(VERSION).update(suite).update(label).update(ikm).digest();
}

function labeledExpand(
  suite: Uint8Array,
  prk: Uint8Array,
  label: string,
  info: Uint8Array,
  length: number,
): Uint8Array {
  return expand(prk, Buffer.concat([u16(length), VERSION, suite, Buffer.from(label), info]), length);
}

/** HKDF-Expand (RFC 5869 section 2.3) with SHA-256. */
export function expand(prk: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const blocks: Uint8Array[] = [];
  let last = new Uint8Array();
  for (let index = 1; blocks.length * HASH_BYTES < length; index += 1) {
    last = Uint8Array.from(createHmac("sha256", prk).update(last).update(info).update(Buffer.of(index)).digest());
    blocks.push(last);
  }
  return new Uint8Array(Buffer.concat(blocks).subarray(0, length));
}

function u16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}
