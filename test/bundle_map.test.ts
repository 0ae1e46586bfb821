// SPIFFE bundle maps: written, read back, and what is refused as a whole.

import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { parseBundleMap, writeBundleMap } from "../src/bundle_map.ts";
import { RiprapError } from "../src/error.ts";
import { TrustDomain } from "../src/spiffe_id.ts";
import { jwtKeyOf, type ParsedBundle, parseTrustBundle, type TrustBundle } from "../src/trust_bundle.ts";
import { documentOf, rootsFor } from "./daemon/bundle/sample.ts";
import { draw, pick, random } from "./random.ts";

const DOMAIN = TrustDomain.parse("example.org");
const PARTNER = TrustDomain.parse("partner.example");
const KEY = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey;
const [ROOT] = (await rootsFor("example.org", 1)) as [Uint8Array];

const bundle = (): TrustBundle => ({
  trustDomain: DOMAIN,
  x509: [ROOT],
  jwt: [jwtKeyOf(KEY, "a")],
  sequence: 18446744073709551615n,
  refreshHintSeconds: 300,
});
const two = () => writeBundleMap([bundle(), { ...bundle(), trustDomain: PARTNER, x509: [], sequence: undefined }]);

function refusalOf(text: string): string {
  try {
    parseBundleMap(text);
  } catch (thrown) {
    if (thrown instanceof RiprapError && thrown.code === "bundle_map_invalid") return thrown.message;
    throw thrown;
  }
  return "taken";
}

describe("writeBundleMap", () => {
  test("writeBundleMap() has each trust domain once, with all 64 bits of its sequence and without a refresh hint (B-11, B-13)", () => {
    const other = TrustDomain.parse("partner.example");
    const text = writeBundleMap([bundle(), { ...bundle(), trustDomain: other, x509: [], sequence: undefined }]);
    const { trust_domains: map } = JSON.parse(text) as { trust_domains: Record<string, object> };
    expect(Object.keys(map)).toEqual(["example.org", "partner.example"]);
    expect(text).toContain('"spiffe_sequence": 18446744073709551615,');
    expect(text).not.toContain("refresh_hint");
    const [, ours = ""] = /"example.org": (\{.*\}),\n"partner/s.exec(text) ?? [];
    expect(parseTrustBundle(ours, DOMAIN)).toMatchObject({ ignored: [], sequence: 18446744073709551615n });
    expect(() => writeBundleMap([bundle(), bundle()])).toThrow(RangeError);
    expect(JSON.parse(writeBundleMap([]))).toEqual({ trust_domains: {} });
  });
});

