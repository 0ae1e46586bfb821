// The client of bundle endpoints against servers of real TLS, good ones and hostile ones.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { issueWithNewKeys } from "../../../src/ca.ts";
import { EXCHANGE_MS_MAX, exchangeHttps } from "../../../src/daemon/bundle/exchange.ts";
import { fetchBundleDocument } from "../../../src/federation/bundle_client.ts";
import type { BundleEndpoint } from "../../../src/resource.ts";
import { SpiffeId, TrustDomain } from "../../../src/spiffe_id.ts";
import { BUNDLE_BYTES_MAX, type TrustBundle } from "../../../src/trust_bundle.ts";
import { makeNode, type Node, pem } from "../../ca/authority_fixture.ts";
import { ManualClock } from "../../manual_clock.ts";
import { scratchDirectories } from "../../scratch.ts";
import { makePki, type WebPki } from "../endpoint/pki.ts";

const scratch = scratchDirectories();
const DOCUMENT = '{"keys":[]}';
const OK = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${DOCUMENT.length}\r\n\r\n${DOCUMENT}`;
const ENDPOINT_ID = "spiffe://partner.test/riprap/bundle-endpoint";

let pki: WebPki;
let ours: Node;
let partner: Node;
const servers: Server[] = [];
const certificates: Record<string, { cert: string; key: string }> = {};

beforeAll(async () => {
  pki = makePki(scratch());
  for (const [name, san] of Object.entries({
    good: "DNS:localhost,IP:127.0.0.1",
    nameless: "",
    other: "DNS:other.test",
  }))
    certificates[name] = readPair(pki.issue(name, { san }));
  certificates["stranger"] = readPair(makePki(scratch()).issue("stranger"));
  const clock = new ManualClock();
  ours = await makeNode(scratch(), "edge.test", clock);
  partner = await makeNode(scratch(), "partner.test", clock);
  certificates["endpoint"] = svid(partner, ENDPOINT_ID);
  certificates["workload"] = svid(partner, "spiffe://partner.test/web");
  certificates["namesake"] = svid(await makeNode(scratch(), "partner.test", clock), ENDPOINT_ID);
});
afterAll(() => {
  for (const server of servers) server.close();
});

function readPair({ cert, key }: { cert: string; key: string }) {
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
}

function svid({ authority }: Node, spiffeId: string) {
  const [issued] = issueWithNewKeys(authority, [{ spiffeId, lifetimeSeconds: 600, context: {} }]);
  if (issued === undefined) throw new Error("no SVID");
  const key = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(issued.privateKey).toString("base64")}\n-----END PRIVATE KEY-----\n`;
  return { cert: pem(...issued.chain), key };
}

type Behaviour = (socket: TLSSocket) => void;
const answering =
  (text: string): Behaviour =>
  (socket) =>
    socket.end(text);

