// The commands of authorities and of revocation, as a person calls them: on the files, and through a running daemon.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { WIDTH } from "../../../src/cli/grid.ts";
import { runCli } from "../../../src/cli.ts";
import { openssl } from "../../ca/authority_fixture.ts";
import { buildHouse, CURL_RULES, type House, settle } from "../../daemon/house.ts";
import { scratchDirectories } from "../../scratch.ts";
import { fakeTerminal } from "../fake_terminal.ts";

const scratch = scratchDirectories();

async function run(argv: readonly string[], input = "") {
  const terminal = fakeTerminal(input);
  const status = await runCli(argv, terminal);
  return { status, out: terminal.out.join("\n"), err: terminal.err.join("\n") };
}

interface Listed {
  readonly id: string;
  readonly kind: string;
  readonly phase: string;
}

describe("riprap authority --state-dir", () => {
  let stateDir: string;
  const local = (...words: string[]) => run([...words, "--state-dir", stateDir]);
  const listed = async (): Promise<readonly Listed[]> =>
    JSON.parse((await local("authority", "list", "--json", "--all")).out).authorities;

  beforeEach(async () => {
    stateDir = join(scratch(), "state");
    await local("init", "edge.example", "--node", "a");
  });

  test("authority list prints a line for each within the width", async () => {
    const { status, out } = await local("authority", "list");
    expect(status).toBe(0);
    expect(out).toContain("x509");
    expect(out).toContain("intermediate of a: serial ");
    for (const line of out.split("\n")) expect(line.length).toBeLessThanOrEqual(WIDTH);
  });

  test("authority prepare, activate, taint and revoke take a root through its life, each refusal with its code", async () => {
    const [old] = await listed();
    expect((await local("authority", "prepare", "x509")).out).toContain("It is in the bundle");
    const next = (await listed()).find(({ phase }) => phase === "published");
    const early = await local("authority", "activate", next?.id ?? "", "--json");
    expect([early.status, JSON.parse(early.err).code]).toEqual([1, "authority_too_early"]);
    const done = await local("authority", "activate", (next?.id ?? "").slice(0, 10), "--force", "--json");
    expect(JSON.parse(done.out)).toMatchObject({ done: "activate", authority: { id: next?.id, phase: "active" } });
    expect((await local("authority", "taint", old?.id ?? "")).status).toBe(0);
    expect((await local("authority", "revoke", old?.id ?? "")).out).toContain(": revoked");
    expect((await local("authority", "renew", "--reason", "a test")).status).toBe(0);
    expect((await listed()).filter(({ kind }) => kind === "x509").map(({ phase }) => phase)).toEqual([
      "revoked",
      "active",
    ]);
    expect((await local("authority", "revoke", "rubbish")).err).toContain("riprap authority list");
  });

  test("authority csr makes a request that openssl reads, and install takes no private key", async () => {
    const file = join(scratch(), "a.csr");
    expect((await local("authority", "csr", "--issuing", "--out", file)).out).toBe(`wrote ${file}`);
    const text = openssl(
      scratch(),
      { "a.csr": readFileSync(file, "utf8") },
      "req",
      "-in",
      "a.csr",
      "-noout",
      "-text",
      "-verify",
    );
    expect(text.text).toContain("pathlen:1");
    const key = await run(["authority", "install", "-", "--state-dir", stateDir], "-----BEGIN PRIVATE KEY-----\n");
    expect([key.status, key.err.includes("private key")]).toEqual([1, true]);
    const wrong = await run(["authority", "install", "-", "--json", "--state-dir", stateDir], "nothing\n");
    expect(JSON.parse(wrong.err).code).toBe("upstream_malformed");
  });
});

describe("riprap authority, revoke and audit with a daemon", () => {
  let house: House;
  const ask = (...words: string[]) => run([...words, "--socket", house.config.controlSocket]);

  beforeAll(async () => {
    house = await buildHouse();
    house.writeRules("curl.yaml", CURL_RULES);
    await house.start();
    house.kernel.exec();
    await settle();
  });
  afterAll(async () => {
    await house.leave();
  });

  test("authority list, csr and crl answer through the daemon, and openssl reads the CRL", async () => {
    expect((await ask("authority", "list")).out).toContain("trust domain edge.test");
    expect((await ask("authority", "csr")).out).toStartWith("-----BEGIN CERTIFICATE REQUEST-----");
    const { out } = await ask("authority", "crl");
    expect(openssl(scratch(), { "a.crl": `${out}\n` }, "crl", "-in", "a.crl", "-noout", "-issuer")).toMatchObject({
      code: 0,
    });
  });

  test("audit tells which rule and labels gave an SVID, and the steps of authorities", async () => {
    const { status, out } = await ask("audit", "--spiffe-id", "spiffe://edge.test/curl");
    expect(status).toBe(0);
    for (const wanted of ["x509", "rule WorkloadIdentity/curl", 'process:exe is "/usr/bin/curl"', "by kernel"])
      expect(out).toContain(wanted);
    expect((await ask("audit", "--authorities")).out).toContain("published");
  });

  test("revoke says what it revoked; --local and --lift are this node's affair", async () => {
    const id = "spiffe://edge.test/printer";
    expect((await ask("revoke", id, "--local", "--reason", "stolen")).out).toContain(`id:${id}: revoked`);
    expect((await ask("revoke")).out).toContain("stolen");
    expect(JSON.parse((await ask("revoke", id, "--local", "--json")).out).outcome).toBe("already_revoked");
    expect((await ask("revoke", id, "--lift")).out).toContain("lifted");
    const wrong = await ask("revoke", "rubbish", "--json");
    expect([wrong.status, JSON.parse(wrong.err).code]).toEqual([1, "revocation_invalid"]);
    expect((await ask("revoke", "--lift")).status).toBe(2);
  });
});
