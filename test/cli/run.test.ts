// `riprap run` on a machine that takes no kernel module: it says what is in the way, and issues identities all the same.

import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { identityRule, openClient, type Reply, type WorkloadClient } from "../daemon/workload_api/endpoint.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");
const START_MS = 20_000;
/** Without headers nothing is built, and without the capability nothing is loaded, whatever this machine could do. */
const WITHOUT_MODULES = [
  ...["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /lib/modules && exec "$@"', "sh"],
  ...["setpriv", "--bounding-set", "-sys_module", "--inh-caps", "-sys_module", "--"],
];

const isPossible =
  process.getuid?.() === 0 &&
  !existsSync("/sys/module/riprap") &&
  Bun.spawnSync([...WITHOUT_MODULES, "true"], { stderr: "ignore" }).exitCode === 0;

const folder = mkdtempSync(join(tmpdir(), "riprap-run-"));
const started: Bun.Subprocess[] = [];

afterEach(async () => {
  for (const child of started.splice(0)) {
    child.kill();
    await child.exited;
  }
  rmSync(folder, { recursive: true, force: true });
});

async function firstSvids(client: WorkloadClient): Promise<unknown> {
  const stream = client.stream("FetchX509SVID");
  const reply = await new Promise<Reply>((resolve, reject) => stream.once("data", resolve).on("error", reject));
  stream.cancel();
  return reply["svids"];
}

test.skipIf(!isPossible)(
  "riprap run goes on in the identity plane and says so when the machine takes no module (skipped without root, or where the module is loaded)",
  async () => {
    const config = join(folder, "riprap.yaml");
    const workloadSocket = join(folder, "workload.sock");
    const paths = { stateDir: join(folder, "state"), rulesDir: join(folder, "rules.d"), workloadSocket };
    writeFileSync(config, JSON.stringify({ ...paths, controlSocket: join(folder, "control.sock") }));
    mkdirSync(paths.rulesDir, { mode: 0o700 });
    writeFileSync(join(paths.rulesDir, "me.yaml"), identityRule("me"), { mode: 0o600 });
    const init = Bun.spawnSync([process.execPath, MAIN, "init", "run.test", "--config", config]);
    expect(init.stderr.toString()).toBe("");

    const words = [...WITHOUT_MODULES, process.execPath, MAIN, "run", "--config", config];
    const run = Bun.spawn(words, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    started.push(run);
    const ready = [process.execPath, MAIN, "wait-ready", "--timeout", "15s", "--config", config];
    expect(await Bun.spawn(ready, { stdout: "ignore", stderr: "inherit" }).exited).toBe(0);
    const client = openClient(workloadSocket);
    try {
      expect(await firstSvids(client)).toMatchObject([{ spiffe_id: "spiffe://run.test/me" }]);
    } finally {
      client.close();
    }
    run.kill();
    expect(await run.exited).toBe(0);
    const [first] = (await run.stderr.text()).split("\n");
    expect(first).toBe("riprap: going on in the identity plane: identities are issued, NOTHING IS ENFORCED");
  },
  START_MS,
);

test(
  "a daemon ends at SIGTERM when a broker took its connection and never said a word",
  async () => {
    const place = mkdtempSync(join(tmpdir(), "riprap-stop-"));
    const broker = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    try {
      const config = join(place, "riprap.yaml");
      const path = (name: string) => join(place, name);
      const paths = { stateDir: path("state"), rulesDir: path("rules.d"), workloadSocket: path("workload.sock") };
      const natsServers = `nats://127.0.0.1:${broker.port}`;
      const others = { controlSocket: path("control.sock"), device: path("none"), natsServers };
      writeFileSync(config, JSON.stringify({ ...paths, ...others }));
      mkdirSync(paths.rulesDir, { mode: 0o700 });
      const riprap = (...words: string[]) => [process.execPath, MAIN, ...words, "--config", config];
      expect(Bun.spawnSync(riprap("init", "run.test")).stderr.toString()).toBe("");
      const daemon = Bun.spawn(riprap("daemon"), { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
      started.push(daemon);
      const reader = daemon.stderr.getReader();
      let log = "";
      while (!log.includes("no server answers in time"))
        log += Buffer.from((await reader.read()).value ?? []).toString();
      daemon.kill();
      expect(await Promise.race([daemon.exited, Bun.sleep(5000).then(() => "still there")])).toBe(0);
    } finally {
      broker.stop(true);
      rmSync(place, { recursive: true, force: true });
    }
  },
  START_MS,
);
