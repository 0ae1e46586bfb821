// A node that starts again with no network, no peer and a sealed key: from the start of the process to the first SVID over the Workload API.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { moveCustody } from "../../src/ca/key_store.ts";
import { initTrustDomain } from "../../src/ca.ts";
import { systemClock } from "../../src/clock.ts";
import { HAS_SWTPM, HAS_SYSTEMD_CREDS, NO_SYSTEMD, noTpm, startSwtpm, systemdOf } from "../ca/key_store/ground.ts";
import { Inbox, identityRule, openClient } from "./workload_api/endpoint.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");
const FIRST_SVID_MS = 1000;
/** After one that brings the files into memory; every one of them counts. */
const STARTS = 3;
/** Not even a loopback interface; the Workload API is a file. */
const ALONE = ["unshare", "--net"];
const WITHOUT_A_TPM = "";
/** Hands a TPM's bytes on between the socket in its argument and a terminal, whose path it prints: a file that the daemon can open. */
const TERMINAL = `import os, pty, select, socket, sys, tty
near, far = pty.openpty()
tty.setraw(far)
tpm = socket.socket(socket.AF_UNIX)
tpm.connect(sys.argv[1])
print(os.ttyname(far), flush=True)
while True:
    ready, _, _ = select.select([near, tpm], [], [])
    if near in ready: tpm.sendall(os.read(near, 4096))
    if tpm in ready: os.write(near, tpm.recv(4096))
`;

/** As `./run build` makes it, but for this machine's own Bun. */
let built: string;
let folder: string;
let daemon: Bun.Subprocess<"ignore", "ignore", "pipe"> | undefined;

beforeAll(() => {
  built = mkdtempSync(join(tmpdir(), "riprap-built-"));
  const words = "build --compile --bytecode --format=esm --minify-syntax --minify-whitespace".split(" ");
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, ...words, `--outfile=${join(built, "riprap")}`, MAIN]);
  if (exitCode !== 0) throw new Error(stderr.toString());
}, 60_000);

afterAll(() => rmSync(built, { recursive: true }));

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "riprap-alone-"));
  mkdirSync(join(folder, "state"), { mode: 0o700 });
  mkdirSync(join(folder, "rules.d"));
  mkdirSync(join(folder, "credentials"));
  const settings = {
    stateDir: "state",
    rulesDir: "rules.d",
    controlSocket: "control.sock",
    workloadSocket: "workload.sock",
    device: "no_device",
  };
  const lines = Object.entries(settings).map(([key, name]) => `${key}: ${join(folder, name)}\n`);
  writeFileSync(join(folder, "riprap.yaml"), lines.join(""));
  writeFileSync(join(folder, "rules.d/agent.yaml"), identityRule("agent"));
  const init = { stateDir: join(folder, "state"), trustDomain: "edge.test", nodeName: "a", clock: systemClock };
  await initTrustDomain(init);
});

afterEach(async () => {
  await stop();
  rmSync(folder, { recursive: true });
});

async function stop(): Promise<void> {
  daemon?.kill("SIGKILL");
  await daemon?.exited;
  daemon = undefined;
}

/** Between bind() and listen() the file is there, and connections are refused. */
async function isListening(socket: string): Promise<boolean> {
  if (!existsSync(socket)) return false;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const connection = connect(socket, () => resolve(true)).on("error", () => resolve(false));
  return promise.finally(() => connection.destroy());
}

interface Start {
  /** From the start of the process to the first SVID. */
  readonly tookMs: number;
  /** Of these, for how long the daemon wanted a processor and others had them. */
  readonly waitedMs: number;
}

/** `terminal` is what the daemon finds as the TPM's device, or WITHOUT_A_TPM; undefined: whatever this machine has. */
async function startToSvid(terminal?: string): Promise<Start> {
  const socket = join(folder, "workload.sock");
  if (existsSync(socket)) unlinkSync(socket);
  const words = [join(built, "riprap"), "daemon", "--config", join(folder, "riprap.yaml")];
  const begun = performance.now();
  daemon = Bun.spawn([...ALONE, ...(terminal === undefined ? [] : withTpm(terminal)), ...words], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    env: { ...process.env, CREDENTIALS_DIRECTORY: join(folder, "credentials") },
  });
  while (!(await isListening(socket))) {
    if (daemon.exitCode !== null) throw new Error(await new Response(daemon.stderr).text());
    await Bun.sleep(2);
  }
  const client = openClient(socket);
  try {
    const inbox = new Inbox(client.stream("FetchX509SVID"));
    const { svids } = (await inbox.next()) as { svids: { spiffe_id: string }[] };
    const tookMs = performance.now() - begun;
    expect(svids[0]?.spiffe_id).toBe("spiffe://edge.test/agent");
    inbox.cancel();
    const [, waited = ""] = readFileSync(`/proc/${daemon.pid}/schedstat`, "utf8").split(" ");
    return { tookMs, waitedMs: Number(waited) / 1e6 };
  } finally {
    client.close();
    await stop();
  }
}

