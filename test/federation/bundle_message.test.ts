// The octets of a bundle on its way to another trust domain: read back as written, and nothing but a refusal for anything else.
import { expect, setDefaultTimeout, test } from "bun:test";
import {
  BUNDLE_DOCUMENT_MAX,
  bundleMessageFault,
  parseBundleMessage,
  verifyBundleMessage,
  writeBundleMessage,
} from "../../src/federation/bundle_message.ts";
import { TrustDomain } from "../../src/spiffe_id.ts";
import { draw, random as seeded } from "../random.ts";
import { makeRoot, NOW } from "./fleet_fixture.ts";

// A busy machine makes and verifies signatures slowly.
setDefaultTimeout(30_000);

const key = makeRoot("bundle");
const SAID = {
  trustDomain: "partner.test",
  subject: "riprap.partner/test.bundle",
  time: NOW,
  chain: [new Uint8Array([1, 2, 3]), new Uint8Array(300)],
  document: '{"keys": []}',
};
const written = writeBundleMessage(SAID, (bytes) => key.sign(bytes));

test("parseBundleMessage() gives what writeBundleMessage() wrote, and verifyBundleMessage() knows its key", () => {
  const message = parseBundleMessage(written);
  expect(message).toMatchObject(SAID);
  expect(verifyBundleMessage(message, key.publicKey)).toBe(true);
  expect(verifyBundleMessage(message, makeRoot("another").publicKey)).toBe(false);
});

test("writeBundleMessage() refuses a document that no message holds, and says what to do", () => {
  const document = "x".repeat(BUNDLE_DOCUMENT_MAX + 1);
  expect(() => writeBundleMessage({ ...SAID, document }, key.sign)).toThrow(
    expect.objectContaining({ code: "bundle_too_large", message: expect.stringContaining("bundleListen") }),
  );
});

test("parseBundleMessage() throws nothing but its refusal on random and on mangled octets, and no change verifies", () => {
  const random = seeded(3);
  for (let i = 0; i < 800; i++) {
    const isMangled = random() < 0.7;
    const bytes = isMangled
      ? Uint8Array.from(written)
      : Uint8Array.from({ length: draw(random, 400) }, () => draw(random, 256));
    if (isMangled) bytes[draw(random, bytes.length)] = draw(random, 256);
    const cut = random() < 0.2 ? bytes.subarray(0, draw(random, bytes.length + 1)) : bytes;
    if (Buffer.compare(cut, written) === 0) continue;
    try {
      expect(verifyBundleMessage(parseBundleMessage(cut), key.publicKey)).toBe(false);
    } catch (thrown) {
      expect(thrown).toMatchObject({ code: "bundle_malformed" });
    }
  }
});

test("bundleMessageFault() holds a message to its subject, its trust domain and its time", () => {
  const on = { subject: SAID.subject, of: TrustDomain.parse("partner.test"), now: NOW, last: undefined };
  const codeOf = (said: Partial<typeof SAID>, over: Partial<Omit<typeof on, "last">> & { last?: number } = {}) =>
    bundleMessageFault({ ...SAID, ...said }, { ...on, ...over })?.[0];
  expect(codeOf({})).toBeUndefined();
  expect(codeOf({}, { subject: "riprap.else/test.bundle" })).toBe("wrong_subject");
  expect(codeOf({ subject: "x" }, { subject: "x" })).toBe("wrong_subject");
  expect(codeOf({}, { of: TrustDomain.parse("else.test") })).toBe("wrong_subject");
  expect(codeOf({ time: NOW + 60_001 })).toBe("from_future");
  expect(codeOf({ time: NOW - 300_001 })).toBe("stale");
  expect([codeOf({}, { last: NOW }), codeOf({}, { last: NOW - 1 })]).toEqual(["replayed", undefined]);
});
