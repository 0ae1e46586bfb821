// The JWT authority: its key on disk, what it signs and refuses, its journal, and the bundle's sequence.

import { describe, expect, test } from "bun:test";
import { createPrivateKey, sign } from "node:crypto";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openJwtAuthority, openWitAuthority, trustBundle } from "../../src/ca.ts";
import { validateJwtSvid } from "../../src/jwt_svid.ts";
import { SpiffeId, TrustDomain } from "../../src/spiffe_id.ts";
import { openStore } from "../../src/store.ts";
import { parseTrustBundle, writeTrustBundle } from "../../src/trust_bundle.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, type Node, openNode } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const ID = "spiffe://example.org/app";
const open = (node: Node) => openJwtAuthority(node);
const request = (over: object = {}) => ({ spiffeId: ID, audience: ["a"], context: { by: "test" }, ...over });

describe("openJwtAuthority", () => {
  test("openJwtAuthority() keeps its key over restarts, of its owner alone", async () => {
    const node = await makeNode(scratch());
    const { key } = open(node);
    const path = join(node.stateDir, "ca", "jwt.key");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const bytes = readFileSync(path);
    node.close();
    const again = openNode(node.stateDir, node.clock);
    expect(open(again).key.keyId).toBe(key.keyId);
    expect(readFileSync(path).equals(bytes)).toBe(true);
    again.close();
  });

  test("openJwtAuthority() refuses a key that others can read, or that is none", async () => {
    const node = await makeNode(scratch());
    open(node);
    const path = join(node.stateDir, "ca", "jwt.key");
    chmodSync(path, 0o644);
    expect(() => open(node)).toThrow("chmod 600");
    chmodSync(path, 0o600);
    writeFileSync(path, "");
    node.close();
    const again = openNode(node.stateDir, node.clock);
    expect(() => open(again)).toThrow("neither a P-256 private key nor an RSA one");
    again.close();
  });

  test("issue() signs for each audience, journals it, and validates with the node's bundle", async () => {
    const node = await makeNode(scratch());
    const jwt = open(node);
    const { token, tokenId, expiresAt } = await jwt.issue(request({ audience: ["a", "b"], lifetimeSeconds: 60 }));
    const now = node.clock.now();
    expect(expiresAt.getTime()).toBe(now + 60_000);
    const keysOf = () => trustBundle(node.store, node.authority, jwt).jwt;
    expect(await validateJwtSvid(token, { audience: "b", now, keysOf })).toMatchObject({ ok: true });
    const rows = node.store.prepare<Record<string, unknown>>("SELECT * FROM ca_jwt_svid").all();
    expect(rows).toEqual([
      {
        jti: tokenId,
        spiffe_id: ID,
        audience: '["a","b"]',
        kid: jwt.key.keyId,
        signed_at: now / 1000,
        expires_at: now / 1000 + 60,
        context: '{"by":"test"}',
        kind: "jwt",
      },
    ]);
    expect(JSON.stringify(rows)).not.toContain(token);
    node.close();
  });

  test.each([
    ["another trust domain's ID", { spiffeId: "spiffe://other.org/app" }, "svid_refused"],
    ["the trust domain's own ID", { spiffeId: "spiffe://example.org" }, "svid_refused"],
    ["an ID that is none", { spiffeId: "spiffe://example.org//" }, "spiffe_id_invalid"],
    ["no audience (J-7)", { audience: [] }, "audience_invalid"],
    ["an empty audience", { audience: [""] }, "audience_invalid"],
    ["an audience without end", { audience: ["x".repeat(1025)] }, "audience_invalid"],
    ["no life", { lifetimeSeconds: 0 }, "lifetime_invalid"],
    ["a life above an hour", { lifetimeSeconds: 3601 }, "lifetime_invalid"],
    ["a life that is no number", { lifetimeSeconds: Number.NaN }, "lifetime_invalid"],
  ])("issue() refuses %s", async (_, over, code) => {
    const node = await makeNode(scratch());
    await expect(open(node).issue(request(over))).rejects.toMatchObject({ code });
    expect(node.store.prepare("SELECT * FROM ca_jwt_svid").all()).toEqual([]);
    node.close();
  });

  test("issue() signs nothing when the node's intermediate is revoked or has ended", async () => {
    const node = await makeNode(scratch());
    const jwt = open(node);
    node.authority.revoke(node.authority.info().issuer.serial, "test");
    await expect(jwt.issue(request())).rejects.toMatchObject({ code: "issuer_revoked" });
    node.clock.set("2040-01-01T00:00:00Z");
    await expect(jwt.issue(request())).rejects.toMatchObject({ code: "issuer_expired" });
    node.close();
  });
});

