// The daemon and the module on one node: processes older than either, scripts of one interpreter, renewal and death under a transfer, rules that change.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { VmProcess } from "./lab/agent.ts";
import { CHOSEN_KERNEL, KERNEL_LINES } from "./lab/kernel.ts";
import { bootNode, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const PAGE = "http://127.0.0.1:8000/page";
const SCRIPT = `import sys, time, urllib.request
name, pause = (sys.argv[1:] + ["page", "0"])[:2]
try:
    with urllib.request.urlopen("http://127.0.0.1:8000/" + name, timeout=30) as answer:
        while block := answer.read(65536):
            sys.stdout.buffer.write(block)
            sys.stdout.flush()
            time.sleep(float(pause))
except OSError as error:
    sys.exit(str(error))
`;
/** By 64 KiB: forty seconds, which is two lives of an SVID; a kernel that looks for its own faults needs more to start a daemon meanwhile. */
const SLOW = "big 0.25";
const BIG_MIB = CHOSEN_KERNEL ? 16 : 10;

function identity(name: string, selector: string): string {
  return `---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${name} }
spec:
  workloadID: ${name}
  svid: { x509: { ttl: 20s } }
  selectors:
    - ${selector}
`;
}

function policy(name: string, body: string): string {
  return `---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: ${name} }
spec:
  workloads: [spiffe://edge.test/${name}]
  mode: enforce
  ${body}
`;
}

const TO_WEB = "egress: [{ to: [{ address: 127.0.0.0/8 }], ports: [8000] }]";
const RULES = [
  identity("curl", "process:exe: /usr/bin/curl"),
  identity("web", "process:cmdline: python3 -m http.server"),
  identity("one", "process:script: /srv/one.py"),
  identity("two", "process:script: /srv/two.py"),
  identity("idle", "process:script: /srv/idle.py"),
  identity("itself", "process:exe: /usr/local/bin/riprap"),
  policy("itself", "egress: []"),
  policy("curl", TO_WEB),
  policy("one", TO_WEB),
  policy("two", "egress: []"),
  policy("idle", "egress: []"),
  policy(
    "web",
    "ingress: [{ from: [{ peer: spiffe://edge.test/curl }, { peer: spiffe://edge.test/one }], ports: [8000] }]",
  ),
].join("");

for (const kernel of KERNEL_LINES) {
  describeVm(`the daemon on kernel ${kernel}`, () => {
    let node: RiprapNode;
    let web: VmProcess;
    const serials = async (id: string) =>
      (await node.ask("ps"))
        .filter((process) => process.spiffeId === `spiffe://edge.test/${id}`)
        .map((process) => process.svid?.serial);

    beforeAll(async () => {
      const files = {
        "/srv/page": "a page\n",
        "/srv/one.py": SCRIPT,
        "/srv/two.py": SCRIPT,
        "/srv/idle.py": "import time; time.sleep(3600)\n",
      };
      node = await bootNode({ kernel, files });
      await node.vm.check(`head -c ${BIG_MIB}M /dev/urandom > /srv/big`);
      web = node.vm.spawn(["python3", "-m", "http.server", "8000", "--directory", "/srv"]);
      await node.vm.waitFor("ss -Hltn sport = :8000 | grep -q .");
      await node.riprap("init", "edge.test", "--node", "a");
      await node.writeRules({ all: RULES });
      await node.writeConfig("unknownMode: enforce\nnatsServers: nats://127.0.0.1:4222\n");
      await node.start();
    }, BOOT_TEST_MS);

    afterAll(() => node?.stop(), VM_TEST_MS);

    test(
      "adopts a server that was there before the module when a rule selects it",
      async () => {
        await node.vm.waitFor("riprap ps | grep -q /web");
        expect(await node.vm.check(["curl", "-sS", "--max-time", "30", PAGE])).toBe("a page\n");
        const [flow] = await node.flowsOf({ own: "spiffe://edge.test/curl" });
        expect(flow).toMatchObject({
          peer: "spiffe://edge.test/web",
          tls: "TLS 1.3",
          rule: "AccessPolicy/curl#egress[0]",
        });
      },
      VM_TEST_MS,
    );

    test(
      "connects by its own leave when it starts anew and a rule that selects its program lets it go nowhere",
      async () => {
        await node.stopDaemon();
        await node.start();
        await node.vm.waitFor("riprap fleet status | grep -q 'no server listens there'");
        const flows = await node.ask("flows", "--limit", "2000");
        expect(flows.filter(({ remote }) => remote.endsWith(":4222"))).toEqual([]);
      },
      VM_TEST_MS,
    );

    test(
      "tells two scripts of one interpreter apart when one may connect and the other not",
      async () => {
        expect(await node.vm.check("cd /srv && exec python3 one.py")).toBe("a page\n");
        const refused = await node.vm.run(["python3", "/srv/two.py"]);
        expect([refused.code, refused.stderr]).toEqual([1, "<urlopen error [Errno 13] Permission denied>\n"]);
        const [flow] = await node.flowsOf({ own: "spiffe://edge.test/two" });
        expect(flow).toMatchObject({ state: "denied", reason: "no_rule", error: "EACCES" });
      },
      VM_TEST_MS,
    );

    test(
      "gives an enforced program no socket while draining, and leaves an unmanaged one alone",
      async () => {
        const listen = "import socket; socket.create_server(('127.0.0.1', 0)); print('listens')";
        await node.vm.put("/srv/listen.py", listen);
        await node.vm.put(
          "/srv/one_listens.sh",
          "cd /srv && cp one.py one.saved && cp listen.py one.py && python3 /srv/one.py; code=$?; mv one.saved one.py; exit $code",
        );
        expect(await node.vm.check("sh /srv/one_listens.sh")).toBe("listens\n");
        await node.riprap("drain");
        const refused = await node.vm.run("sh /srv/one_listens.sh");
        expect([refused.code, refused.stderr.includes("Permission denied")]).toEqual([1, true]);
        expect(await node.vm.check("python3 /srv/listen.py")).toBe("listens\n");
        await node.riprap("drain", "--off");
        expect(await node.vm.check("sh /srv/one_listens.sh")).toBe("listens\n");
      },
      VM_TEST_MS,
    );

    test(
      "renews SVIDs and comes back from SIGKILL when a transfer goes on meanwhile",
      async () => {
        const transfer = node.vm.spawn(`exec python3 /srv/one.py ${SLOW} > /tmp/big 2> /tmp/big.error`);
        await node.vm.waitFor("test -s /tmp/big");
        const before = await serials("one");
        await node.vm.waitFor(`! riprap ps --json | grep -q ${before[0]}`);
        await node.stopDaemon("KILL");
        await node.start();
        expect((await serials("one")).length).toBe(1);
        const code = await transfer.exited;
        expect([code, await node.vm.check("cat /tmp/big.error")]).toEqual([0, ""]);
        expect(await node.vm.check("sha256sum < /tmp/big")).toBe(await node.vm.check("sha256sum < /srv/big"));
      },
      2 * VM_TEST_MS,
    );

    test(
      "cuts a flow and refuses the next when a rule is taken away",
      async () => {
        const transfer = node.vm.spawn(`exec python3 /srv/one.py ${SLOW} > /tmp/cut`);
        await node.vm.waitFor("test -s /tmp/cut");
        await node.vm.put("/root/closed.yaml", policy("one", "egress: []"));
        await node.riprap("apply", "-f", "/root/closed.yaml");
        expect(await transfer.exited).not.toBe(0);
        expect((await node.vm.run(["python3", "/srv/one.py"])).stderr).toContain("Permission denied");
      },
      VM_TEST_MS,
    );

    // The order in which the module is taken down is the same for every kernel.
    if (kernel !== KERNEL_LINES.at(-1)) return;
    test(
      "leaves the kernel while a program lives that it gave an identity, and finds it when it comes back",
      async () => {
        const idle = node.vm.spawn(["python3", "/srv/idle.py"]);
        await node.vm.waitFor("riprap ps | grep -q /idle");
        await node.stopDaemon();
        web.kill("KILL");
        await web.exited;
        await node.riprap("kernel", "unload", "--drain-timeout", "30s");
        expect(idle.running).toBe(true);
        await node.start();
        await node.vm.waitFor("riprap ps | grep -q /idle");
        idle.kill("KILL");
      },
      VM_TEST_MS,
    );
  });
}
