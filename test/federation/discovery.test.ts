import { describe, expect, test } from "bun:test";
import { generateKeyPairSync, type KeyObject, randomUUID } from "node:crypto";
import { CompactSign, compactVerify, createLocalJWKSet } from "jose";
import { describeDiscovery, writeKeySet } from "../../src/federation/discovery.ts";
import { jwtKeyOf } from "../../src/trust_bundle.ts";

const pairs: Readonly<Record<string, { publicKey: KeyObject; privateKey: KeyObject }>> = {
  RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  ES384: generateKeyPairSync("ec", { namedCurve: "P-384" }),
};
const keys = Object.entries(pairs).map(([name, { publicKey }]) => jwtKeyOf(publicKey, `${name}-${randomUUID()}`));

describe("writeKeySet()", () => {
  test("writeKeySet() gives keys of every kind as a general library takes them, and no private part", async () => {
    const text = await writeKeySet(keys);
    const set = JSON.parse(text);
    expect(set.keys.map(({ alg, use }: { alg: string; use: string }) => `${alg} ${use}`)).toEqual([
      "RS256 sig",
      "ES256 sig",
      "ES384 sig",
    ]);
    expect(text).not.toMatch(/"(d|p|q|dp|dq|qi)":/);
    const find = createLocalJWKSet(set);
    for (const [i, [alg, { privateKey }]] of Object.entries(pairs).entries()) {
      const header = { alg, kid: keys[i]?.keyId ?? "" };
      const token = await new CompactSign(Buffer.from("{}")).setProtectedHeader(header).sign(privateKey);
      expect((await compactVerify(token, find)).protectedHeader.alg).toBe(alg);
    }
  });

  test("describeDiscovery() names the issuer, where its keys are, and the algorithms of those keys alone", () => {
    expect(describeDiscovery("https://oidc.edge.test/x", keys.slice(0, 2))).toMatchObject({
      issuer: "https://oidc.edge.test/x",
      jwks_uri: "https://oidc.edge.test/x/keys",
      id_token_signing_alg_values_supported: ["ES256", "RS256"],
    });
    expect(describeDiscovery("https://oidc.edge.test", [])["id_token_signing_alg_values_supported"]).toEqual([]);
  });
});