describe("JwtAuthority.issue", () => {
  const rows = (node: Node) => node.store.prepare<{ jti: string }>("SELECT jti FROM ca_jwt_svid ORDER BY jti").all();

  test("issue() has the entries of all that is asked for in one turn in the journal before any token is there", async () => {
    const node = await makeNode(scratch());
    const jwt = open(node);
    const ids = Array.from({ length: 150 }, (_, index) => `${ID}/${index}`);
    // What another connection to the database sees is committed.
    const other = openStore(node.store.path);
    const committed = other.prepare("SELECT 1 FROM ca_jwt_svid WHERE jti = ?");
    const tokens = await Promise.all(
      ids.map(async (spiffeId) => {
        const issued = await jwt.issue(request({ spiffeId }));
        expect(committed.get(issued.tokenId)).toBeDefined();
        return issued;
      }),
    );
    expect(rows(node).map(({ jti }) => jti)).toEqual(tokens.map(({ tokenId }) => tokenId).sort());
    for (const [index, { token }] of tokens.entries()) {
      const keysOf = () => jwt.keys;
      const answer = await validateJwtSvid(token, { audience: "a", now: node.clock.now(), keysOf });
      expect(answer).toMatchObject({ ok: true, claims: { sub: ids[index] as string } });
    }
    other.close();
    node.close();
  });

  test("issue() signs each of hundreds asked for at once, here or on another thread, and never one twice", async () => {
    const node = await makeNode(scratch());
    const jwt = open(node);
    const ids = Array.from({ length: 400 }, (_, index) => `${ID}/${index}`);
    const issued = await Promise.all(ids.map((spiffeId) => jwt.issue(request({ spiffeId }))));
    expect(new Set(issued.map(({ tokenId }) => tokenId)).size).toBe(ids.length);
    const { keys } = jwt;
    for (const [index, { token }] of issued.entries()) {
      const answer = await validateJwtSvid(token, { audience: "a", now: node.clock.now(), keysOf: () => keys });
      expect(answer.ok ? answer.spiffeId.toString() : answer.message).toBe(ids[index] ?? "");
    }
    const count = node.store.prepare<{ n: number }>("SELECT count(*) AS n FROM ca_jwt_svid").get()?.n;
    expect(count).toBe(ids.length);
    node.close();
  });

  test("issue() refuses one of many in a turn alone, and journals nothing of it", async () => {
    const node = await makeNode(scratch());
    const jwt = open(node);
    node.authority.revokeId(SpiffeId.parse(`${ID}/1`), "test");
    const outcomes = await Promise.allSettled([
      ...[0, 1, 2].map((index) => jwt.issue(request({ spiffeId: `${ID}/${index}` }))),
      jwt.issue(request({ context: { text: "x".repeat(70_000) } })),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled", "rejected"]);
    expect(outcomes[1]).toMatchObject({ reason: { code: "id_revoked" } });
    expect(rows(node)).toHaveLength(2);
    node.close();
  });

  test("issue() gives no token when the journal cannot be written", async () => {
    const node = await makeNode(scratch());
    const jwt = open(node);
    node.store.prepare("DROP TABLE ca_jwt_svid").run();
    const outcomes = await Promise.allSettled([0, 1, 2].map(() => jwt.issue(request())));
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    node.close();
  });

  test("issue() sees a revocation by another process at the next token", async () => {
    const node = await makeNode(scratch());
    const jwt = open(node);
    await jwt.issue(request());
    const command = openNode(node.stateDir, node.clock);
    command.authority.revokeId(SpiffeId.parse(ID), "test");
    await expect(jwt.issue(request())).rejects.toMatchObject({ code: "id_revoked" });
    command.authority.liftId(SpiffeId.parse(ID));
    await jwt.issue(request());
    command.authority.revoke(command.authority.info().issuer.serial, "test");
    await expect(jwt.issue(request())).rejects.toMatchObject({ code: "issuer_revoked" });
    command.close();
    node.close();
  });
});

describe("trustBundle", () => {
  test("trustBundle() keeps its sequence while nothing changes, and counts up when a key does (B-3)", async () => {
    const node = await makeNode(scratch());
    const jwt = open(node);
    const sequence = (authority = node.authority, keys: Pick<typeof jwt, "keys"> = jwt) =>
      trustBundle(node.store, authority, keys).sequence;
    expect([sequence(), sequence()]).toEqual([1n, 1n]);
    const other = { keys: [...jwt.keys, { ...jwt.key, keyId: "another" }] };
    expect(trustBundle(node.store, node.authority, other).sequence).toBe(2n);
    expect(sequence()).toBe(3n);
    node.close();
    const again = openNode(node.stateDir, node.clock);
    expect(trustBundle(again.store, again.authority, open(again)).sequence).toBe(3n);
    again.close();
  });

  test("trustBundle() has keys of three uses, of which one alone signs JWT-SVIDs, whatever kid a token names (J-12, A-11)", async () => {
    const node = await makeNode(scratch());
    const [jwt, wit] = [open(node), openWitAuthority(node)];
    const document = writeTrustBundle(trustBundle(node.store, node.authority, jwt, wit));
    const uses = JSON.parse(document).keys.map(({ use }: { use: string }) => use);
    expect(uses).toEqual(["x509-svid", "jwt-svid", "wit-svid"]);
    const held = parseTrustBundle(document, TrustDomain.parse("example.org"));
    const [now, seconds] = [node.clock.now(), node.clock.now() / 1000];
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const judge = async (file: string, kid: string | undefined) => {
      const key = createPrivateKey({
        key: readFileSync(join(node.stateDir, "ca", file)),
        format: "der",
        type: "pkcs8",
      });
      const claims = { sub: ID, aud: ["a"], exp: seconds + 60, iat: seconds };
      const text = `${part({ alg: "ES256", typ: "JWT", kid })}.${part(claims)}`;
      const signature = sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }).toString("base64url");
      const answer = await validateJwtSvid(`${text}.${signature}`, { audience: "a", now, keysOf: () => held.jwt });
      return answer.ok ? "ok" : answer.code;
    };
    const [own, other] = [jwt.key.keyId, held.wit?.[0]?.keyId];
    expect(other).toBeString();
    for (const kid of [own, undefined]) expect(await judge("jwt.key", kid)).toBe("ok");
    for (const file of ["wit.key", "node.key", "root.key"]) {
      for (const kid of [own, undefined]) expect([file, await judge(file, kid)]).toEqual([file, "signature_invalid"]);
      expect([file, await judge(file, other)]).toEqual([file, "key_unknown"]);
    }
    node.close();
  });
});
