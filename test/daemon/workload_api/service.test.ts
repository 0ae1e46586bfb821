// The Workload API over its socket, asked by a client of an independent library. Rows of the standards by their numbers.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { chmodSync, statSync } from "node:fs";
import { join } from "node:path";
import { evidenceOfProc } from "../../../src/daemon/attestation/evidence.ts";
import { ATTEST_AGAIN_MS } from "../../../src/daemon/workload_api/live.ts";
import { TrustDomain } from "../../../src/spiffe_id.ts";
import { openssl, pem } from "../../ca/authority_fixture.ts";
import { ManualClock } from "../../manual_clock.ts";
import { scratchDirectories } from "../../scratch.ts";
import {
  type Endpoint,
  type EndpointOptions,
  Inbox,
  identityRule,
  openClient,
  openEndpoint,
  type Reply,
  securityHeader,
  statusOf,
  type WorkloadClient,
} from "./endpoint.ts";

const scratch = scratchDirectories();
const HOUR_MS = 3_600_000;
const STREAMS = ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"] as const;

let endpoint: Endpoint;
let client: WorkloadClient;
let folder: string;
const inboxes: Inbox[] = [];

async function open(rules: string, options: EndpointOptions = {}): Promise<void> {
  folder = scratch();
  endpoint = await openEndpoint(folder, rules, options);
  client = openClient(endpoint.path);
}

function listen(method: string, metadata = securityHeader("true")): Inbox {
  const inbox = new Inbox(client.stream(method, metadata));
  inboxes.push(inbox);
  return inbox;
}

beforeEach(() => {
  inboxes.length = 0;
});

afterEach(async () => {
  for (const inbox of inboxes) inbox.cancel();
  client.close();
  await endpoint.close();
});

interface Svid {
  readonly spiffe_id: string;
  readonly x509_svid: Buffer;
  readonly x509_svid_key: Buffer;
  readonly bundle: Buffer;
  readonly hint: string;
}

function svidsOf(reply: Reply): readonly Svid[] {
  return reply["svids"] as readonly Svid[];
}

function svidOf(reply: Reply): Svid {
  expect(svidsOf(reply)).toHaveLength(1);
  return svidsOf(reply)[0] as Svid;
}

/** DER certificates that follow one another. */
function certificatesOf(bytes: Buffer): X509Certificate[] {
  const certificates: X509Certificate[] = [];
  for (let rest = bytes; rest.length > 0; ) {
    const length = 4 + rest.readUInt16BE(2);
    certificates.push(new X509Certificate(rest.subarray(0, length)));
    rest = rest.subarray(length);
  }
  return certificates;
}

