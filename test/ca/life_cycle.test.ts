// The life of token authorities: by time, by hand, and over ends in the middle.

import { describe, expect, test } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { calculateJwkThumbprint, createLocalJWKSet, jwtVerify } from "jose";
import { AuthorityTable } from "../../src/ca/authority_table.ts";
import { type AuthorityRecord, LIFE_POLICY, nextStep, requireAllowed } from "../../src/ca/life_cycle.ts";
import { TokenAuthority } from "../../src/ca/token_authority.ts";
import { openJwtAuthority, trustBundle } from "../../src/ca.ts";
import { validateJwtSvid } from "../../src/jwt_svid.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, type Node, openNode } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const MINUTE = 60_000;
const policy = LIFE_POLICY;
const LEAD = policy.tokenKeyLifetimeMs - policy.publishAheadMs - policy.tokenLifetimeMaxMs - 10 * MINUTE;
const request = { spiffeId: "spiffe://example.org/app", audience: ["a"], context: {} };

function record(over: Partial<AuthorityRecord> = {}): AuthorityRecord {
  return {
    ...{ id: "a", kind: "jwt", phase: "active", algorithm: "ES256", keyName: "jwt", preparedAt: 0, notAfter: 1e12 },
    ...{ material: new Uint8Array(), chain: new Uint8Array(), publishedAt: 0, activatedAt: 0 },
    ...{ retiredAt: undefined, taintedAt: undefined, revokedAt: undefined },
    ...over,
  };
}

const phases = (node: Node) => new AuthorityTable(node.store).list("jwt").map(({ phase }) => phase);

describe("nextStep", () => {
  const step = (records: AuthorityRecord[], now = 0) => nextStep("jwt", records, { now, policy });
  const waiting = record({ id: "b", phase: "published", publishedAt: 100 });

  test.each([
    ["makes a first key", [], 0, { do: "prepare", kind: "jwt" }],
    ["publishes what is prepared", [record({ phase: "prepared" })], 0, { do: "publish", id: "a" }],
    ["leaves a young key alone", [record()], 0, undefined],
    ["makes the next key in time", [record({ notAfter: policy.publishAheadMs })], 0, { do: "prepare", kind: "jwt" }],
    [
      "lets a published key wait while the old one has time",
      [record(), waiting],
      policy.publishAheadMs + 100,
      undefined,
    ],
    ["lets a published key wait for its time", [record({ notAfter: MINUTE }), waiting], 100, undefined],
    [
      "begins with a published key when it is known and due",
      [record({ notAfter: policy.publishAheadMs + MINUTE }), waiting],
      policy.publishAheadMs + 100,
      { do: "activate", id: "b", early: false },
    ],
    [
      "begins with a published key before its time where none can sign",
      [record({ notAfter: 50 }), waiting],
      100,
      { do: "activate", id: "b", early: true },
    ],
    [
      "keeps a retired key while its tokens live",
      [record(), record({ id: "c", phase: "retired", retiredAt: 0 })],
      0,
      undefined,
    ],
    [
      "drops a retired key when they have ended",
      [record(), record({ id: "c", phase: "retired", retiredAt: 0 })],
      policy.tokenLifetimeMaxMs + 6 * MINUTE,
      { do: "revoke", id: "c" },
    ],
  ])("nextStep() %s", (_, records, now, expected) => {
    expect(step(records, now)).toEqual(expected as ReturnType<typeof step>);
  });

  test("nextStep() replaces a key of another algorithm in order", () => {
    const about = { now: 0, policy, algorithm: "RS256" } as const;
    expect(nextStep("jwt", [record()], about)).toEqual({ do: "prepare", kind: "jwt" });
    expect(nextStep("jwt", [record(), { ...waiting, algorithm: "RS256" }], about)).toBeUndefined();
  });

  test("nextStep() never replaces a root by itself", () => {
    expect(nextStep("x509", [record({ kind: "x509", notAfter: 1 })], { now: 2, policy })).toBeUndefined();
  });
});

