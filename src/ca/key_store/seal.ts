// The seal of a node: 32 random bytes under which all its secrets lie, kept by a TPM or a systemd credential. Its record on disk holds nothing secret.
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { RiprapError } from "../../error.ts";
import { isJsonObject, parseJson } from "../../json.ts";
import { readPrivateFile, removePrivateFile, writePrivateFile } from "../../private_file.ts";
import {
  CREDENTIAL_BYTES_MAX,
  type CredentialGround,
  openByCredential,
  sealByCredential,
  systemdGround,
} from "./credential.ts";
import { SEAL_ID_BYTES, SEAL_SECRET_BYTES, type Seal } from "./envelope.ts";
import { asStarter, mayDaemonOpen } from "./privilege.ts";
import { type OpenTpm, openByTpm, openTpmDevice, sealByTpm, TPM_DEVICE } from "./tpm.ts";
import type { SealedObject } from "./tpm_wire.ts";

/** What a seal may be kept by. */
export type SealCustody = "tpm" | "systemd";

export type SealRecord =
  | { readonly custody: "tpm"; readonly id: Uint8Array; readonly object: SealedObject }
  | { readonly custody: "systemd"; readonly id: Uint8Array; readonly credential: Uint8Array };

/** What this host has to keep a seal with. */
export interface SealGround {
  readonly openTpm: OpenTpm;
  /** A seal that root makes is worth nothing when the daemon's user cannot open it. Absent: it can. */
  readonly mayDaemonOpenTpm?: () => boolean;
  readonly systemd: CredentialGround;
}

export function hostGround(): SealGround {
  const mayDaemonOpenTpm = () => mayDaemonOpen(TPM_DEVICE);
  return { openTpm: () => openTpmDevice(), mayDaemonOpenTpm, systemd: systemdGround() };
}

/** Which custodies this host seems to have, best first; only making a seal proves it. */
export function likelyCustodies(): readonly SealCustody[] {
  const found: SealCustody[] = [];
  if (existsSync(TPM_DEVICE)) found.push("tpm");
  if (systemdGround().run !== undefined) found.push("systemd");
  return found;
}

const RECORD = "seal.json";
/** Of a change of custody that has begun. */
const NEXT_RECORD = "seal.next.json";
/** The credential alone, where LoadCredentialEncrypted= of riprap.service looks for it. */
const CREDENTIAL = "seal.cred";
const RECORD_BYTES_MAX = 64 * 1024;
/** A sealed object of 32 bytes takes about 250 bytes, and each part 2^16 at most. */
const AREA_BYTES_MAX = 4096;

/** Makes a seal, opens it again as a restart would, and gives both. Throws what the custody's own calls throw. */
export function makeSeal(custody: SealCustody, ground: SealGround): { record: SealRecord; seal: Seal } {
  if (custody === "tpm" && ground.mayDaemonOpenTpm?.() === false) {
    const remedy = "install tpm-udev, and put that user into the group tss (riprap.sysusers does), or choose systemd";
    throw new RiprapError(
      "tpm_unusable",
      `the daemon's user may not open ${TPM_DEVICE}, or it is not there; ${remedy}`,
    );
  }
  const secret = new Uint8Array(randomBytes(SEAL_SECRET_BYTES));
  const id = sealIdOf(secret);
  try {
    const record = asStarter((): SealRecord => {
      if (custody === "tpm") return { custody, id, object: sealByTpm(ground.openTpm, secret) };
      return { custody, id, credential: sealByCredential(ground.systemd, secret) };
    });
    // What the unit was given belongs to the seal before this one.
    const afterRestart = { ...ground, systemd: { ...ground.systemd, directory: undefined } };
    return { record, seal: openSeal(record, afterRestart) };
  } finally {
    secret.fill(0);
  }
}

