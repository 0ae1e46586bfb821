// The endpoints as curl and openssl see them, over real TLS, and what a stranger can take of them.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { createLocalJWKSet, jwtVerify } from "jose";
import { openJwtAuthority, trustBundle } from "../../../src/ca.ts";
import { parseConfig } from "../../../src/daemon/config.ts";
import {
  CONNECTION_BURST_MAX,
  CONNECTION_MS_MAX,
  CONNECTIONS_PER_ADDRESS_MAX,
  type ListenAddress,
} from "../../../src/daemon/endpoint/listener.ts";
import { type Endpoints, startEndpoints } from "../../../src/daemon/endpoint.ts";
import { createLog } from "../../../src/daemon/log.ts";
import { TrustDomain } from "../../../src/spiffe_id.ts";
import { parseTrustBundle } from "../../../src/trust_bundle.ts";
import { makeNode, type Node, pem } from "../../ca/authority_fixture.ts";
import { scratchDirectories } from "../../scratch.ts";
import { eventually } from "../house.ts";
import { makePki, type WebPki } from "./pki.ts";

const scratch = scratchDirectories();
const ISSUER = "https://localhost/oidc";
const ANY_PORT: ListenAddress = { host: "127.0.0.1", port: 0 };

let node: Node;
let pki: WebPki;
let endpoints: Endpoints;
let web: string;
let spiffe: string;
let health: string;
const files = { cert: "", key: "" };

beforeAll(async () => {
  node = await makeNode(scratch(), "edge.test");
  pki = makePki(scratch());
  const first = pki.issue("first");
  files.cert = join(pki.folder, "web.crt");
  files.key = join(pki.folder, "web.key");
  copyFileSync(first.cert, files.cert);
  copyFileSync(first.key, files.key);
  const { authority, clock, store, stateDir } = node;
  const jwt = openJwtAuthority({ stateDir, clock, store, authority, issuer: ISSUER });
  endpoints = await startEndpoints({
    ...{ authority, clock, random: () => 0.5 },
    config: {
      ...parseConfig(`webCertificate: ${files.cert}\nwebKey: ${files.key}\noidcIssuer: ${ISSUER}\n`),
      ...{ webListen: ANY_PORT, bundleListen: ANY_PORT, healthListen: ANY_PORT },
    },
    trust: { bundle: () => trustBundle(store, authority, jwt) },
    health: { isReady: () => false, metrics: () => "riprap_flows_live 1\n" },
    log: createLog({ level: "error", clock, write: () => undefined }),
  });
  const portOf = (profile: string) =>
    endpoints
      .view()
      .find((view) => view.profile === profile)
      ?.address.replace(/^.*:/, "") ?? "";
  web = `localhost:${portOf("https_web")}`;
  spiffe = `localhost:${portOf("https_spiffe")}`;
  health = `127.0.0.1:${portOf("http")}`;
});
afterAll(async () => {
  await endpoints.close();
  node.close();
});