describe("requireAllowed", () => {
  const code = (action: Parameters<typeof requireAllowed>[0], over: Partial<AuthorityRecord>, force = false) => {
    try {
      requireAllowed(action, record(over), { now: 1000, policy, force });
      return "ok";
    } catch (thrown) {
      return (thrown as { code: string }).code;
    }
  };

  test.each([
    ["activate", { phase: "published", publishedAt: 500 }, "authority_too_early", "ok"],
    ["activate", { phase: "published", publishedAt: 1000 - policy.publishAheadMs }, "ok", "ok"],
    ["activate", { phase: "published", keyName: "" }, "root_not_here", "root_not_here"],
    ["activate", { phase: "published", notAfter: 1000 }, "authority_phase", "authority_phase"],
    ["activate", { phase: "prepared" }, "authority_phase", "authority_phase"],
    ["activate", { phase: "retired" }, "authority_phase", "authority_phase"],
    ["activate", { phase: "revoked" }, "authority_phase", "authority_phase"],
    ["taint", { phase: "active" }, "authority_in_use", "ok"],
    ["taint", { phase: "retired" }, "ok", "ok"],
    ["taint", { phase: "retired", taintedAt: 1 }, "authority_phase", "authority_phase"],
    ["taint", { phase: "published" }, "authority_phase", "authority_phase"],
    ["revoke", { phase: "active" }, "authority_in_use", "ok"],
    ["revoke", { phase: "retired" }, "ok", "ok"],
    ["revoke", { phase: "prepared" }, "ok", "ok"],
    ["revoke", { phase: "revoked" }, "authority_phase", "authority_phase"],
    ["publish", { phase: "active" }, "authority_phase", "authority_phase"],
  ] as const)("requireAllowed() judges %s of %j", (action, over, plain, forced) => {
    expect([code(action, over), code(action, over, true)]).toEqual([plain, forced]);
  });
});

