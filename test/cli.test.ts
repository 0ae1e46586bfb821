// The riprap command as a person calls it: what it prints, where, and with which exit status.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { synopsisOf } from "../src/cli/command.ts";
import { WIDTH } from "../src/cli/grid.ts";
import { COMMANDS } from "../src/cli/table.ts";
import { runCli } from "../src/cli.ts";
import type { ControlListener } from "../src/daemon/control/listener.ts";
import type { ControlPort } from "../src/daemon/control/port.ts";
import { openControl } from "../src/daemon/control.ts";
import { RiprapError } from "../src/error.ts";
import { type FakeTerminal, fakeTerminal } from "./cli/fake_terminal.ts";
import { type FakePort, FLOW, fakePort, STATUS } from "./daemon/control/fake_port.ts";

let folder: string;
let socket: string;
let daemon: ControlListener | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-cli-"));
  socket = join(folder, "control.sock");
});

afterEach(async () => {
  await daemon?.close();
  daemon = undefined;
  rmSync(folder, { recursive: true, force: true });
});

async function serve(over: Partial<ControlPort> = {}): Promise<FakePort> {
  const port = fakePort(over);
  daemon = await openControl(port, { path: socket });
  return port;
}

interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

async function run(argv: readonly string[], terminal: FakeTerminal = fakeTerminal()): Promise<Ran> {
  const status = await runCli(argv, terminal);
  return { status, out: terminal.out.join("\n"), err: terminal.err.join("\n") };
}

/** With the test's own daemon. */
function ask(...argv: string[]): Promise<Ran> {
  return run([...argv, "--socket", socket]);
}

describe("help", () => {
  test("--help lists every command, within the width of a terminal", async () => {
    const { status, out } = await run(["--help"]);
    expect(status).toBe(0);
    for (const command of COMMANDS) expect(out).toContain(command.sentence);
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(WIDTH);
  });

  test.each(COMMANDS.map((command) => [command.words.join(" "), command] as const))(
    "%s --help shows its synopsis, options and an example",
    async (words, command) => {
      const { status, out } = await run([...words.split(" "), "--help"]);
      expect(status).toBe(0);
      expect(out.replaceAll("\n       ", " ")).toStartWith(`Usage: ${synopsisOf(command)}`);
      for (const option of command.options) expect(out).toContain(`--${option.name}`);
      expect(command.example).toStartWith(`riprap ${words}`);
      expect(command.sentence).toMatch(/^[A-Z].*\.$/);
      for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(WIDTH);
      expect((await run(["help", ...words.split(" ")])).out).toBe(out);
    },
  );

  test("kernel --help lists the commands of the group", async () => {
    const { status, out } = await run(["kernel", "--help"]);
    expect(status).toBe(0);
    expect(out).toContain("kernel unload");
    expect(out).not.toContain("wait-ready");
  });
});

describe("wrong command lines", () => {
  test.each([
    [[], "without a command"],
    [["flwos"], 'did you mean "riprap flows"'],
    [["statsu"], 'did you mean "riprap status"'],
    [["--hepl"], "no such option"],
    [["xyzzy"], "there is no such command"],
    [["kernel"], "it needs one of build, load, unload, status"],
    [["kernel", "laod"], 'did you mean "riprap kernel load"'],
    [["help", "nothing"], "there is no such command"],
    [["status", "now"], "takes no more arguments"],
    [["status", "--jsn"], "did you mean --json"],
    [["status", "--json=yes"], "it is a flag"],
    [["ps", "--all", "-a"], "twice"],
    [["status", "-x"], "Cannot use -x"],
    [["status", "--socket"], "without its PATH"],
    [["status", "--socket", "--config", "x"], "without its PATH"],
    [["apply"], "without --file FILE"],
    [["attest"], "without PID"],
    [["attest", "0"], "from 1 to 4194304"],
    [["attest", "1.5"], "from 1 to 4194304"],
    [["attest", "--", "-1"], "from 1 to 4194304"],
    [["generate", "1", "--id", "a b"], "a workload ID has"],
    [["flows", "--limit", "0"], "from 1 to 10000"],
    [["flows", "-nmany"], "from 1 to 10000"],
    [["wait-ready", "--timeout", "30"], "a number with ms, s, m or h"],
    [["get", "Pod"], "one of WorkloadIdentity, Service, AccessPolicy"],
    [["explain", "--from", "1"], "without --to WHERE"],
    [["completion", "tcsh"], "one of bash, zsh, fish"],
    [["daemon", "--no-such"], "has no such option"],
  ])("%j is refused with status 2 and says %s", async (argv, sentence) => {
    const { status, out, err } = await run(argv);
    expect(status).toBe(2);
    expect(out).toBe("");
    expect(err).toStartWith("riprap: Cannot ");
    expect(err).toContain(sentence);
    expect(err).toContain('--help"');
    expect(err.split("\n")).toHaveLength(1);
  });

  test("a refusal with --json is JSON on standard error", async () => {
    const { status, err } = await run(["attest", "x", "--json"]);
    expect(status).toBe(2);
    expect(JSON.parse(err)).toMatchObject({ code: "usage" });
  });
});

