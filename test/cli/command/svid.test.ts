// svid jwt, svid validate and bundle show, as a person calls them.

import { beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { WIDTH } from "../../../src/cli/grid.ts";
import { runCli } from "../../../src/cli.ts";
import { TrustDomain } from "../../../src/spiffe_id.ts";
import { parseTrustBundle } from "../../../src/trust_bundle.ts";
import { makeWorkloadKey, openssl } from "../../ca/authority_fixture.ts";
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

  test("svid jwt --json has spiffeId, token, tokenId and expiresAt, as the token says them", async () => {
    const { status, out, err } = await run([...ISSUE, "--audience", "one", "--ttl", "2m", "--json"]);
    expect([status, err]).toEqual([0, ""]);
    const answer = JSON.parse(out);
    expect(Object.keys(answer).sort()).toEqual(["expiresAt", "spiffeId", "token", "tokenId"]);
    const claims = JSON.parse(Buffer.from(answer.token.split(".")[1], "base64url").toString());
    expect(claims).toMatchObject({ sub: answer.spiffeId, aud: ["one"], jti: answer.tokenId });
    expect(answer.spiffeId).toBe("spiffe://edge.example/printer");
    expect(new Date(claims.exp * 1000).toISOString()).toBe(answer.expiresAt);
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

describe("riprap svid x509", () => {
  test("svid x509 --json has spiffeId, serial, notAfter and chainPem, as openssl reads the chain", async () => {
    const id = "spiffe://edge.example/printer";
    const words = ["svid", "x509", "--spiffe-id", id, "--public-key", "-", "--dns", "printer.edge.example"];
    const { status, out, err } = await run([...words, "--ttl", "30m", "--json"], makeWorkloadKey().publicPem);
    expect([status, err]).toEqual([0, ""]);
    const answer = JSON.parse(out);
    expect(Object.keys(answer).sort()).toEqual(["chainPem", "notAfter", "serial", "spiffeId"]);
    expect(answer.spiffeId).toBe(id);
    const leaf = new X509Certificate(answer.chainPem);
    expect(leaf.serialNumber.toLowerCase()).toBe(answer.serial);
    expect(leaf.validToDate.toISOString()).toBe(answer.notAfter);
    const roots = JSON.parse((await run(["svid", "bundle", "--json"])).out).rootsPem;
    const files = { "chain.pem": answer.chainPem, "roots.pem": roots };
    const verify = ["verify", "-CAfile", "roots.pem", "-untrusted", "chain.pem", "chain.pem"];
    expect(openssl(scratch(), files, ...verify)).toEqual({ code: 0, text: "chain.pem: OK\n" });
    const { text } = openssl(scratch(), files, "x509", "-in", "chain.pem", "-noout", "-ext", "subjectAltName");
    expect(text).toContain(`URI:${id}, DNS:printer.edge.example\n`);
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
