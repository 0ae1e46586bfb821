// Commands and responses of a TPM 2.0 (TPM 2.0 Library part 1 section 18, part 2 and 3): those that seal and open 32 bytes. Pure.

const TAG_NO_SESSIONS = 0x8001;
const TAG_SESSIONS = 0x8002;
const HEADER_BYTES = 10;
/** The most that a TPM says (TPM2_PT_MAX_RESPONSE_SIZE is 4096 or less everywhere). */
export const RESPONSE_BYTES_MAX = 4096;
/** In TPM2_Create: after header, handle, size of the authorization, that (9 bytes), and three lengths. */
const CREATE_SECRET_AT = HEADER_BYTES + 4 + 4 + 9 + 3 * 2;
const RS_PASSWORD = 0x4000_0009;
const RH_OWNER = 0x4000_0001;

export const COMMAND = {
  createPrimary: 0x131,
  create: 0x153,
  load: 0x157,
  unseal: 0x15e,
  flushContext: 0x165,
} as const;

const ALG = { aes: 0x0006, keyedHash: 0x0008, sha256: 0x000b, null: 0x0010, ecc: 0x0023, cfb: 0x0043 } as const;
const ECC_P256 = 0x0003;
/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt: a storage key. */
const STORAGE_KEY = 0x0003_0472;
/** fixedTPM, fixedParent, userWithAuth, noDA: sealed data that leaves this TPM in no form. */
const SEALED_DATA = 0x0000_0452;

/** Both parts of a sealed object as TPM2B bodies; neither is secret. */
export interface SealedObject {
  readonly publicArea: Uint8Array;
  readonly privateArea: Uint8Array;
}

/** The storage primary of the owner hierarchy: the same TPM makes the same key of it each time, until it is cleared. */
export function createPrimaryCommand(): Uint8Array {
  const symmetric = Buffer.concat([u16(ALG.aes), u16(128), u16(ALG.cfb)]);
  const parameters = Buffer.concat([symmetric, u16(ALG.null), u16(ECC_P256), u16(ALG.null)]);
  const template = Buffer.concat([
    u16(ALG.ecc),
    u16(ALG.sha256),
    u32(STORAGE_KEY),
    sized(),
    parameters,
    sized(),
    sized(),
  ]);
  return withPassword(COMMAND.createPrimary, RH_OWNER, [sized(sized(), sized()), sized(template), sized(), u32(0)]);
}

/** Holds the secret once: to be wiped after it was sent. */
export function createSealedCommand(parent: number, secret: Uint8Array): Uint8Array {
  const template = Buffer.concat([
    u16(ALG.keyedHash),
    u16(ALG.sha256),
    u32(SEALED_DATA),
    sized(),
    u16(ALG.null),
    sized(),
  ]);
  const room = new Uint8Array(secret.length);
  const command = withPassword(COMMAND.create, parent, [sized(sized(), sized(room)), sized(template), sized(), u32(0)]);
  command.set(secret, CREATE_SECRET_AT);
  return command;
}

export function loadCommand(parent: number, { privateArea, publicArea }: SealedObject): Uint8Array {
  return withPassword(COMMAND.load, parent, [sized(privateArea), sized(publicArea)]);
}

export function unsealCommand(object: number): Uint8Array {
  return withPassword(COMMAND.unseal, object, []);
}

export function flushCommand(handle: number): Uint8Array {
  return Buffer.concat([u16(TAG_NO_SESSIONS), u32(HEADER_BYTES + 4), u32(COMMAND.flushContext), u32(handle)]);
}

export interface TpmResponse {
  /** TPM_RC; 0: done. */
  readonly code: number;
  /** A view. */
  readonly body: Uint8Array;
}

/** Throws RangeError when it is no whole response. */
export function parseResponse(bytes: Uint8Array): TpmResponse {
  const reader = new WireReader(bytes);
  const tag = reader.u16();
  const size = reader.u32();
  const code = reader.u32();
  if (tag !== TAG_SESSIONS && tag !== TAG_NO_SESSIONS) throw new RangeError("its tag is unknown");
  if (size !== bytes.length || size > RESPONSE_BYTES_MAX) throw new RangeError("its length is not what it says");
  return { code, body: bytes.subarray(HEADER_BYTES) };
}

/** How many bytes the response that begins like this has; undefined: not yet known. Throws RangeError past the bound. */
export function responseLength(head: Uint8Array): number | undefined {
  if (head.length < HEADER_BYTES) return undefined;
  const size = Buffer.from(head.buffer, head.byteOffset, head.length).readUInt32BE(2);
  if (size < HEADER_BYTES || size > RESPONSE_BYTES_MAX) throw new RangeError("its length is out of bounds");
  return size;
}

export function readHandle(body: Uint8Array): number {
  return new WireReader(body).u32();
}

/** TPM2_Create: what TPM2_Load wants back. */
export function readCreated(body: Uint8Array): SealedObject {
  const reader = new WireReader(body);
  reader.u32();
  const privateArea = reader.sized();
  return { privateArea, publicArea: reader.sized() };
}

/** TPM2_Unseal: the secret; a copy. */
export function readUnsealed(body: Uint8Array): Uint8Array {
  const reader = new WireReader(body);
  reader.u32();
  return reader.sized();
}

class WireReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  u16(): number {
    return this.#bytes.readUInt16BE(this.#skip(2));
  }

  u32(): number {
    return this.#bytes.readUInt32BE(this.#skip(4));
  }

  sized(): Uint8Array {
    const length = this.u16();
    const start = this.#skip(length);
    return Uint8Array.from(this.#bytes.subarray(start, start + length));
  }

  #skip(count: number): number {
    const start = this.#at;
    if (count > this.#bytes.length - start) throw new RangeError("it ends too early");
    this.#at += count;
    return start;
  }
}

/** A command on one handle whose authorization is the empty password. */
function withPassword(code: number, handle: number, parameters: readonly Uint8Array[]): Uint8Array {
  const authorization = Buffer.concat([u32(RS_PASSWORD), sized(), Uint8Array.of(0), sized()]);
  const body = Buffer.concat([u32(handle), u32(authorization.length), authorization, ...parameters]);
  return Buffer.concat([u16(TAG_SESSIONS), u32(HEADER_BYTES + body.length), u32(code), body]);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** TPM2B: the length of what follows, in two bytes. */
function sized(...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([u16(content.length), content]);
}
