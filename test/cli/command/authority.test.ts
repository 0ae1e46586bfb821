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

  test("authority crl --check says what a CRL lists, and refuses one that it must not go by", async () => {
    const crl = (await local("authority", "crl")).out;
    const { status, out } = await run(["authority", "crl", "--check", "-", "--state-dir", stateDir, "--json"], crl);
    expect([status, JSON.parse(out)]).toMatchObject([0, { number: "1", revoked: [] }]);
    const half = await run(["authority", "crl", "--check", "-", "--state-dir", stateDir], crl.slice(0, 200));
    expect([half.status, half.err.includes("it is not one CRL in PEM")]).toEqual([1, true]);
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

  test.each(["x509", "jwt"])(
    "authority prepare, taint and revoke --json tell what was done to an authority of %s",
    async (kind) => {
      const step = async (...words: string[]) => {
        const { status, out, err } = await local("authority", ...words, "--json");
        expect({ status, err }).toEqual({ status: 0, err: "" });
        const answer = JSON.parse(out);
        expect(Object.keys(answer).sort()).toEqual(["authority", "done", "notes"]);
        expect(answer.notes.every((note: unknown) => typeof note === "string")).toBe(true);
        const { id, algorithm, isHeld, isTainted, notAfter, preparedAt } = answer.authority;
        expect([id, algorithm, notAfter, preparedAt].map((text) => typeof text)).toEqual(Array(4).fill("string"));
        expect([isHeld, isTainted].map((flag) => typeof flag)).toEqual(["boolean", "boolean"]);
        expect(new Date(notAfter).toISOString()).toBe(notAfter);
        return answer;
      };
      const prepared = await step("prepare", kind);
      expect(prepared).toMatchObject({
        done: "prepare",
        authority: { kind, phase: "published", isHeld: true, isTainted: false, usableFrom: expect.any(String) },
      });
      const active = async () => (await listed()).find((one) => one.kind === kind && one.phase === "active")?.id ?? "";
      const old = await active();
      await step("activate", prepared.authority.id, "--force");
      const tainted = await step("taint", old);
      expect(tainted).toMatchObject({ done: "taint", authority: { id: old, kind, taintedAt: expect.any(String) } });
      // A root stays until it is revoked; a token key has nothing under it that could be made anew.
      expect(tainted.authority.phase).toBe(kind === "x509" ? "retired" : "revoked");
      const next = kind === "x509" ? old : await active();
      if (next !== old) await step("activate", (await step("prepare", kind)).authority.id, "--force");
      expect(await step("revoke", next)).toMatchObject({
        done: "revoke",
        authority: { id: next, kind, phase: "revoked", isHeld: false, revokedAt: expect.any(String) },
      });
    },
  );

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

  test("authority list, prepare, csr and crl answer through the daemon, and openssl reads the CRL", async () => {
    expect((await ask("authority", "list")).out).toContain("trust domain edge.test");
    expect((await ask("authority", "csr")).out).toStartWith("-----BEGIN CERTIFICATE REQUEST-----");
    expect(JSON.parse((await ask("authority", "prepare", "jwt", "--json")).out)).toMatchObject({
      done: "prepare",
      authority: { kind: "jwt", phase: "published" },
      notes: expect.any(Array),
    });
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
    const fresh = await ask("revoke", id, "--local", "--reason", "stolen", "--json");
    expect([fresh.status, fresh.err]).toEqual([0, ""]);
    expect(JSON.parse(fresh.out)).toEqual({ target: `id:${id}`, outcome: "revoked", notes: expect.any(Array) });
    const [row, ...rest] = JSON.parse((await ask("revoke", "--json")).out);
    expect([row, rest]).toEqual([{ spiffeId: id, reason: "stolen", revokedAt: expect.any(String) }, []]);
    expect(JSON.parse((await ask("revoke", id, "--lift", "--json")).out).outcome).toBe("lifted");
    const wrong = await ask("revoke", "rubbish", "--json");
    expect([wrong.status, JSON.parse(wrong.err).code]).toEqual([1, "revocation_invalid"]);
    expect((await ask("revoke", "--lift")).status).toBe(2);
  });
});
