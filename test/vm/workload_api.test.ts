// The Workload API with the module loaded: a managed process that holds its own key, one whose key stays in the kernel, and one that is nobody.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import type { SignedSvid } from "../../src/ca.ts";
import { PROJECT_DIR } from "./lab/cache.ts";
import { KERNEL_LINES } from "./lab/kernel.ts";
import { bootNode, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const FOLDER = "/run/svid";
const HEIR = "/root/heir.py";
const HELD = ["spiffe://edge.test/keeper", "spiffe://edge.test/renamed"];
const UID = { keeper: 1000, kernel: 1001, nobody: 1002 } as const;
const identity = (name: string, uid: number, svid = "") => `---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: uid-${uid} }
spec: { workloadID: ${name}, selectors: { process:exe: /usr/local/bin/riprap, process:uid: ${uid} }${svid} }
`;
const DELIVERED = ", svid: { x509: { delivery: workload-api } }";
const PYTHON = identity("python", 0, DELIVERED).replace("/usr/local/bin/riprap", "/usr/bin/python3.11");
const rules = (keeper: string) => identity(keeper, UID.keeper, DELIVERED) + identity("kernel", UID.kernel) + PYTHON;

// The last of them, which has SO_PEERPIDFD, for all; Debian 12's own, which has not, for what rests on it.
describeVm.each(KERNEL_LINES)("the Workload API on kernel %s", (kernel) => {
  const isWhole = kernel === KERNEL_LINES.at(-1);
  let node: RiprapNode;

  beforeAll(async () => {
    const files = { [HEIR]: await Bun.file(join(PROJECT_DIR, "test/daemon/workload_api/heir.py")).text() };
    node = await bootNode({ kernel, name: "api", capture: false, files });
    await node.riprap("init", "edge.test", "--node", "api");
    await node.writeRules({ all: rules("keeper") });
    await node.start();
    await node.vm.check(`mkdir -m 755 ${FOLDER} && chown ${UID.keeper}:${UID.keeper} ${FOLDER}`);
  }, BOOT_TEST_MS);

  afterAll(() => node?.stop(), VM_TEST_MS);

  const fetchAs = (uid: number) =>
    node.vm.run(["riprap", "svid", "watch", "--once", "--json"], { uid, timeout: VM_TEST_MS });
  const listed = async () =>
    JSON.parse((await node.riprap("svid", "list", "--type", "x509", "--json")).stdout) as SignedSvid[];

  test(
    "FetchX509SVID() answers who connected, and nobody in the name of one that has ended and whose number another process has",
    async () => {
      const said = await node.vm.check(["python3", HEIR, "/run/riprap/workload.sock"], { timeout: VM_TEST_MS });
      expect(said).toMatch(/^maker answered\nsuccessor answered\nheir (refused|closed)\n$/);
    },
    VM_TEST_MS,
  );

  test.if(isWhole)(
    "FetchX509SVID() refuses a process whose key is in the kernel, and one that no rule selects",
    async () => {
      const [kernel, nobody] = await Promise.all([fetchAs(UID.kernel), fetchAs(UID.nobody)]);
      expect([kernel.code, nobody.code]).toEqual([1, 1]);
      expect(kernel.stderr).toContain("keeps private keys in the kernel");
      expect(nobody.stderr).toContain("no rule selects this process");
    },
    VM_TEST_MS,
  );

  test.if(isWhole)(
    "svid watch holds a delivered SVID in files, has another when the rules change, and what it held is revoked when it ends",
    async () => {
      const words = ["riprap", "svid", "watch", "--json", "--dir", FOLDER];
      const watch = node.vm.spawn(words, { uid: UID.keeper });
      await node.vm.waitFor(`test -s ${FOLDER}/svid.pem`);
      const verify = `openssl verify -x509_strict -CAfile ${FOLDER}/bundle.pem -untrusted ${FOLDER}/svid.pem ${FOLDER}/svid.pem`;
      expect(await node.vm.check(verify)).toContain("OK");
      expect(await node.vm.check(`stat -L -c '%a %u' ${FOLDER}/key.pem`)).toContain(`600 ${UID.keeper}`);
      const id = `openssl x509 -in ${FOLDER}/svid.pem -noout -ext subjectAltName`;
      expect(await node.vm.check(id)).toContain("URI:spiffe://edge.test/keeper");
      await node.writeRules({ all: rules("renamed") });
      await node.vm.waitFor(`${id} | grep -q edge.test/renamed`);
      watch.kill("KILL");
      await watch.exited;
      // Its end is seen at once; what the list shows is what the journal has.
      for (;;) {
        const held = (await listed()).filter(({ spiffeId }) => HELD.includes(spiffeId));
        expect([...new Set(held.map(({ spiffeId }) => spiffeId))].sort()).toEqual(HELD);
        if (held.every(({ revoked }) => revoked !== undefined)) break;
      }
    },
    VM_TEST_MS,
  );
});
