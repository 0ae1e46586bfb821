// Keeps PEM files in a folder: all of them are replaced at once, and the key is never open to others. Asks nobody for an SVID.

import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { describeError, RiprapError } from "../error.ts";

/** The link that is swapped, and what the folders that it points to begin with. */
const CURRENT = ".current";
const VERSION = ".svid-";

export interface FileOptions {
  /** Permission bits of the files, none of them for others. */
  readonly mode: number;
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

/** RiprapError `folder_unsafe` or `mode_invalid`. */
export class SvidFiles {
  readonly #folder: string;
  readonly #options: FileOptions;

  /** Makes the folder when it is not there. */
  constructor(folder: string, options: FileOptions) {
    if ((options.mode & ~0o660) !== 0 || (options.mode & 0o400) === 0) {
      const fact = "it must let the owner read, and nobody but owner and group";
      throw new RiprapError(
        "mode_invalid",
        `Cannot use the mode ${options.mode.toString(8)}: ${fact}; give 600 or 640`,
      );
    }
    this.#folder = folder;
    this.#options = options;
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    const facts = lstatSync(folder);
    if (!facts.isDirectory()) throw unsafe(folder, "it is no folder");
    const self = process.geteuid?.() ?? 0;
    if (facts.uid !== self && facts.uid !== 0) throw unsafe(folder, `it belongs to user ${facts.uid}`);
    if ((facts.mode & 0o022) !== 0) throw unsafe(folder, `others can write there; chmod go-w ${folder}`);
  }

  /** Puts these files in the place of all earlier ones: whoever opens one of them afterwards finds the new one. */
  replace(files: ReadonlyMap<string, Uint8Array>): void {
    const version = `${VERSION}${randomBytes(6).toString("hex")}`;
    const place = join(this.#folder, version);
    try {
      mkdirSync(place, { mode: 0o700 });
      for (const [name, bytes] of files) this.#write(join(place, name), bytes);
      this.#open(place);
      this.#swap(CURRENT, version);
      for (const name of files.keys()) this.#link(name);
    } catch (cause) {
      rmSync(place, { recursive: true, force: true });
      throw new RiprapError("files_not_written", `Cannot write the SVID to ${this.#folder}: ${describeError(cause)}`, {
        cause,
      });
    }
    this.#sweep(version, files);
  }

  /** Takes everything away that `replace` put there. */
  remove(): void {
    this.#sweep(undefined, new Map());
  }

  #write(path: string, bytes: Uint8Array): void {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const file = openSync(path, flags, 0o600);
    try {
      for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
      // The owner first: it is not for the earlier group to read.
      const { owner, mode } = this.#options;
      if (owner !== undefined) fchownSync(file, owner.uid, owner.gid);
      fchmodSync(file, mode);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  /** Lets those in who may read the files. */
  #open(place: string): void {
    const { owner, mode } = this.#options;
    const folder = openSync(place, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      if (owner !== undefined) fchownSync(folder, owner.uid, owner.gid);
      fchmodSync(folder, (mode & 0o040) === 0 ? 0o700 : 0o750);
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }

  /** `svid.pem` → `.current/svid.pem`: the same for ever. */
  #link(name: string): void {
    const found = lstatSync(join(this.#folder, name), { throwIfNoEntry: false });
    if (found?.isSymbolicLink() !== true) this.#swap(name, join(CURRENT, name));
  }

  #swap(name: string, target: string): void {
    const temporary = join(this.#folder, `.${name}.${randomBytes(6).toString("hex")}`);
    symlinkSync(target, temporary);
    renameSync(temporary, join(this.#folder, name));
  }

  /** What earlier runs left, also one that was killed in the middle. */
  #sweep(keep: string | undefined, files: ReadonlyMap<string, Uint8Array>): void {
    for (const entry of readdirSync(this.#folder, { withFileTypes: true })) {
      const path = join(this.#folder, entry.name);
      if (entry.isSymbolicLink()) {
        const target = readlinkSync(path);
        const isOurs = target.startsWith(`${CURRENT}/`) || target.startsWith(VERSION);
        const isKept = files.has(entry.name) || (entry.name === CURRENT && keep !== undefined);
        if (isOurs && !isKept) unlinkSync(path);
      } else if (entry.isDirectory() && entry.name.startsWith(VERSION) && entry.name !== keep) {
        rmSync(path, { recursive: true });
      }
    }
  }
}

function unsafe(folder: string, fact: string): RiprapError {
  return new RiprapError("folder_unsafe", `Cannot keep an SVID in ${folder}: ${fact}`);
}