describe("FetchX509SVID", () => {
  test("FetchX509SVID() gives one SVID with all its fields, whose key fits and whose chain openssl takes (A-6, A-12, A-13, A-24, A-25, X-1)", async () => {
    await open(identityRule("app"));
    const svid = svidOf(await listen("FetchX509SVID").next());
    expect([svid.spiffe_id, svid.hint]).toEqual(["spiffe://example.org/app", ""]);
    const [leaf, issuer] = certificatesOf(svid.x509_svid) as [X509Certificate, X509Certificate];
    expect(leaf.subjectAltName).toBe("URI:spiffe://example.org/app");
    const key = createPrivateKey({ key: svid.x509_svid_key, format: "der", type: "pkcs8" });
    expect(leaf.checkPrivateKey(key)).toBe(true);
    const files = {
      "root.pem": pem(...certificatesOf(svid.bundle).map(({ raw }) => raw)),
      "issuer.pem": pem(issuer.raw),
      "leaf.pem": pem(leaf.raw),
    };
    const words = [
      "verify",
      "-x509_strict",
      "-purpose",
      "sslclient",
      "-CAfile",
      "root.pem",
      "-untrusted",
      "issuer.pem",
    ];
    expect(openssl(folder, files, ...words, "leaf.pem")).toEqual({ code: 0, text: "leaf.pem: OK\n" });
  });

  test("FetchX509SVID() keeps the key in the kernel when the rule does not deliver it, and gives bundles and JWT-SVIDs (A-14)", async () => {
    await open(identityRule("app", { delivery: "kernel" }));
    const { code, details } = await statusOf(listen("FetchX509SVID").next());
    expect([code, details.includes("keeps private keys in the kernel")]).toEqual([7, true]);
    await listen("FetchX509Bundles").next();
    expect(svidsOf(await client.unary("FetchJWTSVID", { audience: ["a"] }))).toHaveLength(1);
  });

  test("FetchX509SVID() sends a new SVID with a new key at half life, and nothing before (A-5)", async () => {
    const clock = new ManualClock();
    await open(identityRule("app"), { clock });
    const inbox = listen("FetchX509SVID");
    const first = svidOf(await inbox.next());
    await clock.advance(HOUR_MS / 2 - 1000);
    await client.unary("FetchJWTSVID", { audience: ["a"] });
    expect(inbox.waiting).toBe(0);
    await clock.advance(2000);
    const second = svidOf(await inbox.next());
    expect(second.spiffe_id).toBe(first.spiffe_id);
    expect(second.x509_svid_key.equals(first.x509_svid_key)).toBe(false);
    expect(second.bundle.equals(first.bundle)).toBe(true);
  });

  test("FetchX509SVID() sends the new identity when the rules change, and revokes the SVID of the old one", async () => {
    await open(identityRule("app"));
    const inbox = listen("FetchX509SVID");
    const first = svidOf(await inbox.next());
    const begun = performance.now();
    endpoint.setRules(identityRule("other"));
    expect(svidOf(await inbox.next()).spiffe_id).toBe("spiffe://example.org/other");
    expect(performance.now() - begun).toBeLessThan(2000);
    const serial = certificatesOf(first.x509_svid)[0]?.serialNumber.toLowerCase() ?? "";
    expect(endpoint.isRevoked(serial)).toBe(true);
  });

  test("FetchX509SVID() gives a new SVID when the clock was set back before the beginning of the old one, and when it leaps an hour (A-5)", async () => {
    // Timers count what has passed, whatever the time of day is set to.
    const passed = new ManualClock();
    let set = 0;
    const clock = { now: () => passed.now() + set, sleep: passed.sleep.bind(passed) };
    await open(identityRule("app"), { clock });
    // Later than the birth of the CA, before which it signs nothing.
    set = 2 * HOUR_MS;
    const inbox = listen("FetchX509SVID");
    await inbox.next();
    for (const leap of [-HOUR_MS, 2 * HOUR_MS]) {
      set += leap;
      const next = inbox.next();
      await passed.advance(ATTEST_AGAIN_MS);
      const [leaf] = certificatesOf(svidOf(await next).x509_svid);
      expect(Date.parse(leaf?.validFrom ?? "")).toBeLessThanOrEqual(clock.now());
      expect(Date.parse(leaf?.validTo ?? "")).toBeGreaterThan(clock.now() + HOUR_MS / 2);
    }
  });

  test("FetchX509SVID() gives the bundles of other trust domains apart from its own, each under its name (A-10, A-16, A-18, F-9)", async () => {
    await open(identityRule("app"));
    const foreign = { ...endpoint.bundle, trustDomain: TrustDomain.parse("partner.example") };
    const [svids, bundles, jwts] = [listen("FetchX509SVID"), listen("FetchX509Bundles"), listen("FetchJWTBundles")];
    const first = await svids.next();
    await Promise.all([bundles.next(), jwts.next()]);
    expect(first["federated_bundles"]).toEqual({});
    endpoint.setForeign([foreign]);
    const [svid, both, keys] = await Promise.all([svids.next(), bundles.next(), jwts.next()]);
    expect(Object.keys(svid["federated_bundles"] as object)).toEqual(["spiffe://partner.example"]);
    const names = ["spiffe://example.org", "spiffe://partner.example"];
    for (const { bundles } of [both, keys] as { bundles: object }[]) expect(Object.keys(bundles).sort()).toEqual(names);
    // What is no longer held is no longer told.
    endpoint.setForeign([]);
    expect((await svids.next())["federated_bundles"]).toEqual({});
  });

  test("FetchX509SVID() gives the rule's dnsNames and no other, as openssl reads them, and another SVID when they change (X-2)", async () => {
    const withNames = (...names: string[]) =>
      identityRule("app").replace("ttl: 1h", `ttl: 1h, dnsNames: [${names.join(", ")}]`);
    await open(withNames("app.edge.test", "www.edge.test"));
    const inbox = listen("FetchX509SVID");
    const read = async () => {
      const [leaf] = certificatesOf(svidOf(await inbox.next()).x509_svid) as [X509Certificate];
      const words = ["-in", "leaf.pem", "-noout", "-ext", "subjectAltName"];
      const { text } = openssl(folder, { "leaf.pem": pem(leaf.raw) }, "x509", ...words);
      return text.split("\n")[1]?.trim();
    };
    const id = "URI:spiffe://example.org/app";
    expect(await read()).toBe(`${id}, DNS:app.edge.test, DNS:www.edge.test`);
    endpoint.setRules(withNames("app.edge.test"));
    expect(await read()).toBe(`${id}, DNS:app.edge.test`);
    endpoint.setRules(identityRule("app"));
    expect(await read()).toBe(id);
  });

  test("FetchX509SVID() sends nothing when the rules change and the identity does not", async () => {
    await open(identityRule("app"));
    const inbox = listen("FetchX509SVID");
    await inbox.next();
    endpoint.setRules(`${identityRule("app")}---\n${identityRule("shell", { exe: "/bin/sh" })}`);
    endpoint.setRules(identityRule("next"));
    expect(svidOf(await inbox.next()).spiffe_id).toBe("spiffe://example.org/next");
    expect(inbox.waiting).toBe(0);
  });
});

