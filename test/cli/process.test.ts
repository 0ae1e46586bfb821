// The riprap command as a process of its own: signals, pipes, rights, and a daemon that dies.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MAIN = join(import.meta.dir, "../../src/main.ts");
/** A daemon that follows one flow and then waits, as a process that can be killed. */
const DAEMON = `
import { openControl } from ${JSON.stringify(join(import.meta.dir, "../../src/daemon/control.ts"))};
import { FLOW, fakePort } from ${JSON.stringify(join(import.meta.dir, "../daemon/control/fake_port.ts"))};
const port = fakePort({ async *followFlows() { for (let i = 0; i < Number(process.argv[3]); i += 1) yield FLOW; await new Promise(() => {}); } });
await openControl(port, { path: process.argv[2] });
console.log("listening");
setInterval(() => {}, 1000);
`;

const AS_ANOTHER = ["setpriv", "--reuid", "65534", "--clear-groups", "--"];

/** A checkout below a folder of root's alone, /root say, is out of another user's reach. */
function canAnotherRunIt(): boolean {
  if (process.getuid?.() !== 0 || Bun.which("setpriv") === null) return false;
  const look = ["sh", "-c", 'test -x "$0" && test -r "$1"', process.execPath, MAIN];
  return Bun.spawnSync([...AS_ANOTHER, ...look], { cwd: "/" }).exitCode === 0;
}

let folder: string;
let socket: string;
const started: Bun.Subprocess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-process-"));
  socket = join(folder, "control.sock");
  // Others must be able to reach the socket, so that its own mode is what refuses them.
  chmodSync(folder, 0o755);
});

afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

function riprap(argv: readonly string[], prefix: readonly string[] = []) {
  const child = Bun.spawn([...prefix, process.execPath, MAIN, ...argv], {
    cwd: "/",
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  started.push(child);
  return child;
}

async function startDaemon(flows = 1): Promise<Bun.Subprocess> {
  const script = join(folder, "daemon.ts");
  writeFileSync(script, DAEMON);
  const child = Bun.spawn([process.execPath, script, socket, String(flows)], { stdout: "pipe" });
  started.push(child);
  for await (const chunk of child.stdout) if (Buffer.from(chunk).includes("listening")) break;
  return child;
}

test("flows --follow says that the daemon went away when it is killed", async () => {
  const daemon = await startDaemon();
  const child = riprap(["flows", "--follow", "--socket", socket]);
  const reader = child.stdout.getReader();
  expect(Buffer.from((await reader.read()).value ?? []).toString()).toContain("spiffe://edge.example/curl");
  daemon.kill("SIGKILL");
  expect(await child.exited).toBe(1);
  expect(await new Response(child.stderr).text()).toContain("the riprap daemon at");
});

test("flows --follow ends with status 0 at SIGINT", async () => {
  await startDaemon();
  const child = riprap(["flows", "--follow", "--socket", socket]);
  await child.stdout.getReader().read();
  child.kill("SIGINT");
  expect(await child.exited).toBe(0);
  expect(await new Response(child.stderr).text()).toBe("");
});

test("flows --follow ends quietly when the reader of its pipe goes", async () => {
  await startDaemon(100_000);
  const line = `${process.execPath} ${MAIN} flows --follow --socket ${socket} | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const child = Bun.spawn(["bash", "-c", line], { stdout: "pipe", stderr: "pipe" });
  started.push(child);
  const out = await new Response(child.stdout).text();
  expect(out.trim().split("\n").at(-1)).toBe("0");
  expect(await new Response(child.stderr).text()).toBe("");
});

test.skipIf(!canAnotherRunIt())(
  "status says who may reach the daemon when this user may not (needs root, setpriv and a checkout that others can read)",
  async () => {
    await startDaemon();
    const child = riprap(["status", "--socket", socket], AS_ANOTHER);
    const [status, err] = [await child.exited, await new Response(child.stderr).text()];
    expect(err).toContain("only root and the daemon's own user may; run this with sudo");
    expect(status).toBe(1);
  },
);

test("the command's output and errors keep apart, and the status is the command's", async () => {
  const child = riprap(["nonsense"]);
  expect(await child.exited).toBe(2);
  expect(await new Response(child.stdout).text()).toBe("");
  expect(await new Response(child.stderr).text()).toStartWith("riprap: Cannot ");
});