describe("parseBundleMap", () => {
  test("parseBundleMap() reads what writeBundleMap() writes, each bundle under its trust domain (B-11, B-15)", () => {
    const [ours, theirs, ...more] = parseBundleMap(two());
    expect(more).toEqual([]);
    expect(ours?.bundle).toMatchObject({ trustDomain: DOMAIN, sequence: 18446744073709551615n, ignored: [] });
    expect(ours?.bundle.x509.map((der) => Buffer.from(der).toString("hex"))).toEqual([
      Buffer.from(ROOT).toString("hex"),
    ]);
    expect(ours?.bundle.jwt.map(({ keyId }) => keyId)).toEqual(["a"]);
    expect(theirs?.bundle).toMatchObject({ trustDomain: PARTNER, sequence: undefined, x509: [] });
    expect(parseBundleMap('{"trust_domains":{}}')).toEqual([]);
  });

  test("parseBundleMap() gives documents that say the same by themselves, with what is not understood yet (B-2)", () => {
    const entry = '{"keys":[{"use":"later-svid","n":9007199254740993}],"spiffe_sequence":7,"note":{"a":[null,0.5]}}';
    const [one] = parseBundleMap(`{"made_by":"x","trust_domains":{"example.org":${entry}}}`);
    const document = one?.document ?? "";
    expect(document).toBe(entry);
    expect(parseTrustBundle(document, DOMAIN)).toEqual(one?.bundle as ParsedBundle);
    expect(one?.bundle.ignored).toEqual(["keys[0]: its use is none of x509-svid, jwt-svid and wit-svid"]);
  });

  test.each(["300", "-1", '"5m"'])("parseBundleMap() leaves a refresh hint of %s without effect (B-13)", (hint) => {
    const [one] = parseBundleMap(`{"trust_domains":{"example.org":{"keys":[],"spiffe_refresh_hint":${hint}}}}`);
    expect([one?.bundle.refreshHintSeconds, one?.document]).toEqual([undefined, '{"keys":[]}']);
  });

  const EMPTY = '{"keys":[]}';
  const PLACE = 'in trust_domains["b.example"]: ';
  test.each<[string, string, string]>([
    ["no JSON", "{", "Cannot read JSON"],
    ["nothing", "", "Cannot read JSON"],
    ["a list", "[]", "it is no JSON object"],
    ["no trust_domains (B-11)", "{}", "it has no object trust_domains"],
    ["trust_domains that are a list (B-11)", '{"trust_domains":[]}', "it has no object trust_domains"],
    ["trust_domains that are null (B-11)", '{"trust_domains":null}', "it has no object trust_domains"],
    ["the bundle of one trust domain", EMPTY, "it is the bundle of one trust domain, for `riprap bundle set`"],
    ["trust_domains twice (B-12)", '{"trust_domains":{},"trust_domains":{}}', 'the key "trust_domains" is there twice'],
    [
      "a trust domain twice (B-12)",
      `{"trust_domains":{"a.b":${EMPTY},"a.b":${EMPTY}}}`,
      'the key "a.b" is there twice',
    ],
    [
      "one twice, written in two ways (B-12)",
      `{"trust_domains":{"a.b":${EMPTY},"\\u0061.b":${EMPTY}}}`,
      "is there twice",
    ],
    ["text after its end", '{"trust_domains":{}}{}', "something comes after its end"],
    [
      "a capital in a name",
      `{"trust_domains":{"B.example":${EMPTY}}}`,
      'trust_domains["B.example"]: Cannot parse trust domain',
    ],
    ["a SPIFFE ID for a name", `{"trust_domains":{"spiffe://b":${EMPTY}}}`, "Cannot parse trust domain"],
    ["an empty name", `{"trust_domains":{"":${EMPTY}}}`, "Cannot parse trust domain"],
    ["__proto__ for a name that has capitals", `{"trust_domains":{"__proto__":${EMPTY},"A":${EMPTY}}}`, '["A"]'],
    ["a name of 256 bytes", `{"trust_domains":{"${"a".repeat(256)}":${EMPTY}}}`, "Cannot parse trust domain"],
    [
      "a bundle that is a number (B-15)",
      `{"trust_domains":{"a":${EMPTY},"b.example":7}}`,
      `${PLACE}Cannot read the trust bundle`,
    ],
    [
      "a bundle without keys (B-15)",
      `{"trust_domains":{"a":${EMPTY},"b.example":{}}}`,
      `${PLACE}Cannot read the trust bundle`,
    ],
    [
      "a sequence of 65 bits (B-15)",
      '{"trust_domains":{"b.example":{"keys":[],"spiffe_sequence":18446744073709551616}}}',
      PLACE,
    ],
    ["a negative sequence (B-15)", '{"trust_domains":{"b.example":{"keys":[],"spiffe_sequence":-1}}}', PLACE],
    ["a member of a key twice", '{"trust_domains":{"b":{"keys":[{"use":"a","use":"b"}]}}}', "is there twice"],
    ["nesting without end", `{"trust_domains":${"[".repeat(100_000)}`, "deeper than"],
    ["more than four MiB", `{"trust_domains":{}}${" ".repeat(4 << 20)}`, "longer than 4 MiB"],
    [
      "more keys in all than a bundle may have",
      `{"trust_domains":{"a":${manyKeys(5000)},"b":${manyKeys(5000)}}}`,
      "more than 8192 keys",
    ],
    [
      "more trust domains than fit",
      `{"trust_domains":{${Array.from({ length: 4097 }, (_, i) => `"d${i}":${EMPTY}`).join()}}}`,
      "more than 4096 trust",
    ],
  ])("parseBundleMap() refuses %s as a whole, with its place and a remedy", (_, text, fact) => {
    const refusal = refusalOf(text);
    expect(refusal).toContain(fact);
    expect(refusal).toStartWith("Cannot read the bundle map: ");
    expect(refusal).toEndWith("; nothing of it is taken; have it written anew, or take its bundles one by one");
    expect(refusal.length).toBeLessThan(500);
  });

  test("parseTrustBundle() says of a bundle map that it is one", () => {
    expect(() => parseTrustBundle(two(), DOMAIN)).toThrow("it is a map of several bundles, for `riprap bundle load`");
  });

  test("parseBundleMap() takes a whole map or refuses it, whatever becomes of the text", () => {
    const text = `{"trust_domains":{"example.org":${documentOf([ROOT], 7n, 300)},"partner.example":${documentOf([], 2n)},"a":{"keys":[]}}}`;
    const pieces = [
      '"a":{"keys":[]}',
      '"a"',
      "{}",
      "[]",
      "null",
      ",",
      "}",
      "{",
      '"',
      "\\u0061",
      "9".repeat(19),
      "__proto__",
      "\u0000",
    ];
    const next = random(41);
    let taken = 0;
    for (let round = 0; round < 1000; round++) {
      const at = draw(next, text.length);
      const piece = draw(next, 2) === 0 ? pick(next, pieces) : String.fromCharCode(draw(next, 256));
      const changed = text.slice(0, at) + piece + text.slice(at + draw(next, 4));
      if (refusalOf(changed) !== "taken") continue;
      taken += 1;
      // By the platform's own reader: no trust domain and no key is lost, none is made up.
      const { trust_domains: theirs } = JSON.parse(changed) as { trust_domains: Record<string, { keys: unknown[] }> };
      const read = parseBundleMap(changed).map(({ bundle: { trustDomain, x509, jwt, ignored } }) => [
        trustDomain.name,
        x509.length + jwt.length + ignored.length,
      ]);
      expect(read).toEqual(Object.entries(theirs).map(([name, { keys }]) => [name, keys.length]));
    }
    expect([taken > 30, taken < 970]).toEqual([true, true]);
  });
});

function manyKeys(count: number): string {
  return `{"keys":[${Array(count).fill("{}").join()}]}`;
}
