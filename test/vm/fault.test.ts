// What happens when something beside riprap breaks while a program connects: the table of docs/faults.md, row by row.
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { FlowView } from "../../src/daemon/control/port.ts";
import { scratchDirectories } from "../scratch.ts";
import { LOAD_MODULE, PROGRAM_DIR } from "./lab/product.ts";
import { bootVm, type Vm } from "./lab.ts";
import { bootNode, type RiprapNode } from "./node.ts";
import { BOOT_TEST_MS, describeVm, VM_TEST_MS } from "./tier.ts";

const KERNEL = "6.12";
const PORT = 9000;
const PROGRAM = `${PROGRAM_DIR}/load`;
const CLIENT = "/srv/bin/fault-client";
const LASTING = "/srv/bin/fault-lasting";
const SERVER = "/srv/bin/fault-server";
const STATE = "/var/lib/riprap";
const ATTEST_MS = 3000;

// The SVIDs of `lasting` outlive the minutes that the clock jumps, and are not renewed meanwhile.
const RULES = ["client", "lasting", "server"]
  .map(
    (name) => `---
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: ${name} }
spec: { workloadID: ${name}, svid: { x509: { ttl: ${name === "lasting" ? "1h" : "5m"} } }, selectors: { process:exe: /srv/bin/fault-${name} } }
---
apiVersion: riprap.io/v1
kind: AccessPolicy
metadata: { name: ${name} }
spec:
  workloads: [${name}]
  mode: enforce
  ${name === "server" ? "ingress: [{ from: [{ peer: client }, { peer: lasting }]" : "egress: [{ to: [{ peer: server }]"}, ports: [${PORT}] }]
`,
  )
  .join("");

describeVm(`the module on kernel ${KERNEL}, with a daemon that fails it`, () => {
  let vm: Vm;

  beforeAll(async () => {
    vm = await bootVm({ kernel: KERNEL, product: "module" });
    await vm.check(LOAD_MODULE);
  }, BOOT_TEST_MS);

  afterAll(() => vm?.stop(), VM_TEST_MS);

  test(
    "a program gets an errno in time and can be killed when the daemon dies, falls silent or is late at any step",
    async () => {
      const result = await vm.run([`${PROGRAM_DIR}/fault`], { timeout: 2 * VM_TEST_MS });
      expect(result.stdout).toMatch(/fault: \d+ passed, 0 failed/);
    },
    3 * VM_TEST_MS,
  );

  test(
    "a program gets an errno in time and nothing stays behind when the daemon dies, falls silent or is late at what it began itself",
    async () => {
      const result = await vm.run([`${PROGRAM_DIR}/fault_command`], { timeout: 2 * VM_TEST_MS });
      expect(result.stdout).toMatch(/fault_command: \d+ passed, 0 failed/);
    },
    3 * VM_TEST_MS,
  );
});

const scratch = scratchDirectories();

