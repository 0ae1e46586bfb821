// go-spiffe's federation client and server on the other side of our endpoints: it judges with code of its own. Built once, kept in .cache.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { issueWithNewKeys, openJwtAuthority, trustBundle } from "../../../src/ca.ts";
import { exchangeHttps } from "../../../src/daemon/bundle/exchange.ts";
import { parseConfig } from "../../../src/daemon/config.ts";
import { type Endpoints, startEndpoints } from "../../../src/daemon/endpoint.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { fetchBundleDocument } from "../../../src/federation/bundle_client.ts";
import type { BundleEndpoint } from "../../../src/resource.ts";
import { SpiffeId, TrustDomain } from "../../../src/spiffe_id.ts";
import { parseTrustBundle, type TrustBundle, writeTrustBundle } from "../../../src/trust_bundle.ts";
import { makeNode, type Node, pem } from "../../ca/authority_fixture.ts";
import { ManualClock } from "../../manual_clock.ts";
import { scratchDirectories } from "../../scratch.ts";
import { makePki } from "../endpoint/pki.ts";
import { BUILD_MS, goProgram } from "../go_program.ts";

const DOMAIN = TrustDomain.parse("edge.test");
const ENDPOINT_ID = "spiffe://edge.test/riprap/bundle-endpoint";
const scratch = scratchDirectories();
const { binary, skipped, build } = goProgram(join(import.meta.dir, "go_spiffe"), "go_spiffe_federation");

describe.skipIf(skipped !== undefined)(`go-spiffe's federation (${skipped ?? "built from its modules"})`, () => {
  let node: Node;
  let endpoints: Endpoints;
  let folder: string;
  let bundle: () => TrustBundle;
  const urls: Record<string, string> = {};

  beforeAll(async () => {
    expect(build()).toBe(true);
    folder = scratch();
    // That library looks at the machine's own clock.
    const clock = new ManualClock(Date.now());
    node = await makeNode(scratch(), "edge.test", clock);
    const { authority, store, stateDir } = node;
    const jwt = openJwtAuthority({ stateDir, clock, store, authority });
    bundle = () => trustBundle(store, authority, jwt);
    const pki = makePki(folder);
    const { cert, key } = pki.issue("web");
    const any = { host: "127.0.0.1", port: 0 };
    endpoints = await startEndpoints({
      ...{ authority, clock, random: () => 0.5, trust: { bundle } },
      config: { ...parseConfig(`webCertificate: ${cert}\nwebKey: ${key}\n`), webListen: any, bundleListen: any },
      health: { isReady: () => true, metrics: () => "" },
      log: createLog({ level: "error", clock, write: () => undefined }),
    });
    for (const { profile, address } of endpoints.view()) urls[profile] = `https://${address}/bundle`;
    writeFileSync(join(folder, "bundle.json"), writeTrustBundle(bundle()));
  }, BUILD_MS);

  afterAll(async () => {
    await endpoints?.close();
    node?.close();
  });

  async function run(...words: string[]) {
    const child = Bun.spawn([binary, ...words], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, out, err };
  }

  test("go-spiffe fetches our bundle by both profiles and reads all of it (rows F-6, F-14, F-16, F-20, F-21, B-3, B-4)", async () => {
    const whole = { x509: 1, jwt: 1, sequence: 1, hint: 300 };
    const spiffe = await run(
      "spiffe",
      "edge.test",
      urls["https_spiffe"] ?? "",
      join(folder, "bundle.json"),
      ENDPOINT_ID,
    );
    expect([spiffe.err, JSON.parse(spiffe.out)]).toEqual(["", whole]);
    const web = await run("web", "edge.test", urls["https_web"] ?? "", join(folder, "root.crt"), "-");
    expect([web.err, JSON.parse(web.out)]).toEqual(["", whole]);
  });

  test("go-spiffe refuses our endpoint under another ID (row F-21)", async () => {
    const other = await run(
      "spiffe",
      "edge.test",
      urls["https_spiffe"] ?? "",
      join(folder, "bundle.json"),
      "spiffe://edge.test/other",
    );
    expect([other.code, other.err.includes("unexpected ID")]).toEqual([1, true]);
  });

  test("exchangeHttps() fetches from go-spiffe's own handler as https_spiffe (rows F-6, F-21)", async () => {
    const [svid] = issueWithNewKeys(node.authority, [{ spiffeId: ENDPOINT_ID, lifetimeSeconds: 600, context: {} }]);
    if (svid === undefined) throw new Error("no SVID");
    const key = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(svid.privateKey).toString("base64")}\n-----END PRIVATE KEY-----\n`;
    writeFileSync(join(folder, "svid.pem"), pem(...svid.chain));
    writeFileSync(join(folder, "svid.key"), key, { mode: 0o600 });
    const words = ["serve", "edge.test", ...["bundle.json", "svid.pem", "svid.key"].map((name) => join(folder, name))];
    const child = Bun.spawn([binary, ...words], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
    try {
      const first = await child.stdout.getReader().read();
      const { address } = JSON.parse(new TextDecoder().decode(first.value));
      const endpoint: BundleEndpoint = {
        url: new URL(`https://${address}/`),
        profile: "https_spiffe",
        spiffeId: SpiffeId.parse(ENDPOINT_ID),
      };
      const parts = {
        ...{ clock: node.clock, webRootsPath: "", signal: new AbortController().signal },
        authenticate: (chain: readonly Uint8Array[]) => node.authority.verifyPeerChain(chain),
      };
      const text = await fetchBundleDocument(
        endpoint.url,
        async (url) => (await exchangeHttps(url, endpoint, parts)).response,
      );
      const read = parseTrustBundle(text, DOMAIN);
      expect([read.sequence, read.x509.length, read.jwt.length, read.ignored]).toEqual([1n, 1, 1, []]);
    } finally {
      child.stdin.end();
      await child.exited;
    }
  });
});
