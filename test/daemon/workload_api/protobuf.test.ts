// The wire form: what protobufjs writes we read, and what is cut short or malformed is refused.

import { describe, expect, test } from "bun:test";
import {
  parseEmptyRequest,
  parseJwtSvidRequest,
  parseValidateRequest,
} from "../../../src/daemon/workload_api/message.ts";
import { concat, delimited, integer, readFields } from "../../../src/daemon/workload_api/protobuf.ts";
import { RiprapError } from "../../../src/error.ts";
import { draw, random } from "../../random.ts";

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"));

describe("readFields", () => {
  test("parseJwtSvidRequest() collects audiences, and takes the last of a field that stands alone", () => {
    const message = concat([delimited(1, "a"), delimited(2, "x"), delimited(1, "b"), delimited(2, "y")]);
    expect(parseJwtSvidRequest(message)).toEqual({ audience: ["a", "b"], spiffeId: "y" });
    expect(parseJwtSvidRequest(new Uint8Array())).toEqual({ audience: [], spiffeId: "" });
  });

  test("readFields() passes over fields of a later revision, of every kind", () => {
    const later = concat([integer(7, 300), delimited(9, "z"), bytes("8d0100000000"), bytes("89010000000000000000")]);
    expect(parseValidateRequest(concat([later, delimited(1, "a"), delimited(2, "t"), later]))).toEqual({
      audience: "a",
      token: "t",
    });
  });

  test.each([
    ["a tag alone", "0a"],
    ["a length that reaches past the end", "0a05616263"],
    ["a length near 2^64", "0affffffffffffffffff0161"],
    ["a number without an end", "0affffffffffffffffffffff"],
    ["field number 0", "0200"],
    ["a group", "0b0c"],
    ["wire type 6", "0e00"],
    ["wire type 7", "0f00"],
    ["a fixed64 cut short", "0900000000"],
    ["a fixed32 cut short", "0d0000"],
    ["a varint cut short", "08ff"],
    ["a field number above 2^29", "82808080800100"],
  ])("readFields() refuses %s", (_, hex) => {
    expect(() => parseEmptyRequest(bytes(hex))).toThrow(RiprapError);
  });

  test("readText() refuses a string that is not UTF-8", () => {
    for (const hex of ["ff", "c080", "eda080", "f4908080"])
      expect(() => parseJwtSvidRequest(delimited(1, bytes(hex)))).toThrow("not UTF-8");
  });

  test("readFields() refuses more fields than any request has", () => {
    const many = (count: number) => concat(Array.from({ length: count }, () => delimited(1, "a")));
    expect(parseJwtSvidRequest(many(1024)).audience).toHaveLength(1024);
    expect(() => parseJwtSvidRequest(many(1025))).toThrow("more than 1024 fields");
  });

  test("readFields() answers or refuses, whatever the bytes", () => {
    const next = random(4);
    for (let round = 0; round < 20_000; round++) {
      const message = Uint8Array.from({ length: draw(next, 40) }, () => draw(next, 256));
      try {
        readFields(message);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RiprapError);
      }
    }
  });
});
