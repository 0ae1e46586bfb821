import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  DerReader,
  der,
  derOid,
  derTime,
  readAscii,
  readBitString,
  readBoolean,
  readDer,
  readNamedBits,
  readOid,
  readSmallInteger,
  readTime,
  TAG,
} from "../../src/ca/der.ts";
import { DerWriter } from "../../src/ca/der_writer.ts";
import { draw, random } from "../random.ts";
import { scratchDirectories } from "../scratch.ts";
import { openssl } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
const element = (text: string) => new DerReader(hex(text)).next();

describe("readDer()", () => {
  test.each(["30 00", "30 03 02 01 05", "30 04 31 02 05 00", `30 81 80 04 7e ${"00".repeat(126)}`])(
    "readDer() takes %s",
    (text) => {
      expect(() => readDer(hex(text), TAG.sequence)).not.toThrow();
    },
  );

  test.each([
    ["nothing", ""],
    ["a tag alone", "30"],
    ["another tag", "31 00"],
    ["a cut length", "30 81"],
    ["cut content", "30 02 05"],
    ["trailing bytes", "30 00 00"],
    ["an indefinite length", "30 80 00 00"],
    ["a long length of a short element", "30 81 02 05 00"],
    ["a length with a leading zero", `30 82 00 80 04 7e ${"00".repeat(126)}`],
    ["a length of four octets", "30 84 00 00 00 00"],
    ["a high tag number", "30 03 1f 01 00"],
    ["an end-of-contents tag", "30 02 00 00"],
    ["an empty INTEGER", "30 02 02 00"],
    ["a padded INTEGER", "30 04 02 02 00 01"],
    ["a padded negative INTEGER", "30 04 02 02 ff ff"],
    ["a BOOLEAN of 01", "30 03 01 01 01"],
    ["a NULL with content", "30 03 05 01 00"],
    ["an inner element that is too long", "30 04 30 03 05 00"],
  ])("readDer() refuses %s", (_name, text) => {
    expect(() => readDer(hex(text), TAG.sequence)).toThrow(/^Cannot read DER: it holds /);
  });
});

describe("the readers of single values", () => {
  test("readOid() and derOid() agree with openssl", () => {
    const directory = scratch();
    for (const oid of ["1.2.840.10045.4.3.2", "2.5.29.17", "1.3.6.1.5.5.7.3.1", "2.999.1", "0.9.2342"]) {
      expect(readOid(new DerReader(derOid(oid)).next())).toBe(oid);
      openssl(directory, {}, "asn1parse", "-genstr", `OID:${oid}`, "-noout", "-out", "oid.der");
      expect(readFileSync(join(directory, "oid.der"))).toEqual(Buffer.from(derOid(oid)));
    }
  });

  test.each(["06 00", "06 01 80", "06 02 80 01", "06 02 2a 86", "06 07 2a ff ff ff ff ff 7f"])(
    "readOid() refuses %s",
    (text) => {
      expect(() => readOid(element(text))).toThrow();
    },
  );

  test("readTime() reads what derTime() writes, on both sides of 2050", () => {
    for (const iso of [
      "1950-01-01T00:00:00Z",
      "2026-11-21T23:59:59Z",
      "2049-12-31T23:59:59Z",
      "2050-01-01T00:00:00Z",
      "9999-12-31T23:59:59Z",
    ]) {
      const time = Date.parse(iso);
      const written = derTime(time);
      expect(written[0]).toBe(time < Date.parse("2050-01-01T00:00:00Z") ? TAG.utcTime : TAG.generalizedTime);
      expect(readTime(new DerReader(written).next())).toBe(time);
    }
  });

  test.each([
    ["without Z", TAG.utcTime, "261121120000"],
    ["without seconds", TAG.utcTime, "2611211200Z"],
    ["with an offset", TAG.utcTime, "261121120000+0000"],
    ["with a fraction", TAG.generalizedTime, "20511121120000.5Z"],
    ["on 30 February", TAG.utcTime, "260230120000Z"],
    ["in month 13", TAG.utcTime, "261321120000Z"],
    ["at hour 24", TAG.utcTime, "261121240000Z"],
    ["as GeneralizedTime before 2050", TAG.generalizedTime, "20261121120000Z"],
    ["with a line feed", TAG.utcTime, "261121120000Z\n"],
    ["of another type", TAG.printableString, "261121120000Z"],
  ])("readTime() refuses a time %s", (_name, tag, text) => {
    expect(() => readTime({ tag, bytes: Buffer.alloc(0), content: Buffer.from(text) })).toThrow();
  });

  test("readNamedBits() reads key usages and refuses padding that DER forbids", () => {
    expect([...readNamedBits(element("03 02 07 80"))]).toEqual([0]);
    expect([...readNamedBits(element("03 02 01 06"))]).toEqual([5, 6]);
    expect([...readNamedBits(element("03 03 07 00 80"))]).toEqual([8]);
    expect([...readNamedBits(element("03 01 00"))]).toEqual([]);
    for (const text of [
      "03 00",
      "03 01 01",
      "03 02 08 80",
      "03 02 06 80",
      "03 02 07 c0",
      "03 03 00 80 00",
      "03 02 00 00",
    ]) {
      expect(() => readNamedBits(element(text))).toThrow();
    }
  });

  test("readBitString(), readBoolean(), readSmallInteger() and readAscii() refuse what is not theirs", () => {
    expect(readSmallInteger(element("02 02 01 00"))).toBe(256);
    for (const text of ["02 01 80", "02 04 01 00 00 00", "02 00"])
      expect(() => readSmallInteger(element(text))).toThrow();
    for (const text of ["03 01 01", "03 00"]) expect(() => readBitString(element(text))).toThrow();
    for (const text of ["01 01 01", "01 00", "01 02 00 00"]) expect(() => readBoolean(element(text))).toThrow();
    for (const octet of [0, 9, 10, 13, 0x1f, 0x7f, 0x80, 0xff])
      expect(() => readAscii(Uint8Array.of(0x61, octet))).toThrow();
    expect(readAscii(Buffer.from(" ~"))).toBe(" ~");
  });
});

describe("DerWriter", () => {
  test("DerWriter writes what der() writes, for contents of every length class", () => {
    const writer = new DerWriter(70_000);
    const next = random(3);
    for (const length of [0, 1, 127, 128, 255, 256, 65_535, ...Array.from({ length: 50 }, () => draw(next, 2000))]) {
      writer.reset();
      const end = writer.mark;
      writer.ascii("b");
      writer.bytes(new Uint8Array(length));
      writer.octet(7);
      writer.header(0x04, end);
      if (length + 2 <= 65_535)
        expect(Buffer.from(writer.view())).toEqual(
          Buffer.from(der(0x04, Uint8Array.of(7), new Uint8Array(length), Buffer.from("b"))),
        );
    }
  });

  test("DerWriter throws when its buffer is full", () => {
    const writer = new DerWriter(4);
    writer.bytes(new Uint8Array(4));
    expect(() => writer.octet(0)).toThrow(RangeError);
  });
});