describe("LiveStreams", () => {
  test("run() attests the callers of open streams again, and ends those that have become something else (A-15)", async () => {
    const clock = new ManualClock();
    const own = evidenceOfProc(process.pid);
    let exe = "/opt/app";
    const reports = { areComplete: true, find: () => ({ ...own, exe }) };
    await open(identityRule("app", { exe: "/opt/app" }), { clock, reports });
    const inbox = listen("FetchX509SVID");
    await inbox.next();
    await clock.advance(ATTEST_AGAIN_MS);
    await client.unary("FetchJWTSVID", { audience: ["a"] });
    expect([inbox.waiting, endpoint.api.streams]).toEqual([0, 1]);
    exe = "/opt/other";
    await clock.advance(ATTEST_AGAIN_MS);
    expect((await statusOf(inbox.next())).code).toBe(7);
  });

  test("run() keeps a stream while the CA cannot sign, and ends it with Unavailable when its SVID ends (E-10)", async () => {
    const clock = new ManualClock();
    await open(identityRule("app", { ttl: "60s" }), { clock });
    const inbox = listen("FetchX509SVID");
    await inbox.next();
    endpoint.revokeIssuer();
    let isEnded = false;
    const ended = statusOf(inbox.next()).then((status) => {
      isEnded = true;
      return status;
    });
    const begun = clock.now();
    while (!isEnded) {
      await clock.advance(1000);
      await Bun.sleep(1);
    }
    expect((await ended).code).toBe(14);
    // Not before its end, and not long after it.
    expect(clock.now() - begun).toBeGreaterThanOrEqual(59_000);
    expect(clock.now() - begun).toBeLessThan(150_000);
    const tries = endpoint.log.filter((line) => line.includes("could not be renewed")).length;
    expect(tries).toBeGreaterThan(2);
    expect(tries).toBeLessThan(40);
  });
});

