// svid jwt, svid validate and bundle show, as a person calls them.

import { beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { WIDTH } from "../../../src/cli/grid.ts";
import { runCli } from "../../../src/cli.ts";
import { TrustDomain } from "../../../src/spiffe_id.ts";
import { parseTrustBundle } from "../../../src/trust_bundle.ts";
import { scratchDirectories } from "../../scratch.ts";
import { fakeTerminal } from "../fake_terminal.ts";

const scratch = scratchDirectories();
let stateDir: string;

async function run(argv: readonly string[], input = "") {
  const terminal = fakeTerminal(input);
  const status = await runCli([...argv, "--state-dir", stateDir], terminal);
  return { status, out: terminal.out.join("\n"), err: terminal.err.join("\n") };
}

const ISSUE = ["svid", "jwt", "--spiffe-id", "spiffe://edge.example/printer"];

beforeAll(async () => {
  stateDir = join(scratch(), "state");
  await run(["init", "edge.example", "--node", "a"]);
});

describe("riprap svid jwt", () => {
  test("svid jwt prints a token that svid validate takes for each audience", async () => {
    const issued = await run([...ISSUE, "--audience", "one,two"]);
    expect(issued).toMatchObject({ status: 0, err: "" });
    for (const audience of ["one", "two"]) {
      const { status, out } = await run(["svid", "validate", "-", "--audience", audience], `${issued.out}\n`);
      expect([status, out.startsWith("spiffe://edge.example/printer, until ")]).toEqual([0, true]);
    }
    const wrong = await run(["svid", "validate", "-", "--audience", "three", "--json"], issued.out);
    expect([wrong.status, wrong.out, JSON.parse(wrong.err).code]).toEqual([1, "", "audience_mismatch"]);
    expect(wrong.err).not.toContain(issued.out);
  });

  test.each(["--audience a,", "--audience a --ttl 2h", "--audience a --ttl 0s"])(
    "svid jwt refuses %s",
    async (words) => {
      expect(await run([...ISSUE, ...words.split(" ")])).toMatchObject({ status: 1, out: "" });
    },
  );

  test("svid jwt refuses another trust domain's ID", async () => {
    const { status, err } = await run(["svid", "jwt", "--spiffe-id", "spiffe://edge.other/x", "--audience", "a"]);
    expect([status, err.includes("edge.example")]).toEqual([1, true]);
  });
});

describe("riprap bundle show", () => {
  test("bundle show prints each key in a line within the width, and the same as JSON", async () => {
    const { status, out } = await run(["bundle", "show"]);
    expect(status).toBe(0);
    const lines = out.split("\n");
    expect(lines[0]).toBe("trust domain edge.example, sequence 1");
    expect(lines[1]).toMatch(/^fingerprint sha256:[0-9a-f]{64}$/);
    expect(lines).toHaveLength(5);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(WIDTH);
    const view = JSON.parse((await run(["bundle", "show", "--json"])).out);
    expect(view).toMatchObject({ trustDomain: "edge.example", sequence: "1", refreshHintSeconds: 300 });
    expect(view.keys.map(({ use }: { use: string }) => use)).toEqual(["x509-svid", "jwt-svid"]);
  });

  test("bundle show --format gives documents that readers take", async () => {
    const spiffe = await run(["bundle", "show", "--format", "spiffe"]);
    const bundle = parseTrustBundle(spiffe.out, TrustDomain.parse("edge.example"));
    expect([bundle.x509.length, bundle.jwt.length, bundle.sequence, bundle.ignored]).toEqual([1, 1, 1n, []]);
    const jwks = JSON.parse((await run(["bundle", "show", "--format", "jwks"])).out);
    expect(jwks.keys.map(({ kid }: { kid: string }) => kid)).toEqual(bundle.jwt.map(({ keyId }) => keyId));
    expect((await run(["bundle", "show", "--format", "pem"])).out).toStartWith("-----BEGIN CERTIFICATE-----");
    expect((await run(["bundle", "show", "--format", "der"])).status).toBe(2);
  });
});

describe("riprap svid jwt and the configuration", () => {
  test("svid jwt signs with the configured issuer, and bundle show has the sequence number of the daemon's bundle", async () => {
    const config = join(scratch(), "riprap.yaml");
    writeFileSync(config, "oidcIssuer: https://oidc.edge.example\nwitSvid: true\n");
    const issued = await run([...ISSUE, "--audience", "one", "--config", config]);
    const claims = JSON.parse(Buffer.from(issued.out.split(".")[1] ?? "", "base64url").toString());
    expect(claims.iss).toBe("https://oidc.edge.example");
    const first = JSON.parse((await run(["bundle", "show", "--json", "--config", config])).out);
    expect(first.keys.map(({ use }: { use: string }) => use)).toContain("wit-svid");
    const again = JSON.parse((await run(["bundle", "show", "--json", "--config", config])).out);
    expect([again.sequence, again.fingerprint]).toEqual([first.sequence, first.fingerprint]);
  });
});
