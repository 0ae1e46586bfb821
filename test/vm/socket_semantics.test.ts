// Programs that talk to themselves over loopback see the same from their sockets when riprap manages them as when it does not.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { KERNEL_LINES } from "./lab/kernel.ts";
import { PROGRAM_DIR } from "./lab/product.ts";
import { bootNode, enrolNodes, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const PROGRAM_MS = 1.5 * VM_TEST_MS;
/** Where the same programs lie to be managed; the rules select them by this path. */
const MANAGED_DIR = "/srv/managed";
const ID = "spiffe://edge.test/program";

const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: program }
spec: { workloadID: program, selectors: { process:exe: ${MANAGED_DIR}/* } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: program }
spec:
  workloads: [program]
  egress: [{ to: [{ peer: program }] }]
  ingress: [{ from: [{ peer: program }] }]
`;

const PROGRAM_SOURCE_DIR = join(import.meta.dir, "program");

/** Those on pair.h: both ends of each connection in one program. */
const PROGRAMS = [...new Bun.Glob("*.c").scanSync(PROGRAM_SOURCE_DIR)]
  .filter((file) => readFileSync(join(PROGRAM_SOURCE_DIR, file), "utf8").includes('#include "pair.h"'))
  .map((file) => basename(file, ".c"))
  .sort();

for (const kernel of KERNEL_LINES) {
  describeVm(`socket calls on kernel ${kernel}`, () => {
    let node: RiprapNode;

    beforeAll(async () => {
      node = await bootNode({ kernel, name: "node" });
      await enrolNodes("edge.test", [node]);
      await node.writeRules({ program: RULES });
      await node.vm.check(`mkdir -p /srv && cp -r ${PROGRAM_DIR} ${MANAGED_DIR}`);
      await node.start();
    }, BOOT_TEST_MS);

    afterAll(() => node?.stop(), BOOT_TEST_MS);

    for (const program of PROGRAMS) {
      test(
        `${program} passes when nothing manages it`,
        async () => {
          expect(await failuresOf(`${PROGRAM_DIR}/${program}`)).toEqual([]);
        },
        PROGRAM_MS,
      );

      test(
        `${program} passes when it is held to its identity`,
        async () => {
          const known = new Set((await node.flowsOf({ own: ID })).map((flow) => flow.flow));
          expect(await failuresOf(`${MANAGED_DIR}/${program}`)).toEqual([]);
          const fresh = (await node.flowsOf({ own: ID })).filter((flow) => !known.has(flow.flow));
          expect(fresh.some((flow) => flow.tls === "TLS 1.3")).toBe(true);
        },
        PROGRAM_MS,
      );
    }

    /** Its FAIL lines, and how it ended when that was not well. */
    async function failuresOf(path: string): Promise<string[]> {
      const result = await node.vm.run([path], { timeout: PROGRAM_MS - 10_000 });
      const failures = result.stdout.split("\n").filter((line) => line.startsWith("FAIL "));
      if (result.code !== 0 && failures.length === 0) failures.push(`ended with ${result.code}: ${result.stderr}`);
      if (!/\d+ passed/.test(result.stdout)) failures.push(`did not come to its end: ${result.stdout.slice(-200)}`);
      return failures;
    }
  });
}