describe("answers of the daemon", () => {
  test.each([
    [["status"], STATUS],
    [["ps"], []],
    [["flows"], [FLOW]],
    [["drain"], { live: 2 }],
    [["delete", "Service", "web"], { generation: 5, written: [], warnings: [] }],
    [["generate", "7"], { document: "kind: WorkloadIdentity\n" }],
  ])("%j --json prints the view as it is", async (argv, view) => {
    await serve();
    const { status, out, err } = await ask(...argv, "--json");
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(JSON.parse(out)).toEqual(view);
  });

  test.each([
    [
      ["status"],
      ["kernel: enforced by the module", "generation 3, applied", "12 live, 2 with an identity", "4 denied"],
    ],
    [["ps"], ["riprap ps --all"]],
    [
      ["flows"],
      [
        "spiffe://edge.example/curl → spiffe://edge.example/web",
        "AccessPolicy/web#0 (enforce)",
        "TLS 1.3 TLS_AES_128_GCM_SHA256 x25519",
        "3.8 MiB received",
      ],
    ],
    [
      ["explain", "--from", "7", "--to", "web"],
      ["deny by AccessPolicy/web#0 (mode enforce)", "1. wget has no rule", "  allow: []"],
    ],
    [
      ["attest", "7"],
      ["process:name", "in force: spiffe://edge.example/curl by WorkloadIdentity/curl", "  - process:name is curl"],
    ],
    [["generate", "7"], ["kind: WorkloadIdentity"]],
    [["get"], ["Service", "/etc/riprap/rules.d/web.yaml:1"]],
    [
      ["get", "Service", "web"],
      ["kind: Service", "  name: web"],
    ],
    [["drain"], ["draining: 2 flows still live"]],
    [["wait-ready"], ["ready"]],
  ])("%j prints lines for a person", async (argv, sentences) => {
    await serve();
    const { status, out, err } = await ask(...argv);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    for (const sentence of sentences) expect(out).toContain(sentence);
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(WIDTH);
  });

  test("status says before all else when nothing is enforced", async () => {
    await serve({
      status: () => ({
        ...STATUS,
        plane: "identity",
        planeReason: "the module is not loaded; riprap kernel load",
        rules: { desired: 2, applied: 1, error: "no module" },
        warnings: ["the intermediate ends in 3 days"],
      }),
    });
    const lines = (await ask("status")).out.split("\n");
    expect(lines[0]).toContain("nothing is enforced");
    expect(lines[1]).toContain("riprap kernel load");
    expect(lines.join("\n")).toContain("generation 2 desired, 1 applied: no module");
    expect(lines.at(-1)).toContain("the intermediate ends in 3 days");
  });

  test("ps wraps long identities and cuts none", async () => {
    const spiffeId = `spiffe://edge.example/${"group/".repeat(20)}web`;
    await serve({
      processes: () => [
        {
          instance: "1",
          pid: 7,
          parentPid: 1,
          startedAt: STATUS.startedAt,
          name: "nginx",
          exe: "/usr/sbin/nginx",
          spiffeId,
          rule: "WorkloadIdentity/web",
          state: "ready",
        },
      ],
    });
    const { out } = await ask("ps");
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(WIDTH);
    const column = out.split("\n")[0]?.indexOf("SPIFFE ID") ?? 0;
    const end = out.split("\n")[0]?.indexOf("RULE") ?? 0;
    const cells = out
      .split("\n")
      .slice(1)
      .map((line) => line.slice(column, end).trim());
    expect(cells.join("")).toBe(spiffeId);
  });

  test("apply sends a file, standard input, or a folder in order of name", async () => {
    const port = await serve();
    const file = join(folder, "a.yaml");
    writeFileSync(file, "kind: A\n");
    expect((await ask("apply", "-f", file)).out).toContain("generation 4 applied");
    expect((await run(["apply", "-f", "-", "--socket", socket], fakeTerminal("kind: B\n"))).status).toBe(0);
    const rules = join(folder, "rules");
    mkdirSync(rules);
    writeFileSync(join(rules, "2.yml"), "kind: D\n");
    writeFileSync(join(rules, "1.yaml"), "kind: C\n");
    writeFileSync(join(rules, "note.txt"), "not a rule");
    expect((await ask("apply", "--file", rules)).status).toBe(0);
    expect(port.calls).toEqual([
      `apply(${JSON.stringify({ name: file, text: "kind: A\n" })})`,
      'apply({"name":"standard input","text":"kind: B\\n"})',
      `apply(${JSON.stringify({ name: rules, text: "kind: C\n---\nkind: D\n" })})`,
    ]);
  });

  test("apply of a folder brings the daemon's errors back to each file and line", async () => {
    const rules = join(folder, "rules");
    mkdirSync(rules);
    writeFileSync(join(rules, "a.yaml"), "kind: A\nname: a");
    writeFileSync(join(rules, "b.yaml"), "# b\nkind: B\n");
    const sentence = `Cannot load resources:\n${rules}:1:7: unknown kind "A"\n${rules}:5:7: unknown kind "B"`;
    await serve({ apply: () => Promise.reject(new RiprapError("resource_invalid", sentence)) });
    expect((await ask("apply", "-f", rules)).err).toBe(
      `riprap: Cannot load resources:\n${join(rules, "a.yaml")}:1:7: unknown kind "A"\n${join(rules, "b.yaml")}:2:7: unknown kind "B"`,
    );
  });

  test("apply refuses what it cannot read before it asks the daemon", async () => {
    const port = await serve();
    writeFileSync(join(folder, "bad.yaml"), Uint8Array.of(0xff, 0xfe));
    writeFileSync(join(folder, "large.yaml"), "#".repeat(4 * 1024 * 1024 + 1));
    for (const [name, sentence] of [
      ["none.yaml", "there is no such file"],
      ["bad.yaml", "not UTF-8"],
      ["large.yaml", "larger than"],
      [".", "has no .yaml file"],
    ] as const) {
      if (name === ".") for (const other of ["bad.yaml", "large.yaml"]) rmSync(join(folder, other));
      const { status, err } = await ask("apply", "-f", join(folder, name));
      expect(status).toBe(1);
      expect(err).toContain(sentence);
    }
    expect(port.calls).toEqual([]);
  });

  test("a refusal of the daemon is its sentence on standard error, and status 1", async () => {
    await serve({
      apply: () =>
        Promise.reject(
          new RiprapError(
            "resource_invalid",
            'Cannot apply rules.yaml:3:5: spec.selecters: unknown field; did you mean "selectors"',
          ),
        ),
    });
    writeFileSync(join(folder, "rules.yaml"), "x");
    const { status, out, err } = await ask("apply", "-f", join(folder, "rules.yaml"));
    expect({ status, out }).toEqual({ status: 1, out: "" });
    expect(err).toBe('riprap: Cannot apply rules.yaml:3:5: spec.selecters: unknown field; did you mean "selectors"');
    expect((await ask("delete", "Service", "none")).err).toContain("there is no such resource");
    expect((await ask("get", "Service", "none")).err).toContain('"riprap get Service" lists them');
  });

  test("wait-ready waits for a daemon that is still to come, and gives up in time", async () => {
    const waiting = ask("wait-ready", "--timeout", "10s");
    await serve();
    expect(await waiting).toMatchObject({ status: 0, out: "ready" });
    await daemon?.close();
    expect(await ask("wait-ready", "--timeout", "1ms")).toMatchObject({ status: 1 });
  });

  test("flows --follow prints each change until it is interrupted", async () => {
    const terminal = fakeTerminal();
    await serve({
      async *followFlows(signal) {
        yield FLOW;
        yield { ...FLOW, state: "closed" as const };
        if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    });
    const running = run(["flows", "--follow", "--json", "--socket", socket], terminal);
    while (terminal.out.length < 2) await Bun.sleep(5);
    terminal.interrupt();
    const { status, out, err } = await running;
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out.split("\n").map((line) => JSON.parse(line).state)).toEqual(["open", "closed"]);
  });
});

