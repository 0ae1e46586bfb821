import { describe, expect, test } from "bun:test";
import { SPIFFE_ID_MAX_BYTES, SpiffeId, TRUST_DOMAIN_MAX_BYTES, TrustDomain } from "../src/spiffe_id.ts";
import { pick, random } from "./random.ts";

const HOST_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-_";
const PATH_CHARACTERS = `${HOST_CHARACTERS}ABCDEFGHIJKLMNOPQRSTUVWXYZ`;

describe("SpiffeId.parse()", () => {
  const accepted: [row: string, text: string][] = [
    ["ID-1", "spiffe://example.org/a"],
    ["ID-2", "spiffe://a"],
    ["ID-6", "spiffe://a.b-c_d9/x"],
    ["ID-8", "spiffe://127.0.0.1/x"],
    ["ID-8", "spiffe://1/x"],
    ["ID-12", "spiffe://example.org/..."],
    ["ID-12", "spiffe://example.org/..a/.b/c."],
    ["ID-12", "spiffe://example.org/A-Z_0.9"],
    ["ID-13", `spiffe://example.org/${"a".repeat(SPIFFE_ID_MAX_BYTES - 21)}`],
    ["ID-14", `spiffe://${"a".repeat(TRUST_DOMAIN_MAX_BYTES)}/x`],
    ["ID-15", "spiffe://example.org/Case/case"],
  ];
  test.each(titled(accepted))("parse() takes what row %s allows: %s", (_row, _title, text) => {
    const id = SpiffeId.parse(text);
    expect(id.toString()).toBe(text);
    expect(`spiffe://${id.trustDomain.name}${id.path}`).toBe(text);
  });

  const refused: [row: string, text: string][] = [
    ["ID-1", ""],
    ["ID-1", "example.org/a"],
    ["ID-1", "http://example.org/a"],
    ["ID-1", "spiffe:/example.org/a"],
    ["ID-1", " spiffe://example.org/a"],
    ["ID-2", "spiffe://"],
    ["ID-2", "spiffe:///a"],
    ["ID-3", "spiffe://example.org/a?b=c"],
    ["ID-3", "spiffe://example.org?b"],
    ["ID-3", "spiffe://example.org/a#b"],
    ["ID-3", "spiffe://example.org/a#"],
    ["ID-4", "spiffe://user@example.org/a"],
    ["ID-4", "spiffe://user:pass@example.org/a"],
    ["ID-4", "spiffe://example.org:443/a"],
    ["ID-4", "spiffe://example.org:/a"],
    ["ID-5", "spiffe://Example.org/a"],
    ["ID-6", "spiffe://exämple.org/a"],
    ["ID-6", "spiffe://exam ple.org/a"],
    ["ID-6", "spiffe://example.org\n/a"],
    ["ID-7", "spiffe://example%2eorg/a"],
    ["ID-8", "spiffe://[::1]/a"],
    ["ID-9", "spiffe://example.org/%61"],
    ["ID-10", "spiffe://example.org//a"],
    ["ID-10", "spiffe://example.org/a//b"],
    ["ID-10", "spiffe://example.org/./a"],
    ["ID-10", "spiffe://example.org/a/.."],
    ["ID-11", "spiffe://example.org/"],
    ["ID-11", "spiffe://example.org/a/"],
    ["ID-12", "spiffe://example.org/a b"],
    ["ID-12", "spiffe://example.org/a\\b"],
    ["ID-12", "spiffe://example.org/é"],
    ["ID-12", "spiffe://example.org/a\u0000"],
    ["ID-12", "spiffe://example.org/a\n"],
    ["ID-13", `spiffe://example.org/${"a".repeat(SPIFFE_ID_MAX_BYTES - 20)}`],
    ["ID-14", `spiffe://${"a".repeat(TRUST_DOMAIN_MAX_BYTES + 1)}/x`],
    ["ID-15", "SPIFFE://example.org/a"],
  ];
  test.each(titled(refused))(
    "parse() throws and tryParse() is undefined when row %s forbids it: %s",
    (_row, _title, text) => {
      expect(() => SpiffeId.parse(text)).toThrow(/^Cannot parse SPIFFE ID "/);
      expect(SpiffeId.tryParse(text)).toBeUndefined();
    },
  );

  test("parse() names the fact and keeps hostile text short and on one line", () => {
    expect(() => SpiffeId.parse("spiffe://Edge/a")).toThrow(
      'Cannot parse SPIFFE ID "spiffe://Edge/a": trust domain has an upper-case letter',
    );
    const thrown = catching(() => SpiffeId.parse(`spiffe://a/\n${"x".repeat(5000)}\u001b[2J`));
    expect(thrown.length).toBeLessThan(200);
    expect([...thrown].every((character) => character >= " ")).toBe(true);
  });

  test("tryParse() holds every code unit in host and path against the character sets of rows ID-6 and ID-12", () => {
    for (let unit = 0; unit < 0x300; unit += 1) {
      const character = String.fromCharCode(unit);
      const inHost = SpiffeId.tryParse(`spiffe://a${character}b`);
      const hostOk = HOST_CHARACTERS.includes(character);
      // A slash in the middle of the "host" begins the path.
      expect([unit, inHost !== undefined]).toEqual([unit, hostOk || character === "/"]);
      const inPath = SpiffeId.tryParse(`spiffe://td/a${character}b`);
      expect([unit, inPath !== undefined]).toEqual([unit, PATH_CHARACTERS.includes(character) || character === "/"]);
    }
  });

  test("tryParse() agrees with an independent description of the syntax when texts are drawn from a seeded generator", () => {
    const next = random(0x5b1f);
    const segment = "(?!\\.{1,2}(?:/|$))[a-zA-Z0-9._-]+";
    const oracle = new RegExp(`^spiffe://[a-z0-9._-]+(?:/${segment})*$`);
    let good = 0;
    for (let i = 0; i < 20_000; i += 1) {
      const text = `spiffe://${draw(next, "ab.-_", 4)}/${draw(next, "aB./.%?-", 7)}`;
      const expected = oracle.test(text);
      if (expected) good += 1;
      expect([text, SpiffeId.tryParse(text) !== undefined]).toEqual([text, expected]);
    }
    expect(good).toBeGreaterThan(1000);
  });

  test("equals() compares the path with its case and isMemberOf() the trust domain", () => {
    const id = SpiffeId.parse("spiffe://example.org/a");
    expect(id.equals(SpiffeId.parse("spiffe://example.org/a"))).toBe(true);
    expect(id.equals(SpiffeId.parse("spiffe://example.org/A"))).toBe(false);
    expect(id.isMemberOf(TrustDomain.parse("example.org"))).toBe(true);
    expect(id.isMemberOf(TrustDomain.parse("example.com"))).toBe(false);
    expect(JSON.stringify({ id })).toBe('{"id":"spiffe://example.org/a"}');
  });
});

describe("TrustDomain.parse()", () => {
  test("parse() takes a bare name, and its id has no path (row ID-17)", () => {
    const domain = TrustDomain.parse("example.org");
    expect(domain.id.toString()).toBe("spiffe://example.org");
    expect(domain.id.path).toBe("");
  });

  test.each(["", "spiffe://a", "A", "a/b", "a:1", "a@b", "a%62", "é", "a\n", "a b"])(
    "parse() throws when the name is %p",
    (text) => {
      expect(() => TrustDomain.parse(text)).toThrow(/^Cannot parse trust domain "/);
      expect(TrustDomain.tryParse(text)).toBeUndefined();
    },
  );
});

/** A title that stays on one line, beside the text itself. */
function titled(rows: readonly [row: string, text: string][]): [row: string, title: string, text: string][] {
  return rows.map(([row, text]) => [row, text.length < 60 ? JSON.stringify(text) : `${text.length} characters`, text]);
}

function draw(next: () => number, alphabet: string, most: number): string {
  return Array.from({ length: Math.floor(next() * (most + 1)) }, () => pick(next, [...alphabet])).join("");
}

function catching(work: () => unknown): string {
  try {
    work();
  } catch (thrown) {
    return (thrown as Error).message;
  }
  throw new Error("it did not throw");
}
