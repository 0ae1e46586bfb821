// The units of systemd/ under a living systemd, installed as docs/install.md says: what they start, what they hold back, what outlives them.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bootNode, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const PROJECT = join(import.meta.dir, "../..");
const read = (path: string): string => readFileSync(join(PROJECT, path), "utf8");
/** The first commands of the page: the files, then the trust domain and the start. */
const [INSTALL = "", START = ""] = (/```sh\n([\s\S]*?)```/.exec(read("docs/install.md"))?.[1] ?? "").split("\n\n");

/** Of a person, whom ProtectHome= keeps from the daemon. */
const FOLDER = "/home/alice";

/** Answers lines for as long as there are any. */
const ECHO = `import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", 8000), Echo).serve_forever()
`;
/** One connection for its whole life; says how often it was answered. */
const AGENT = `import socket, time
for _ in range(200):
    try:
        stream = socket.create_connection(("127.0.0.1", 8000)).makefile("rw")
        break
    except OSError:
        time.sleep(0.1)
count = 0
while True:
    stream.write("ping\\n")
    stream.flush()
    assert stream.readline() == "ping\\n"
    count += 1
    open("/tmp/count", "w").write(str(count))
    time.sleep(0.1)
`;
const RULES = `apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: web }
spec:
  workloadID: web
  selectors: { systemd:unit: web.service, systemd:slice: system.slice }
---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: agent }
spec:
  workloadID: agent
  selectors:
    systemd:unit: [agent.service, agent-2.service]
    process:script: ${FOLDER}/agent.py
    process:script:sha256: ${createHash("sha256").update(AGENT).digest("hex")}
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: agent }
spec:
  workloads: [agent]
  egress: [{ to: [{ address: 127.0.0.1/32 }], ports: [8000] }]
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: web }
spec:
  workloads: [web]
  ingress: [{ from: [{ peer: agent }], ports: [8000] }]
`;

const NETWORK_SETTINGS = "healthListen: 127.0.0.1:9100\nnatsServers: nats://127.0.0.1:4222\n";

/** Says how often the scalar of a key is in the journal, in the forms that a program prints bytes in. */
const SCAN = `import base64
scalar = open("/root/node.key", "rb").read()[36:68]
journal = open("/root/journal", "rb").read()
forms = [scalar, scalar.hex().encode(), scalar.hex().upper().encode(), ", ".join(map(str, scalar)).encode()]
forms += [base64.b64encode(scalar[i:])[:36] for i in range(3)]
print("found", sum(journal.count(form) for form in forms))
`;

/** Bits of /proc/PID/status. */
const CAPABILITY: Readonly<Record<string, bigint>> = {
  CAP_DAC_READ_SEARCH: 2n,
  CAP_SYS_PTRACE: 19n,
  CAP_MAC_ADMIN: 33n,
};
const SEALED = "in the kernel module; at rest: sealed by a systemd credential";