describe("no daemon", () => {
  // The Workload API's --socket is another: a client of it waits for its daemon, as the standard says.
  const NEED_DAEMON = COMMANDS.filter((command) =>
    command.options.some(({ name, value }) => name === "socket" && value !== "ENDPOINT"),
  );

  test.each(NEED_DAEMON.map((command) => [command.words.join(" "), command] as const))(
    "%s says that there is none and how to start it",
    async (_words, command) => {
      const file = join(folder, "rules.yaml");
      writeFileSync(file, "");
      const values = command.arguments.map((argument) =>
        argument.name === "PID" ? "1" : argument.name === "FILE" ? file : (argument.choices?.[0] ?? "web"),
      );
      const options = command.options
        .filter((option) => option.required === true)
        .flatMap((option) => [`--${option.name}`, option.value === "FILE" ? file : "1"]);
      const short = command.words[0] === "wait-ready" ? ["--timeout", "1ms"] : [];
      const { status, out, err } = await ask(...command.words, ...values, ...options, ...short);
      expect({ status, out }).toEqual({ status: 1, out: "" });
      expect(err).toStartWith(`riprap: Cannot reach the riprap daemon at ${socket}`);
      expect(err).toContain('start it with "systemctl start riprap"');
    },
  );

  test("status says it when something else answers on the socket", async () => {
    const other = Bun.serve({ unix: socket, fetch: () => new Response("<html>", { status: 404 }) });
    expect((await ask("status")).err).toContain("is it a riprap daemon?");
    await other.stop(true);
  });
});

