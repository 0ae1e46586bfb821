// svid watch and svid list: a program of its own keeps files fresh from a Workload API, through its restarts and the loss of the identity.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { SvidFiles } from "../../../src/cli/svid_files.ts";
import { parseEndpoint } from "../../../src/cli/workload_client.ts";
import { readX509Svid } from "../../../src/cli/workload_svid.ts";
import { runCli } from "../../../src/cli.ts";
import { concat, delimited } from "../../../src/daemon/workload_api/protobuf.ts";
import { TrustDomain } from "../../../src/spiffe_id.ts";
import { type Endpoint, identityRule, openEndpoint } from "../../daemon/workload_api/endpoint.ts";
import { draw, random } from "../../random.ts";
import { scratchDirectories } from "../../scratch.ts";
import { fakeTerminal } from "../fake_terminal.ts";

const MAIN = join(import.meta.dir, "../../../src/main.ts");
const scratch = scratchDirectories();

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
let folder: string;
let files: string;
let endpoint: Endpoint;
const children: Watch[] = [];

interface Line {
  readonly event: string;
  readonly spiffeId?: string;
  readonly serial?: string;
  readonly code?: string;
}

/** The command as a program of its own: what it prints, line by line. */
class Watch {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #lines: Line[] = [];
  #wake: () => void = () => {};

  constructor(...words: readonly string[]) {
    const command = [
      process.execPath,
      MAIN,
      "svid",
      "watch",
      "--json",
      "--socket",
      `unix://${endpoint.path}`,
      ...words,
    ];
    this.child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    children.push(this);
    void this.#read();
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const chunk of this.child.stdout) {
      const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#lines.push(JSON.parse(line));
      this.#wake();
    }
  }

  async next(): Promise<Line> {
    while (this.#lines.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#lines.shift() as Line;
  }
}

beforeEach(async () => {
  folder = scratch();
  files = join(folder, "files");
  endpoint = await openEndpoint(folder, identityRule("app"));
});

afterEach(async () => {
  for (const { child } of children.splice(0)) {
    child.kill();
    await child.exited;
  }
  await endpoint.close();
});

const read = (name: string) => readFileSync(join(files, name));

function expectPair(id: string): void {
  const leaf = new X509Certificate(read("svid.pem"));
  expect(leaf.subjectAltName).toBe(`URI:spiffe://example.org/${id}`);
  expect(leaf.checkPrivateKey(createPrivateKey(read("key.pem")))).toBe(true);
  expect(new X509Certificate(read("bundle.pem")).ca).toBe(true);
}

