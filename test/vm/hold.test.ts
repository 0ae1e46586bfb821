// A managed program that holds the locks of its sockets for as long as it likes (program/hold.c): what it can keep from others, and from its own cut.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { CHOSEN_KERNEL, KERNEL_LINES } from "./lab/kernel.ts";
import { PROGRAM_DIR } from "./lab/product.ts";
import { bootNode, enrolNodes, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const PORT = { mutual: 7005, silent: 7006, plain: 7007 } as const;
const HOLD = "/srv/managed/hold";
/** The same program with an identity of its own. */
const OTHER = "/srv/other/hold";
const SPEAKER = "/srv/managed/hostile_peer";
const ID = "spiffe://edge.test/program";

const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: program }
spec: { workloadID: program, selectors: { process:exe: /srv/managed/* } }
---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: other }
spec: { workloadID: other, selectors: { process:exe: ${OTHER} } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: other }
spec: { workloads: [other], mode: enforce, egress: [{ to: [{ peer: other }], ports: [${PORT.silent}] }] }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: program }
spec:
  workloads: [program]
  mode: enforce
  egress:
    - { to: [{ peer: program }], ports: [${PORT.mutual}, ${PORT.silent}] }
    - { to: [{ address: 127.0.0.0/8 }], ports: [${PORT.plain}], tls: plain }
  ingress:
    - { from: [{ peer: program }], ports: [${PORT.mutual}, ${PORT.silent}] }
    - { from: [{ address: 127.0.0.0/8 }], ports: [${PORT.plain}], tls: plain }
`;

/** More than a work queue of the kernel has workers for. */
const HELD_SENDS = 300;
/** More than there are workers, and RIPRAP_HANDSHAKES_MAX of kernel/limits.h. A kernel that looks for its own faults looks at a tenth as many in the same time. */
const HELD_HANDSHAKES = CHOSEN_KERNEL ? [300] : [300, 4096];
/** Past a handshake's own, which is 10 s. */
const LIMIT_MS = 12_000;
/** Of the kernel's, for a lock of a socket. */
const WAITING_WORKERS =
  "for worker in $(pgrep kworker/u); do grep -q __lock_sock /proc/$worker/stack && echo; done | wc -l";
/** RIPRAP_HANDSHAKE_WORKERS_HELD of kernel/limits.h, and as many again that took their turn before the module looked. */
const WAITING_MAX = 32;
/** Of 1 MiB: a record, or a segment. */
const UNDER_WAY_BYTES = 64 * 1024;
/** Each was a frame more on the kernel's stack: four times what that holds. */
const DISSOLVED = 600;

for (const kernel of KERNEL_LINES) {
  describeVm(`a program that holds its sockets on kernel ${kernel}`, () => {
    let node: RiprapNode;
    /** What came of it; once more where a starved machine was too late for a handshake's limit. */
    const isServed = async (port: number) => {
      let outcome = "";
      for (let tries = 0; tries < 3 && outcome !== "spoke"; tries++)
        outcome = (await node.vm.run(["timeout", "30", SPEAKER, "connect", `${port}`, "word"])).stdout.trim();
      return outcome;
    };
    const cutBy = async (reason: string) =>
      (await node.flowsOf({ state: "cut" })).filter((flow) => flow.reason === reason);
    const revoke = (...words: string[]) =>
      node.vm.check(["timeout", "20", "riprap", "revoke", ID, "--local", ...words]);

    beforeAll(async () => {
      node = await bootNode({ kernel, name: "node", memory: 1280 });
      await node.vm.check(`mkdir -p /srv/managed && cp ${PROGRAM_DIR}/hold ${PROGRAM_DIR}/hostile_peer /srv/managed/`);
      await node.vm.check(`mkdir -p /srv/other && cp ${PROGRAM_DIR}/hold ${OTHER}`);
      await node.vm.check(`sysctl -q net.core.somaxconn=${2 * Math.max(...HELD_HANDSHAKES)} vm.max_map_count=262144`);
      await enrolNodes("edge.test", [node]);
      await node.writeRules({ program: RULES });
      await node.start();
      for (const port of [PORT.mutual, PORT.plain]) {
        node.vm.spawn([SPEAKER, "serve", `${port}`]);
        await node.vm.waitFor(`ss -Hltn sport = :${port} | grep -q .`);
      }
    }, BOOT_TEST_MS);

    afterAll(() => node?.stop(), VM_TEST_MS);

    test(
      "the kernel outlives an option that was on its way while TLS was put under the connection",
      async () => {
        expect(await node.vm.check([HOLD, "borrow", `${PORT.plain}`])).toBe("spoke\n");
      },
      VM_TEST_MS,
    );

    test(
      `the kernel outlives ${DISSOLVED} connections that another thread lets go while one waits for them`,
      async () => {
        const done = await node.vm.check([HOLD, "dissolve", `${PORT.silent}`, `${DISSOLVED}`], { timeout: VM_TEST_MS });
        expect(done).toBe(`dissolved ${DISSOLVED}\n`);
        expect(await isServed(PORT.mutual)).toBe("spoke");
      },
      VM_TEST_MS,
    );

    test(
      `${HELD_SENDS} sends that never end hold up neither the daemon nor the cuts and connections of others`,
      async () => {
        const holder = node.vm.spawn([HOLD, "sends", `${PORT.mutual}`, `${HELD_SENDS}`]);
        await holder.waitOutput(/^holds/, VM_TEST_MS);
        const cuts = async () => {
          const cut = await cutBy("revoked");
          return (["inbound", "outbound"] as const).map((end) => cut.filter((flow) => flow.direction === end).length);
        };
        const [inbound = 0, outbound = 0] = await cuts();

        await revoke();
        await node.vm.waitFor(`! ss -Htn state established sport = :${PORT.mutual} | grep -q .`);
        expect(await cuts()).toEqual([inbound + HELD_SENDS, outbound]);
        await revoke("--lift");
        await node.vm.waitFor(`${SPEAKER} connect ${PORT.mutual} word | grep -q spoke`);

        holder.kill("KILL");
        await holder.exited;
        expect(await cuts()).toEqual([inbound + HELD_SENDS, outbound + HELD_SENDS]);
      },
      2 * VM_TEST_MS,
    );

    for (const kind of ["mutual", "plain"] as const)
      test(
        `a send on a ${kind} connection ends where it is when it was under way at the cut`,
        async () => {
          const holder = node.vm.spawn([HOLD, "drip", `${PORT[kind]}`]);
          await holder.waitOutput(/^holds/, VM_TEST_MS);
          await revoke();
          // Past the first look at it, which leaves an operation time to end by itself.
          await Bun.sleep(500);
          holder.endInput();
          const [, sent] = await holder.waitOutput(/^sent (\d+)$/m, VM_TEST_MS);
          await holder.exited;
          await revoke("--lift");
          expect(Number(sent)).toBeLessThanOrEqual(UNDER_WAY_BYTES);
          await node.vm.waitFor(`${SPEAKER} connect ${PORT.mutual} word | grep -q spoke`);
        },
        VM_TEST_MS,
      );

    for (const count of HELD_HANDSHAKES)
      test(
        `others connect when one holds the sockets of ${count} handshakes that are under way`,
        async () => {
          const holder = node.vm.spawn([OTHER, "handshakes", `${PORT.silent}`, `${count}`]);
          await holder.waitOutput(/^holds/, 2 * VM_TEST_MS);
          for (let round = 0; round < 3; round++) expect(await isServed(PORT.mutual)).toBe("spoke");
          // Each is told to end now, those too whose worker waits for the program.
          await Bun.sleep(LIMIT_MS);
          for (let round = 0; round < 3; round++) expect(await isServed(PORT.mutual)).toBe("spoke");
          const stuck = Number(await node.vm.check(WAITING_WORKERS));
          process.stderr.write(`${stuck} workers wait for a program with ${count} held sockets\n`);
          expect(stuck).toBeLessThanOrEqual(WAITING_MAX);
          await node.vm.check(["timeout", "20", "riprap", "status"]);
          holder.kill("KILL");
          await holder.exited;
          expect(await isServed(PORT.mutual)).toBe("spoke");
        },
        3 * VM_TEST_MS,
      );
  });
}
