// The key store of one directory: NAME.key holds an envelope under the seal, or lies open where there is no seal.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { RiprapError } from "../../error.ts";
import { readPrivateFile, removePrivateFile, writePrivateFile } from "../../private_file.ts";
import { createKey, KEY_BYTES_MAX, POINT_BYTES } from "../key.ts";
import type { CaKey, Custody, CustodySetting, KeyModule, KeyStore } from "../key_store.ts";
import { closeEnvelope, ENVELOPE_EXTRA_BYTES, openEnvelope, readEnvelope, type Seal } from "./envelope.ts";
import { HeldKey, type KeyHome } from "./held_key.ts";
import { withLock } from "./lock.ts";
import {
  installRecord,
  makeSeal,
  openSeal,
  readNextRecord,
  readSealRecord,
  type SealCustody,
  type SealGround,
  type SealRecord,
} from "./seal.ts";

/** An RSA key of 4096 bits in PKCS#8 takes 2.4 KiB. */
const SECRET_BYTES_MAX = 16 * 1024;
const NAME = /^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$/;
const SUFFIX = ".key";
export const LOCK = "seal.lock";

export class NodeKeyStore implements KeyStore {
  readonly #directory: string;
  readonly #setting: CustodySetting;
  readonly #ground: SealGround;
  readonly #home: KeyHome = { module: undefined, signers: new Set() };
  #held: Seal | undefined;

  constructor(directory: string, setting: CustodySetting, ground: SealGround) {
    this.#directory = directory;
    this.#setting = setting;
    this.#ground = ground;
  }

