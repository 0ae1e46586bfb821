// Every row that the page of conformance claims is named by a test, and every row that a test names is claimed.

import { expect, test } from "bun:test";
import { STANDARDS, testsOfRows } from "./conformance.ts";

const claimed = STANDARDS.flatMap(({ rows }) => Object.keys(rows));

test("testsOfRows() knows a test for each row that is claimed", () => {
  const tests = testsOfRows();
  expect(claimed.filter((row) => !tests.has(row))).toEqual([]);
});

test("testsOfRows() finds no row that is not claimed", () => {
  expect([...testsOfRows().keys()].filter((row) => !claimed.includes(row))).toEqual([]);
});
