// RFC 5280 section 4.2.1.10.
import { describe, expect, test } from "bun:test";
import type { Certificate, NameConstraints } from "../../src/ca/certificate.ts";
import { constraintFault, nameConstraintFault } from "../../src/ca/name_constraint.ts";

const NONE: NameConstraints = {
  permittedUris: [],
  excludedUris: [],
  permittedDns: [],
  excludedDns: [],
  unsupported: false,
};

function isAllowed(constraints: Partial<NameConstraints>, names: { uris?: string[]; dnsNames?: string[] }): boolean {
  const subject = { uris: [], dnsNames: [], ...names } as unknown as Certificate;
  return nameConstraintFault({ ...NONE, ...constraints }, subject) === undefined;
}

describe("nameConstraintFault()", () => {
  const uris: [base: string, uri: string, allowed: boolean][] = [
    ["example.org", "spiffe://example.org", true],
    ["example.org", "spiffe://example.org/a", true],
    ["EXAMPLE.org", "spiffe://example.org/a", true],
    ["example.org", "spiffe://a.example.org/a", false],
    ["example.org", "spiffe://xexample.org/a", false],
    ["example.org", "spiffe://example.org.evil/a", false],
    ["example.org", "spiffe://evil/example.org", false],
    ["example.org", "spiffe://example.org@evil/a", false],
    ["example.org", "spiffe://example.org:1/a", false],
    ["example.org", "urn:example.org", false],
    ["example.org", "spiffe:example.org", false],
    ["example.org", "", false],
    [".example.org", "spiffe://a.example.org/a", true],
    [".example.org", "spiffe://a.b.example.org/a", true],
    [".example.org", "spiffe://example.org/a", false],
    [".example.org", "spiffe://.example.org/a", false],
    [".", "spiffe://example.org/a", false],
    ["", "spiffe://example.org/a", false],
    ["10.0.0.1", "spiffe://10.0.0.1/a", false],
    ["[::1]", "spiffe://[::1]/a", false],
  ];
  test.each(uris)("nameConstraintFault() under permitted URI host %p for %p: allowed is %p", (base, uri, allowed) => {
    expect(isAllowed({ permittedUris: [base] }, { uris: [uri] })).toBe(allowed);
  });

  test("nameConstraintFault() lets an exclusion win over a permission", () => {
    expect(
      isAllowed({ permittedUris: [".org"], excludedUris: ["example.org"] }, { uris: ["spiffe://example.org/a"] }),
    ).toBe(false);
    expect(isAllowed({ excludedUris: ["example.com"] }, { uris: ["spiffe://example.org/a"] })).toBe(true);
    expect(isAllowed({ excludedUris: ["example.com"] }, { uris: ["no host"] })).toBe(false);
  });

  const names: [base: string, name: string, allowed: boolean][] = [
    ["example.org", "example.org", true],
    ["example.org", "a.example.org", true],
    ["example.org", "A.EXAMPLE.ORG", true],
    ["example.org", "xexample.org", false],
    ["example.org", "org", false],
    ["", "anything", true],
  ];
  test.each(names)("nameConstraintFault() under permitted DNS name %p for %p: allowed is %p", (base, name, allowed) => {
    expect(isAllowed({ permittedDns: [base] }, { dnsNames: [name] })).toBe(allowed);
    expect(isAllowed({ excludedDns: [base] }, { dnsNames: [name] })).toBe(!allowed);
  });

  test("nameConstraintFault() does not hold one form of name against another's constraints, and refuses forms it does not process", () => {
    expect(isAllowed({ permittedUris: ["a"] }, { dnsNames: ["b"] })).toBe(true);
    expect(isAllowed({ permittedDns: ["a"] }, { uris: ["spiffe://b/c"] })).toBe(true);
    expect(isAllowed({ unsupported: true }, {})).toBe(false);
  });
});

describe("constraintFault()", () => {
  test.each(["example.org", "edge", "a_b.c-d", "1a", "x--y"])("constraintFault() finds none for %p", (host) => {
    expect(constraintFault(host)).toBeUndefined();
  });
  test.each(["10.0.0.1", "1", ".a", "a.", "a..b", "."])("constraintFault() finds one for %p", (host) => {
    expect(constraintFault(host)).toBeString();
  });
});