describe("every call", () => {
  test("a caller that no rule selects is denied all but validation (E-7, E-11, A-14)", async () => {
    await open(identityRule("app", { exe: "/bin/sh" }));
    for (const method of STREAMS) expect((await statusOf(listen(method).next())).code).toBe(7);
    expect((await statusOf(client.unary("FetchJWTSVID", { audience: ["a"] }))).code).toBe(7);
    expect((await statusOf(client.unary("ValidateJWTSVID", { audience: "a", svid: "x" }))).code).toBe(3);
  });

  test.each([[[]], [["false"]], [["True"]], [[""]], [["true", "true"]], [["true", "false"]]])(
    "a call with the security header %j is refused, whatever it asks (E-3, E-9)",
    async (values) => {
      await open(identityRule("app"));
      const header = () => securityHeader(...values);
      for (const method of [...STREAMS, "FetchWITSVID"])
        expect((await statusOf(listen(method, header()).next())).code).toBe(3);
      for (const method of ["FetchJWTSVID", "ValidateJWTSVID"])
        expect((await statusOf(client.unary(method, { audience: ["a"] }, header()))).code).toBe(3);
    },
  );

  test("the calls of the WIT profile are unimplemented (A-2, A-21)", async () => {
    await open(identityRule("app"));
    for (const method of ["FetchWITSVID", "FetchWITBundles"])
      expect((await statusOf(listen(method).next())).code).toBe(12);
  });

  test("where the WIT profile is turned on, a caller gets its token with the key that proves it, and the bundle (A-2, A-22, A-23)", async () => {
    await open(identityRule("app"), { wit: true });
    const reply = (await listen("FetchWITSVID").next()) as {
      svids: { spiffe_id: string; wit_svid: string; wit_svid_key: string }[];
    };
    expect(reply.svids).toHaveLength(1);
    const [svid] = reply.svids;
    expect(svid?.spiffe_id).toBe("spiffe://example.org/app");
    const [, body = ""] = svid?.wit_svid.split(".") ?? [];
    const { cnf } = JSON.parse(Buffer.from(body, "base64url").toString());
    const { d, ...own } = JSON.parse(svid?.wit_svid_key ?? "{}");
    expect(cnf.jwk).toEqual(own);
    expect(d).toBeString();
    const { bundles } = (await listen("FetchWITBundles").next()) as { bundles: Record<string, string> };
    const { keys } = JSON.parse(bundles["spiffe://example.org"] ?? "{}");
    const { kid } = JSON.parse(Buffer.from(svid?.wit_svid.split(".")[0] ?? "", "base64url").toString());
    expect(keys.map((key: { kid: string }) => key.kid)).toEqual([kid]);
    expect(kid).not.toBeEmpty();
  });

  test("streams end with PermissionDenied when the rules take the identity away, and what was issued is revoked (A-15)", async () => {
    await open(identityRule("app"));
    const open_ = STREAMS.map((method) => listen(method));
    const [first] = await Promise.all(open_.map((inbox) => inbox.next()));
    expect(endpoint.api.streams).toBe(3);
    endpoint.setRules(identityRule("app", { exe: "/bin/sh" }));
    for (const inbox of open_) expect((await statusOf(inbox.next())).code).toBe(7);
    expect(endpoint.api.streams).toBe(0);
    const serial = certificatesOf(svidOf(first as Reply).x509_svid)[0]?.serialNumber.toLowerCase() ?? "";
    expect(endpoint.isRevoked(serial)).toBe(true);
  });

  test("streams and calls of a revoked ID are denied (A-15)", async () => {
    await open(identityRule("app"));
    const inboxes_ = [listen("FetchX509SVID"), listen("FetchX509Bundles")];
    const [first] = await Promise.all(inboxes_.map((inbox) => inbox.next()));
    endpoint.revokeId("spiffe://example.org/app");
    for (const inbox of inboxes_) expect((await statusOf(inbox.next())).code).toBe(7);
    expect((await statusOf(client.unary("FetchJWTSVID", { audience: ["a"] }))).code).toBe(7);
    const serial = certificatesOf(svidOf(first as Reply).x509_svid)[0]?.serialNumber.toLowerCase() ?? "";
    expect(endpoint.isRevoked(serial)).toBe(true);
  });

  test("a caller that is too fast is told to come later, before it is attested (E-10)", async () => {
    const bounds = { connections: 8, calls: 8, burst: 6, callsPerSecond: 1 };
    const clock = new ManualClock();
    await open(identityRule("app"), { clock, limits: { process: bounds, user: bounds, connections: 16 } });
    const codes: number[] = [];
    // The connection took one token.
    for (let call = 0; call < 7; call++) {
      const answer = client.unary("FetchJWTSVID", { audience: ["a"] });
      codes.push(
        await answer.then(
          () => 0,
          ({ code }) => code,
        ),
      );
    }
    expect(codes).toEqual([0, 0, 0, 0, 0, 14, 14]);
    await clock.advance(1000);
    await client.unary("FetchJWTSVID", { audience: ["a"] });
    expect(endpoint.api.counters.limited).toBe(2);
  });

  test("a caller that holds too many streams is refused the next alone", async () => {
    const bounds = { connections: 8, calls: 2, burst: 100, callsPerSecond: 100 };
    await open(identityRule("app"), { limits: { process: bounds, user: bounds, connections: 16 } });
    const [first] = [listen("FetchX509SVID"), listen("FetchX509Bundles")];
    await Promise.all(inboxes.map((inbox) => inbox.next()));
    expect((await statusOf(listen("FetchJWTBundles").next())).code).toBe(14);
    first?.cancel();
    for (;;) {
      const again = listen("FetchJWTBundles");
      if (
        (await again.next().then(
          () => 0,
          ({ code }) => code,
        )) === 0
      )
        break;
    }
  });

  test("the socket is open to everybody, and gone after the end", async () => {
    await open(identityRule("app"));
    expect(statSync(endpoint.path).mode & 0o777).toBe(0o666);
    const second = scratch();
    chmodSync(second, 0o700);
    const other = await openEndpoint(second, identityRule("app"));
    await other.close();
    expect(statSync(join(second, "workload.sock"), { throwIfNoEntry: false })).toBeUndefined();
  });
});

