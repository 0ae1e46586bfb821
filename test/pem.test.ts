import { expect, test } from "bun:test";
import { certificatesInPem, toPem, toPemBlock } from "../src/pem.ts";

test.each([0, 1, 47, 48, 49, 96, 700])(
  "toPemBlock() writes lines as openssl does, of %d octets (RFC 7468 section 2)",
  (size) => {
    const bytes = new Uint8Array(size).fill(0xa5);
    const wrapped = Bun.spawnSync(["openssl", "base64"], { stdin: bytes }).stdout.toString() || "\n";
    expect(toPemBlock("X", bytes)).toBe(`-----BEGIN X-----\n${wrapped}-----END X-----\n`);
  },
);

test("certificatesInPem() finds what toPem() wrote, in its order and whatever stands around it", () => {
  const certificates = [new Uint8Array(100).fill(1), new Uint8Array([2]), new Uint8Array(500).fill(3)];
  const text = toPem(certificates);
  expect(certificatesInPem(text)).toEqual(certificates);
  const among = `a word\r\n${toPemBlock("PRIVATE KEY", new Uint8Array(9))}${text.replaceAll("\n", "\r\n")}-----BEGIN CERTIFICATE-----\nAAAA`;
  expect(certificatesInPem(among)).toEqual(certificates);
  expect([toPem([]), certificatesInPem("")]).toEqual(["", []]);
});
