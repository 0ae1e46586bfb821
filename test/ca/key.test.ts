// The P-256 keys that are made here: what their PKCS#8 holds, by the runtime's own reader, and which points are taken for points.

import { expect, test } from "bun:test";
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { CurvePoint, createKey, pointOf, verifyBytes } from "../../src/ca/key.ts";
import { makeWorkloadKey } from "./authority_fixture.ts";

/** So many that some of their scalars begin with a zero octet, and as good as never none. */
const KEYS = 3000;
const SCALAR_AT = 36;

test("createKey() writes a PKCS#8 that is the runtime's own to the octet, also for a scalar with leading zeros", () => {
  let short = 0;
  for (let count = 0; count < KEYS; count++) {
    const { pkcs8, point } = createKey();
    const key = createPrivateKey({ key: Buffer.from(pkcs8), format: "der", type: "pkcs8" });
    expect(key.export({ format: "der", type: "pkcs8" }).equals(pkcs8)).toBe(true);
    expect(Buffer.from(pointOf(createPublicKey(key))).equals(point.bytes)).toBe(true);
    short += pkcs8[SCALAR_AT] === 0 ? 1 : 0;
  }
  expect(short).toBeGreaterThan(0);
});

test("createKey() gives a key whose signature its point verifies", () => {
  const { pkcs8, point } = createKey();
  const message = Buffer.from("message");
  const key = createPrivateKey({ key: Buffer.from(pkcs8), format: "der", type: "pkcs8" });
  expect(verifyBytes(message, sign("sha256", message, key), point.bytes)).toBe(true);
});

test("CurvePoint.tryParse() copies a point, and refuses what is none", () => {
  const { point } = makeWorkloadKey();
  const parsed = CurvePoint.tryParse(point) as CurvePoint;
  const before = Buffer.from(parsed.bytes);
  point.fill(0);
  expect(before.equals(parsed.bytes)).toBe(true);
  const off = Buffer.from(before);
  off[64] = (off[64] as number) ^ 1;
  for (const bytes of [off, before.subarray(1), Buffer.alloc(65), Buffer.alloc(0), Buffer.of(0)])
    expect(CurvePoint.tryParse(bytes)).toBeUndefined();
});