/** Opens a seal; its secret is the caller's to wipe. Throws RiprapError `seal_foreign` besides what the custody's own calls throw. */
export function openSeal(record: SealRecord, ground: SealGround): Seal {
  const secret = asStarter(() =>
    record.custody === "tpm"
      ? openByTpm(ground.openTpm, record.object)
      : openByCredential(ground.systemd, record.credential),
  );
  if (Buffer.from(record.id).equals(sealIdOf(secret))) return { id: record.id, secret };
  secret.fill(0);
  if (record.custody === "systemd" && ground.systemd.directory !== undefined) {
    // The unit was started before the seal was made anew.
    return openSeal(record, { ...ground, systemd: { ...ground.systemd, directory: undefined } });
  }
  throw new RiprapError(
    "seal_foreign",
    `Cannot open the seal: what ${record.custody} keeps is not the secret of ${RECORD}; restore both from the same copy`,
  );
}

/** Tells seals apart, and proves that what was opened is the right one; says nothing of the secret. */
function sealIdOf(secret: Uint8Array): Uint8Array {
  return createHash("sha256").update("riprap seal\0").update(secret).digest().subarray(0, SEAL_ID_BYTES);
}

/** The seal in force; undefined: keys lie open in their files. Throws RiprapError `seal_invalid`. */
export function readSealRecord(directory: string): SealRecord | undefined {
  return readRecord(join(directory, RECORD));
}

/** The seal of a change of custody that was cut off. */
export function readNextRecord(directory: string): SealRecord | undefined {
  return readRecord(join(directory, NEXT_RECORD));
}

export function writeNextRecord(directory: string, record: SealRecord): void {
  writePrivateFile(join(directory, NEXT_RECORD), encodeRecord(record));
}

/** Puts the seal in force, after which no earlier one is known. */
export function installRecord(directory: string, record: SealRecord): void {
  if (record.custody === "systemd") writePrivateFile(join(directory, CREDENTIAL), record.credential);
  writePrivateFile(join(directory, RECORD), encodeRecord(record));
  removePrivateFile(join(directory, NEXT_RECORD));
  if (record.custody !== "systemd") removePrivateFile(join(directory, CREDENTIAL));
}

export function removeRecords(directory: string): void {
  for (const name of [RECORD, NEXT_RECORD, CREDENTIAL]) removePrivateFile(join(directory, name));
}

function encodeRecord(record: SealRecord): Uint8Array {
  const id = Buffer.from(record.id).toString("hex");
  const kept =
    record.custody === "tpm"
      ? { public: base64(record.object.publicArea), private: base64(record.object.privateArea) }
      : { credential: base64(record.credential) };
  return Buffer.from(`${JSON.stringify({ version: 1, custody: record.custody, id, ...kept }, null, 2)}\n`);
}

function readRecord(path: string): SealRecord | undefined {
  if (!existsSync(path)) return undefined;
  const bytes = readPrivateFile(path, RECORD_BYTES_MAX);
  try {
    return parseRecord(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    const fact = `${(cause as Error).message}; restore it from a copy, or enrol this node again`;
    throw new RiprapError("seal_invalid", `Cannot use ${path}: ${fact}`, { cause });
  }
}

/** Throws Error. */
export function parseRecord(text: string): SealRecord {
  const value = parseJson(text);
  if (!isJsonObject(value) || value["version"] !== 1) throw new Error("it is not of version 1");
  const { custody, id } = value;
  if (typeof id !== "string" || !/^[0-9a-f]{32}$/.test(id)) throw new Error("its id is none");
  const bytes = Buffer.from(id, "hex");
  if (custody === "tpm") {
    const object = {
      publicArea: readBase64(value["public"], AREA_BYTES_MAX),
      privateArea: readBase64(value["private"], AREA_BYTES_MAX),
    };
    return { custody, id: bytes, object };
  }
  if (custody === "systemd")
    return { custody, id: bytes, credential: readBase64(value["credential"], CREDENTIAL_BYTES_MAX) };
  throw new Error("its custody is neither tpm nor systemd");
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

function readBase64(value: unknown, bytesMax: number): Uint8Array {
  if (typeof value !== "string" || value === "") throw new Error("a part of it is missing");
  const bytes = Buffer.from(value, "base64");
  if (bytes.length > bytesMax || bytes.toString("base64") !== value) throw new Error("a part of it is damaged");
  return Uint8Array.from(bytes);
}
