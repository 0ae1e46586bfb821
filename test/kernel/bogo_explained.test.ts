// docs/tls13.md explains every case of BoringSSL's test suite that the engine does not pass: held against the list that bogo.test.ts runs by.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readExpected } from "./bogo/expected.ts";

const PAGE = readFileSync(join(import.meta.dir, "../../docs/tls13.md"), "utf8");
const FAILING = section("### Cases that fail, and why");
const LACKING = section("### Cases that ask for what the engine has not");

interface Explanation {
  readonly class: string;
  readonly count: number;
  readonly tests: readonly string[];
}

describe("docs/tls13.md", () => {
  const expected = readExpected();

  test("expected.json has every failing case in one class when it explains them", () => {
    const listed = expected.failures.flatMap(({ tests }) => tests);
    expect(listed.filter((name, at) => listed.indexOf(name) !== at)).toEqual([]);
    expect(expected.failures.filter(({ tests }) => tests.length === 0)).toEqual([]);
    const classes = expected.failures.map((failure) => failure.class);
    expect(new Set(classes).size).toBe(classes.length);
  });

  test("the page has a paragraph with the reason, the number and each name when a case fails", () => {
    const sorted = (names: readonly string[]) => [...names].sort();
    const wanted = expected.failures.map(({ class: name, tests }) => ({
      class: name,
      count: tests.length,
      tests: sorted(tests),
    }));
    const byClass = (a: Explanation, b: Explanation) => a.class.localeCompare(b.class);
    const told = readExplanations().map((one) => ({ ...one, tests: sorted(one.tests) }));
    expect(told.sort(byClass)).toEqual(wanted.sort(byClass));
  });

  test("the page has a row with the number when cases ask for what the engine has not, and each is in one row", () => {
    const options = expected.unimplemented.flatMap(({ cases }) => Object.keys(cases));
    expect(new Set(options).size).toBe(options.length);
    const wanted = expected.unimplemented.map(({ class: name, cases }) => [name, sum(Object.values(cases))] as const);
    const told = [...LACKING.matchAll(/^\| .+ \| `([\w-]+)` \| (\d+) \|$/gm)].map(
      ([, name = "", count]) => [name, Number(count)] as const,
    );
    expect(new Map(told)).toEqual(new Map(wanted));
  });

  test("the page has the three sums when it tells what the suite makes of the engine", () => {
    const sums = [
      expected.passed,
      sum(expected.failures.map(({ tests }) => tests.length)),
      sum(expected.unimplemented.flatMap(({ cases }) => Object.values(cases))),
    ];
    const told = /: (\d+) cases pass, (\d+) fail for the reasons below, (\d+) ask for what the engine has not/.exec(
      PAGE,
    );
    expect(told?.slice(1).map(Number)).toEqual(sums);
  });
});

/** A paragraph begins `**Title** (\`class\`, N). Why`; its cases are lines of names alone, or the first cells of a table. */
function readExplanations(): Explanation[] {
  return FAILING.split(/^(?=\*\*)/m).flatMap((block) => {
    const head = /^\*\*.+?\*\* \(`([\w-]+)`, (\d+)\)\. \S/.exec(block);
    if (!head) return [];
    const lists = [...block.matchAll(/^(?:\| )?((?:`[\w-]+`(?:, )?)+)(?:\.$| \|)/gm)];
    const tests = lists.flatMap(([, names = ""]) => [...names.matchAll(/`([\w-]+)`/g)].map(([, name = ""]) => name));
    return [{ class: head[1] ?? "", count: Number(head[2]), tests }];
  });
}

function section(title: string): string {
  const from = PAGE.indexOf(title);
  if (from < 0) throw new RangeError(`docs/tls13.md has no "${title}"`);
  return PAGE.slice(from + title.length).split(/^#{2,3} /m)[0] ?? "";
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
