import { describe, expect, test } from "bun:test";
import type { EnrolmentGrant, EnrolmentRequest } from "../../src/enrolment.ts";
import { RiprapError } from "../../src/error.ts";
import {
  DOCUMENT_MAX,
  encodeEnrolmentGrant,
  encodeEnrolmentRequest,
  parseEnrolmentGrant,
  parseEnrolmentRequest,
} from "../../src/federation/enrolment.ts";
import { draw, random } from "../random.ts";

const TIME = Date.parse("2026-11-21T12:00:00Z");
const REQUEST: EnrolmentRequest = {
  trustDomain: "example.org",
  nodeName: "edge-1",
  createdAt: TIME,
  expiresAt: TIME + 1000,
  csr: Uint8Array.of(1, 2, 3),
  signature: Uint8Array.of(4, 5),
};
const GRANT: EnrolmentGrant = {
  trustDomain: "example.org",
  nodeName: "edge-1",
  idPrefixes: ["spiffe://example.org/"],
  issuedAt: TIME,
  expiresAt: TIME + 1000,
  chain: [Uint8Array.of(1)],
  roots: [Uint8Array.of(2), Uint8Array.of(3)],
  signature: Uint8Array.of(4),
};

describe("enrolment documents", () => {
  test("parseEnrolmentRequest() reads what encodeEnrolmentRequest() wrote, in any spacing", () => {
    const text = encodeEnrolmentRequest(REQUEST);
    expect(parseEnrolmentRequest(text)).toEqual(REQUEST);
    expect(parseEnrolmentRequest(JSON.stringify(JSON.parse(text)))).toEqual(REQUEST);
    expect(parseEnrolmentRequest(JSON.stringify(JSON.parse(text), null, "\t").replaceAll("\n", "\r\n"))).toEqual(
      REQUEST,
    );
    expect(text.endsWith("}\n")).toBe(true);
  });

  test("parseEnrolmentGrant() reads what encodeEnrolmentGrant() wrote", () => {
    expect(parseEnrolmentGrant(encodeEnrolmentGrant(GRANT))).toEqual(GRANT);
  });

  test("a grant with the most of everything stays within the bound", () => {
    const certificate = new Uint8Array(1200);
    const most = {
      ...GRANT,
      idPrefixes: Array.from({ length: 64 }, () => `spiffe://example.org/${"a".repeat(300)}/`),
      chain: [certificate, certificate],
      roots: Array.from({ length: 8 }, () => certificate),
    };
    expect(parseEnrolmentGrant(encodeEnrolmentGrant(most))).toEqual(most);
  });

  const field = (name: string, value: unknown) =>
    JSON.stringify({ ...JSON.parse(encodeEnrolmentRequest(REQUEST)), [name]: value });
  const text = encodeEnrolmentRequest(REQUEST);
  const refused: [name: string, code: string, document: string][] = [
    ["nothing", "document_malformed", ""],
    ["no JSON", "document_malformed", "riprap"],
    ["a list", "document_malformed", "[]"],
    ["null", "document_malformed", "null"],
    ["a document with a tail", "document_malformed", `${text}{}`],
    ["a field twice", "document_malformed", text.replace('"version"', '"nodeName": "other",\n  "version"')],
    ["an escaped letter", "document_malformed", text.replace("edge-1", "edge-\\u0031")],
    ["a number written otherwise", "document_malformed", text.replace('"version": 1', '"version": 1.0')],
    ["too much", "document_too_large", " ".repeat(DOCUMENT_MAX + 1)],
    ["a grant", "document_wrong_kind", encodeEnrolmentGrant(GRANT)],
    ["no kind", "document_wrong_kind", "{}"],
    ["a kind that is no text", "document_wrong_kind", field("kind", 7)],
    ["another version", "document_wrong_version", field("version", 2)],
    ["a version that is text", "document_wrong_version", field("version", "1")],
    ["an unknown field", "document_field", field("extra", 1)],
    ["a prototype", "document_field", text.replace('"nodeName"', '"__proto__"')],
    ["an empty text", "document_field", field("nodeName", "")],
    ["a text that is none", "document_field", field("nodeName", 7)],
    ["a long text", "document_field", field("nodeName", "a".repeat(2049))],
    ["a time with a fraction", "document_field", field("createdAt", "2026-11-21T12:00:00.5Z")],
    ["a time with an offset", "document_field", field("createdAt", "2026-11-21T12:00:00+01:00")],
    ["a time that does not exist", "document_field", field("createdAt", "2026-02-30T12:00:00Z")],
    ["a time as number", "document_field", field("createdAt", TIME)],
    ["bytes that are no base64", "document_field", field("csr", "$$$")],
    ["base64 without padding", "document_field", field("csr", "AQI")],
    ["base64url", "document_field", field("csr", "-_8=")],
    ["base64 with bits left over", "document_field", field("csr", "AR==")],
    ["no bytes", "document_field", field("csr", "")],
    ["too many bytes", "document_field", field("csr", Buffer.alloc(16385).toString("base64"))],
  ];
  test.each(refused)("parseEnrolmentRequest() refuses %s with %s", (_name, code, document) => {
    expect(() => parseEnrolmentRequest(document)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(/^Cannot read the enrolment document: /) }),
    );
  });

  test.each(["trustDomain", "nodeName", "idPrefixes", "issuedAt", "expiresAt", "chain", "roots", "signature"])(
    "parseEnrolmentGrant() refuses a grant without %s",
    (name) => {
      const { [name]: _gone, ...rest } = JSON.parse(encodeEnrolmentGrant(GRANT));
      expect(() => parseEnrolmentGrant(JSON.stringify(rest))).toThrow(`its field ${name} is missing`);
    },
  );

  test.each([
    ["idPrefixes", 64],
    ["chain", 8],
    ["roots", 8],
  ] as const)("parseEnrolmentGrant() refuses an empty %s, one of more than %d, and wrong items", (name, most) => {
    const base = JSON.parse(encodeEnrolmentGrant(GRANT));
    for (const value of [[], Array.from({ length: most + 1 }, () => "AQ=="), "AQ==", [7], ["AQ==", null], {}]) {
      expect(() => parseEnrolmentGrant(JSON.stringify({ ...base, [name]: value }))).toThrow(
        expect.objectContaining({ code: "document_field" }),
      );
    }
  });

  test("parseEnrolmentGrant() throws only RiprapError when the document is damaged by a seeded generator", () => {
    const next = random(42);
    const good = encodeEnrolmentGrant(GRANT);
    for (let i = 0; i < 3000; i += 1) {
      const at = draw(next, good.length);
      const cut = draw(next, 6);
      const damaged =
        good.slice(0, at) + String.fromCharCode(draw(next, 128)).repeat(draw(next, 3)) + good.slice(at + cut);
      try {
        parseEnrolmentGrant(damaged);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RiprapError);
      }
    }
  });
});
