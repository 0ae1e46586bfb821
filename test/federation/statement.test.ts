import { describe, expect, test } from "bun:test";
import { createHash, generateKeyPairSync, sign, verify } from "node:crypto";
import { ed25519 } from "@noble/curves/ed25519.js";
import { openEd25519, rootPoint, verifySignature } from "../../src/federation/curve.ts";
import {
  compareStatements,
  parseStatement,
  STATEMENT_BYTES_MAX,
  signStatement,
  verifyStatement,
} from "../../src/federation/statement.ts";
import { draw, random } from "../random.ts";
import { DOMAIN, makeRoot, NOW, sayNode, saySeen, voice } from "./fleet_fixture.ts";

const seedOf = (text: string) => createHash("sha256").update(text).digest();
const draft = { trustDomain: DOMAIN, kind: "presence", name: "ada", revision: 7, time: NOW } as const;
const body = Uint8Array.from(Buffer.from("{}"));

describe("curve", () => {
  test("openEd25519() signs as another implementation, which verifies it, and back", () => {
    for (let round = 0; round < 8; round += 1) {
      const seed = seedOf(`seed ${round}`);
      const message = seedOf(`message ${round}`);
      const signer = openEd25519(seed);
      expect(Buffer.from(signer.publicKey)).toEqual(Buffer.from(ed25519.getPublicKey(seed)));
      const signature = signer.sign(message);
      expect(Buffer.from(signature)).toEqual(Buffer.from(ed25519.sign(message, seed)));
      expect(ed25519.verify(signature, message, signer.publicKey)).toBe(true);
      expect(verifySignature(message, ed25519.sign(message, seed), signer.publicKey)).toBe(true);
    }
  });

  test("verifySignature() refuses another message, key, length or algorithm", () => {
    const signer = voice("ada");
    const message = seedOf("message");
    const signature = signer.sign(message);
    const root = makeRoot();
    expect(verifySignature(seedOf("other"), signature, signer.publicKey)).toBe(false);
    expect(verifySignature(message, signature, voice("ben").publicKey)).toBe(false);
    expect(verifySignature(message, signature.subarray(1), signer.publicKey)).toBe(false);
    expect(verifySignature(message, root.sign(message), signer.publicKey)).toBe(false);
    expect(verifySignature(message, signature, root.publicKey)).toBe(false);
    expect(verifySignature(message, signature, new Uint8Array(31))).toBe(false);
    expect(verifySignature(message, signature, new Uint8Array(65))).toBe(false);
    expect(verifySignature(message, root.sign(message), root.publicKey)).toBe(true);
  });

  test("verifySignature() refuses a signature whose scalar is not reduced, which another would be the same statement", () => {
    const signer = voice("ada");
    const signature = signer.sign(body);
    const order = 2n ** 252n + 27742317777372353535851937790883648493n;
    const scalar = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString("hex")}`) + order;
    const grown = Buffer.from(scalar.toString(16).padStart(64, "0"), "hex").reverse();
    expect(verifySignature(body, Buffer.concat([signature.subarray(0, 32), grown]), signer.publicKey)).toBe(false);
  });

  test("verifySignature() refuses every key of small order, under which one signature is good for all messages", () => {
    // 8 points, by the other implementation: the multiples of a point that has the cofactor in it.
    const found = new Set<string>();
    for (let y = 0n; found.size < 8 && y < 200n; y += 1n) {
      const bytes = Uint8Array.from(Buffer.from(y.toString(16).padStart(64, "0"), "hex").reverse());
      try {
        const point = ed25519.Point.fromBytes(bytes);
        const torsion = point.multiplyUnsafe(ed25519.Point.Fn.ORDER - 1n).add(point);
        for (let i = 1n; i <= 8n; i += 1n) found.add(torsion.multiplyUnsafe(i).toHex());
      } catch {
        // No point has this ordinate.
      }
    }
    expect(found.size).toBe(8);
    const identity = Buffer.from(`01${"00".repeat(31)}`, "hex");
    const forged = Buffer.concat([identity, Buffer.alloc(32)]);
    for (const key of found) expect(verifySignature(body, forged, Buffer.from(key, "hex"))).toBe(false);
    // Without the refusal this is a good signature of anything.
    expect(ed25519.verify(forged, body, identity, { zip215: true })).toBe(true);
  });

  test("rootPoint() answers nothing for what is no certificate of a P-256 key", () => {
    expect(rootPoint(body)).toBeUndefined();
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    expect(verify(null, body, publicKey, sign(null, body, privateKey))).toBe(true);
  });
});

describe("statement", () => {
  test("signStatement() gives what parseStatement() reads and verifyStatement() accepts", () => {
    const statement = signStatement({ ...draft, body }, voice("ada"));
    const read = parseStatement(statement.bytes);
    expect(read).toEqual(statement);
    expect(verifyStatement(read)).toBe(true);
    expect(read.key).toBe("presence/ada");
  });

  test("verifyStatement() accepts the root's ECDSA", () => {
    const root = makeRoot();
    const statement = signStatement({ ...draft, kind: "issuer", body }, root);
    expect(verifyStatement(parseStatement(statement.bytes))).toBe(true);
  });

  test("verifyStatement() refuses it after any one bit was turned, wherever it still reads", () => {
    const { bytes } = signStatement({ ...draft, body }, voice("ada"));
    let readable = 0;
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const changed = Uint8Array.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      try {
        const read = parseStatement(changed);
        readable += 1;
        expect(verifyStatement(read)).toBe(false);
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: "statement_malformed" });
      }
    }
    expect(readable).toBeGreaterThan(500);
  });

  test("parseStatement() refuses what is cut, too long, goes on, or has no revision", () => {
    const { bytes } = signStatement({ ...draft, body }, voice("ada"));
    const refused = expect.objectContaining({ code: "statement_malformed" });
    for (let length = 0; length < bytes.length; length += 1) {
      expect(() => parseStatement(bytes.subarray(0, length))).toThrow(refused);
    }
    expect(() => parseStatement(Buffer.concat([bytes, Buffer.of(0)]))).toThrow(refused);
    expect(() => parseStatement(new Uint8Array(STATEMENT_BYTES_MAX + 1))).toThrow(refused);
    expect(() => signStatement({ ...draft, body, revision: 0 }, voice("ada"))).toThrow(refused);
    expect(() => signStatement({ ...draft, body, isDeleted: true }, voice("ada"))).toThrow(refused);
    expect(() => signStatement({ ...draft, body, revision: 2 ** 48 }, voice("ada"))).toThrow(RangeError);
  });

  test("parseStatement() throws nothing but statement_malformed on random and mangled octets", () => {
    const next = random(9180);
    const { bytes } = sayNode(voice("iris"), "ada");
    for (let round = 0; round < 3000; round += 1) {
      const mangled = round % 3 === 0 ? new Uint8Array(draw(next, 300)) : Uint8Array.from(bytes);
      const times = 1 + draw(next, 12);
      for (let i = 0; i < times; i += 1) mangled[draw(next, mangled.length)] = draw(next, 256);
      try {
        parseStatement(mangled.subarray(0, mangled.length - draw(next, 3)));
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: "statement_malformed" });
      }
    }
  });

  test("compareStatements() puts revision before time before hash, and is the same both ways", () => {
    const [low, high] = [saySeen("ada", { revision: 1, time: NOW + 9 }), saySeen("ada", { revision: 2, time: NOW })];
    expect(compareStatements(high, low)).toBeGreaterThan(0);
    expect(compareStatements(low, high)).toBeLessThan(0);
    expect(compareStatements(saySeen("ada", { time: NOW + 1 }), saySeen("ada"))).toBeGreaterThan(0);
    const [a, b] = [saySeen("ada"), saySeen("ben")];
    expect(Math.sign(compareStatements(a, b))).toBe(-Math.sign(compareStatements(b, a)));
    expect(compareStatements(a, a)).toBe(0);
  });
});
