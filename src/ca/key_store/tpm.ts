// The seal by a TPM 2.0: 32 bytes that only this TPM opens again. Speaks to the TPM itself, so that no program is given a secret.
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { RiprapError } from "../../error.ts";
import { SEAL_SECRET_BYTES } from "./envelope.ts";
import {
  createPrimaryCommand,
  createSealedCommand,
  flushCommand,
  loadCommand,
  parseResponse,
  RESPONSE_BYTES_MAX,
  readCreated,
  readHandle,
  readUnsealed,
  responseLength,
  type SealedObject,
  unsealCommand,
} from "./tpm_wire.ts";

/** The kernel's resource manager: other programs may use the TPM too. */
export const TPM_DEVICE = "/dev/tpmrm0";

/** A TPM that is open: whole commands out, whole responses in. Throws Error when it cannot be reached. */
export interface Tpm {
  exchange(command: Uint8Array): Uint8Array;
  close(): void;
}

/** Throws RiprapError `tpm_unusable`. */
export type OpenTpm = () => Tpm;

const BUSY = new Set([0x922, 0x90a, 0x908]); // TPM_RC_RETRY, _TESTING, _YIELDED
const TRIES_MAX = 50;
const BUSY_PAUSE_MS = 20;
/** Of a format-one code, without the number of the parameter, handle or session it speaks of (part 2 section 6.6.3). */
const FAULT: Readonly<Record<number, string>> = {
  159: "its seal is of another TPM, or this one was cleared since",
  139: "its seal is of another TPM, or this one was cleared since",
  162: "the owner hierarchy has a password",
  142: "the owner hierarchy has a password",
  133: "the owner hierarchy is disabled",
};

export function openTpmDevice(path = TPM_DEVICE): Tpm {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "EIO";
    const fact =
      code === "EACCES" ? "EACCES; put the daemon's user into the group that may open it (Debian: tss)" : code;
    throw unusable(`${path}: ${fact}`, cause);
  }
  return {
    exchange(command) {
      writeSync(fd, command);
      return readResponse((buffer, at) => readSync(fd, buffer, at, buffer.length - at, null));
    },
    close: () => closeSync(fd),
  };
}

/** `read` gives what is there from `at` on, as often as it takes. */
export function readResponse(read: (buffer: Uint8Array, at: number) => number): Uint8Array {
  const buffer = new Uint8Array(RESPONSE_BYTES_MAX);
  let length = 0;
  for (;;) {
    const got = read(buffer, length);
    if (got === 0) throw new RangeError("it ended");
    length += got;
    const whole = responseLength(buffer.subarray(0, length));
    if (whole !== undefined && length >= whole) return buffer.subarray(0, length);
  }
}

/** Seals 32 bytes. Throws RiprapError `tpm_unusable`, `tpm_refused`. */
export function sealByTpm(open: OpenTpm, secret: Uint8Array): SealedObject {
  return withPrimary(open, "seal", (tpm, primary) => {
    const command = createSealedCommand(primary, secret);
    try {
      return readCreated(ask(tpm, command, "seal"));
    } finally {
      command.fill(0);
    }
  });
}

/** Opens what sealByTpm sealed; to be wiped. Throws RiprapError `tpm_unusable`, `tpm_refused`. */
export function openByTpm(open: OpenTpm, object: SealedObject): Uint8Array {
  return withPrimary(open, "open", (tpm, primary) => {
    const handle = readHandle(ask(tpm, loadCommand(primary, object), "open"));
    try {
      const body = ask(tpm, unsealCommand(handle), "open");
      const secret = readUnsealed(body);
      body.fill(0);
      if (secret.length !== SEAL_SECRET_BYTES) throw new RangeError(`it gave ${secret.length} bytes`);
      return secret;
    } finally {
      ask(tpm, flushCommand(handle), "open");
    }
  });
}

function withPrimary<T>(open: OpenTpm, what: string, work: (tpm: Tpm, primary: number) => T): T {
  const tpm = open();
  try {
    const primary = readHandle(ask(tpm, createPrimaryCommand(), what));
    try {
      return work(tpm, primary);
    } finally {
      ask(tpm, flushCommand(primary), what);
    }
  } catch (thrown) {
    if (thrown instanceof RiprapError) throw thrown;
    throw unusable(`it does not answer as a TPM 2.0 does: ${(thrown as Error).message}`, thrown);
  } finally {
    tpm.close();
  }
}

/** The body of the response. */
function ask(tpm: Tpm, command: Uint8Array, what: string): Uint8Array {
  for (let tries = 1; ; tries += 1) {
    const { code, body } = parseResponse(tpm.exchange(command));
    if (code === 0) return body;
    if (BUSY.has(code) && tries < TRIES_MAX) Bun.sleepSync(BUSY_PAUSE_MS);
    else throw refused(code, what);
  }
}

function refused(code: number, what: string): RiprapError {
  // Format one: bits 0 to 5 are the fault, 6 says whether it is of a parameter, 8 to 11 which.
  const fault = (code & 0x80) === 0 ? undefined : FAULT[code & 0xbf];
  const fact = fault ?? "it refuses";
  const remedy =
    what === "open"
      ? "restore the TPM's owner, or enrol this node again; the keys under the seal open by nothing else"
      : "clear the owner's password, or choose another custody (`riprap authority custody systemd`)";
  return new RiprapError(
    "tpm_refused",
    `Cannot ${what} the seal by the TPM: ${fact} (TPM_RC 0x${code.toString(16)}); ${remedy}`,
  );
}

function unusable(fact: string, cause: unknown): RiprapError {
  return new RiprapError("tpm_unusable", `Cannot use the TPM: ${fact}`, { cause });
}