  get custody(): Exclude<Custody, "kernel"> {
    return readSealRecord(this.#directory)?.custody ?? "file";
  }

  list(): readonly { name: string; sealed: boolean }[] {
    return secretNames(this.#directory).map((name) => {
      const file = readFile(this.#path(name));
      const sealed = readEnvelope(file) !== undefined;
      file.fill(0);
      return { name, sealed };
    });
  }

  has(name: string): boolean {
    return existsSync(this.#path(name));
  }

  createKey(name: string): CaKey {
    const { pkcs8, point } = createKey();
    try {
      this.#write(name, pkcs8, point.bytes);
    } finally {
      pkcs8.fill(0);
    }
    return this.openKey(name);
  }

  openKey(name: string): CaKey {
    const path = this.#path(name);
    const file = readPrivateFile(path, KEY_BYTES_MAX + ENVELOPE_EXTRA_BYTES);
    const sealed = readEnvelope(file);
    const record = sealed === undefined ? undefined : this.#recordOf(sealed.sealId, path);
    file.fill(0);
    return new HeldKey({
      path,
      custody: record?.custody ?? "file",
      publicKey: sealed?.publicPart.length === POINT_BYTES ? sealed.publicPart : undefined,
      read: () => this.openSecret(name),
      home: this.#home,
    });
  }

  copy(from: string, to: string): void {
    const publicPart = readEnvelope(readFile(this.#path(from)))?.publicPart ?? this.openKey(from).publicKey;
    const secret = this.openSecret(from);
    try {
      this.#write(to, secret, publicPart);
    } finally {
      secret.fill(0);
    }
  }

  remove(name: string): void {
    withLock(join(this.#directory, LOCK), () => removePrivateFile(this.#path(name)));
  }

  sealSecret(name: string, secret: Uint8Array): void {
    if (secret.length > SECRET_BYTES_MAX) throw new RangeError(`a secret has ${SECRET_BYTES_MAX} bytes at most`);
    this.#write(name, secret, new Uint8Array());
  }

  openSecret(name: string): Uint8Array {
    const path = this.#path(name);
    const file = readFile(path);
    const sealed = readEnvelope(file);
    if (sealed === undefined) return file;
    const seal = this.#open(this.#recordOf(sealed.sealId, path));
    try {
      const secret = openEnvelope(seal, name, file);
      if (secret !== undefined) return secret;
      throw new RiprapError(
        "ca_key_invalid",
        `Cannot use the key ${path}: it was changed, or it is another key's file; restore it from a copy`,
      );
    } finally {
      seal.secret.fill(0);
    }
  }

  hold(): () => void {
    const record = readSealRecord(this.#directory);
    if (record === undefined) return () => undefined;
    const held = openSeal(record, this.#ground);
    this.#held = held;
    return () => {
      held.secret.fill(0);
      if (this.#held === held) this.#held = undefined;
    };
  }

  attach(module: KeyModule): readonly Error[] {
    this.#home.module = module;
    return [...this.#home.signers].flatMap((key) => key.tryEnter(module) ?? []);
  }

  detach(): void {
    this.#home.module = undefined;
    for (const key of this.#home.signers) key.leave();
  }

  #write(name: string, secret: Uint8Array, publicPart: Uint8Array): void {
    const path = this.#path(name);
    withLock(join(this.#directory, LOCK), () => {
      const seal = this.#sealToWrite();
      try {
        writePrivateFile(path, seal === undefined ? secret : closeEnvelope(seal, name, { secret, publicPart }));
      } finally {
        seal?.secret.fill(0);
      }
    });
  }

  /** A store without keys gets its seal with the first of them. */
  #sealToWrite(): Seal | undefined {
    const record = readSealRecord(this.#directory);
    if (record !== undefined) return this.#open(record);
    if (this.#setting === "file" || secretNames(this.#directory).length > 0) return undefined;
    const made = makeChosenSeal(this.#setting, this.#ground);
    if (made !== undefined) installRecord(this.#directory, made.record);
    return made?.seal;
  }

  /** To be wiped by the caller. */
  #open(record: SealRecord): Seal {
    const held = this.#held;
    if (held === undefined || !Buffer.from(record.id).equals(held.id)) return openSeal(record, this.#ground);
    return { id: held.id, secret: Uint8Array.from(held.secret) };
  }

  #recordOf(sealId: Uint8Array, path: string): SealRecord {
    // The seal of a change that was cut off opens what had been moved by then.
    for (const read of [readSealRecord, readNextRecord, readSealRecord]) {
      const record = read(this.#directory);
      if (record !== undefined && Buffer.from(record.id).equals(sealId)) return record;
    }
    throw new RiprapError(
      "seal_missing",
      `Cannot open ${path}: the seal it lies under is not in ${this.#directory}; restore seal.json from the same copy, or enrol this node again`,
    );
  }

  #path(name: string): string {
    if (!NAME.test(name)) throw new TypeError(`${JSON.stringify(name)} is no name of a key`);
    return join(this.#directory, `${name}${SUFFIX}`);
  }
}

/** Every key and secret of a directory, by name. */
export function secretNames(directory: string): readonly string[] {
  return readdirSync(directory)
    .filter((file) => file.endsWith(SUFFIX))
    .map((file) => file.slice(0, -SUFFIX.length))
    .filter((name) => NAME.test(name))
    .sort();
}

/** The best seal that this host can keep; undefined: none, and the setting allows that. Throws RiprapError `custody_unavailable`. */
export function makeChosenSeal(
  setting: Exclude<CustodySetting, "file">,
  ground: SealGround,
): { record: SealRecord; seal: Seal } | undefined {
  const wanted: readonly SealCustody[] = setting === "auto" ? ["tpm", "systemd"] : [setting];
  for (const custody of wanted) {
    try {
      return makeSeal(custody, ground);
    } catch (cause) {
      if (!(cause instanceof RiprapError)) throw cause;
      if (setting === "auto") continue;
      throw new RiprapError("custody_unavailable", `Cannot keep keys by ${custody}: ${cause.message}`, { cause });
    }
  }
  return undefined;
}

/** Throws what readPrivateFile throws. */
export function readFile(path: string): Uint8Array {
  return readPrivateFile(path, SECRET_BYTES_MAX + ENVELOPE_EXTRA_BYTES);
}