describeVm("the units under a living systemd", () => {
  let node: RiprapNode;

  const check = (command: string) => node.vm.check(command, { timeout: VM_TEST_MS });
  const property = async (unit: string, name: string) => (await check(`systemctl show -P ${name} ${unit}`)).trim();
  const daemonPid = () => property("riprap.service", "MainPID");
  const count = async () => Number(await check("cat /tmp/count"));
  /** The one connection that was there before still carries data. */
  const goesOn = async () => {
    const before = await count();
    await node.vm.waitFor(`test "$(cat /tmp/count)" -gt ${before + 5}`);
    expect(await property("agent.service", "ActiveState")).toBe("active");
  };
  /** A process without an identity: refused before its SYN, or reset. */
  const stranger = () =>
    node.vm.run(
      `python3 -c 'import socket; s = socket.create_connection(("127.0.0.1", 8000), 20); s.sendall(b"ping\\n"); print(s.recv(9))'`,
    );

  beforeAll(async () => {
    const units = readdirSync(join(PROJECT, "systemd")).map((name) => `systemd/${name}`);
    const files = Object.fromEntries(units.map((path) => [`/root/riprap/${path}`, read(path)]));
    node = await bootNode({
      kernel: "6.12",
      init: "systemd",
      files: { ...files, "/srv/echo.py": ECHO, [`${FOLDER}/agent.py`]: AGENT, "/root/scan.py": SCAN },
    });
    await node.vm.waitFor("systemctl is-system-running --wait", VM_TEST_MS);
    await check(`chown -R 1000:1000 ${FOLDER} && chmod 700 ${FOLDER}`);
    // The binary is where the page takes it from, and nowhere else.
    await check("mkdir /root/riprap/dist && ln -s /usr/local/bin/riprap /root/riprap/dist/riprap-linux-x64");
    await check(`cd /root/riprap && set -e\n${INSTALL}\nrm /usr/local/bin/riprap`);
    await node.writeRules({ all: RULES });
    await check("chown riprap: /etc/riprap/rules.d/all.yaml");
    await check(START);
    await check("systemd-run --unit web python3 /srv/echo.py");
    await check(`systemd-run --unit agent --uid alice python3 ${FOLDER}/agent.py`);
  }, BOOT_TEST_MS);

  afterAll(() => node?.stop(), VM_TEST_MS);

  test(
    "systemctl enable --now loads the module and starts the daemon, whose CA key is under the unit's credential",
    async () => {
      const units = ["riprap.service", "riprap-module.service", "riprap-resolver.service"];
      for (const unit of units) expect([unit, await property(unit, "ActiveState")]).toEqual([unit, "active"]);
      const status = await node.ask("status");
      expect(status).toMatchObject({ plane: "kernel", ready: true, authority: { keyStorage: SEALED } });
      expect(await property("riprap.service", "StatusText")).toBe("enforcing");
      // The root's key lies here and is named so by `riprap status`; nothing else is to be warned of.
      expect(await check('journalctl -u riprap -o cat | grep -E \'"level":"(warn|error)"\' || true')).toBe("");
    },
    VM_TEST_MS,
  );

  test(
    "systemd:unit tells a process started as a unit from others, behind ProtectHome= and ProtectProc= too",
    async () => {
      await node.vm.waitFor("test -s /tmp/count");
      const [flow] = await node.flowsOf({ own: "spiffe://edge.example/agent" });
      expect(flow).toMatchObject({ peer: "spiffe://edge.example/web", tls: "TLS 1.3", mode: "enforce" });
      const { labels } = await node.ask("attest", await property("web.service", "MainPID"));
      expect(labels).toMatchObject({ "systemd:unit": ["web.service"], "systemd:slice": ["system.slice"] });
      expect(await stranger()).toMatchObject({ code: 1, stdout: "" });
    },
    VM_TEST_MS,
  );

  test(
    "the daemon has the rights that its unit names, no network, and its own directories to write to",
    async () => {
      const names = /^CapabilityBoundingSet=(.*)$/m.exec(read("systemd/riprap.service"))?.[1]?.split(" ") ?? [];
      const mask = names.reduce((sum, name) => sum | (1n << (CAPABILITY[name] ?? 63n)), 0n);
      const pid = await daemonPid();
      const said = await check(`cat /proc/${pid}/status`);
      for (const set of ["CapEff", "CapPrm", "CapBnd", "CapAmb"])
        expect([set, new RegExp(`^${set}:\\s(.*)$`, "m").exec(said)?.[1]]).toEqual([
          set,
          mask.toString(16).padStart(16, "0"),
        ]);
      expect(said).toMatch(/^NoNewPrivs:\t1$/m);
      expect(said).toMatch(/^Seccomp:\t2$/m);
      const uid = (await check("id -u riprap")).trim();
      expect(said).toMatch(new RegExp(`^Uid:\t${uid}\t${uid}\t${uid}\t${uid}$`, "m"));
      expect((await check(`nsenter -t ${pid} -n ip -o link`)).trim().split("\n")).toHaveLength(1);

      const asDaemon = `nsenter -t ${pid} -m setpriv --reuid ${uid} --regid ${uid} --clear-groups`;
      const places = "/ /etc /etc/riprap /etc/riprap/rules.d /usr/bin /var /var/lib /var/lib/riprap /var/cache/riprap";
      const more = "/srv /home /root /run /run/riprap /run/riprap-resolver /sys/fs/cgroup";
      const script = `for d in ${places} ${more}; do touch $d/.probe 2>/dev/null && echo $d && rm $d/.probe; done; true`;
      const written = (await check(`${asDaemon} sh -c '${script}'`)).trim().split("\n");
      expect(written).toEqual(["/etc/riprap/rules.d", "/var/lib/riprap", "/run/riprap"]);
      expect((await check(`nsenter -t ${pid} -m ls -A /home /root`)).split("\n").filter(Boolean)).toEqual([
        "/home:",
        "/root:",
      ]);
    },
    VM_TEST_MS,
  );

  test(
    "a killed daemon is started again by systemd, opens its seal, and connections go on",
    async () => {
      const before = await daemonPid();
      await check("systemctl kill -s KILL riprap");
      await goesOn();
      await node.vm.waitFor(`test "$(systemctl show -P MainPID riprap)" != ${before}`);
      await node.vm.waitFor("systemctl is-active -q riprap", VM_TEST_MS);
      expect(await property("riprap.service", "NRestarts")).toBe("1");
      const { ready, authority } = await node.ask("status");
      expect([ready, authority.keyStorage]).toEqual([true, SEALED]);
      await check(`systemd-run --unit agent-2 --uid alice python3 ${FOLDER}/agent.py`);
      await node.vm.waitFor("ss -Htn state established dport = :8000 | [ $(wc -l) -ge 2 ]");
      await check("systemctl stop agent-2");
      await goesOn();
    },
    VM_TEST_MS,
  );

  test(
    "the drop-in gives the network to what the configuration opens, and to NATS",
    async () => {
      await check("systemd-run --unit nats nats-server --addr 127.0.0.1");
      await node.writeConfig(NETWORK_SETTINGS);
      await check("chown riprap: /etc/riprap/riprap.yaml && mkdir /etc/systemd/system/riprap.service.d");
      await check("cp /root/riprap/systemd/riprap-network.conf /etc/systemd/system/riprap.service.d/network.conf");
      await check("systemctl daemon-reload && systemctl restart riprap && riprap wait-ready");
      expect(await check(`readlink /proc/${await daemonPid()}/ns/net`)).toBe(await check("readlink /proc/1/ns/net"));
      await check("curl -sS -f --retry 20 --retry-connrefused http://127.0.0.1:9100/ready");
      await node.vm.waitFor(`riprap fleet status --json | grep -Eq '"state": *"connected"'`, VM_TEST_MS);
      await goesOn();
    },
    VM_TEST_MS,
  );

  test(
    "the daemon does not start where the key of the host is gone that opens its credential, and starts when it is back",
    async () => {
      await check("systemctl stop riprap && mv /var/lib/systemd/credential.secret /root/");
      expect((await node.vm.run("systemctl start riprap", { timeout: VM_TEST_MS })).code).not.toBe(0);
      await node.vm.waitFor("journalctl -u riprap -o cat -n 30 | grep -q 243/CREDENTIALS", VM_TEST_MS);
      expect(await property("riprap.service", "SubState")).not.toBe("running");
      await check("systemctl stop riprap; mv /root/credential.secret /var/lib/systemd/; systemctl reset-failed riprap");
      await check("systemctl start riprap");
      expect((await node.ask("status")).authority.keyStorage).toBe(SEALED);
    },
    VM_TEST_MS,
  );

  test(
    "systemctl stop leaves the module enforcing and connections alive",
    async () => {
      await check("systemctl stop riprap");
      expect(await property("riprap-module.service", "ActiveState")).toBe("active");
      await goesOn();
      expect(await stranger()).toMatchObject({ code: 1, stdout: "" });
    },
    VM_TEST_MS,
  );

  test(
    "the journal holds no secret",
    async () => {
      await check("systemd-creds decrypt --name=riprap-seal /var/lib/riprap/ca/seal.cred /root/secret");
      expect((await check("wc -c < /root/secret")).trim()).toBe("64");
      expect((await node.vm.run("journalctl -o export | grep -a -F -i -q -f /root/secret")).code).toBe(1);
      await node.riprap("authority", "export", "node", "/root/node.key");
      expect(await check("journalctl -o export > /root/journal; python3 /root/scan.py")).toBe("found 0\n");
    },
    VM_TEST_MS,
  );
});
