// CFSSL as the peer of the issuance bench: its server with a P-256 CA of its own, asked over HTTP by connections that stay open.

import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { cpuSeconds } from "./program.ts";

/** Certificates that a second of its processor time gives. */
export interface CfsslFigure {
  /** For a key that the caller has, by its request: CFSSL verifies the request and signs. */
  readonly signed: number;
  /** With a new key that the server makes, as the Workload API does. */
  readonly keyed: number;
}

/** As for the other end of the comparison. */
const WARM_UP_SECONDS = 1;

const CONFIG = {
  signing: { default: { expiry: "1h", usages: ["digital signature", "server auth", "client auth"] } },
};

/** Certificates signed for `seconds` by `callers` at once; undefined where there is no CFSSL. */
export async function measureCfssl(
  folder: string,
  load: { seconds: number; callers: number },
): Promise<CfsslFigure | undefined> {
  if (Bun.which("cfssl") === null) return undefined;
  mkdirSync(folder, { recursive: true });
  const openssl = (...words: string[]) => {
    const { exitCode, stderr } = Bun.spawnSync(["openssl", ...words], { cwd: folder });
    if (exitCode !== 0) throw new Error(`Cannot make the CA of CFSSL: ${stderr}`);
  };
  for (const name of ["ca", "leaf"])
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", `${name}.key`);
  openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=bench", "-days", "2", "-out", "ca.pem");
  openssl(
    "req",
    "-new",
    "-key",
    "leaf.key",
    "-subj",
    "/CN=leaf",
    "-addext",
    "subjectAltName=DNS:leaf.example",
    "-out",
    "leaf.csr",
  );
  writeFileSync(join(folder, "config.json"), JSON.stringify(CONFIG));
  const port = await freePort();
  const request = { hosts: ["leaf.example"], key: { algo: "ecdsa", size: 256 }, CN: "leaf" };
  const bodies = {
    sign: { certificate_request: await Bun.file(join(folder, "leaf.csr")).text(), hosts: ["leaf.example"] },
    newcert: { request },
  };
  const words = [
    "-address=127.0.0.1",
    `-port=${port}`,
    "-ca=ca.pem",
    "-ca-key=ca.key",
    "-config=config.json",
    "-loglevel=5",
  ];
  const child = Bun.spawn(["cfssl", "serve", ...words], {
    cwd: folder,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  });
  try {
    const asker = (verb: keyof typeof bodies) => {
      const body = JSON.stringify(bodies[verb]);
      return async () => {
        const response = await fetch(`http://127.0.0.1:${port}/api/v1/cfssl/${verb}`, { method: "POST", body });
        const answer = (await response.json()) as { success: boolean };
        if (!answer.success) throw new Error(`CFSSL signed nothing: ${JSON.stringify(answer)}`);
      };
    };
    await untilAnswered(asker("sign"));
    const about = { ...load, pid: child.pid };
    return { signed: await measure(asker("sign"), about), keyed: await measure(asker("newcert"), about) };
  } finally {
    child.kill();
    await child.exited;
  }
}

async function untilAnswered(sign: () => Promise<void>): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      return await sign();
    } catch (thrown) {
      if (tries === 100) throw thrown;
      await Bun.sleep(50);
    }
  }
}

async function measure(
  sign: () => Promise<void>,
  { seconds, callers, pid }: { seconds: number; callers: number; pid: number },
): Promise<number> {
  const during = async (length: number) => {
    let count = 0;
    const end = performance.now() + 1000 * length;
    const caller = async () => {
      while (performance.now() < end) {
        await sign();
        count += 1;
      }
    };
    await Promise.all(Array.from({ length: callers }, caller));
    return count;
  };
  // Connections, and what a server makes at its first calls.
  await during(WARM_UP_SECONDS);
  const cpuBefore = cpuSeconds(pid);
  const count = await during(seconds);
  return count / (cpuSeconds(pid) - cpuBefore);
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
