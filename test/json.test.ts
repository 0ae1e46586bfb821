// The JSON reader against JSON.parse, and where it is stricter.

import { describe, expect, test } from "bun:test";
import { RiprapError } from "../src/error.ts";
import { type JsonValue, parseJson, writeJson } from "../src/json.ts";
import { draw, pick, random } from "./random.ts";

const refused = (text: string) => {
  expect(() => parseJson(text)).toThrow(RiprapError);
};

describe("parseJson", () => {
  test.each([
    "null",
    " [ ] ",
    "{}",
    '{"a":[1,-0,0.5,1e3,-2.5E-2,true,false,null,"\\u00e9\\n\\"\\\\\\/"]}',
    '{"":{"":[[[]]]}}',
    '"😀"',
    '"\\ud83d\\ude00"',
    "9007199254740991",
  ])("parseJson() reads %s as JSON.parse does", (text) => {
    expect(parseJson(text)).toEqual(JSON.parse(text));
  });

  test("parseJson() keeps every digit of an integer that a double does not hold", () => {
    expect(parseJson("[9007199254740993, 18446744073709551615, -9007199254740993]")).toEqual([
      9007199254740993n,
      18446744073709551615n,
      -9007199254740993n,
    ]);
  });

  test("parseJson() takes __proto__ for a key like any other", () => {
    const value = parseJson('{"__proto__":{"polluted":1}}') as Record<string, unknown>;
    expect(Object.keys(value)).toEqual(["__proto__"]);
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });

  test.each(['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{"b":{"a":1,"c":2,"a":3}}'])(
    "parseJson() refuses %s: a key is there twice",
    refused,
  );

  test.each([
    "",
    " ",
    "{",
    "[1,]",
    '{"a":1,}',
    "{a:1}",
    "'a'",
    "01",
    "+1",
    ".5",
    "1.",
    "1e",
    "NaN",
    "Infinity",
    "nul",
    "truex",
    "[1 2]",
    '{"a" 1}',
    "1 2",
    '"\\x"',
    '"\\u12"',
    '"a\nb"',
    '"\u0000"',
    '"unended',
    '"\\ud800"',
    "1e999",
    "/* */1",
    "\ufeff1",
    `${"9".repeat(41)}`,
    "[".repeat(40),
    `${"[".repeat(34)}${"]".repeat(34)}`,
  ])("parseJson() refuses %j", refused);

  test("parseJson() agrees with JSON.parse on what random edits make of a document", () => {
    const next = random(20261122);
    const seed = '{"keys":[{"use":"x509-svid","n":12,"x":[true,null,"a\\u0041"]}],"s":-1.5e2}';
    const alphabet = '{}[]",:0123456789.eE+-\\utrfalsn xa';
    for (let round = 0; round < 20_000; round++) {
      const letters = [...seed];
      for (let edits = 1 + draw(next, 3); edits > 0; edits--)
        letters.splice(draw(next, letters.length), draw(next, 2), pick(next, [...alphabet]));
      const text = letters.join("");
      let own: unknown;
      try {
        own = parseJson(text);
      } catch (thrown) {
        // Stricter only where the text says a key twice or a number too large.
        if (/twice|too large/.test((thrown as Error).message)) continue;
        expect(() => JSON.parse(text)).toThrow();
        continue;
      }
      expect(own).toEqual(JSON.parse(text));
    }
  });
});

describe("writeJson", () => {
  test("writeJson() writes what parseJson() reads as the same value, with every digit", () => {
    const next = random(43);
    const leaves = [
      null,
      true,
      false,
      0,
      -1.5,
      1e21,
      2 ** 53 - 1,
      2n ** 64n - 1n,
      -(2n ** 53n),
      "",
      'a"\\\n\u0000\u{1f600}',
    ];
    const make = (depth: number): JsonValue => {
      const kind = draw(next, depth > 3 ? 1 : 3);
      if (kind === 0) return pick(next, leaves);
      const items = Array.from({ length: draw(next, 4) }, () => make(depth + 1));
      return kind === 1
        ? items
        : Object.fromEntries(items.map((item, i) => [pick(next, ["__proto__", "", `k${i}`]), item]));
    };
    for (let round = 0; round < 500; round++) {
      const value = make(0);
      expect(parseJson(writeJson(value))).toEqual(value);
    }
  });
});
