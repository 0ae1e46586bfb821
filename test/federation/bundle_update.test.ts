import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { fingerprintBundle } from "../../src/bundle_fingerprint.ts";
import { decideUpdate } from "../../src/federation/bundle_update.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";
import { jwtKeyOf, type TrustBundle } from "../../src/trust_bundle.ts";

const trustDomain = TrustDomain.parse("partner.test");
const key = jwtKeyOf(generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey, "a");

function bundle(root: number, sequence: bigint | undefined, jwt: TrustBundle["jwt"] = []): TrustBundle {
  return { trustDomain, x509: [Uint8Array.of(root)], jwt, sequence, refreshHintSeconds: 300 };
}

describe("decideUpdate()", () => {
  const held = bundle(1, 9007199254740993n);

  test.each<[string, TrustBundle, string]>([
    ["takes a greater sequence number", bundle(2, 9007199254740994n), "take"],
    ["takes a greater sequence number with the same keys", bundle(1, 2n ** 64n - 1n), "take"],
    ["changes nothing when it is the same", bundle(1, 9007199254740993n), "unchanged"],
    ["takes the latest that has no sequence number", bundle(2, undefined), "take"],
  ])("decideUpdate() %s (rows B-3, F-4)", (_, offered, outcome) => {
    expect(decideUpdate({ held, offered })).toEqual({ outcome } as ReturnType<typeof decideUpdate>);
  });

  test("decideUpdate() refuses a bundle that goes back in time, by one above 2^53 (rows B-3, F-4)", () => {
    const decision = decideUpdate({ held, offered: bundle(2, 9007199254740992n) });
    expect(decision).toMatchObject({ outcome: "refuse", code: "bundle_rollback" });
  });

  test("decideUpdate() refuses other keys under the same sequence number (row B-3)", () => {
    const decision = decideUpdate({ held, offered: bundle(2, 9007199254740993n) });
    expect(decision).toMatchObject({ outcome: "refuse", code: "bundle_sequence_reused" });
  });

  test("decideUpdate() holds the first bundle alone against the pinned fingerprint", () => {
    const pinned = fingerprintBundle(bundle(1, 1n));
    expect(decideUpdate({ held: undefined, offered: bundle(1, 7n), pinned }).outcome).toBe("take");
    const other = decideUpdate({ held: undefined, offered: bundle(2, 7n), pinned });
    expect(other).toMatchObject({ outcome: "refuse", code: "bundle_fingerprint" });
    expect(decideUpdate({ held: bundle(1, 7n), offered: bundle(2, 8n), pinned }).outcome).toBe("take");
  });
});

describe("fingerprintBundle()", () => {
  test("fingerprintBundle() is of the keys and the trust domain, not of order, sequence or hint", () => {
    const one = { ...bundle(1, 1n, [key]), x509: [Uint8Array.of(1), Uint8Array.of(2)] };
    const other = {
      ...bundle(1, 9n, [key]),
      x509: [Uint8Array.of(2), Uint8Array.of(1)],
      refreshHintSeconds: undefined,
    };
    expect(fingerprintBundle(one)).toBe(fingerprintBundle(other));
    expect(fingerprintBundle(one)).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(fingerprintBundle({ ...one, trustDomain: TrustDomain.parse("third.test") })).not.toBe(
      fingerprintBundle(one),
    );
    expect(fingerprintBundle({ ...one, jwt: [] })).not.toBe(fingerprintBundle(one));
    expect(fingerprintBundle({ ...one, jwt: [{ ...key, keyId: "b" }] })).not.toBe(fingerprintBundle(one));
  });
});
