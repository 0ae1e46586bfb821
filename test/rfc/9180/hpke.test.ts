// RFC 9180 appendix A: our suites give every published value.
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { deriveKeyPair, setUpRecipient, setUpSender } from "../../../src/federation/hpke.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const bytes = (text = ""): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const FILES = readdirSync(import.meta.dir).filter((file) => file.endsWith(".txt"));

interface Vectors {
  readonly value: ReadonlyMap<string, string>;
  readonly encryptions: readonly ReadonlyMap<string, string>[];
  readonly exports: readonly ReadonlyMap<string, string>[];
}

/** `name value` a line; a sequence number opens an encryption, an exporter context an export. */
function readVectors(file: string): Vectors {
  const value = new Map<string, string>();
  const encryptions: Map<string, string>[] = [];
  const exports: Map<string, string>[] = [];
  let current = value;
  for (const line of readFileSync(join(import.meta.dir, file), "utf8").split("\n")) {
    const [name = "", text = ""] = line.split(" ");
    if (name === "" || name === "#") continue;
    if (name === "sequence_number" || name === "exporter_context") {
      current = new Map();
      (name === "sequence_number" ? encryptions : exports).push(current);
    }
    current.set(name, text);
  }
  return { value, encryptions, exports };
}

describe.each(FILES)("%s", (file) => {
  const { value, encryptions, exports } = readVectors(file);
  const secret = value.get("psk");
  const psk = secret === undefined ? {} : { psk: { secret: bytes(secret), id: bytes(value.get("psk_id")) } };
  const options = { info: bytes(value.get("info")), ...psk };
  const ephemeral = deriveKeyPair(bytes(value.get("ikmE")));
  const recipient = deriveKeyPair(bytes(value.get("ikmR")));

  test("deriveKeyPair() gives the published keys", () => {
    expect(hex(recipient.privateKey)).toBe(value.get("skRm") ?? "");
    expect(hex(recipient.publicKey)).toBe(value.get("pkRm") ?? "");
    expect(hex(ephemeral.privateKey)).toBe(value.get("skEm") ?? "");
  });

  test("setUpSender() seals as published, and setUpRecipient() opens it", () => {
    const sender = setUpSender(recipient.publicKey, { ...options, ephemeral });
    const receiver = setUpRecipient(sender.enc, recipient, options);
    expect(hex(sender.enc)).toBe(value.get("enc") ?? "");
    expect(encryptions.length).toBeGreaterThan(3);
    const wanted = new Map(encryptions.map((entry) => [Number(entry.get("sequence_number")), entry]));
    for (let sequence = 0; sequence <= 256; sequence += 1) {
      const entry = wanted.get(sequence);
      const plaintext = bytes(entry?.get("pt") ?? "00");
      const aad = bytes(entry?.get("aad"));
      const sealed = sender.context.seal(aad, plaintext);
      if (entry !== undefined) expect(hex(sealed)).toBe(entry.get("ct") ?? "");
      expect(hex(receiver.open(aad, sealed))).toBe(hex(plaintext));
    }
  });

  test("export() gives the published secrets on both sides", () => {
    const sender = setUpSender(recipient.publicKey, { ...options, ephemeral });
    const receiver = setUpRecipient(sender.enc, recipient, options);
    expect(exports.length).toBe(3);
    for (const entry of exports) {
      const context = bytes(entry.get("exporter_context"));
      const length = Number(entry.get("L"));
      expect(hex(sender.context.export(context, length))).toBe(entry.get("exported_value") ?? "");
      expect(hex(receiver.export(context, length))).toBe(entry.get("exported_value") ?? "");
    }
  });

  test("open() refuses what was changed, sealed for another, or under another PSK", () => {
    const { enc, context } = setUpSender(recipient.publicKey, options);
    const sealed = context.seal(bytes("01"), bytes("02"));
    const fresh = () => setUpRecipient(enc, recipient, options);
    const refused = { code: "hpke_open_failed" };
    expect(() => fresh().open(bytes("03"), sealed)).toThrow(expect.objectContaining(refused));
    expect(() => fresh().open(bytes("01"), sealed.with(0, (sealed[0] ?? 0) ^ 1))).toThrow(
      expect.objectContaining(refused),
    );
    expect(() => fresh().open(bytes("01"), sealed.subarray(0, 15))).toThrow(expect.objectContaining(refused));
    expect(() => setUpRecipient(enc, ephemeral, options).open(bytes("01"), sealed)).toThrow(
      expect.objectContaining(refused),
    );
    const other = { ...options, psk: { secret: new Uint8Array(32), id: bytes("04") } };
    expect(() => setUpRecipient(enc, recipient, other).open(bytes("01"), sealed)).toThrow(
      expect.objectContaining(refused),
    );
    expect(hex(fresh().open(bytes("01"), sealed))).toBe("02");
  });

  test("setUpRecipient() refuses a key of low order, whose secret everybody knows", () => {
    expect(() => setUpRecipient(new Uint8Array(32), recipient, options)).toThrow(
      expect.objectContaining({ code: "hpke_key_invalid" }),
    );
  });
});
