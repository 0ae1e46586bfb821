// Every row of the standards is on the page of conformance: held by a test that names it, or with the reason why none does.

import { expect, test } from "bun:test";
import { ROWS_OF, STANDARDS, testsOfRows } from "./conformance.ts";

const rows = STANDARDS.flatMap((standard) => Object.entries(standard.rows));
const listed = rows.map(([row]) => row);
const claimed = rows.filter(([, [, , , standing]]) => standing === undefined).map(([row]) => row);

test("STANDARDS has every row of the standards once, and no other", () => {
  const all = Object.entries(ROWS_OF).flatMap(([part, count]) =>
    Array.from({ length: count }, (_, index) => `${part}-${index + 1}`),
  );
  expect(listed.toSorted()).toEqual(all.toSorted());
});

test("testsOfRows() knows a test for each row that is claimed, and none for another", () => {
  const tests = testsOfRows();
  expect(claimed.filter((row) => !tests.has(row))).toEqual([]);
  expect([...tests.keys()].filter((row) => !claimed.includes(row))).toEqual([]);
});

test("STANDARDS gives a reason for each row that is not claimed", () => {
  const silent = rows.filter(([, [, , note = "", standing]]) => standing !== undefined && note === "");
  expect(silent).toEqual([]);
});