/** In a mount namespace of its own. */
function withTpm(terminal: string): readonly string[] {
  const hidden = join(folder, "dev");
  mkdirSync(hidden, { recursive: true });
  const device = terminal === WITHOUT_A_TPM ? "" : `ln -s ${terminal.replace("/dev", hidden)} /dev/tpmrm0;`;
  const others = `mount --rbind /dev ${hidden}; mount -t tmpfs none /dev; ln -s ${hidden}/[!t]* /dev`;
  return ["--mount", "sh", "-c", `${others}; ${device} exec "$@"`, "sh"];
}

async function expectSoon(custody: string, terminal?: string): Promise<void> {
  await startToSvid(terminal);
  const starts: Start[] = [];
  while (starts.length < STARTS) starts.push(await startToSvid(terminal));
  const text = starts.map(({ tookMs, waitedMs }) => `${Math.round(tookMs)} (${Math.round(waitedMs)})`).join(", ");
  process.stdout.write(`restart to first SVID, ${custody}: ${text} ms (of them without a processor)\n`);
  for (const { tookMs, waitedMs } of starts) expect(tookMs - waitedMs).toBeLessThan(FIRST_SVID_MS);
}

const canLeave = (...what: string[]) =>
  process.getuid?.() === 0 && Bun.spawnSync(["unshare", ...what, "true"], { stderr: "ignore" }).exitCode === 0;
const CAN_LEAVE_THE_NETWORK = canLeave("--net");
const CAN_HIDE_DEVICES = canLeave("--net", "--mount");
if (!CAN_LEAVE_THE_NETWORK) process.stderr.write("skipped: a restart with no network needs root and unshare\n");

describe.skipIf(!CAN_LEAVE_THE_NETWORK)("a restart with no network and no peer", () => {
  test("the daemon gives the first SVID within a second after SIGKILL, each time", async () => {
    await expectSoon("file");
  }, 60_000);

  test.skipIf(!HAS_SYSTEMD_CREDS)(
    "the daemon does so with its keys under a seal that the unit's credential opens",
    async () => {
      const stateDir = join(folder, "state");
      const systemd = systemdOf(folder);
      moveCustody(stateDir, "systemd", { openTpm: noTpm, systemd });
      const credential = readFileSync(join(stateDir, "ca/seal.cred"));
      const opened = systemd.run?.(["decrypt", "--name=riprap-seal", "-", "-"], credential);
      writeFileSync(join(folder, "credentials/riprap-seal"), opened?.output ?? "");
      await expectSoon("systemd");
      rmSync(join(folder, "credentials/riprap-seal"));
      await expect(startToSvid()).rejects.toThrow("there is no credential riprap-seal");
    },
    60_000,
  );

  test.skipIf(!HAS_SWTPM || !CAN_HIDE_DEVICES)(
    "the daemon does so with its keys sealed by a TPM (skipped without swtpm, and where the root is no mount point)",
    async () => {
      const tpm = await startSwtpm();
      try {
        moveCustody(join(folder, "state"), "tpm", { openTpm: tpm.open, systemd: NO_SYSTEMD });
        const relay = Bun.spawn(["setpriv", "--pdeathsig", "KILL", "python3", "-c", TERMINAL, tpm.path], {
          stdout: "pipe",
        });
        const { value } = await relay.stdout.getReader().read();
        await expectSoon("tpm", new TextDecoder().decode(value).trim());
        await expect(startToSvid(WITHOUT_A_TPM)).rejects.toThrow("/dev/tpmrm0: ENOENT");
        relay.kill();
        await relay.exited;
      } finally {
        await tpm.stop();
      }
    },
    60_000,
  );
});