describe("bundles", () => {
  test("FetchX509Bundles() gives the roots under the trust domain's SPIFFE ID (A-11, A-16)", async () => {
    await open(identityRule("app"));
    const { bundles } = await listen("FetchX509Bundles").next();
    const [[name, roots] = []] = Object.entries(bundles as Record<string, Buffer>);
    expect(name).toBe("spiffe://example.org");
    expect(certificatesOf(roots as Buffer).map(({ raw }) => raw.toString("hex"))).toEqual(
      endpoint.bundle.x509.map((root) => Buffer.from(root).toString("hex")),
    );
  });

  test("FetchJWTBundles() gives a plain JWK Set of JWT keys alone (A-11, A-18)", async () => {
    await open(identityRule("app"));
    const { bundles } = await listen("FetchJWTBundles").next();
    const text = (bundles as Record<string, Buffer>)["spiffe://example.org"]?.toString() ?? "";
    const { keys } = JSON.parse(text) as { keys: Record<string, string>[] };
    expect(keys).toEqual([{ kid: endpoint.jwt.key.keyId, ...endpoint.jwt.key.key.export({ format: "jwk" }) }] as never);
    expect(Object.keys(keys[0] ?? {}).sort()).toEqual(["crv", "kid", "kty", "x", "y"]);
  });
});

describe("JWT-SVIDs", () => {
  const fetch = async (request: object) => {
    const [svid] = svidsOf(await client.unary("FetchJWTSVID", request)) as unknown as {
      spiffe_id: string;
      svid: string;
    }[];
    return svid as { spiffe_id: string; svid: string };
  };

  test("FetchJWTSVID() gives the caller's token for every audience, and ValidateJWTSVID() takes it (A-17, A-19, J-4, J-6, J-7, J-8)", async () => {
    await open(identityRule("app", { delivery: "kernel" }));
    const { spiffe_id: id, svid } = await fetch({ audience: ["one", "two"] });
    expect(id).toBe("spiffe://example.org/app");
    const [head, body] = svid.split(".").map((part) => Buffer.from(part, "base64url").toString());
    expect(JSON.parse(head ?? "")).toEqual({ alg: "ES256", kid: endpoint.jwt.key.keyId, typ: "JWT" });
    const claims = JSON.parse(body ?? "");
    expect(claims).toMatchObject({ sub: id, aud: ["one", "two"] });
    expect(claims.exp - claims.iat).toBe(300);
    const answer = await client.unary("ValidateJWTSVID", { audience: "two", svid });
    expect(answer["spiffe_id"]).toBe(id);
    const { fields } = answer["claims"] as { fields: Record<string, unknown> };
    expect(fields).toMatchObject({
      sub: { stringValue: id },
      exp: { numberValue: claims.exp },
      jti: { stringValue: claims.jti },
      aud: { listValue: { values: [{ stringValue: "one" }, { stringValue: "two" }] } },
    });
  });

  test("FetchJWTSVID() refuses another's SPIFFE ID and a request without an audience (A-9, A-14, A-17)", async () => {
    await open(identityRule("app"));
    await fetch({ audience: ["a"], spiffe_id: "spiffe://example.org/app" });
    const other = client.unary("FetchJWTSVID", { audience: ["a"], spiffe_id: "spiffe://example.org/other" });
    expect((await statusOf(other)).code).toBe(7);
    for (const audience of [[], [""], Array(17).fill("a"), ["x".repeat(1025)]])
      expect((await statusOf(client.unary("FetchJWTSVID", { audience }))).code).toBe(3);
  });

  test("ValidateJWTSVID() refuses what is incomplete, ended, or for another (A-9, A-20, J-7, J-8)", async () => {
    const clock = new ManualClock();
    await open(identityRule("app"), { clock });
    const { svid } = await fetch({ audience: ["a"] });
    const validate = async (request: object) => (await statusOf(client.unary("ValidateJWTSVID", request))).details;
    expect(await validate({ svid })).toBe("audience must be specified");
    expect(await validate({ audience: "a" })).toBe("svid must be specified");
    expect(await validate({ audience: "b", svid })).toContain("another audience");
    await clock.advance(311_000);
    expect(await validate({ audience: "a", svid })).toContain("its exp is past");
  });
});
