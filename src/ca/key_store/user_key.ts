// A CA key in this process's memory: read from its custody when it is opened, as a KeyObject from then on.
import { createPublicKey, type KeyObject, sign } from "node:crypto";
import { parsePrivateKey, pointOf } from "../key.ts";
import type { CaKey, Custody } from "../key_store.ts";

export class UserKey implements CaKey {
  readonly publicKey: Uint8Array;
  readonly custody: Custody;
  #key: KeyObject | undefined;

  /** `read` gives PKCS#8, which is wiped here. Throws RiprapError `ca_key_invalid` and what `read` throws. */
  constructor(path: string, custody: Custody, read: () => Uint8Array) {
    const bytes = read();
    try {
      const key = parsePrivateKey(bytes, path);
      this.publicKey = pointOf(createPublicKey(key));
      this.custody = custody;
      this.#key = key;
    } finally {
      bytes.fill(0);
    }
  }

  sign(bytes: Uint8Array): Uint8Array {
    if (this.#key === undefined) throw new TypeError("the key is closed");
    return sign("sha256", bytes, this.#key);
  }

  close(): void {
    this.#key = undefined;
  }
}
