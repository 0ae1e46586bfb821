// Many connections and many processes, with SVIDs that live ten seconds and a daemon that is killed meanwhile: what the kernel held before, it
// holds again afterwards. `RIPRAP_LOAD=full` makes the figures of docs/load.md, which take an hour.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { RunResult, VmProcess } from "./lab/agent.ts";
import { CHOSEN_KERNEL, SLOWDOWN } from "./lab/kernel.ts";
import { LOAD_MODULE, PROGRAM_DIR } from "./lab/product.ts";
import { startTalker, watchWire } from "./load/drain.ts";
import { type Allowance, expectReturn, type Holding, readHolding } from "./load/holding.ts";
import { bootNode, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const FULL = process.env["RIPRAP_LOAD"] === "full";
/** By hand, on a machine with nothing else to do. */
const STRICT = process.env["RIPRAP_LOAD"] !== undefined;
/** A kernel that looks for its own faults does a tenth as much a second. */
const SMALL = {
  connections: 200,
  atOnce: 100,
  processes: 12,
  churnSeconds: 20,
  restarts: 2,
  loads: 3,
  drains: 2,
  kept: 8,
};
const SIZE = FULL
  ? {
      ...SMALL,
      connections: 100_000,
      atOnce: 2000,
      processes: 5000,
      churnSeconds: 120,
      restarts: 20,
      loads: 20,
      drains: 10,
      kept: 500,
    }
  : CHOSEN_KERNEL
    ? SMALL
    : { ...SMALL, connections: 1000, atOnce: 300, processes: 40, churnSeconds: 5 };
/** Connections on their way at a time: a hundred full handshakes of an emulated CPU take longer than an SVID of ten seconds lives. */
const LANES = CHOSEN_KERNEL ? 4 : 16;
const LOAD_TEST_MS = FULL ? 40 * VM_TEST_MS : 2 * VM_TEST_MS;
const PORT = 9000;
const PLAIN_PORT = 9001;
const PROGRAM = `${PROGRAM_DIR}/load`; // selected by no rule
const CLIENT = "/srv/bin/load-client";
const SERVER = "/srv/bin/load-server";

/** The shortest there is, by hand; beside other VMs the daemon is given too little of a processor to renew every five seconds. */
const TTL_SECONDS = (STRICT ? 10 : 30) * SLOWDOWN;

/**
 * What the daemon, the agent and the kernel's own threads hold comes and goes by an object or two from one look to the next. One connection in a
 * hundred that leaves one object of any cache behind is more than that. KASAN keeps what is freed, and kmemleak looks for leaks there; under KCSAN threads of
 * the kernel come and go that Debian's has not. What the module counts of its own, its references and the sockets are held in each.
 */
const ALLOWANCE: Allowance = {
  objects: CHOSEN_KERNEL ? Number.POSITIVE_INFINITY : 4,
  of: CHOSEN_KERNEL
    ? {}
    : {
        // The last packets of connections that have just ended, until they are acknowledged: four were seen.
        ...{ skbuff_head_cache: 8, skbuff_fclone_cache: 8, skbuff_small_head: 8 },
        // Threads that the kernel makes for work that has piled up, and keeps for five minutes.
        ...{ task_struct: 8, cred_jar: 8, pid: 8 },
      },
  // Frames on their way to the daemon: 500 bytes were seen.
  moduleBytes: 4 << 10,
  // The daemon's page tables, and pools of the kernel that were filled for the first time: 400 KiB were seen at this size.
  kernelKib: (FULL || CHOSEN_KERNEL ? 12 : 2) << 10,
};

/** What the two ends of such a connection say; the last two of the one that only hears of it. */
const SVID_ENDED: ReadonlySet<string | undefined> = new Set([
  ...["peer_chain", "withdrawn", "no_identity", "timeout"],
  ...["tcp", "tls_alert"],
]);

const RULES = ["client", "server"]
  .map(
    (name) => `---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${name} }
spec: { workloadID: ${name}, svid: { x509: { ttl: ${TTL_SECONDS}s } }, selectors: { process:exe: /srv/bin/load-${name} } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: ${name} }
spec:
  workloads: [${name}]
  mode: enforce
  ${name === "client" ? "egress: [{ to: [{ peer: server }]" : "ingress: [{ from: [{ peer: client }]"}, ports: [${PORT}] }]
`,
  )
  .join("");

describeVm("a node under load", () => {
  let node: RiprapNode;
  let rested: Holding;
  /** After the module was unloaded and loaded once: the kernel keeps some names of it. */
  let unloaded: Holding | undefined;
  const load = (program: string, ...words: (string | number)[]): Promise<RunResult> =>
    node.vm.run([program, ...words.map(String)], { timeout: LOAD_TEST_MS });
  /**
   * All connections went through, or so many as may find an SVID of ten seconds ended when the daemon was given no processor or no disk for five:
   * one in a thousand, beside other VMs one in fifty. Then each has a record that says so, and nothing else is there.
   */
  const expectServed = async (total: number, ...words: (string | number)[]): Promise<void> =>
    expectShare(STRICT ? 0.999 : 0.98, total, words);
  const expectShare = async (share: number, total: number, words: readonly (string | number)[]): Promise<void> => {
    const { stdout } = await load(CLIENT, ...words);
    const served = Number(/ok (\d+)/.exec(stdout)?.[1]);
    if (served === total) return;
    const broken = await node.ask("flows", "--broken", "--limit", "10000");
    const counts = new Map<string, number>();
    for (const { direction, state, reason, alert = "", error } of broken) {
      const kind = [direction, state, reason, alert, error].join(" ");
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    const told = `${stdout}${[...counts].map(([kind, count]) => `${count} ${kind}`).join("\n")}`;
    process.stderr.write(`${told}\n`);
    expect(served, told).toBeGreaterThanOrEqual(total * share);
    const reasons = new Set(broken.map(({ reason }) => reason));
    expect(reasons.difference(SVID_ENDED), told).toEqual(new Set());
  };
  const serve = async (program: string, port: number): Promise<VmProcess> => {
    const server = node.vm.spawn([program, "serve", `${port}`]);
    await node.vm.waitFor(`ss -Hltn sport = :${port} | grep -q .`);
    return server;
  };

  beforeAll(async () => {
    node = await bootNode({ kernel: "6.12", memory: FULL ? 3072 : 1536 });
    await node.vm.check(`mkdir -p /srv/bin && cp ${PROGRAM} ${CLIENT} && cp ${PROGRAM} ${SERVER}`);
    // Else up to 31 packets that nobody has any more lie ready to be freed by the processor that they are from (skb_attempt_defer_free()).
    await node.vm.check("echo 0 >/proc/sys/net/core/skb_defer_max");
    await node.riprap("init", "load.test", "--node", "a");
    await node.writeRules({ all: RULES });
    await node.writeConfig("attestTimeout: 30s\nhandshakeTimeout: 60s\n");
    await node.start();
    await serve(SERVER, PORT);
    // A daemon that has just begun compiles what it runs, emulated: an SVID of ten seconds may come too late.
    await expectShare(STRICT ? 0.5 : 1, 200, ["connect", PORT, 200, LANES]);
    // The first tap brings a module of the kernel's that stays.
    const wire = await watchWire(node, PORT);
    expect((await load(CLIENT, "spawn", PORT, 4, 2)).stdout).toBe("ok 4\n");
    await wire.end();
    rested = await readHolding(node);
  }, BOOT_TEST_MS);

  afterAll(() => node?.stop(), VM_TEST_MS);

  test(
    `${SIZE.connections} connections leave nothing behind when all of them are closed`,
    async () => {
      await expectServed(SIZE.connections, "connect", PORT, SIZE.connections, LANES);
      await expectReturn(node, rested, ALLOWANCE);
    },
    LOAD_TEST_MS,
  );

  test(
    `${SIZE.atOnce} connections are open at once and leave nothing behind`,
    async () => {
      await expectServed(SIZE.atOnce, "hold", PORT, SIZE.atOnce, LANES);
      await expectReturn(node, rested, ALLOWANCE);
    },
    LOAD_TEST_MS,
  );

  test(
    `${SIZE.processes} processes that live for one connection each leave nothing behind`,
    async () => {
      await expectServed(SIZE.processes, "spawn", PORT, SIZE.processes, 10);
      await node.vm.waitFor("test $(riprap ps | grep -c load-client) = 0");
      await expectReturn(node, rested, ALLOWANCE);
    },
    LOAD_TEST_MS,
  );

  test(
    "processes that are killed while they connect leave nothing behind",
    async () => {
      expect((await load(CLIENT, "churn", PORT, SIZE.churnSeconds, 8)).stdout).toStartWith("killed ");
      await node.vm.waitFor("test $(riprap ps | grep -c load-client) = 0");
      await expectReturn(node, rested, ALLOWANCE);
    },
    LOAD_TEST_MS,
  );

  test(
    "no connection is plain or stuck when the daemon is killed again and again",
    async () => {
      let going = true;
      const wire = await watchWire(node, PORT);
      const client = (async () => {
        const results: string[] = [];
        while (going) results.push((await load(CLIENT, "connect", PORT, 200, LANES)).stdout);
        return results.join("");
      })();
      for (let round = 0; round < SIZE.restarts; round++) {
        await node.stopDaemon("KILL");
        await node.start();
      }
      going = false;
      expect(await client).not.toContain("ETIMEDOUT");
      expect(await wire.end()).toMatch(/^packets [1-9]\d* plain 0$/);
      await expectReturn(node, rested, ALLOWANCE);
    },
    LOAD_TEST_MS,
  );

  for (let round = 0; round < SIZE.drains; round++) {
    const end = round % 2 === 0 ? "ends" : "is cut";
    test(
      `new connections are refused and ${SIZE.kept} go on while the node drains; it unloads when the last ${end}, and serves when loaded again (${round + 1})`,
      async () => {
        const wire = await watchWire(node, PORT);
        const talker = await startTalker(node, CLIENT, { port: PORT, connections: SIZE.kept, timeoutMs: LOAD_TEST_MS });
        // Goes on for as long as somebody can be reached, and a moment more; two at a time leave the daemon and the command a processor.
        const traffic = load(CLIENT, "connect", PORT, SIZE.kept * 500, 2);
        await node.vm.waitFor(`test $(cat /sys/module/riprap/refcnt) -gt ${2 * SIZE.kept + 3}`);
        await node.vm.waitFor("riprap drain", LOAD_TEST_MS);

        expect(await talker.ask("w")).toBe(`heard ${SIZE.kept} of ${SIZE.kept}`);
        expect(await talker.ask("s")).toBe("connect EACCES");
        expect(await talker.ask("n")).toBe("socket EACCES");
        expect((await load(CLIENT, "spawn", PORT, 2, 2)).stdout).toBe("ok 0 EACCES 2\n");
        expect((await node.vm.run(`bash -c 'exec 3<>/dev/tcp/127.0.0.1/${PORT}; cat <&3'`)).stderr).toContain(
          "reset by peer",
        );
        // The other end refuses those that were on their way.
        expect((await traffic).stdout).toMatch(/^ok \d+ EACCES \d+( ECONNRESET \d+)?\n$/);
        const denied = (await node.ask("flows", "--limit", "10000")).filter(({ state }) => state === "denied");
        expect(denied.filter(({ reason }) => reason === "draining").length).toBeGreaterThanOrEqual(2);

        if (end === "is cut") {
          await node.riprap("revoke", "spiffe://load.test/client", "--local");
          expect(await talker.ask("w")).toBe(`heard 0 of ${SIZE.kept}`);
          expect((await node.flowsOf({ state: "cut" })).length).toBeGreaterThanOrEqual(SIZE.kept);
          await node.riprap("revoke", "spiffe://load.test/client", "--local", "--lift");
        }
        await node.stopDaemon();
        // Its listener is gone, its connections are not.
        await node.vm.check("pkill load-server");
        const unload = node.vm.spawn(["riprap", "kernel", "unload", "--drain-timeout", `${LOAD_TEST_MS}ms`]);
        for (let left = SIZE.kept - 1; left >= 0; left--) {
          if (end === "ends") expect(await talker.ask("w")).toBe(`heard ${left + 1} of ${left + 1}`);
          expect(await talker.ask("n")).toBe("socket EACCES");
          expect(unload.running).toBe(true);
          expect(await talker.ask("e")).toBe(`left ${left}`);
        }
        expect(await unload.exited).toBe(0);

        await node.start();
        await serve(SERVER, PORT);
        expect(await talker.ask("n")).toBe("new ok");
        await talker.end();
        expect(await wire.end()).toMatch(/^packets [1-9]\d* plain 0$/);
        unloaded ??= await readHolding(node);
        await expectReturn(node, unloaded, ALLOWANCE);
      },
      LOAD_TEST_MS,
    );
  }

  test(
    "the module stays while managed sockets live, and goes and comes under the load of others",
    async () => {
      const client = node.vm.spawn([CLIENT, "connect", `${PORT}`, "1000000", "20"]);
      await node.vm.waitFor("test $(cat /sys/module/riprap/refcnt) -gt 3");
      await node.stopDaemon();
      expect((await node.vm.run("rmmod riprap")).stderr).toContain("in use");
      client.kill("KILL");
      await node.vm.check("pkill load-server; true");
      await node.riprap("kernel", "unload", "--drain-timeout", "30s");

      const plain = await serve(PROGRAM, PLAIN_PORT);
      const others = node.vm.spawn([PROGRAM, "connect", `${PLAIN_PORT}`, "10000000", "20"]);
      for (let round = 0; round < SIZE.loads; round++) await node.vm.check(`${LOAD_MODULE} && rmmod riprap`);
      expect(others.running).toBe(true);
      others.kill("KILL");
      plain.kill("KILL");
      await node.start();
      await serve(SERVER, PORT);
      expect((await load(CLIENT, "connect", PORT, 50, 10)).stdout).toBe("ok 50\n");
      if (unloaded) await expectReturn(node, unloaded, ALLOWANCE);
    },
    LOAD_TEST_MS,
  );
});
