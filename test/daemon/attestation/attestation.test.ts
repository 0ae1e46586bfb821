// Labels of real processes of this machine.

import { afterEach, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROCESS_FLAG } from "../../../src/abi.ts";
import { openAccountNames, parseNames } from "../../../src/daemon/attestation/account.ts";
import { capabilityNames } from "../../../src/daemon/attestation/capability.ts";
import { createDigestCache } from "../../../src/daemon/attestation/digest.ts";
import { evidenceOfFacts, evidenceOfProc, type ProcessEvidence } from "../../../src/daemon/attestation/evidence.ts";
import { pinProcess } from "../../../src/daemon/attestation/pin.ts";
import { parseStat, parseStatus } from "../../../src/daemon/attestation/proc.ts";
import { findScript } from "../../../src/daemon/attestation/script.ts";
import { ALL_LABELS, type WantedLabels } from "../../../src/daemon/attestation/wanted.ts";
import { createAttestor } from "../../../src/daemon/attestation.ts";
import { RiprapError } from "../../../src/error.ts";
import { sampleBody } from "../../abi/sample.ts";
import { eventually } from "../house.ts";

const folder = realpathSync(mkdtempSync(join(tmpdir(), "riprap-attest-")));
const children: Bun.Subprocess[] = [];
const attestor = createAttestor({ nodeName: "node-a" });
const NOTHING: WantedLabels = { has: () => false, hasPrefix: () => false };

afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
});
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

async function spawn(words: string[], options: { cwd?: string } = {}): Promise<number> {
  const child = Bun.spawn(words, { stdout: "ignore", ...options });
  children.push(child);
  // Until its exec it is still a copy of us.
  await eventually(() => evidenceOfProc(child.pid).argv[1] === words[1]);
  return child.pid;
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (thrown) {
    if (thrown instanceof RiprapError) return thrown.code;
    throw thrown;
  }
  return "none";
}

test("attest() gives every label when a program runs and all are wanted", async () => {
  const program = join(folder, "sleeper");
  copyFileSync("/bin/sleep", program);
  chmodSync(program, 0o755);
  const pid = await spawn([program, "30"]);
  const labels = Object.fromEntries(await attestor.attest(evidenceOfProc(pid), ALL_LABELS));
  expect(labels).toMatchObject({
    "process:pid": [String(pid)],
    "process:name": ["sleeper"],
    "process:exe": [program],
    "process:exe:sha256": [sha256(program)],
    "process:cmdline": [`${program} 30`],
    "process:arg[0]": [program],
    "process:arg[1]": ["30"],
    "process:uid": [String(process.getuid?.())],
    "process:no_new_privs": [/^NoNewPrivs:\t1/m.test(readFileSync("/proc/self/status", "utf8")) ? "true" : "false"],
    "node:name": ["node-a"],
  });
  expect(labels["process:ancestor:pid"]).toContain(String(process.pid));
  expect(labels["process:ancestor:exe"]).toContain(realpathSync("/proc/self/exe"));
  expect(labels["process:group"]?.length).toBeGreaterThan(0);
  expect(labels["process:arg[2]"]).toBeUndefined();
});

test("attest() reads nothing of /proc when no rule wants a label of it", async () => {
  const gone: ProcessEvidence = { ...evidenceOfProc(process.pid), pid: 4_194_303 };
  const labels = await attestor.attest(gone, NOTHING);
  expect(labels.get("process:exe")).toEqual([realpathSync("/proc/self/exe")]);
  expect(labels.has("process:exe:sha256")).toBe(false);
});

test("attest() refuses when the PID is another process by now", async () => {
  const pid = await spawn(["/bin/sleep", "30"]);
  const evidence = evidenceOfProc(pid);
  const reused = { ...evidence, startTimeNs: evidence.startTimeNs - 1_000_000_000n };
  await expect(attestor.attest(reused, ALL_LABELS)).rejects.toThrow("another has its number");
  await expect(attestor.attest({ ...evidence, pid: 4_194_303 }, ALL_LABELS)).rejects.toThrow("no such process");
});