async function run(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const child = Bun.spawn(words, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

const curl = (...words: string[]) => run("curl", "-sS", "--max-time", "10", "--cacert", pki.rootPath, ...words);
const portOf = (address: string) => Number(address.replace(/^.*:/, ""));

describe("the endpoint of profile https_web", () => {
  test("curl gets the bundle with its type, sequence and refresh hint (rows F-6, F-12, F-14, B-3, B-4)", async () => {
    const { code, out } = await curl("-i", `https://${web}/bundle`);
    expect(code).toBe(0);
    const [head = "", body = ""] = out.split("\r\n\r\n");
    expect(head).toContain("HTTP/1.1 200 OK");
    expect(head.toLowerCase()).toContain("content-type: application/json");
    const bundle = parseTrustBundle(body, TrustDomain.parse("edge.test"));
    expect([bundle.sequence, bundle.refreshHintSeconds, bundle.ignored]).toEqual([1n, 300, []]);
    expect([bundle.x509.length, bundle.jwt.length]).toEqual([1, 1]);
  });

  test("curl is asked for no certificate and no name (row F-13), and may ask with HEAD", async () => {
    const head = await curl("-I", `https://${web}/bundle`);
    expect([head.code, head.out.split("\r\n")[0]]).toEqual([0, "HTTP/1.1 200 OK"]);
    const { out } = await run("sh", "-c", `openssl s_client -connect ${web} </dev/null 2>&1`);
    expect(out).toContain("No client certificate CA names sent");
  });

  test("TLS 1.1 and weak ciphers are refused, TLS 1.2 and 1.3 taken (row F-7)", async () => {
    const hello = (...words: string[]) =>
      run("sh", "-c", `openssl s_client -connect ${web} ${words.join(" ")} </dev/null 2>&1`);
    expect((await hello("-tls1_2")).out).toContain("Cipher is ECDHE-");
    expect((await hello("-tls1_3")).out).toContain("Cipher is TLS_");
    expect((await hello("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")).out).toContain("Cipher is (NONE)");
    expect((await hello("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")).out).toContain("Cipher is (NONE)");
  });

  test("what is not there, and what is not asked for by GET, has a status of its own", async () => {
    const status = async (...words: string[]) => (await curl("-o", "/dev/null", "-w", "%{http_code}", ...words)).out;
    expect(await status(`https://${web}/`)).toBe("404");
    expect(await status("-X", "DELETE", `https://${web}/bundle`)).toBe("405");
    expect(await status("-d", "x=1", `https://${web}/bundle`)).toBe("405");
    expect(await status("-H", `X: ${"a".repeat(9000)}`, `https://${web}/bundle`)).toBe("431");
    expect(await status("--path-as-is", `https://${web}/../../etc/passwd`)).toBe("404");
    expect(await status(`https://${web}/metrics`)).toBe("404");
  });

  test("a certificate that changes on disk is served from then on, and a broken one is not", async () => {
    const subject = async () =>
      (await run("sh", "-c", `openssl s_client -connect ${web} </dev/null 2>/dev/null | openssl x509 -noout -subject`))
        .out;
    expect(await subject()).toContain("first");
    const second = pki.issue("second");
    copyFileSync(second.key, files.key);
    copyFileSync(second.cert, files.cert);
    await node.clock.advance(6_000);
    expect(await subject()).toContain("second");
    // A key of another certificate: the last good pair stays, and the view says why.
    copyFileSync(pki.issue("third").key, files.key);
    await node.clock.advance(6_000);
    expect(await subject()).toContain("second");
    const view = () => endpoints.view().find(({ profile }) => profile === "https_web");
    expect(view()?.reason).toContain("is not the key of");
    copyFileSync(second.key, files.key);
    chmodSync(files.key, 0o644);
    await node.clock.advance(40_000);
    expect(view()?.reason).toContain("everybody may read it");
    chmodSync(files.key, 0o600);
    writeFileSync(files.cert, readFileSync(second.cert));
    await node.clock.advance(60_000);
    expect([view()?.reason, view()?.state]).toEqual([undefined, "open"]);
  });
});

describe("OIDC discovery", () => {
  test("a reader who knows no SPIFFE validates a JWT-SVID by discovery alone (row J-4)", async () => {
    const configuration = JSON.parse((await curl(`https://${web}/oidc/.well-known/openid-configuration`)).out);
    expect(configuration).toMatchObject({ issuer: ISSUER, jwks_uri: `${ISSUER}/keys` });
    expect(configuration.id_token_signing_alg_values_supported).toEqual(["ES256"]);
    const keys = JSON.parse((await curl(`https://${web}/oidc/keys`)).out);
    for (const key of keys.keys) expect(key).toMatchObject({ use: "sig", alg: "ES256", kty: "EC" });
    const { authority, clock, store, stateDir } = node;
    const jwt = openJwtAuthority({ stateDir, clock, store, authority, issuer: ISSUER });
    const context = { by: "a test" };
    const issued = await jwt.issue({ spiffeId: "spiffe://edge.test/a", audience: ["api"], context });
    const { payload } = await jwtVerify(issued.token, createLocalJWKSet(keys), {
      ...{ issuer: ISSUER, audience: "api", currentDate: new Date(clock.now()) },
    });
    expect(payload.sub).toBe("spiffe://edge.test/a");
    expect([typeof payload.jti, typeof payload.iat]).toEqual(["string", "number"]);
  });
});

describe("the endpoint of profile https_spiffe", () => {
  test("openssl verifies its chain by the roots of the trust domain, and its name is one SPIFFE ID (row F-20)", async () => {
    const root = join(scratch(), "root.pem");
    writeFileSync(root, pem(...node.authority.bundle));
    const at = Math.floor(node.clock.now() / 1000);
    const script = `openssl s_client -connect ${spiffe} -CAfile ${root} -attime ${at} -purpose any -verify_return_error </dev/null 2>&1`;
    expect((await run("sh", "-c", script)).out).toContain("Verify return code: 0 (ok)");
    const names = await run("sh", "-c", `${script} | openssl x509 -noout -ext subjectAltName`);
    expect(names.out.trim().split("\n").at(-1)?.trim()).toBe("URI:spiffe://edge.test/riprap/bundle-endpoint");
  });

  test("its SVID is made anew within a minute of a clock that is set two hours ahead", async () => {
    const ends = () => Date.parse(endpoints.view().find(({ profile }) => profile === "https_spiffe")?.notAfter ?? "");
    node.clock.set(node.clock.now() + 2 * 3600_000);
    await node.clock.advance(60_001);
    expect(ends()).toBeGreaterThan(node.clock.now() + 3000_000);
  });

  test("curl gets the bundle, and nothing else is there", async () => {
    const { out } = await curl("-k", `https://${spiffe}/bundle`);
    expect(parseTrustBundle(out, TrustDomain.parse("edge.test")).x509).toHaveLength(1);
    expect((await curl("-k", "-o", "/dev/null", "-w", "%{http_code}", `https://${spiffe}/keys`)).out).toBe("404");
  });
});

describe("the health endpoint", () => {
  test("curl gets liveness, readiness and metrics", async () => {
    expect(JSON.parse((await curl(`http://${health}/live`)).out)).toEqual({ live: true });
    const ready = await curl("-w", "%{http_code}", `http://${health}/ready`);
    expect(ready.out).toBe('{"ready":false}503');
    expect((await curl(`http://${health}/metrics`)).out).toBe("riprap_flows_live 1\n");
  });
});

describe("openListener() is bounded", () => {
  const dial = (port: number) =>
    new Promise<Socket>((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => resolve(socket));
      socket.on("error", reject);
    });
  const isOpen = () => endpoints.view().find(({ profile }) => profile === "https_web")?.connections;
  const closed = (socket: Socket) => new Promise<void>((resolve) => socket.once("close", () => resolve()));

  test("who says nothing, or drips a byte at a time, has as long as everybody", async () => {
    const port = portOf(web);
    const silent = await dial(port);
    const dripping = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
    await new Promise<void>((resolve) => dripping.once("secureConnect", () => resolve()));
    dripping.on("error", () => undefined);
    const drip = setInterval(() => dripping.write("X"), 5);
    const plain = await dial(portOf(health));
    plain.write("GET /live HT");
    await eventually(() => isOpen() === 2);
    const ends = Promise.all([closed(silent), closed(dripping), closed(plain)]);
    await node.clock.advance(CONNECTION_MS_MAX + 1);
    await ends;
    clearInterval(drip);
    await eventually(() => isOpen() === 0);
  });

  test("one address has its share of connections, and the rest goes on", async () => {
    const port = portOf(web);
    const sockets: Socket[] = [];
    let gone = 0;
    for (let i = 0; i < CONNECTIONS_PER_ADDRESS_MAX + 8; i += 1) {
      const socket = await dial(port);
      socket.on("close", () => {
        gone += 1;
      });
      sockets.push(socket);
    }
    await eventually(() => gone >= 8);
    expect(isOpen()).toBe(CONNECTIONS_PER_ADDRESS_MAX);
    for (const socket of sockets) socket.destroy();
    await eventually(() => isOpen() === 0);
    expect((await curl(`https://${web}/bundle`)).code).toBe(0);
  });

  test("a flood of connections is let in by the second once its burst is over", async () => {
    const port = portOf(health);
    const answered = async () => {
      const socket = await dial(port);
      let got = "";
      socket.on("data", (bytes) => {
        got += String(bytes);
      });
      socket.on("error", () => undefined);
      socket.write("GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
      await closed(socket);
      return got.startsWith("HTTP/1.1 200");
    };
    let count = 0;
    while (count <= CONNECTION_BURST_MAX && (await answered())) count += 1;
    expect(count).toBeLessThanOrEqual(CONNECTION_BURST_MAX);
    await node.clock.advance(1_000);
    expect(await answered()).toBe(true);
  });

  test("a second request on a connection is not answered, and noise is no harm", async () => {
    const plain = await dial(portOf(health));
    let got = "";
    plain.on("data", (bytes) => {
      got += String(bytes);
    });
    plain.write("GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    await closed(plain);
    expect([got.includes('{"live":true}'), got.includes("riprap_flows")]).toEqual([true, false]);
    const noise = await dial(portOf(web));
    noise.resume();
    noise.write(Buffer.from("\x16\x03\x01\x7f\xff garbage", "latin1"));
    await closed(noise);
    expect((await curl(`https://${web}/bundle`)).code).toBe(0);
  });
});
