// The seal by systemd: an encrypted credential, opened by systemd for the unit or by systemd-creds for root. A secret crosses pipes and $CREDENTIALS_DIRECTORY alone.
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { RiprapError } from "../../error.ts";
import { SEAL_SECRET_BYTES } from "./envelope.ts";

/** As systemd/riprap.service has it. */
export const CREDENTIAL_NAME = "riprap-seal";
/** A credential under TPM and host key takes about 1 KiB of base64. */
export const CREDENTIAL_BYTES_MAX = 16 * 1024;
const TOOL_TIMEOUT_MS = 20_000;

/** As sd_booted(3) asks. */
export const SYSTEMD_RUNS = "/run/systemd/system";

/** Where credentials are opened and made. */
export interface CredentialGround {
  /** $CREDENTIALS_DIRECTORY of a unit. */
  readonly directory: string | undefined;
  /** Runs systemd-creds; undefined where there is none, or no systemd. */
  readonly run: ((words: readonly string[], input: Uint8Array) => ToolAnswer) | undefined;
}

export interface ToolAnswer {
  readonly ok: boolean;
  readonly output: Uint8Array;
  /** What the tool said, for a message; it never quotes a secret. */
  readonly said: string;
}

/** The ground of this process. */
export function systemdGround(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): CredentialGround {
  const tool = existsSync(SYSTEMD_RUNS) ? Bun.which("systemd-creds") : null;
  return {
    directory: environment["CREDENTIALS_DIRECTORY"],
    run: tool === null ? undefined : (words, input) => runTool([tool, ...words], input),
  };
}

function runTool(command: string[], input: Uint8Array): ToolAnswer {
  const done = Bun.spawnSync(command, { stdin: input, stdout: "pipe", stderr: "pipe", timeout: TOOL_TIMEOUT_MS });
  return { ok: done.exitCode === 0, output: done.stdout, said: done.stderr.toString().trim().slice(0, 200) };
}

/** The credential's text, as LoadCredentialEncrypted= reads it. Throws RiprapError `credential_refused`. */
export function sealByCredential({ run }: CredentialGround, secret: Uint8Array): Uint8Array {
  if (run === undefined)
    throw refused("seal", "systemd does not run here, or it has no systemd-creds (it came with version 250)");
  // Hexadecimal: systemd sets credentials without a NUL in them.
  const text = Buffer.from(Buffer.from(secret).toString("hex"));
  try {
    const { ok, output, said } = run(["encrypt", `--name=${CREDENTIAL_NAME}`, "-", "-"], text);
    if (!ok) throw refused("seal", `systemd-creds says: ${said}; run this as root`);
    if (output.length === 0 || output.length > CREDENTIAL_BYTES_MAX)
      throw refused("seal", "systemd-creds gave no credential");
    return Uint8Array.from(output);
  } finally {
    text.fill(0);
  }
}

/** The 32 bytes, to be wiped. Throws RiprapError `credential_missing`, `credential_refused`. */
export function openByCredential({ directory, run }: CredentialGround, credential: Uint8Array): Uint8Array {
  const given = directory === undefined ? undefined : readGiven(join(directory, CREDENTIAL_NAME));
  if (given !== undefined) return parseSecret(given);
  if (run === undefined) {
    throw new RiprapError(
      "credential_missing",
      `Cannot open the seal: there is no credential ${CREDENTIAL_NAME} in $CREDENTIALS_DIRECTORY, and no systemd-creds; start the daemon by riprap.service, whose LoadCredentialEncrypted= gives it`,
    );
  }
  const { ok, output, said } = run(["decrypt", `--name=${CREDENTIAL_NAME}`, "-", "-"], credential);
  if (ok) return parseSecret(output);
  output.fill(0);
  throw refused(
    "open",
    `systemd-creds says: ${said}; start the daemon by riprap.service (restart it when the seal is new), run commands as root, on the machine that made the seal`,
  );
}

/** Undefined: not there, or what SetCredential= of the unit puts in its place. */
function readGiven(path: string): Uint8Array | undefined {
  if (!existsSync(path)) return undefined;
  const fd = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(Math.min(fstatSync(fd).size, CREDENTIAL_BYTES_MAX));
    readSync(fd, bytes, 0, bytes.length, 0);
    return bytes.length < 2 * SEAL_SECRET_BYTES ? undefined : bytes;
  } finally {
    closeSync(fd);
  }
}

function parseSecret(text: Uint8Array): Uint8Array {
  const secret = new Uint8Array(SEAL_SECRET_BYTES);
  const digits = Buffer.from(text.buffer, text.byteOffset, text.length);
  const isGood = text.length === 2 * SEAL_SECRET_BYTES && digits.every((digit) => HEX.has(digit));
  if (isGood)
    for (let i = 0; i < secret.length; i += 1)
      secret[i] = (HEX.get(digits[2 * i] as number) as number) * 16 + (HEX.get(digits[2 * i + 1] as number) as number);
  text.fill(0);
  if (isGood) return secret;
  throw refused("open", `the credential ${CREDENTIAL_NAME} is none that riprap made`);
}

const HEX = new Map([...Buffer.from("0123456789abcdef")].map((code, value) => [code, value]));

function refused(what: string, fact: string): RiprapError {
  return new RiprapError("credential_refused", `Cannot ${what} the seal by a systemd credential: ${fact}`);
}
