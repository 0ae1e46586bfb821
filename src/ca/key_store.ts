// The keys and secrets of this node's CA, by name: makes them, opens them for signing, keeps them under the custody of this host. Never shows a CA key.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readPrivateFile, removePrivateFile, writePrivateFile } from "../private_file.ts";
import { createKey, KEY_BYTES_MAX } from "./key.ts";
import { UserKey } from "./key_store/user_key.ts";

/** What keeps a key: the kernel module while it runs; at rest a TPM, a systemd credential, or the mode of a file alone. */
export type Custody = "kernel" | "tpm" | "systemd" | "file";

/** A P-256 key of the CA that signs and is never seen. */
export interface CaKey {
  /** Uncompressed point, 65 bytes. */
  readonly publicKey: Uint8Array;
  readonly custody: Custody;
  /** ECDSA with SHA-256 over these bytes, in DER form. */
  sign(bytes: Uint8Array): Uint8Array;
  close(): void;
}

/** Names are lower-case words with dots and hyphens; NAME lies in ca/NAME.key. */
export interface KeyStore {
  /** At rest. */
  readonly custody: Custody;
  has(name: string): boolean;
  /** Makes a key; it is kept before anyone can use it. An earlier key of the name is gone. */
  createKey(name: string): CaKey;
  /** Throws RiprapError `ca_key_invalid`, or what readPrivateFile throws. */
  openKey(name: string): CaKey;
  /** Puts a second copy of a key or secret beside the first. */
  copy(from: string, to: string): void;
  remove(name: string): void;
  /** Keeps other secret bytes, SECRET_BYTES_MAX at most, in the same custody. */
  sealSecret(name: string, secret: Uint8Array): void;
  /** The bytes, to be wiped after use. Throws what openKey throws. */
  openSecret(name: string): Uint8Array;
}

/** An RSA key of 4096 bits in PKCS#8 takes 2.4 KiB. */
export const SECRET_BYTES_MAX = 16 * 1024;
const NAME = /^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$/;

/** The store of stateDir/ca, a private directory that is there already. */
export function openKeyStore(stateDir: string): KeyStore {
  return new FileKeyStore(join(stateDir, "ca"));
}

class FileKeyStore implements KeyStore {
  readonly custody = "file";
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  has(name: string): boolean {
    return existsSync(this.#path(name));
  }

  createKey(name: string): CaKey {
    const { pkcs8 } = createKey();
    try {
      writePrivateFile(this.#path(name), pkcs8);
    } finally {
      pkcs8.fill(0);
    }
    return this.openKey(name);
  }

  openKey(name: string): CaKey {
    const path = this.#path(name);
    return new UserKey(path, this.custody, () => readPrivateFile(path, KEY_BYTES_MAX));
  }

  copy(from: string, to: string): void {
    const secret = this.openSecret(from);
    try {
      writePrivateFile(this.#path(to), secret);
    } finally {
      secret.fill(0);
    }
  }

  remove(name: string): void {
    removePrivateFile(this.#path(name));
  }

  sealSecret(name: string, secret: Uint8Array): void {
    if (secret.length > SECRET_BYTES_MAX) throw new RangeError(`a secret has ${SECRET_BYTES_MAX} bytes at most`);
    writePrivateFile(this.#path(name), secret);
  }

  openSecret(name: string): Uint8Array {
    return readPrivateFile(this.#path(name), SECRET_BYTES_MAX);
  }

  #path(name: string): string {
    if (!NAME.test(name)) throw new TypeError(`${JSON.stringify(name)} is no name of a key`);
    return join(this.#directory, `${name}.key`);
  }
}
