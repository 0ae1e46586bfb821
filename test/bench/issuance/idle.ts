// What a daemon as it is shipped holds in memory while many streams are open and nothing happens: its own process, clients in others.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { identityRule } from "../../daemon/workload_api/endpoint.ts";
import { buildBinary } from "../../run/build.ts";
import { Program } from "./program.ts";

/** A process may have 64 connections, and a user 512. */
const CLIENTS = 8;
const STREAMS_EACH = 63;
export const IDLE_STREAMS = CLIENTS * STREAMS_EACH;
/** What was needed to open the streams is collected by then. */
const REST_MS = 15_000;

/** Megabytes. */
export async function measureIdleMemory(folder: string): Promise<number> {
  const paths = {
    stateDir: join(folder, "state"),
    rulesDir: join(folder, "rules"),
    controlSocket: join(folder, "control.sock"),
    workloadSocket: join(folder, "workload.sock"),
    device: join(folder, "none"),
  };
  mkdirSync(paths.rulesDir, { recursive: true });
  const binary = join(folder, "riprap");
  await buildBinary("linux-x64", binary);
  const config = join(folder, "riprap.yaml");
  writeFileSync(config, JSON.stringify(paths));
  writeFileSync(join(paths.rulesDir, "client.yaml"), identityRule("client", { exe: process.execPath }));
  const riprap = (...words: readonly string[]) =>
    Bun.spawn([binary, ...words, "--config", config], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
  const done = async (...words: readonly string[]) => {
    const code = await riprap(...words).exited;
    if (code !== 0) throw new Error(`riprap ${words.join(" ")} ended with ${code}`);
  };
  await done("init", "bench.example", "--node", "bench");
  const daemon = riprap("daemon");
  const clients: Program[] = [];
  try {
    await done("wait-ready", "--timeout", "60s");
    for (let count = 0; count < CLIENTS; count++) {
      const client = new Program([process.execPath, join(import.meta.dir, "client.ts"), paths.workloadSocket]);
      clients.push(client);
      await client.ask(`hold 0 ${STREAMS_EACH}`);
    }
    await Bun.sleep(REST_MS);
    const [, kib = "0"] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${daemon.pid}/status`, "utf8")) ?? [];
    return (Number(kib) * 1024) / 1e6;
  } finally {
    for (const client of clients) await client.end();
    daemon.kill();
    await daemon.exited;
  }
}