describe("riprap svid watch", () => {
  test("svid watch writes the files, replaces them all with each new SVID, and runs the command after it (A-4, A-5, A-8)", async () => {
    const watch = new Watch("--dir", files, "--exec", 'cp "$RIPRAP_SVID_DIR/svid.pem" "$RIPRAP_SVID_DIR/seen"');
    expect(await watch.next()).toMatchObject({ event: "svid", spiffeId: "spiffe://example.org/app" });
    expectPair("app");
    const before = readlinkSync(join(files, ".current"));
    endpoint.setForeign([{ ...endpoint.bundle, trustDomain: TrustDomain.parse("partner.example") }]);
    await watch.next();
    expect(existsSync(join(files, "bundle.partner.example.pem"))).toBe(true);
    endpoint.setForeign([]);
    await watch.next();
    expect(lstatSync(join(files, "bundle.partner.example.pem"), { throwIfNoEntry: false })).toBeUndefined();
    endpoint.setRules(identityRule("other"));
    expect(await watch.next()).toMatchObject({ spiffeId: "spiffe://example.org/other" });
    expectPair("other");
    expect(readlinkSync(join(files, ".current"))).not.toBe(before);
    // One version is left, and the key is its owner's alone.
    expect(readdirSync(files).filter((name) => name.startsWith(".svid-"))).toHaveLength(1);
    expect(lstatSync(join(files, ".current", "key.pem")).mode & 0o777).toBe(0o600);
    expect(lstatSync(join(files, readlinkSync(join(files, ".current")))).mode & 0o777).toBe(0o700);
    while (!existsSync(join(files, "seen")) || !read("seen").equals(read("svid.pem"))) await Bun.sleep(5);
  });

  test("svid watch outlives the daemon, and keeps the files until there is a new SVID", async () => {
    const watch = new Watch("--dir", files);
    const first = await watch.next();
    await endpoint.close();
    expect(await watch.next()).toMatchObject({ event: "trouble" });
    expectPair("app");
    const again = join(folder, "again");
    mkdirSync(again);
    const path = endpoint.path;
    endpoint = await openEndpoint(again, identityRule("app"), { path });
    for (;;) {
      const line = await watch.next();
      if (line.event !== "svid") continue;
      expect(line.serial).not.toBe(first.serial ?? "");
      break;
    }
  });

  test("svid watch takes the files away when the identity is taken away, and comes back with it (A-15)", async () => {
    const watch = new Watch("--dir", files);
    await watch.next();
    endpoint.setRules(identityRule("app", { exe: "/bin/none" }));
    expect(await watch.next()).toMatchObject({ event: "withdrawn", code: "permission_denied" });
    expect(readdirSync(files)).toEqual([]);
    endpoint.setRules(identityRule("app"));
    expect(await watch.next()).toMatchObject({ event: "svid" });
    expectPair("app");
  });

  test("svid watch --once ends with the SVID or with the refusal, and signals a process", async () => {
    const sleeper = Bun.spawn(["sleep", "60"]);
    writeFileSync(join(folder, "pid"), `${sleeper.pid}\n`);
    const once = new Watch("--dir", files, "--once", "--signal", "TERM", "--pid-file", join(folder, "pid"));
    expect(await once.child.exited).toBe(0);
    await sleeper.exited;
    expect(sleeper.signalCode).toBe("SIGTERM");
    expectPair("app");
    endpoint.setRules(identityRule("app", { delivery: "kernel" }));
    const refused = new Watch("--once");
    expect(await refused.child.exited).toBe(1);
    expect(JSON.parse(await new Response(refused.child.stderr).text()).code).toBe("permission_denied");
  });

  test.skipIf(!isRoot)(
    "svid watch --owner gives the files of each SVID to the user, who reads them and nobody else (skipped: only root can give files away)",
    async () => {
      chmodSync(folder, 0o755);
      const watch = new Watch("--dir", files, "--owner", `${NOBODY}:${NOBODY}`);
      const status = (uid: number, path: string) =>
        Bun.spawnSync(["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "cat", path]).exitCode;
      for (const id of ["app", "other"]) {
        endpoint.setRules(identityRule(id));
        for (;;) if ((await watch.next()).spiffeId?.endsWith(`/${id}`)) break;
        expectPair(id);
        const version = join(files, readlinkSync(join(files, ".current")));
        const facts = (path: string) => {
          const { uid, gid, mode } = lstatSync(path);
          return [uid, gid, mode & 0o777];
        };
        expect(facts(version)).toEqual([NOBODY, NOBODY, 0o700]);
        expect(readdirSync(version).sort()).toEqual(["bundle.pem", "key.pem", "svid.pem"]);
        for (const name of readdirSync(version)) {
          expect([name, ...facts(join(version, name))]).toEqual([name, NOBODY, NOBODY, 0o600]);
          expect([name, status(NOBODY, join(files, name))]).toEqual([name, 0]);
          expect([name, status(NOBODY - 1, join(files, name))]).toEqual([name, 1]);
        }
        // The folder itself stays with who keeps it: the user cannot put other files there.
        expect(facts(files).slice(0, 2)).toEqual([0, 0]);
      }
    },
  );

  test.each([
    "--mode 644",
    "--mode 240",
    "--mode rw",
    "--owner root",
    "--signal HUP",
    "--signal NONE --pid-file /x",
    "--socket tcp://localhost:80",
  ])("svid watch refuses %s", async (words) => {
    const terminal = fakeTerminal("");
    const status = await runCli(["svid", "watch", "--dir", files, "--once", ...words.split(" ")], terminal);
    expect([1, 2]).toContain(status);
    expect(existsSync(join(files, "key.pem"))).toBe(false);
  });
});

describe("riprap svid list", () => {
  test("svid list tells what was signed, for whom and whether it is revoked", async () => {
    const watch = new Watch();
    const { serial } = await watch.next();
    endpoint.setRules(identityRule("other"));
    await watch.next();
    const run = async (...words: readonly string[]) => {
      const terminal = fakeTerminal("");
      expect(await runCli(["svid", "list", "--state-dir", join(folder, "state"), ...words], terminal)).toBe(0);
      return terminal.out.join("\n");
    };
    const all = JSON.parse(await run("--json")) as {
      id: string;
      spiffeId: string;
      revoked?: object;
      context: object;
    }[];
    expect(all.map(({ spiffeId }) => spiffeId).sort()).toEqual([
      "spiffe://example.org/app",
      "spiffe://example.org/other",
    ]);
    const revoked = all.find(({ id }) => id === serial);
    expect(revoked).toMatchObject({ revoked: {}, context: { by: "workload-api", rule: "WorkloadIdentity/app" } });
    const valid = JSON.parse(await run("--json", "--valid")) as { id: string }[];
    expect(valid).toHaveLength(1);
    expect(await run("--spiffe-id", "spiffe://example.org/app")).toContain("revoked");
    expect(JSON.parse(await run("--json", "--type", "jwt"))).toEqual([]);
  });
});

describe("SvidFiles", () => {
  const PEM = new Map([["key.pem", Buffer.from("secret")]]);

  test("replace() lets the group in where the mode does, and leaves what is not its own", () => {
    const svid = new SvidFiles(files, {
      mode: 0o640,
      owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    });
    writeFileSync(join(files, "mine"), "x");
    symlinkSync("/etc/hostname", join(files, "other.pem"));
    mkdirSync(join(files, ".svid-000000000000"));
    svid.replace(PEM);
    expect(lstatSync(join(files, readlinkSync(join(files, ".current")))).mode & 0o777).toBe(0o750);
    expect(lstatSync(join(files, ".current", "key.pem")).mode & 0o777).toBe(0o640);
    expect(readdirSync(files).sort().slice(2)).toEqual(["key.pem", "mine", "other.pem"]);
    svid.remove();
    expect(readdirSync(files).sort()).toEqual(["mine", "other.pem"]);
  });

  test("SvidFiles refuses a folder where others can write, a link, and a file", () => {
    const options = { mode: 0o600, owner: undefined };
    mkdirSync(files);
    chmodSync(files, 0o777);
    expect(() => new SvidFiles(files, options)).toThrow("others can write");
    symlinkSync(files, join(folder, "link"));
    expect(() => new SvidFiles(join(folder, "link"), options)).toThrow("no folder");
    writeFileSync(join(folder, "file"), "");
    expect(() => new SvidFiles(join(folder, "file"), options)).toThrow();
  });

  test("replace() leaves the earlier files where the new ones cannot be written", () => {
    const svid = new SvidFiles(files, { mode: 0o600, owner: undefined });
    svid.replace(PEM);
    const broken = new Map([
      ["key.pem", Buffer.from("new")],
      ["no/such.pem", Buffer.from("x")],
    ]);
    expect(() => svid.replace(broken)).toThrow("Cannot write the SVID");
    expect(read("key.pem").toString()).toBe("secret");
    expect(readdirSync(files).filter((name) => name.startsWith(".svid-"))).toHaveLength(1);
  });
});

describe("parseEndpoint", () => {
  test("parseEndpoint() takes a socket's path or an address with a port, and nothing else (E-5, E-6)", () => {
    expect(parseEndpoint("unix:///run/a.sock")).toEqual({ path: "/run/a.sock" });
    expect(parseEndpoint("unix:/run/a.sock")).toEqual({ path: "/run/a.sock" });
    expect(parseEndpoint("tcp://127.0.0.1:8081")).toEqual({ host: "127.0.0.1", port: 8081 });
    expect(parseEndpoint("tcp://[::1]:8081")).toEqual({ host: "::1", port: 8081 });
    for (const text of [
      "",
      "unix://host/run/a",
      "unix://run/a",
      "unix:///a?x",
      "unix:///a#x",
      "tcp://localhost:1",
      "tcp://1.2.3.4",
      "tcp://1.2.3.4:0",
      "tcp://1.2.3.4:99999",
      "tcp://1.2.3.4:1/x",
      "tcp://u@1.2.3.4:1",
      "http://1.2.3.4:1",
    ])
      expect(() => parseEndpoint(text)).toThrow("Cannot use the endpoint");
  });
});

describe("readX509Svid", () => {
  test("readX509Svid() refuses or takes whatever the bytes, and never a key that does not fit", () => {
    const next = random(7);
    for (let round = 0; round < 2000; round++) {
      try {
        readX509Svid(Uint8Array.from({ length: draw(next, 200) }, () => draw(next, 256)));
      } catch (thrown) {
        expect((thrown as { code: string }).code).toMatch(/_invalid$/);
      }
    }
    const svid = concat([
      delimited(1, "spiffe://example.org/app"),
      delimited(2, endpoint.bundle.x509[0] as Uint8Array),
    ]);
    expect(() => readX509Svid(delimited(1, svid))).toThrow("its key is not that of its certificate");
    expect(() => readX509Svid(new Uint8Array())).toThrow("no SVID");
  });
});