// Not in a chroot, nor where the administrator forbids it.
const HAS_NAMESPACES = Bun.spawnSync(["unshare", "--user", "--map-root-user", "true"]).success;
const WITHOUT = HAS_NAMESPACES ? "" : " (skipped: no user namespace can be made here)";

test.skipIf(!HAS_NAMESPACES)(`attest() takes no path from a process of another user namespace${WITHOUT}`, async () => {
  const child = Bun.spawn(["unshare", "--user", "--map-root-user", "sleep", "30"]);
  children.push(child);
  const { pid } = child;
  await eventually(() => evidenceOfProc(pid).name === "sleep");
  const labels = await attestor.attest(evidenceOfProc(pid), ALL_LABELS);
  expect(labels.get("process:name")).toEqual(["sleep"]);
  expect(labels.has("process:exe")).toBe(false);
  expect(labels.has("process:exe:sha256")).toBe(true);
});

test("attest() gives no digest when the executable is not the one of the exec any more", async () => {
  const pid = await spawn(["/bin/sleep", "30"]);
  const stamp = { dev: 0n, ino: 0n, size: 1n, mtimeNs: 1n, ctimeNs: 1n };
  const labels = await attestor.attest({ ...evidenceOfProc(pid), exeStamp: stamp }, ALL_LABELS);
  expect(labels.has("process:exe:sha256")).toBe(false);
});

test("evidenceOfProc() and evidenceOfFacts() leave the last argument out when the arguments were cut", async () => {
  const pid = await spawn(["/bin/sh", "-c", "sleep 30; true", "agent", "x".repeat(5000)]);
  expect(evidenceOfProc(pid).argv).toEqual(["/bin/sh", "-c", "sleep 30; true", "agent"]);
  const facts = { ...sampleBody("process"), argv: "agent\0one\0tw", flags: PROCESS_FLAG.argvCut };
  expect(evidenceOfFacts(facts).argv).toEqual(["agent", "one"]);
  expect(evidenceOfFacts({ ...facts, flags: 0 }).argv).toEqual(["agent", "one", "tw"]);
});

test("pinProcess() sees that its process ended when it did", async () => {
  const pid = await spawn(["/bin/sleep", "30"]);
  const pin = pinProcess(pid, evidenceOfProc(pid).startTimeNs);
  expect(pin.isAlive()).toBe(true);
  children[0]?.kill("SIGKILL");
  await children[0]?.exited;
  expect(pin.isAlive()).toBe(false);
  pin.close();
  expect(codeOf(() => pinProcess(pid, 0n))).toBe("not_found");
});

test("findScript() tells two scripts of one interpreter apart when they run side by side", async () => {
  for (const name of ["one.sh", "two.sh"]) writeFileSync(join(folder, name), `# ${name}\nsleep 30; true\n`);
  const one = await spawn(["/bin/sh", join(folder, "one.sh")]);
  const two = await spawn(["/bin/sh", "two.sh"], { cwd: folder });
  const labels = await Promise.all([one, two].map((pid) => attestor.attest(evidenceOfProc(pid), ALL_LABELS)));
  expect(labels.map((set) => set.get("process:script"))).toEqual([[join(folder, "one.sh")], [join(folder, "two.sh")]]);
  expect(labels[0]?.get("process:script:sha256")).toEqual([sha256(join(folder, "one.sh"))]);
});

test("findScript() says nothing when no script can be named for sure", () => {
  const base = evidenceOfProc(process.pid);
  const of = (over: Partial<ProcessEvidence>) =>
    findScript({ ...base, exe: "/usr/bin/python3.11", argv: [], ...over })?.path;
  expect(of({ argv: ["python3", "-c", "print(1)"] })).toBeUndefined();
  expect(of({ argv: ["python3", ""] })).toBeUndefined();
  expect(of({ exe: "/usr/bin/curl", argv: ["curl", "/etc/hostname"] })).toBeUndefined();
  expect(of({ script: "/nonexistent/agent.py" })).toBeUndefined();
  expect(of({ script: "/etc/hostname", pid: 4_194_303 })).toBeUndefined();
});

