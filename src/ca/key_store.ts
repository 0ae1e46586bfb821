// The keys and secrets of this node's CA, by name: makes them, opens them for signing, keeps them under the custody of this host. Never shows a CA key.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { RiprapError } from "../error.ts";
import { readPrivateFile, writePrivateFile } from "../private_file.ts";
import { changeCustody } from "./key_store/change.ts";
import { asStarter } from "./key_store/privilege.ts";
import { hostGround, likelyCustodies as likely, type SealGround } from "./key_store/seal.ts";
import { NodeKeyStore } from "./key_store/store.ts";

/** What keeps a key: the kernel module while it runs; at rest a TPM, a systemd credential, or the mode of a file alone. */
export type Custody = "kernel" | "tpm" | "systemd" | "file";
/** `auto`: a TPM, else a systemd credential, else a file. */
export type CustodySetting = "auto" | "tpm" | "systemd" | "file";

/** A P-256 key of the CA that signs and is never seen. */
export interface CaKey {
  /** Uncompressed point, 65 bytes. */
  readonly publicKey: Uint8Array;
  readonly custody: Custody;
  /** ECDSA with SHA-256 over these bytes, in DER form. */
  sign(bytes: Uint8Array): Uint8Array;
  close(): void;
}

/** The kernel module's room for CA keys. Every method throws RiprapError with the errno's name as code. */
export interface KeyModule {
  /** Takes 32 bytes, which it wipes. */
  import(privateKey: Uint8Array): { readonly slot: number; readonly publicKey: Uint8Array };
  /** A SHA-256 digest to a DER signature. */
  sign(slot: number, digest: Uint8Array): Uint8Array;
  /** Never throws: a module that is gone has forgotten. */
  forget(slot: number): void;
}

/** Names are lower-case words with dots and hyphens; NAME lies in ca/NAME.key. */
export interface KeyStore {
  /** At rest. */
  readonly custody: Exclude<Custody, "kernel">;
  /** Every key and secret, by name. */
  list(): readonly { readonly name: string; readonly sealed: boolean }[];
  has(name: string): boolean;
  /** Makes a key; it is kept before anyone can use it. An earlier key of the name is gone. */
  createKey(name: string): CaKey;
  /** Throws RiprapError `ca_key_invalid`, `seal_missing`, or what readPrivateFile throws; of a sealed key the first signature tells the rest. */
  openKey(name: string): CaKey;
  /** Puts a second copy of a key or secret beside the first. */
  copy(from: string, to: string): void;
  remove(name: string): void;
  /** Keeps other secret bytes, SECRET_BYTES_MAX at most, in the same custody. */
  sealSecret(name: string, secret: Uint8Array): void;
  /** The bytes, to be wiped after use. Throws what openKey throws, and what opening the seal throws. */
  openSecret(name: string): Uint8Array;
  /** Opens the seal once for all that is opened until the answer is called, which wipes it. Throws what would keep every key from being opened. */
  hold(): () => void;
  /** Keys sign in the module from now on. Answers why one in use could not go there; it signs on in this process. */
  attach(module: KeyModule): readonly Error[];
  /** The module is gone: keys are opened again from where they rest. */
  detach(): void;
}

export interface KeyStoreOptions {
  /** Of a store that has no keys yet; it is kept from then on. `file` when not given. */
  readonly custody?: CustodySetting;
  readonly ground?: SealGround;
}

/** The store of stateDir/ca, a private directory that is there already. */
export function openKeyStore(stateDir: string, options: KeyStoreOptions = {}): KeyStore {
  return new NodeKeyStore(join(stateDir, "ca"), options.custody ?? "file", options.ground ?? hostGround());
}

export interface CustodyChange {
  readonly from: Exclude<Custody, "kernel">;
  readonly to: Exclude<Custody, "kernel">;
  /** How many keys and secrets were moved. */
  readonly moved: number;
}

/**
 * Moves every key and secret to another custody: made and read back before the old copy goes, and taken up again where it was cut off.
 * Only while no daemon runs. Throws RiprapError `custody_unavailable`, `custody_busy`, and what opening the old seal throws.
 */
export function moveCustody(stateDir: string, to: CustodySetting, ground: SealGround = hostGround()): CustodyChange {
  return changeCustody(join(stateDir, "ca"), to, ground);
}

const AT_REST: Readonly<Record<KeyStore["custody"], string>> = {
  tpm: "sealed by the TPM",
  systemd: "sealed by a systemd credential",
  file: "file (0600)",
};

/** Where a key is, in words for `status`. */
export function describeCustody({ custody }: Pick<CaKey, "custody">, keys: Pick<KeyStore, "custody">): string {
  const atRest = AT_REST[keys.custody];
  return custody === "kernel" ? `in the kernel module; at rest: ${atRest}` : atRest;
}

/** Sentences for `status` and `doctor`; none when everything is sealed. */
export function custodyWarnings(keys: Pick<KeyStore, "custody" | "list">): readonly string[] {
  if (keys.custody === "file") {
    const [better] = likely();
    const remedy =
      better === undefined
        ? "this host has neither a TPM nor systemd to seal them with"
        : `stop the daemon and run \`riprap authority custody ${better}\``;
    return [`The keys of this node's CA lie in files that whoever copies the disk can use: ${remedy}.`];
  }
  const open = keys.list().filter(({ sealed }) => !sealed);
  if (open.length === 0) return [];
  const files = open.map(({ name }) => `ca/${name}.key`).join(", ");
  return [`${files} lies open beside the seal; stop the daemon and run \`riprap authority custody ${keys.custody}\`.`];
}

/** Writes a key or secret in the open to a new file, and reads it back before anything is removed. */
export function exportKey(
  keys: KeyStore,
  { name, file, remove }: { name: string; file: string; remove: boolean },
): void {
  if (!keys.list().some((entry) => entry.name === name)) {
    const names = keys
      .list()
      .map((entry) => entry.name)
      .join(", ");
    throw new RiprapError("key_unknown", `Cannot export ${JSON.stringify(name)}: this node has ${names}`);
  }
  if (existsSync(file)) throw new RiprapError("file_exists", `Cannot write ${file}: it is there already`);
  const secret = keys.openSecret(name);
  try {
    const again = asStarter(() => {
      writePrivateFile(file, secret);
      return readPrivateFile(file, secret.length);
    });
    const isSame = Buffer.from(again).equals(secret);
    again.fill(0);
    if (!isSame) throw new RiprapError("state_unusable", `Cannot export ${name}: ${file} cannot be read back`);
  } finally {
    secret.fill(0);
  }
  if (remove) keys.remove(name);
}

/** Which custodies better than a file this host seems to have, best first; only making a seal proves it. */
export function likelyCustodies(): readonly ("tpm" | "systemd")[] {
  return likely();
}
