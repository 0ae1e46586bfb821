// The daemon with no more rights than riprap.service gives it: another user, its three capabilities, no network, no new privileges.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bootNode, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

/** No package of the VM makes the user of the unit. */
const USER = 990;
const RESOLVER = "/run/riprap-resolver/resolver.sock";
const UNIT = readFileSync(join(import.meta.dir, "../../systemd/riprap.service"), "utf8");

/** `-all,+sys_ptrace,…`, as setpriv wants what the unit grants. */
const CAPABILITIES = ["-all"]
  .concat(
    (/^CapabilityBoundingSet=(.*)$/m.exec(UNIT)?.[1] ?? "")
      .split(" ")
      .map((name) => `+${name.replace("CAP_", "").toLowerCase()}`),
  )
  .join(",");
const COMMAND = /^ExecStart=\/usr\/bin\/(.*)$/m.exec(UNIT)?.[1] ?? "";

const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: web }
spec:
  workloadID: web
  selectors: { process:name: python3, process:uid: 1000 }
---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: agent }
spec:
  workloadID: agent
  selectors: { process:exe: /usr/bin/curl }
---
apiVersion: riprap.io/v1
kind: Service
metadata: { name: site }
spec: { addresses: [{ address: site.example, ports: [8000] }] }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: agent }
spec:
  workloads: [agent]
  egress: [{ to: [{ service: site }] }]
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: web }
spec:
  workloads: [web]
  ingress: [{ from: [{ peer: agent }], ports: [8000] }]
`;

describeVm("the daemon with the rights of its unit", () => {
  let node: RiprapNode;

  beforeAll(async () => {
    node = await bootNode({ kernel: "6.12", files: { "/etc/hosts": "127.0.0.1 localhost site.example\n" } });
    await node.riprap("init", "edge.test", "--node", "gate-1");
    await node.riprap("kernel", "load", "--keep");
    const own = (path: string, user = USER) => `mkdir -p ${path} && chown -R ${user}:${user} ${path}`;
    const owned = ["/var/lib/riprap", "/run/riprap", "/etc/riprap/rules.d"].map((path) => own(path));
    await node.vm.run([...owned, own("/run/riprap-resolver", 991), `chown ${USER}:${USER} /dev/riprap`].join(" && "));
    node.vm.spawn(
      `exec setpriv --reuid 991 --regid 991 --clear-groups --no-new-privs --bounding-set -all riprap resolver --listen ${RESOLVER}`,
    );
    const rights = `--reuid ${USER} --regid ${USER} --clear-groups --no-new-privs --bounding-set ${CAPABILITIES} --inh-caps ${CAPABILITIES} --ambient-caps ${CAPABILITIES}`;
    node.vm.spawn(`exec unshare --net setpriv ${rights} ${COMMAND} >/var/log/riprap.log 2>&1`);
    await node.riprap("wait-ready", "--timeout", "90s");
    await node.vm.put("/root/rules.yaml", RULES);
    await node.vm.put("/srv/page", "the page\n");
    // Its folder and its page are for its own user alone.
    await node.vm.run("chown -R 1000:1000 /srv && chmod 700 /srv");
    node.vm.spawn("cd /srv && exec setpriv --reuid 1000 --regid 1000 --clear-groups python3 -m http.server 8000");
  }, BOOT_TEST_MS);

  afterAll(() => node?.stop(), VM_TEST_MS);

  test(
    "it is in charge of the kernel, and takes rules into its own folder",
    async () => {
      expect(await node.ask("status")).toMatchObject({ plane: "kernel", ready: true });
      await node.riprap("apply", "-f", "/root/rules.yaml");
      const { stdout } = await node.vm.run("stat -c %u /etc/riprap/rules.d/*.yaml");
      expect(new Set(stdout.trim().split("\n"))).toEqual(new Set([String(USER)]));
    },
    VM_TEST_MS,
  );

  test(
    "it attests processes of other users, and resolves a name without a network",
    async () => {
      const page = "curl -sS --retry 20 --retry-connrefused --retry-delay 1 -m 60 http://site.example:8000/page";
      expect(await node.vm.run(page, { timeout: VM_TEST_MS })).toMatchObject({ code: 0, stdout: "the page\n" });
      const flows = await node.flowsOf({ own: "spiffe://edge.test/agent", peer: "spiffe://edge.test/web" });
      expect(flows.at(-1)).toMatchObject({ tls: "TLS 1.3", mode: "enforce" });
      const refused = await node.vm.run("curl -sS -m 20 http://127.0.0.1:9000/");
      expect(refused.code).toBe(7);
    },
    VM_TEST_MS,
  );

  test(
    "root's commands on the daemon's state leave nothing that it cannot use",
    async () => {
      expect((await node.riprap("svid", "bundle")).stdout).toContain("BEGIN CERTIFICATE");
      const { stdout } = await node.vm.run(`find /var/lib/riprap ! -uid ${USER}`);
      expect(stdout).toBe("");
    },
    VM_TEST_MS,
  );
});
