// What a host may keep a seal with, for tests: swtpm behind a Unix socket, systemd-creds with a host key of its own, both in a scratch folder.
import { dlopen, FFIType, ptr } from "bun:ffi";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CredentialGround } from "../../../src/ca/key_store/credential.ts";
import { readResponse, type Tpm } from "../../../src/ca/key_store/tpm.ts";
import { RiprapError } from "../../../src/error.ts";

export const HAS_SWTPM = Bun.which("swtpm") !== null;
export const HAS_SYSTEMD_CREDS = Bun.which("systemd-creds") !== null && process.getuid?.() === 0;
if (!HAS_SWTPM) process.stderr.write("skipped: seals by a TPM need swtpm\n");
if (!HAS_SYSTEMD_CREDS) process.stderr.write("skipped: seals by systemd need systemd-creds, and root\n");

const { i32, u64, i64, u32, ptr: pointer } = FFIType;
const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;

export interface SoftTpm {
  /** Of its socket. One connection at a time. */
  readonly path: string;
  readonly open: () => Tpm;
  /** A new owner seed, as a person's "clear TPM" in the firmware makes one. */
  clear(): void;
  stop(): Promise<void>;
}

/** A TPM with a memory of its own; commands go to it one connection each, as to /dev/tpmrm0. */
export async function startSwtpm(): Promise<SoftTpm> {
  const folder = mkdtempSync(join(tmpdir(), "riprap-swtpm-"));
  const socket = join(folder, "socket");
  mkdirSync(join(folder, "state"));
  const child = Bun.spawn(
    [
      ..."setpriv --pdeathsig KILL swtpm socket --tpm2 --flags not-need-init,startup-clear".split(" "),
      ...["--tpmstate", `dir=${folder}/state`, "--server", `type=unixio,path=${socket}`],
    ],
    { stdin: "ignore", stdout: "ignore", stderr: "ignore" },
  );
  while (!isListening(socket)) {
    if (child.exitCode !== null) throw new Error(`swtpm ended with ${child.exitCode}`);
    await Bun.sleep(10);
  }
  return {
    path: socket,
    open: () => connect(socket),
    clear() {
      const tpm = connect(socket);
      // TPM2_Clear by the lockout hierarchy, whose password is empty.
      const answer = tpm.exchange(Buffer.from("80020000001b000001264000000a00000009400000090000000000", "hex"));
      tpm.close();
      if (Buffer.from(answer).readUInt32BE(6) !== 0) throw new Error("swtpm does not clear");
    },
    async stop() {
      child.kill();
      await child.exited;
      rmSync(folder, { recursive: true });
    },
  };
}

/** bind() makes the file, and nobody can connect before listen(): proc_net_unix(5) has that in its flags. */
function isListening(path: string): boolean {
  const sockets = readFileSync("/proc/net/unix", "utf8").split("\n");
  return sockets.some((line) => line.endsWith(` ${path}`) && line.includes(" 00010000 "));
}

function library() {
  return dlopen("libc.so.6", {
    socket: { args: [i32, i32, i32], returns: i32 },
    connect: { args: [i32, pointer, u32], returns: i32 },
    read: { args: [i32, pointer, u64], returns: i64 },
    write: { args: [i32, pointer, u64], returns: i64 },
    close: { args: [i32], returns: i32 },
  }).symbols;
}

let loaded: ReturnType<typeof library> | undefined;

/** A connection that blocks, as the TPM's device does. */
function connect(path: string): Tpm {
  loaded ??= library();
  const libc = loaded;
  const fd = libc.socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0);
  const address = Buffer.concat([Uint8Array.of(AF_UNIX, 0), Buffer.from(`${path}\0`)]);
  if (libc.connect(fd, ptr(address), address.length) !== 0) throw new Error(`cannot connect to ${path}`);
  return {
    exchange(command) {
      const bytes = Uint8Array.from(command);
      if (libc.write(fd, ptr(bytes), bytes.length) !== BigInt(bytes.length)) throw new Error("swtpm does not listen");
      return readResponse((buffer, at) => Number(libc.read(fd, ptr(buffer, at), buffer.length - at)));
    },
    close: () => void libc.close(fd),
  };
}

/** systemd-creds with a host key in `folder`, which it makes at first. */
export function systemdOf(folder: string, directory?: string): CredentialGround {
  return {
    directory,
    run(words, input) {
      const done = Bun.spawnSync(["systemd-creds", ...withHostKey(words)], {
        stdin: input,
        stdout: "pipe",
        stderr: "pipe",
        env: { ...process.env, SYSTEMD_CREDENTIAL_SECRET: join(folder, "credential.secret") },
      });
      return { ok: done.exitCode === 0, output: done.stdout, said: done.stderr.toString() };
    },
  };
}

/** A machine without a TPM has the host key alone; a container's /var is said not to last, which `auto` would not trust. */
function withHostKey(words: readonly string[]): readonly string[] {
  return words[0] === "encrypt" ? ["encrypt", "--with-key=host", ...words.slice(1)] : words;
}

/** A host that has nothing to keep a seal with. */
export const NO_SYSTEMD: CredentialGround = { directory: undefined, run: undefined };
export const noTpm = (): Tpm => {
  throw new RiprapError("tpm_unusable", "Cannot use the TPM: there is none");
};
