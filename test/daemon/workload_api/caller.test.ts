// Who calls, from the kernel's mouth: other processes, ended ones, and what the kernel module said of them.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readlinkSync, statSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { readStat } from "../../../src/daemon/attestation/proc.ts";
import { ALL_LABELS } from "../../../src/daemon/attestation/wanted.ts";
import { openCaller } from "../../../src/daemon/workload_api/caller.ts";
import { RiprapError } from "../../../src/error.ts";
import { scratchDirectories } from "../../scratch.ts";
import { buildHouse, eventually, type House } from "../house.ts";

const scratch = scratchDirectories();

/** A program that makes the calls it is told. */
class Workload {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  constructor(path: string) {
    const command = [process.execPath, join(import.meta.dir, "ask.ts"), path];
    this.#child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
    this.#lines = linesOf(this.#child.stdout);
  }

  get pid(): number {
    return this.#child.pid;
  }

  async ask(method: string, request?: object): Promise<{ code: number; id?: string; details?: string }> {
    this.#child.stdin.write(`${JSON.stringify(request === undefined ? [method] : [method, request])}\n`);
    this.#child.stdin.flush();
    return JSON.parse((await this.#lines.next()).value);
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    await this.#child.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

const PYTHON = "/usr/bin/python3";
const testWithPython = test.skipIf(!existsSync(PYTHON));

const rules = (exe: string) => `
apiVersion: riprap.io/v1
kind: WorkloadIdentity
metadata: { name: agent }
spec:
  workloadID: agent
  selectors: { process:exe: ${exe} }
  svid: { x509: { delivery: workload-api } }
`;

describe("startDaemon", () => {
  let house: House;
  let workload: Workload | undefined;
  let workloadSocket: string;

  beforeEach(async () => {
    house = await buildHouse();
    workloadSocket = join(house.folder, "workload.sock");
  });

  afterEach(async () => {
    await workload?.end();
    await house.leave();
  });

  test("startDaemon() serves the Workload API in the identity plane, where /proc says what a caller is", async () => {
    house.writeRules("agent.yaml", rules(process.execPath));
    const openDevice = () => {
      throw new RiprapError("ENOENT", "Cannot open /dev/riprap: ENOENT");
    };
    const daemon = await house.start({ openDevice, config: { workloadApi: true, workloadSocket } });
    expect(daemon.status().plane).toBe("identity");
    workload = new Workload(workloadSocket);
    expect(await workload.ask("FetchX509SVID")).toEqual({ code: 0, id: "spiffe://edge.test/agent" });
    expect(await workload.ask("FetchJWTSVID", { audience: ["a"] })).toMatchObject({ code: 0 });
    for (const [name, value] of [
      ["streams", 0],
      ["holders", 1],
      ["svids_issued_total", 1],
      ["refused_total", 0],
    ])
      expect(daemon.metrics()).toContain(`\nriprap_workload_api_${name} ${value}\n`);
    await daemon.apply({ name: "agent", text: rules("/opt/other") });
    expect(await workload.ask("FetchX509SVID")).toMatchObject({ code: 7 });
    await daemon.stop();
    expect(statSync(workloadSocket, { throwIfNoEntry: false })).toBeUndefined();
  });

  test("startDaemon() goes by the module's facts in the kernel plane, and denies what the module did not report", async () => {
    house.writeRules(
      "agent.yaml",
      `${rules(process.execPath)}---${rules("/opt/agent").replaceAll("agent", "kernel").replace("/opt/kernel", "/opt/agent")}`,
    );
    await house.start({ config: { workloadApi: true, workloadSocket } });
    workload = new Workload(workloadSocket);
    // By /proc it would be the first rule's; it waits for a report, which no clock brings.
    const denied = workload.ask("FetchX509SVID");
    let isAnswered = false;
    denied.then(() => {
      isAnswered = true;
    });
    while (!isAnswered) {
      await eventually(() => isAnswered || house.clock.waiting > 0);
      await house.clock.advance(50);
    }
    expect(await denied).toMatchObject({ code: 7 });
    const { size, mtimeNs, ctimeNs } = statSync(process.execPath, { bigint: true });
    const { startTimeNs } = readStat(workload.pid);
    const stamp = { exeSize: size, exeMtimeNs: mtimeNs, exeCtimeNs: ctimeNs };
    const reported = house.kernel.exec({ pid: workload.pid, startTimeNs, exe: "/opt/agent", ...stamp });
    await eventually(() => reported.state === "ready");
    expect(await workload.ask("FetchX509SVID")).toEqual({ code: 0, id: "spiffe://edge.test/kernel" });
  });
});

describe("openCaller", () => {
  let server: Server;
  let path: string;
  let accepted: Promise<Socket>;

  beforeEach(async () => {
    path = join(scratch(), "s");
    let take: (socket: Socket) => void;
    accepted = new Promise((resolve) => {
      take = resolve;
    });
    server = createServer((socket) => take(socket));
    await new Promise<void>((resolve) => server.listen(path, resolve));
  });

  afterEach(() => void server.close());

  const fdOf = (socket: Socket) => (socket as unknown as { _handle: { fd: number } })._handle.fd;

  /** Connects and lives until it is killed; with `inherit`, a child of it keeps the connection. */
  async function connect(inherit: boolean): Promise<Bun.Subprocess> {
    const keep = inherit ? "import subprocess; subprocess.Popen(['cat'], stdin=s)" : "pass";
    const program = `import socket, time\ns = socket.socket(socket.AF_UNIX)\ns.connect('${path}')\n${keep}\nprint('ready', flush=True)\ntime.sleep(30)`;
    const child = Bun.spawn([PYTHON, "-c", program], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    await linesOf(child.stdout).next();
    return child;
  }

  testWithPython(
    "openCaller() names the process that connected, with its own start time (skipped where there is no python3)",
    async () => {
      const child = await connect(false);
      const socket = await accepted;
      const caller = openCaller(fdOf(socket));
      expect([caller.pid, caller.uid]).toEqual([child.pid, process.getuid?.() ?? -1]);
      expect(caller.startTimeNs).toBe(readStat(child.pid).startTimeNs);
      expect(caller.evidence()).toMatchObject({ pid: child.pid });
      expect(caller.isAlive()).toBe(true);
      caller.close();
      // The descriptor may be another's by now.
      expect(caller.isAlive()).toBe(false);
      expect(() => caller.evidence()).toThrow("has ended");
      child.kill(9);
      socket.destroy();
    },
  );

  testWithPython(
    "openCaller() knows that the process has ended though a child of it keeps the connection (skipped where there is no python3)",
    async () => {
      const child = await connect(true);
      const socket = await accepted;
      const caller = openCaller(fdOf(socket));
      child.kill(9);
      await child.exited;
      expect(caller.isAlive()).toBe(false);
      expect(() => caller.evidence()).toThrow(RiprapError);
      // Nor does it take the child, or whoever has the number now, for the one that connected.
      expect(() => openCaller(fdOf(socket))).toThrow(RiprapError);
      caller.close();
      socket.destroy();
    },
  );

  testWithPython(
    "openCaller() answers nobody by what it saw before an exec of the very same file (skipped where there is no python3)",
    async () => {
      // The connection is kept over the exec: who reads from it now is another run of the program.
      const again = `import os, sys, time; os.write(3, b'x'); time.sleep(30)`;
      const program = `import os, socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect('${path}')\nos.dup2(s.fileno(), 3)\nos.set_inheritable(3, True)\nprint('ready', flush=True)\nsys.stdin.readline()\nos.execv(sys.executable, [sys.executable, '-c', ${JSON.stringify(again)}])`;
      const child = Bun.spawn([PYTHON, "-c", program], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
      await linesOf(child.stdout).next();
      const socket = await accepted;
      const caller = openCaller(fdOf(socket));
      const wanted = { has: () => false, hasPrefix: () => false };
      const before = [caller.evidence(), caller.evidence(wanted)];
      const written = new Promise((resolve) => socket.once("data", resolve));
      child.stdin.write("go\n");
      child.stdin.flush();
      await written;
      expect(statSync(`/proc/${child.pid}/exe`).ino).toBe(statSync(PYTHON).ino);
      expect(before.map(({ exe }) => exe)).toEqual([readlinkSync(`/proc/${child.pid}/exe`), before[0]?.exe ?? ""]);
      for (const labels of [ALL_LABELS, wanted]) expect(() => caller.evidence(labels)).toThrow("another program");
      expect(caller.isAlive()).toBe(true);
      caller.close();
      child.kill(9);
      socket.destroy();
    },
  );

  testWithPython(
    "openCaller() sees at each look what a process has changed of itself (skipped where there is no python3)",
    async () => {
      const name = `import ctypes, sys\nsys.stdin.readline()\nctypes.CDLL(None).prctl(15, b'renamed', 0, 0, 0)\nctypes.CDLL(None).prctl(38, 1, 0, 0, 0)`;
      const program = `import socket, time\ns = socket.socket(socket.AF_UNIX)\ns.connect('${path}')\nprint('ready', flush=True)\n${name}\nprint('done', flush=True)\ntime.sleep(30)`;
      const child = Bun.spawn([PYTHON, "-c", program], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
      const lines = linesOf(child.stdout);
      await lines.next();
      const caller = openCaller(fdOf(await accepted));
      expect(caller.evidence()).toMatchObject({ noNewPrivs: false });
      child.stdin.write("go\n");
      child.stdin.flush();
      await lines.next();
      for (const has of [() => true, (label: string) => label === "process:no_new_privs"])
        expect(caller.evidence({ has, hasPrefix: () => false })).toMatchObject({ name: "renamed", noNewPrivs: true });
      // What no rule asks for nobody looked at, and nothing stands in its place.
      const few = { has: () => false, hasPrefix: () => false };
      expect(caller.evidence(few)).toMatchObject({ name: "renamed", noNewPrivs: undefined, capabilities: undefined });
      caller.close();
      child.kill(9);
    },
  );

  testWithPython(
    "openCaller() answers nobody in the name of a program that the caller became after it connected (skipped where there is no python3)",
    async () => {
      // A parent keeps the connection, and its child, which made it, runs another program: the answer would be the parent's to read.
      const program = `import os, socket, sys\nr, w = os.pipe()\ns = socket.socket(socket.AF_UNIX)\nif os.fork() == 0:\n  s.connect('${path}')\n  print(os.getpid(), flush=True)\n  sys.stdin.readline()\n  os.execv('/bin/sleep', ['sleep', '30'])\nos.wait()`;
      const parent = Bun.spawn([PYTHON, "-c", program], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
      const pid = Number((await linesOf(parent.stdout).next()).value);
      const caller = openCaller(fdOf(await accepted));
      expect(caller.pid).toBe(pid);
      expect(caller.evidence().exe).toContain("python");
      parent.stdin.write("go\n");
      parent.stdin.flush();
      await eventually(() => readStat(pid).name === "sleep");
      expect(() => caller.evidence()).toThrow("another program");
      expect(caller.isAlive()).toBe(true);
      caller.close();
      process.kill(pid, 9);
      await parent.exited;
    },
  );
});