describe("a second daemon", () => {
  test.each(["daemon", "run"])("%s refuses before it touches anything", async (word) => {
    const state = join(folder, "state");
    await run(["init", "edge.example", "--node", "a", "--state-dir", state]);
    const config = join(folder, "riprap.yaml");
    writeFileSync(config, `stateDir: ${state}\ncontrolSocket: ${socket}\nrulesDir: ${join(folder, "rules")}\n`);
    await serve();
    const { status, err } = await run([word, "--config", config]);
    expect(status).toBe(1);
    expect(err).toBe(
      `riprap: Cannot start the daemon: another one listens at ${socket}; stop it first ("systemctl stop riprap"), or see what it does with "riprap status"`,
    );
  });
});

describe("local commands", () => {
  test("init, enrol and svid work on a state directory, and refuse what is wrong", async () => {
    const [first, second] = [join(folder, "first"), join(folder, "second")];
    const files = { request: join(folder, "b.request"), grant: join(folder, "b.grant") };
    const made = JSON.parse((await run(["init", "edge.example", "--node", "a", "--state-dir", first, "--json"])).out);
    expect(made).toMatchObject({ trustDomain: "edge.example", nodeName: "a" });
    expect(await run(["init", "edge.example", "--node", "a", "--state-dir", first])).toMatchObject({ status: 1 });
    expect(await run(["init", "EDGE", "--state-dir", second])).toMatchObject({ status: 1 });
    expect(
      (await run(["enrol", "request", "edge.example", "--node", "b", "--out", files.request, "--state-dir", second]))
        .status,
    ).toBe(0);
    expect((await run(["enrol", "sign", files.request, "--out", files.grant, "--state-dir", first])).status).toBe(0);
    expect((await run(["enrol", "sign", files.request, "--out", files.grant, "--state-dir", first])).status).toBe(1);
    const wrong = await run([
      "enrol",
      "install",
      files.grant,
      "--root-fingerprint",
      "ab".repeat(32),
      "--state-dir",
      second,
    ]);
    expect(wrong).toMatchObject({ status: 1 });
    const joined = await run([
      "enrol",
      "install",
      files.grant,
      "--root-fingerprint",
      made.rootFingerprint,
      "--state-dir",
      second,
    ]);
    expect(joined).toMatchObject({ status: 0, err: "" });
    expect(joined.out).toContain("as expected");
    expect((await run(["svid", "bundle", "--state-dir", second])).out).toStartWith("-----BEGIN CERTIFICATE-----");
  });

  test("svid x509 issues for a public key and refuses a private one", async () => {
    const state = join(folder, "state");
    await run(["init", "edge.example", "--node", "a", "--state-dir", state]);
    const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign"]);
    const pem = async (kind: "spki" | "pkcs8", label: string, key: CryptoKey) =>
      `-----BEGIN ${label}-----\n${Buffer.from(await crypto.subtle.exportKey(kind, key)).toString("base64")}\n-----END ${label}-----\n`;
    const argv = [
      "svid",
      "x509",
      "--spiffe-id",
      "spiffe://edge.example/printer",
      "--public-key",
      "-",
      "--state-dir",
      state,
    ];
    const issued = await run(argv, fakeTerminal(await pem("spki", "PUBLIC KEY", pair.publicKey)));
    expect(issued.status).toBe(0);
    expect(issued.out.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    const refused = await run(argv, fakeTerminal(await pem("pkcs8", "PRIVATE KEY", pair.privateKey)));
    expect(refused).toMatchObject({ status: 1, out: "" });
    expect(refused.err).toContain("must stay where it was made");
    expect(
      (await run([...argv, "--ttl", "48h"], fakeTerminal(await pem("spki", "PUBLIC KEY", pair.publicKey)))).status,
    ).toBe(1);
  });

  test("a configuration that is asked for must be there and right", async () => {
    expect((await run(["status", "--config", join(folder, "none.yaml")])).err).toContain("there is no such file");
    const config = join(folder, "riprap.yaml");
    writeFileSync(config, `controlSockets: ${socket}\n`);
    const { status, err } = await run(["status", "--config", config]);
    expect(status).toBe(1);
    expect(err).toContain(`controlSockets: ${config}:1: unknown key`);
    writeFileSync(config, `controlSocket: ${socket}\n`);
    await serve();
    expect((await run(["status", "--config", config])).status).toBe(0);
  });

  test("doctor prints a line for each check, and its status says whether one failed", async () => {
    const config = join(folder, "riprap.yaml");
    writeFileSync(config, `stateDir: ${join(folder, "state")}\ncontrolSocket: ${socket}\n`);
    const { status, out } = await run(["doctor", "--json", "--config", config]);
    const answer = JSON.parse(out) as { ok: boolean; findings: { check: string; level: string; remedy?: string }[] };
    expect(status).toBe(answer.ok ? 0 : 1);
    expect(answer.findings.map((finding) => finding.check)).toContain("kTLS");
    expect(answer.findings.find((finding) => finding.check === "trust domain")?.remedy).toContain("riprap init");
    for (const line of (await run(["doctor", "--config", config])).out.split("\n"))
      expect(line.length).toBeLessThanOrEqual(WIDTH);
  });

  test("version names the version and the digest of the module's source", async () => {
    expect(JSON.parse((await run(["version", "--json"])).out)).toMatchObject({
      version: "0.1.0",
      kernelSource: expect.stringMatching(/^[0-9a-f]{16}$/),
    });
    expect((await run(["--version"])).out).toStartWith("riprap 0.1.0");
  });
});
