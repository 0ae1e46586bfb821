// Moves all secrets of a directory from one custody to another, so that a cut at any step leaves each of them in one place or the other, openable.
import { createPublicKey } from "node:crypto";
import { closeSync, constants, fstatSync, fsyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { RiprapError } from "../../error.ts";
import { writePrivateFile } from "../../private_file.ts";
import { parsePrivateKey, pointOf } from "../key.ts";
import type { CustodyChange, CustodySetting } from "../key_store.ts";
import { closeEnvelope, openEnvelope, readEnvelope, type Seal, type Sealed } from "./envelope.ts";
import { withLock } from "./lock.ts";
import {
  installRecord,
  openSeal,
  readNextRecord,
  readSealRecord,
  removeRecords,
  type SealGround,
  type SealRecord,
  writeNextRecord,
} from "./seal.ts";
import { LOCK, makeChosenSeal, readFile, secretNames } from "./store.ts";

/** Throws what src/ca/key_store.ts says of moveCustody. */
export function changeCustody(directory: string, setting: CustodySetting, ground: SealGround): CustodyChange {
  return withLock(join(directory, LOCK), () => {
    const begun = readNextRecord(directory);
    const from = readSealRecord(directory)?.custody ?? "file";
    // What was cut off is finished first: there are never more than two seals.
    const finished = begun === undefined ? 0 : moveUnder({ directory, ground, record: begun });
    if (setting === "file") return { from, to: "file", moved: finished + moveOut(directory, ground) };
    const record = readSealRecord(directory);
    const isKept =
      record !== undefined && (setting === record.custody || (setting === "auto" && record.custody === "tpm"));
    const target = isKept ? record : makeNext(directory, setting, ground);
    return { from, to: target.custody, moved: finished + moveUnder({ directory, ground, record: target }) };
  });
}

function makeNext(directory: string, setting: Exclude<CustodySetting, "file">, ground: SealGround): SealRecord {
  const made = makeChosenSeal(setting, ground);
  if (made === undefined) {
    throw new RiprapError(
      "custody_unavailable",
      "Cannot seal the keys: riprap can use neither a TPM nor systemd-creds here; `riprap authority custody tpm` or `systemd` says why",
    );
  }
  made.seal.secret.fill(0);
  writeNextRecord(directory, made.record);
  return made.record;
}

interface Target {
  readonly directory: string;
  readonly ground: SealGround;
  readonly record: SealRecord;
}

/** Puts every secret under the seal of `record`, and then that in force. */
function moveUnder({ directory, ground, record }: Target): number {
  const seals = [openSeal(record, ground)];
  try {
    const [seal] = seals as [Seal];
    const before = readSealRecord(directory);
    if (before !== undefined && !isOf(before, seal)) seals.push(openSeal(before, ground));
    const moved = moveAll(directory, seals, {
      isThere: (sealed) => sealed !== undefined && isOf({ id: sealed.sealId }, seal),
      move: ({ name, secret, publicPart }) => ({
        file: closeEnvelope(seal, name, { secret, publicPart: publicPart ?? publicPartOf(secret) }),
        open: (file) => openEnvelope(seal, name, file),
      }),
    });
    installRecord(directory, record);
    return moved;
  } finally {
    for (const { secret } of seals) secret.fill(0);
  }
}

/** Puts every secret into a file that lies open. */
function moveOut(directory: string, ground: SealGround): number {
  const before = readSealRecord(directory);
  if (before === undefined) return 0;
  const seal = openSeal(before, ground);
  try {
    const moved = moveAll(directory, [seal], {
      isThere: (sealed) => sealed === undefined,
      move: ({ secret }) => ({ file: Uint8Array.from(secret), open: (file) => Uint8Array.from(file) }),
    });
    removeRecords(directory);
    return moved;
  } finally {
    seal.secret.fill(0);
  }
}

interface Moving {
  readonly name: string;
  readonly secret: Uint8Array;
  readonly publicPart: Uint8Array | undefined;
}

interface Moved {
  readonly file: Uint8Array;
  open(file: Uint8Array): Uint8Array | undefined;
}

function moveAll(
  directory: string,
  seals: readonly Seal[],
  { isThere, move }: { isThere(sealed: Sealed | undefined): boolean; move(moving: Moving): Moved },
): number {
  let moved = 0;
  for (const name of secretNames(directory)) {
    const path = join(directory, `${name}.key`);
    const old = readFile(path);
    const sealed = readEnvelope(old);
    if (isThere(sealed)) continue;
    const secret = sealed === undefined ? Uint8Array.from(old) : openWith(seals, name, old);
    try {
      const target = move({ name, secret, publicPart: sealed?.publicPart });
      replace(path, { old, target, secret });
    } finally {
      secret.fill(0);
      old.fill(0);
    }
    moved += 1;
  }
  return moved;
}

/** The new file is read back from the disk and opened before the old one is overwritten; what does not open again is undone. */
function replace(path: string, { old, target, secret }: { old: Uint8Array; target: Moved; secret: Uint8Array }): void {
  const left = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW);
  try {
    writePrivateFile(path, target.file);
    const again = target.open(readFile(path));
    const isSame = again !== undefined && Buffer.from(again).equals(secret);
    again?.fill(0);
    if (!isSame) {
      writePrivateFile(path, old);
      throw new RiprapError("custody_unavailable", `Cannot move ${path}: what was written cannot be read back`);
    }
    scrub(left);
  } finally {
    target.file.fill(0);
    closeSync(left);
  }
}

/** The blocks of a file that has no name any more; flash and copy-on-write file systems may keep others. */
function scrub(fd: number): void {
  const zeros = new Uint8Array(fstatSync(fd).size);
  writeSync(fd, zeros, 0, zeros.length, 0);
  fsyncSync(fd);
}

function openWith(seals: readonly Seal[], name: string, file: Uint8Array): Uint8Array {
  for (const seal of seals) {
    const secret = openEnvelope(seal, name, file);
    if (secret !== undefined) return secret;
  }
  throw new RiprapError(
    "ca_key_invalid",
    `Cannot move ${name}.key: it was changed, or it lies under another seal; restore it from a copy, or remove it`,
  );
}

/** The point of a P-256 key; other secrets show nothing. */
function publicPartOf(secret: Uint8Array): Uint8Array {
  try {
    return pointOf(createPublicKey(parsePrivateKey(secret, "")));
  } catch {
    return new Uint8Array();
  }
}

function isOf({ id }: Pick<SealRecord, "id">, seal: Seal): boolean {
  return Buffer.from(id).equals(seal.id);
}
