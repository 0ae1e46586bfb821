// What was signed, as the journals tell it.

import { expect, test } from "bun:test";
import { openJwtAuthority, signedSvids } from "../../src/ca.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, makeWorkloadKey } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const ID = "spiffe://example.org/app";
const because = ['process:name is "app"'];

test("signedSvids() tells which rule and labels gave each SVID, the latest first", async () => {
  const node = await makeNode(scratch());
  const jwt = openJwtAuthority(node);
  const request = { spiffeId: ID, publicKey: makeWorkloadKey().point, lifetimeSeconds: 60 };
  const first = node.authority.issueX509Svid({ ...request, context: { rule: "WorkloadIdentity/app", because } });
  await node.clock.advance(1000);
  const token = await jwt.issue({ spiffeId: ID, audience: ["a"], context: { rule: "WorkloadIdentity/app", because } });
  await node.clock.advance(1000);
  const other = "spiffe://example.org/other";
  const last = node.authority.issueX509Svid({ ...request, spiffeId: other, context: { because: [] } });
  node.authority.revoke(first.serial, "a test says so");
  const all = signedSvids(node.store, { limit: 10 });
  expect(all.map(({ id }) => id)).toEqual([last.serial, token.tokenId, first.serial]);
  expect(all[1]).toMatchObject({ type: "jwt", audience: ["a"], authority: jwt.key.keyId, context: { because } });
  expect(all[2]).toMatchObject({ type: "x509", revoked: { reason: "a test says so" }, context: { because } });
  expect(all[0]?.revoked).toBeUndefined();
  const ids = (over: object) => signedSvids(node.store, { limit: 10, ...over }).map(({ id }) => id);
  expect(ids({ spiffeId: ID })).toEqual([token.tokenId, first.serial]);
  expect(ids({ type: "jwt" })).toEqual([token.tokenId]);
  expect(ids({ type: "wit" })).toEqual([]);
  expect(ids({ limit: 1 })).toEqual([last.serial]);
  node.close();
});
