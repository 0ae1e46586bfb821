// CFSSL as the peer of the issuance bench: its server with a P-256 CA of its own, asked over HTTP by connections that stay open.

import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { cpuSeconds } from "./program.ts";

export interface CfsslFigure {
  readonly perCpuSecond: number;
  readonly perSecond: number;
}

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
    const body = JSON.stringify({
      certificate_request: await Bun.file(join(folder, "leaf.csr")).text(),
      hosts: ["leaf.example"],
    });
    const sign = async () => {
      const response = await fetch(`http://127.0.0.1:${port}/api/v1/cfssl/sign`, { method: "POST", body });
      const answer = (await response.json()) as { success: boolean };
      if (!answer.success) throw new Error(`CFSSL signed nothing: ${JSON.stringify(answer)}`);
    };
    await untilAnswered(sign);
    return await measure(sign, { ...load, pid: child.pid });
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
): Promise<CfsslFigure> {
  let count = 0;
  const cpuBefore = cpuSeconds(pid);
  const begun = performance.now();
  const end = begun + 1000 * seconds;
  const caller = async () => {
    while (performance.now() < end) {
      await sign();
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return {
    perCpuSecond: count / (cpuSeconds(pid) - cpuBefore),
    perSecond: (1000 * count) / (performance.now() - begun),
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