test("findScript() names the file behind the links when a path goes through them", () => {
  const other = join(folder, "other");
  mkdirSync(join(other, "inner"), { recursive: true });
  for (const file of [join(folder, "agent.py"), join(other, "agent.py")]) writeFileSync(file, "");
  symlinkSync(join(other, "inner"), join(folder, "link"));
  symlinkSync("agent.py", join(folder, "alias.py"));
  symlinkSync(join(folder, "loop.py"), join(folder, "loop.py"));
  const of = (script: string) => findScript({ ...evidenceOfProc(process.pid), script })?.path;
  expect(of(join(folder, "alias.py"))).toBe(join(folder, "agent.py"));
  // By its words it would be the trusted one: a link leads elsewhere.
  expect(of(`${folder}/link/../agent.py`)).toBe(join(other, "agent.py"));
  expect(of(`/${folder}//./agent.py`)).toBe(join(folder, "agent.py"));
  expect(of(join(folder, "loop.py"))).toBeUndefined();
});

test("digest() reads a file once when it is asked again, and anew when it changed", async () => {
  const cache = createDigestCache();
  const path = join(folder, "file");
  writeFileSync(path, "one");
  const digests = await Promise.all([cache.digest(path), cache.digest(path)]);
  expect(digests).toEqual([sha256(path), sha256(path)]);
  expect(cache.size).toBe(1);
  writeFileSync(path, "two!");
  expect(await cache.digest(path)).toBe(sha256(path));
  expect(cache.size).toBe(2);
  expect(await cache.digest(folder)).toBeUndefined();
  expect(await cache.digest(join(folder, "none"))).toBeUndefined();
});

test("digest() gives nothing at once when the path is a fifo", async () => {
  const path = join(folder, "fifo");
  Bun.spawnSync(["mkfifo", path]);
  expect(await createDigestCache().digest(path)).toBeUndefined();
});

test("parseStat() reads parent and start when the name has brackets and blanks", () => {
  const text = `7 (a) b) (c) S 3 ${Array.from({ length: 17 }, () => "0").join(" ")} 250 size rss limit code end stack rest`;
  expect(parseStat(text)).toEqual({
    name: "a) b) (c",
    parentPid: 3,
    startTimeNs: 2_500_000_000n,
    layout: "code stack",
  });
  for (const bad of ["", "7 x S 3", "7 (a) S", "7 (a) S x 0"]) expect(parseStat(bad)).toBeUndefined();
});

test("parseStatus() reads effective IDs, groups and capabilities when they differ from the real ones", () => {
  const text =
    "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 20 \nCapEff:\t0000000000003000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
  expect(parseStatus(text)).toEqual({
    uid: 2,
    gid: 6,
    groups: [10, 20],
    capabilities: 0x3000n,
    noNewPrivs: true,
    seccomp: 2,
  });
});

test("capabilityNames() names each bit when it is known", () => {
  expect(capabilityNames(0x3000n)).toEqual(["CAP_NET_ADMIN", "CAP_NET_RAW"]);
  expect(capabilityNames(1n | (1n << 40n) | (1n << 60n))).toEqual(["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]);
});

test("openAccountNames() reads the file again when it changed", () => {
  const passwd = join(folder, "passwd");
  writeFileSync(
    passwd,
    "root:x:0:0::/:/bin/sh\nbad line\n+nis::::::\nalice:x:1000:1000::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\n",
  );
  const names = openAccountNames({ passwd, group: join(folder, "none") });
  expect([names.userName(0), names.userName(1000), names.userName(7), names.groupName(0)]).toEqual([
    "root",
    "alice",
    undefined,
    undefined,
  ]);
  writeFileSync(passwd, "bob:x:1000:1000::/:/bin/sh\n");
  expect(names.userName(1000)).toBe("bob");
  expect(parseNames("a:x:abc:\n:x:3:\n").size).toBe(0);
});
