// A CA key that was opened: in the kernel module while one is attached, else in this process; from its first signature on.
import { createPublicKey, hash, type KeyObject, sign } from "node:crypto";
import { RiprapError } from "../../error.ts";
import { readDer, TAG } from "../der.ts";
import { parsePrivateKey, pointOf } from "../key.ts";
import type { CaKey, Custody, KeyModule } from "../key_store.ts";

/** Where the keys of one store sign. */
export interface KeyHome {
  module: KeyModule | undefined;
  /** Keys that have signed and are not closed: the authorities in use. */
  readonly signers: Set<HeldKey>;
}

export interface HeldKeyParts {
  readonly path: string;
  /** At rest. */
  readonly custody: Exclude<Custody, "kernel">;
  /** Known without the key where that is sealed. */
  readonly publicKey: Uint8Array | undefined;
  /** Gives PKCS#8, which is wiped here. */
  readonly read: () => Uint8Array;
  readonly home: KeyHome;
}

export class HeldKey implements CaKey {
  readonly publicKey: Uint8Array;
  readonly #parts: HeldKeyParts;
  #key: KeyObject | undefined;
  #inModule: { readonly module: KeyModule; readonly slot: number } | undefined;
  #closed = false;

  /** A key that lies open is read and checked at once: throws RiprapError `ca_key_invalid` and what `read` throws. */
  constructor(parts: HeldKeyParts) {
    this.#parts = parts;
    this.publicKey = parts.publicKey ?? pointOf(createPublicKey(this.#parse()));
  }

  get custody(): Custody {
    const { module, signers } = this.#parts.home;
    const isIn = module !== undefined && (this.#inModule?.module === module || !signers.has(this));
    return isIn ? "kernel" : this.#parts.custody;
  }

  sign(bytes: Uint8Array): Uint8Array {
    if (this.#closed) throw new TypeError("the key is closed");
    const { module, signers } = this.#parts.home;
    if (module !== undefined && !signers.has(this)) this.tryEnter(module);
    signers.add(this);
    return this.#signInModule(bytes) ?? sign("sha256", bytes, this.#inProcess());
  }

  /** Hands the key to the module and keeps nothing of it. The error when that cannot be: then the key works on as before. */
  tryEnter(module: KeyModule): RiprapError | undefined {
    try {
      this.#inModule = { module, slot: this.#enter(module) };
      this.#key = undefined;
      return undefined;
    } catch (thrown) {
      if (thrown instanceof RiprapError) return thrown;
      throw thrown;
    }
  }

  /** The module is gone, and with it the key in it. */
  leave(): void {
    this.#inModule = undefined;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const held = this.#inModule;
    this.#inModule = undefined;
    this.#key = undefined;
    this.#parts.home.signers.delete(this);
    if (held !== undefined && held.module === this.#parts.home.module) held.module.forget(held.slot);
  }

  /** Undefined: it is not there. */
  #signInModule(bytes: Uint8Array): Uint8Array | undefined {
    if (this.#inModule === undefined) return undefined;
    const { module, slot } = this.#inModule;
    try {
      return module.sign(slot, hash("sha256", bytes, "buffer"));
    } catch (thrown) {
      if (!(thrown instanceof RiprapError)) throw thrown;
      // The module is going away, which its device will say; from now on status names the custody at rest.
      this.#inModule = undefined;
      return undefined;
    }
  }

  #enter(module: KeyModule): number {
    const bytes = this.#parts.read();
    try {
      const scalar = scalarOf(bytes);
      if (scalar === undefined) throw invalid(this.#parts.path);
      const { slot, publicKey } = module.import(scalar);
      if (Buffer.from(publicKey).equals(this.publicKey)) return slot;
      module.forget(slot);
      throw invalid(this.#parts.path);
    } finally {
      bytes.fill(0);
    }
  }

  #inProcess(): KeyObject {
    this.#key ??= this.#parse();
    return this.#key;
  }

  #parse(): KeyObject {
    const bytes = this.#parts.read();
    try {
      return parsePrivateKey(bytes, this.#parts.path);
    } finally {
      bytes.fill(0);
    }
  }
}

/** The private scalar in PKCS#8 (RFC 5208, RFC 5915), a view into it; undefined when it is no such key. */
export function scalarOf(pkcs8: Uint8Array): Uint8Array | undefined {
  try {
    const outer = readDer(pkcs8, TAG.sequence);
    outer.next(TAG.integer);
    outer.next(TAG.sequence);
    const inner = readDer(outer.next(TAG.octetString).content, TAG.sequence);
    inner.next(TAG.integer);
    const scalar = inner.next(TAG.octetString).content;
    return scalar.length === 32 ? scalar : undefined;
  } catch {
    return undefined;
  }
}

function invalid(path: string): RiprapError {
  return new RiprapError("ca_key_invalid", `Cannot use the key ${path}: it is not the P-256 key that it says it is`);
}