/** Answers its URL; what it was asked is kept. */
async function serve(certificate: string, behave: Behaviour, asked: string[] = []): Promise<URL> {
  const server = createServer({ ...certificates[certificate], minVersion: "TLSv1.2" }, (socket) => {
    socket.on("error", () => undefined);
    socket.once("data", (bytes) => {
      asked.push(String(bytes));
      behave(socket);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return new URL(`https://localhost:${(server.address() as { port: number }).port}/bundle`);
}

function fetchFrom(url: URL, spiffeId?: string, clock = new ManualClock()) {
  const endpoint: BundleEndpoint =
    spiffeId === undefined
      ? { url, profile: "https_web" }
      : { url, profile: "https_spiffe", spiffeId: SpiffeId.parse(spiffeId) };
  const x509 = partner.authority.bundle;
  const bundle: TrustBundle = {
    ...{ trustDomain: TrustDomain.parse("partner.test"), x509, jwt: [] },
    ...{ sequence: 1n, refreshHintSeconds: undefined },
  };
  const bundleOf = ({ name }: TrustDomain) => (name === "partner.test" ? bundle : undefined);
  const parts = {
    ...{ clock, webRootsPath: pki.rootPath, signal: new AbortController().signal },
    authenticate: (chain: readonly Uint8Array[]) => ours.authority.verifyPeerChain(chain, bundleOf),
  };
  return fetchBundleDocument(url, async (next) => (await exchangeHttps(next, endpoint, parts)).response);
}

describe("exchangeHttps() as https_web", () => {
  test("exchangeHttps() takes a server that a root of the system knows by its name or address (rows F-12, F-16)", async () => {
    const asked: string[] = [];
    const url = await serve("good", answering(OK), asked);
    expect(await fetchFrom(url)).toBe(DOCUMENT);
    expect(await fetchFrom(new URL(url.href.replace("localhost", "127.0.0.1")))).toBe(DOCUMENT);
    expect(asked[0]).toStartWith(`GET /bundle HTTP/1.1\r\nHost: ${url.host}\r\n`);
    expect(asked[0]?.toLowerCase()).not.toContain("authorization");
  });

  test.each([
    ["a stranger's root", "stranger"],
    ["another name", "other"],
    ["no alternative name", "nameless"],
    ["an X509-SVID", "endpoint"],
  ])("exchangeHttps() refuses a server with %s, and asks it nothing (rows F-12, F-16)", async (_, certificate) => {
    const asked: string[] = [];
    const url = await serve(certificate, answering(OK), asked);
    await expect(fetchFrom(url)).rejects.toMatchObject({ code: expect.stringMatching(/^endpoint_un/) });
    expect(asked).toEqual([]);
  });

  test("exchangeHttps() checks the target of a redirect like the first server (row F-17)", async () => {
    const good = await serve("good", answering(OK));
    const bad = await serve("stranger", answering(OK));
    const to = (url: URL) => answering(`HTTP/1.1 302 Found\r\nLocation: ${url.href}\r\nContent-Length: 0\r\n\r\n`);
    expect(await fetchFrom(await serve("good", to(good)))).toBe(DOCUMENT);
    await expect(fetchFrom(await serve("good", to(bad)))).rejects.toMatchObject({ code: "endpoint_unreachable" });
  });
});

describe("exchangeHttps() as https_spiffe", () => {
  test("exchangeHttps() takes the configured SPIFFE ID under the bundle of its trust domain (rows F-18, F-21)", async () => {
    expect(await fetchFrom(await serve("endpoint", answering(OK)), ENDPOINT_ID)).toBe(DOCUMENT);
  });

  test.each([
    ["another ID of the domain", "workload", ENDPOINT_ID],
    ["an ID of a domain of which nothing is held", "endpoint", "spiffe://third.test/riprap/bundle-endpoint"],
    ["the same ID of a namesake's CA", "namesake", ENDPOINT_ID],
    ["a certificate of the web", "good", ENDPOINT_ID],
  ])("exchangeHttps() refuses %s, and asks it nothing (rows F-20, F-21)", async (_, certificate, id) => {
    const asked: string[] = [];
    const url = await serve(certificate, answering(OK), asked);
    await expect(fetchFrom(url, id)).rejects.toMatchObject({ code: "endpoint_untrusted" });
    expect(asked).toEqual([]);
  });

  test("exchangeHttps() refuses a redirect to a server with another SPIFFE ID (row F-15)", async () => {
    const other = await serve("workload", answering(OK));
    const same = await serve("endpoint", answering(OK));
    const to = (url: URL) => answering(`HTTP/1.1 307 x\r\nLocation: ${url.href}\r\nContent-Length: 0\r\n\r\n`);
    expect(await fetchFrom(await serve("endpoint", to(same)), ENDPOINT_ID)).toBe(DOCUMENT);
    await expect(fetchFrom(await serve("endpoint", to(other)), ENDPOINT_ID)).rejects.toMatchObject({
      code: "endpoint_untrusted",
    });
  });
});

describe("exchangeHttps() is bounded", () => {
  const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

  test.each<[string, string]>([
    ["a length past the bound", `${HEAD}Content-Length: ${BUNDLE_BYTES_MAX + 1}\r\n\r\n`],
    ["a head without an end", `${HEAD}X: ${"a".repeat(9000)}`],
    ["a body that is cut short", `${HEAD}Content-Length: 10\r\n\r\n{`],
    ["no HTTP", "220 mail.partner.test ESMTP\r\n\r\n"],
    ["nothing", ""],
  ])("exchangeHttps() refuses %s", async (_, text) => {
    const url = await serve("good", answering(text));
    await expect(fetchFrom(url)).rejects.toMatchObject({
      code: expect.stringMatching(/^(response_invalid|endpoint_unreachable)$/),
    });
  });

  test("exchangeHttps() reads no more than its bound of a server that never ends", async () => {
    let isOver = false;
    const url = await serve("good", (socket) => {
      socket.write(`${HEAD}\r\n`);
      const block = Buffer.alloc(65_536, 0x20);
      const more = () => {
        while (!isOver && socket.write(block)) {}
      };
      socket.on("drain", more);
      socket.once("close", () => {
        isOver = true;
      });
      more();
    });
    await expect(fetchFrom(url)).rejects.toMatchObject({ code: "response_invalid" });
    isOver = true;
  });

  test("exchangeHttps() gives a server that drips a byte at a time no more time than others", async () => {
    const clock = new ManualClock();
    let drip: ReturnType<typeof setInterval> | undefined;
    const begun = Promise.withResolvers<void>();
    const url = await serve("good", (socket) => {
      socket.write(`${HEAD}Content-Length: 4000000\r\n\r\n`);
      drip = setInterval(() => socket.write(" "), 2);
      begun.resolve();
    });
    const fetching = fetchFrom(url, undefined, clock);
    fetching.catch(() => undefined);
    await begun.promise;
    await clock.advance(EXCHANGE_MS_MAX + 1);
    await expect(fetching).rejects.toThrow(`it took more than ${EXCHANGE_MS_MAX / 1000} s`);
    clearInterval(drip);
  });

  test("exchangeHttps() says what is wrong when nobody listens, or the roots of the system are not there", async () => {
    await expect(fetchFrom(new URL("https://127.0.0.1:1/bundle"))).rejects.toMatchObject({
      code: "endpoint_unreachable",
    });
    const endpoint: BundleEndpoint = { url: new URL("https://127.0.0.1:1/"), profile: "https_web" };
    const parts = {
      ...{ clock: new ManualClock(), webRootsPath: "/nowhere/roots.pem", signal: new AbortController().signal },
      authenticate: (chain: readonly Uint8Array[]) => ours.authority.verifyPeerChain(chain),
    };
    await expect(exchangeHttps(endpoint.url, endpoint, parts)).rejects.toThrow("/nowhere/roots.pem");
  });
});