describeVm(`a node on kernel ${KERNEL}, with faults around it`, () => {
  let node: RiprapNode;
  const connect = async (count = 1): Promise<string> =>
    (await node.vm.run([CLIENT, "spawn", `${PORT}`, `${count}`, "1"])).stdout.trim();
  // By number and not by time: the clock jumps here.
  const latestFlow = async () => Math.max(0, ...(await node.ask("flows", "--limit", "2000")).map((flow) => +flow.flow));
  const expectFlow = async (flow: Partial<FlowView>, after = 0) => {
    const flows = await node.ask("flows", "--limit", "2000");
    expect(flows.filter((each) => +each.flow > after)).toContainEqual(
      expect.objectContaining({ direction: "outbound", ...flow }),
    );
  };
  /** A process that keeps its SVID, and connects each time it is asked to. */
  const startAsker = (program: string) => {
    const child = node.vm.spawn([program, "ask", `${PORT}`]);
    let asked = 0;
    const ask = async () => {
      await child.write("?");
      const line = await child.waitOutput(new RegExp(`^(?:.*\\n){${asked++}}(\\w+) (\\d+)\\n`), VM_TEST_MS);
      return { error: line[1], ms: Number(line[2]) };
    };
    return { pid: child.pid, ask };
  };
  const daemonPid = async () => (await node.vm.check("pgrep -f 'riprap (run|daemon)'")).trim().split("\n")[0];
  const serverPid = async () => Number((await node.vm.check("pidof fault-server")).trim());
  const served = () => node.vm.waitFor(`${CLIENT} spawn ${PORT} 1 1 | grep -q "ok 1"`);
  const nothingPlain = async () => {
    const opened = (await node.ask("flows", "--limit", "2000")).filter(
      ({ state }) => state !== "denied" && state !== "failed",
    );
    expect(opened.filter(({ tls }) => tls === "plain")).toEqual([]);
  };

  beforeAll(async () => {
    node = await bootNode({ kernel: KERNEL });
    await node.vm.check(`mkdir -p ${STATE} && mount -t tmpfs -o size=24m,mode=700 state ${STATE}`);
    await node.vm.check(
      `mkdir -p /srv/bin && for name in ${CLIENT} ${LASTING} ${SERVER}; do cp ${PROGRAM} $name; done`,
    );
    await node.riprap("init", "fault.test", "--node", "a");
    await node.writeRules({ all: RULES });
    await node.start();
    node.vm.spawn([SERVER, "serve", `${PORT}`]);
    await node.vm.waitFor(`ss -Hltn sport = :${PORT} | grep -q .`);
    expect(await connect(2)).toBe("ok 2");
  }, BOOT_TEST_MS);

  afterAll(() => node?.stop(), VM_TEST_MS);

  test(
    "a new process is refused when the state directory is full, and served when there is room again",
    async () => {
      await node.vm.run(`cat /dev/zero >${STATE}/filler 2>/dev/null; sync`);
      expect(await connect(3)).toBe("ok 0 EACCES 3");
      await expectFlow({ state: "denied", reason: "no_identity", error: "EACCES" });
      await node.vm.check(`rm ${STATE}/filler`);
      await served();
    },
    VM_TEST_MS,
  );

  test(
    "a daemon does not start and says why when the state directory is read-only; who has no SVID yet is not served",
    async () => {
      await node.stopDaemon();
      await node.vm.check(`mount -o remount,ro ${STATE}`);
      const refused = await node.vm.run("riprap daemon --require-kernel", { timeout: VM_TEST_MS });
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toContain(STATE);
      expect(await connect(1)).not.toContain("ok 1");
      await node.vm.check(`mount -o remount,rw ${STATE}`);
      await node.start();
      await served();
    },
    2 * VM_TEST_MS,
  );

  test(
    "a new process is refused when the disk of the state directory becomes read-only under the daemon, and served after a new start",
    async () => {
      const image = `${scratch()}/state`;
      await Bun.$`truncate -s 24M ${image} && /sbin/mkfs.ext4 -q -F ${image}`.quiet();
      await node.vm.put("/run/state.gz", Bun.gzipSync(await Bun.file(image).bytes()));
      await node.stopDaemon();
      await node.vm.check(`modprobe loop && python3 -c 'import gzip, shutil
shutil.copyfileobj(gzip.open("/run/state.gz"), open("/run/state", "wb"))' && mkdir /run/disk`);
      // Not by mount -o loop: it holds the device open for writing, and a kernel without BLK_DEV_WRITE_MOUNTED refuses that.
      await node.vm.check("losetup /dev/loop0 /run/state && mount /dev/loop0 /run/disk");
      await node.vm.check(`cp -a ${STATE}/. /run/disk && umount /run/disk && mount /dev/loop0 ${STATE}`);
      await node.start();
      const known = startAsker(CLIENT);
      expect((await known.ask()).error).toBe("ok");
      const before = await latestFlow();
      // The database is open: only a disk that fails takes it away.
      expect((await node.vm.run(`mount -o remount,ro ${STATE}`)).stderr).toContain("busy");
      await node.vm.check(`mount -o remount,abort ${STATE}`);
      expect(await connect(1)).toBe("ok 0 EACCES 1");
      expect((await known.ask()).error).toBe("ok");
      await expectFlow({ state: "denied", reason: "no_identity", error: "EACCES" }, before);
      await node.stopDaemon();
      await node.vm.check(`umount ${STATE} && mount /dev/loop0 ${STATE}`);
      await node.start();
      await served();
    },
    3 * VM_TEST_MS,
  );

  let lasting: ReturnType<typeof startAsker>;

  // SVIDs last an hour at most: that of `lasting` goes over twenty minutes, and over the hour nobody's does.
  for (const [name, jump, isOver] of [
    ["twenty minutes forward", 1200, false],
    ["twenty minutes back", -1200, false],
    ["an hour forward", 3600, true],
    ["an hour back", -3600, true],
  ] as const)
    test(
      `identities come back by themselves when the clock jumps ${name}`,
      async () => {
        const brief = startAsker(CLIENT);
        lasting ??= startAsker(LASTING);
        expect((await brief.ask()).error).toBe("ok");
        expect((await lasting.ask()).error).toBe("ok");
        const before = await latestFlow();
        const daemon = await daemonPid();
        await node.vm.check(`kill -STOP ${daemon} && date -s @$(($(date +%s) + ${jump}))`);
        const out = [await brief.ask(), await brief.ask()];
        const other = await lasting.ask();
        await node.vm.check(`kill -CONT ${daemon}`);
        // The first waits for the daemon, and for all.
        expect(out.map(({ error }) => error)).toEqual(["EACCES", "EACCES"]);
        expect(out.map(({ ms }) => ms >= ATTEST_MS)).toEqual([true, false]);
        expect(other.error).toBe(isOver ? "EACCES" : "ECONNRESET");
        const denied = { state: "denied", reason: "no_identity" } as const;
        await expectFlow({ ...denied, pid: await brief.pid, error: "EACCES" }, before);
        if (isOver) await expectFlow({ ...denied, pid: await lasting.pid, error: "EACCES" }, before);
        else await expectFlow({ ...denied, pid: await serverPid(), error: "ECONNRESET", direction: "inbound" }, before);
        await served();
        await nothingPlain();
      },
      VM_TEST_MS,
    );

  test(
    "connections wait for SVIDs that are late when the daemon was held up past the end of those before",
    async () => {
      await node.writeConfig("attestTimeout: 20s\n");
      await node.stopDaemon();
      await node.start();
      await served();
      const client = node.vm.run([CLIENT, "connect", `${PORT}`, "300", "1"], { timeout: VM_TEST_MS });
      await Bun.sleep(1500);
      const pid = await daemonPid();
      await node.vm.check(`kill -STOP ${pid} && date -s @$(($(date +%s) + 3600)) && sleep 2; kill -CONT ${pid}`);
      // One was under way with an SVID that ended under it.
      expect((await client).stdout).toMatch(/^ok (300|299 .* 1)$/m);
      await nothingPlain();
    },
    2 * VM_TEST_MS,
  );

  test(
    "a connection ends in time when the interface goes down in the middle of its handshake",
    async () => {
      // A server that is stopped takes no part in the handshake; its kernel does, until it is asked to accept.
      await node.vm.check("pkill -STOP fault-server");
      const client = node.vm.spawn([CLIENT, "spawn", `${PORT}`, "1", "1"]);
      await node.vm.waitFor(`ss -Htn state established dport = :${PORT} | grep -q .`);
      await node.vm.check("ip link set lo down");
      expect(await client.exited).not.toBe(0);
      expect(client.stdout.trim()).toBe("ok 0 ETIMEDOUT 1");
      await node.vm.check("ip link set lo up && pkill -CONT fault-server");
      await expectFlow({ state: "failed", reason: "timeout" });
      await served();
      await nothingPlain();
    },
    VM_TEST_MS,
  );

  test(
    "a process that gets the PID of a dead workload has nothing of its identity",
    async () => {
      const script = `
import os, subprocess, sys
first = subprocess.Popen(["${CLIENT}", "connect", "${PORT}", "1", "1"])
first.wait()
for tries in range(200):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last: last.write(str(first.pid - 1))
    pid = os.fork()
    if pid == 0:
        if os.getpid() == first.pid: os.execv("${PROGRAM}", ["load", "one", "${PORT}"])
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if pid == first.pid:
        print("same", os.waitstatus_to_exitcode(status)); sys.exit(0)
print("never the same")
`;
      const before = await latestFlow();
      const reused = await node.vm.run(["python3", "-c", script]);
      expect(reused.stdout).toMatch(/same (?!0$)\d+/m);
      await expectFlow(
        {
          state: "denied",
          reason: "peer_plaintext",
          error: "ECONNRESET",
          direction: "inbound",
          pid: await serverPid(),
        },
        before,
      );
      await nothingPlain();
    },
    VM_TEST_MS,
  );

  test(
    "a new process waits for a stopped daemon no longer than the timeout, and is served when it goes on",
    async () => {
      const pid = await daemonPid();
      await node.vm.check(`kill -STOP ${pid}`);
      const stopped = await connect(1);
      await node.vm.check(`kill -CONT ${pid}`);
      expect(stopped).toBe("ok 0 EACCES 1");
      await expectFlow({ state: "denied", reason: "unknown_process" });
      await served();
      await nothingPlain();
    },
    VM_TEST_MS,
  );
});