describe("TokenAuthority", () => {
  test("a key is published for its time before it signs, signs, retires, and leaves with the last token (F-1, F-2)", async () => {
    const node = await makeNode(scratch());
    const jwt = openJwtAuthority(node);
    const rotation = new TokenAuthority("jwt", node);
    const first = jwt.key.keyId;
    expect(rotation.advance()).toEqual([]);
    await node.clock.advance(LEAD);
    expect(rotation.advance().map(({ do: what }) => what)).toEqual(["prepare", "publish"]);
    const [, second] = jwt.keys.map(({ keyId }) => keyId);
    expect(jwt.key.keyId).toBe(first);
    const old = await jwt.issue(request);
    await node.clock.advance(policy.publishAheadMs + 5 * MINUTE);
    expect(rotation.advance()).toEqual([{ do: "activate", id: second as string, early: false }]);
    expect(jwt.key.keyId).toBe(second as string);
    expect(phases(node)).toEqual(["retired", "active"]);
    const { token } = await jwt.issue({ ...request, lifetimeSeconds: 3600 });
    const good = (text: string) =>
      validateJwtSvid(text, { audience: "a", now: old.expiresAt.getTime() - 1, keysOf: () => jwt.keys });
    expect(await good(old.token)).toMatchObject({ ok: true });
    expect(
      await jwtVerify(token, createLocalJWKSet(JSON.parse(jwt.jwks())), { currentDate: new Date(node.clock.now()) }),
    ).toBeDefined();
    await node.clock.advance(policy.tokenLifetimeMaxMs + 6 * MINUTE);
    expect(rotation.advance()).toEqual([{ do: "revoke", id: first }]);
    expect(jwt.keys.map(({ keyId }) => keyId)).toEqual([second as string]);
    expect(existsSync(join(node.stateDir, "ca", "jwt.key"))).toBe(false);
    expect(existsSync(join(node.stateDir, "ca", "jwt.1.key"))).toBe(true);
    node.close();
  });

  test("the sequence of the bundle grows with each change of its keys, and with nothing else (B-3)", async () => {
    const node = await makeNode(scratch());
    const jwt = openJwtAuthority(node);
    const rotation = new TokenAuthority("jwt", node);
    const sequence = () => trustBundle(node.store, node.authority, jwt).sequence;
    expect(sequence()).toBe(1n);
    const prepared = rotation.prepare({ at: node.clock.now() });
    expect([sequence(), sequence()]).toEqual([2n, 2n]);
    rotation.activate(prepared, { at: node.clock.now(), forced: true });
    expect(sequence()).toBe(2n);
    rotation.revoke(new AuthorityTable(node.store).list("jwt")[0] as AuthorityRecord, { at: node.clock.now() });
    expect(sequence()).toBe(3n);
    node.close();
  });

  test("prepare() refuses a second one that waits", async () => {
    const node = await makeNode(scratch());
    const rotation = new TokenAuthority("jwt", node);
    rotation.prepare({ at: 1 });
    expect(() => rotation.prepare({ at: 2 })).toThrow(expect.objectContaining({ code: "authority_prepared" }));
    node.close();
  });

  test("a node that slept past the end of its key signs at once with a new one, and says that it was early", async () => {
    const node = await makeNode(scratch());
    const jwt = openJwtAuthority(node);
    const first = jwt.key.keyId;
    await node.clock.advance(policy.tokenKeyLifetimeMs);
    await jwt.issue(request);
    expect(jwt.key.keyId).not.toBe(first);
    const event = new AuthorityTable(node.store).events(10).find(({ event }) => event === "activated");
    expect(event).toMatchObject({ forced: true, id: jwt.key.keyId });
    node.close();
  });

  test("a clock that jumps an hour back or on loses no key and publishes none twice", async () => {
    const node = await makeNode(scratch());
    const jwt = openJwtAuthority(node);
    const rotation = new TokenAuthority("jwt", node);
    await node.clock.advance(LEAD);
    rotation.advance();
    const known = jwt.keys.map(({ keyId }) => keyId);
    for (const jump of [-60, 60, 60, -60, -60, 60]) {
      node.clock.set(node.clock.now() + jump * MINUTE);
      rotation.advance();
      expect((await jwt.issue(request)).token).toBeString();
      expect(jwt.keys.map(({ keyId }) => keyId)).toEqual(known);
    }
    node.close();
  });

  test("a token never outlives the key that signed it", async () => {
    const node = await makeNode(scratch());
    const jwt = openJwtAuthority(node);
    await node.clock.advance(policy.tokenKeyLifetimeMs - MINUTE);
    const { expiresAt } = await jwt.issue({ ...request, lifetimeSeconds: 3600 });
    expect(expiresAt.getTime()).toBe(node.clock.now() + MINUTE);
    node.close();
  });

  test("a key that is gone is replaced, and what it signed stays good", async () => {
    const node = await makeNode(scratch());
    const { token } = await openJwtAuthority(node).issue(request);
    node.close();
    rmSync(join(node.stateDir, "ca", "jwt.key"));
    const again = openNode(node.stateDir, node.clock);
    const jwt = openJwtAuthority(again);
    expect(jwt.keys).toHaveLength(2);
    const answer = await validateJwtSvid(token, { audience: "a", now: node.clock.now(), keysOf: () => jwt.keys });
    expect(answer).toMatchObject({ ok: true });
    again.close();
  });

  test("with RS256 the tokens and the JWKS hold for a general JWT library, kid by RFC 7638", async () => {
    const node = await makeNode(scratch());
    const issuer = "https://oidc.example.org";
    const jwt = openJwtAuthority({ ...node, algorithm: "RS256", issuer });
    const { token, tokenId } = await jwt.issue(request);
    const set = JSON.parse(jwt.jwks());
    const options = { currentDate: new Date(node.clock.now()), issuer, audience: "a", algorithms: ["RS256"] };
    const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet(set), options);
    expect(payload).toMatchObject({ iss: issuer, jti: tokenId, iat: node.clock.now() / 1000 });
    expect(protectedHeader.kid).toBe(await calculateJwkThumbprint(set.keys[0]));
    node.close();
  });

  test("iss is the trust domain's ID where no issuer is configured", async () => {
    const node = await makeNode(scratch());
    const jwt = openJwtAuthority(node);
    const answer = await validateJwtSvid((await jwt.issue(request)).token, {
      audience: "a",
      now: node.clock.now(),
      keysOf: () => jwt.keys,
    });
    expect(answer).toMatchObject({ ok: true, claims: { iss: "spiffe://example.org" } });
    node.close();
  });
});
