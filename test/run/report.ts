// What a tier of tests came to, and how it is told: counts from a JUnit file, one closing line for all. Never runs anything.

export interface TierReport {
  name: string;
  seconds: number;
  passed: number;
  /** Titles, each with what the test said on the lines below it, or a sentence for what is no test. */
  failures: string[];
  /** Titles of tests that were not run, or one sentence for a tier that was not, each with its reason where it is known. */
  skips: string[];
  /** The command that runs again what failed, where that is less than all. */
  again?: string;
}

export interface JunitCounts {
  passed: number;
  failures: string[];
  skips: string[];
}

/** Of what a failed test says; the tier's output has all of it. */
const SAID_LINES_MAX = 40;

const FAILURE = /<(?:failure|error)\b([^>]*?)(?:\/>|>([\s\S]*?)<)/;
const TEST_CASE = /<testcase\b([^>]*?)(\/>|>([\s\S]*?)<\/testcase>)/g;

/** Reads what Bun's JUnit reporter writes. */
export function parseJunit(xml: string): JunitCounts {
  const counts: JunitCounts = { passed: 0, failures: [], skips: [] };
  for (const [, attributes = "", , body = ""] of xml.matchAll(TEST_CASE)) {
    const title = describeCase(attributes);
    const failure = FAILURE.exec(body);
    if (failure) counts.failures.push([title, ...describeFailure(failure)].join("\n    "));
    else if (/<skipped\b/.test(body)) counts.skips.push(title);
    else counts.passed++;
  }
  return counts;
}

export function addCounts(...all: readonly JunitCounts[]): JunitCounts {
  return {
    passed: all.reduce((total, { passed }) => total + passed, 0),
    failures: all.flatMap(({ failures }) => failures),
    skips: all.flatMap(({ skips }) => skips),
  };
}

/** The test files that the titles of failures begin with, each once. */
export function failedFiles(failures: readonly string[]): string[] {
  return [...new Set(failures.map((title) => /^test\/\S+\.test\.ts\b/.exec(title)?.[0]))].filter(
    (file) => file !== undefined,
  );
}

function describeCase(attributes: string): string {
  const parts = ["file", "classname", "name"].map((name) => attributeOf(attributes, name));
  return parts.filter(Boolean).join(" > ");
}

/** The first lines of what was expected and what came, and where. */
function describeFailure([, attributes = "", text = ""]: readonly string[]): string[] {
  const lines = (unescapeXml(text) || attributeOf(attributes, "message")).split("\n").filter(Boolean);
  return lines.length > SAID_LINES_MAX ? [...lines.slice(0, SAID_LINES_MAX), "…"] : lines;
}

function attributeOf(attributes: string, name: string): string {
  return unescapeXml(new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "");
}

function unescapeXml(text: string): string {
  const entities: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&", "#10": "\n" };
  return text.replace(/&([#\w]+);/g, (whole, name: string) => entities[name] ?? whole);
}

/** A line a tier, each failure and skip by name, and the closing line. */
export function formatSummary(reports: readonly TierReport[]): string {
  const lines = [""];
  for (const report of reports) {
    lines.push(...report.skips.map((title) => `skipped in ${report.name}: ${title}`));
    lines.push(...report.failures.map((title) => `failed in ${report.name}: ${title}`));
    if (report.again) lines.push(`to run again what failed in ${report.name}: ${report.again}`);
  }
  for (const { name, seconds, passed, failures, skips } of reports)
    lines.push(
      `${name}: ${passed} passed, ${failures.length} failed, ${skips.length} skipped in ${seconds.toFixed(0)} s`,
    );
  const sum = (count: (report: TierReport) => number): number =>
    reports.reduce((total, each) => total + count(each), 0);
  const skipped = sum((report) => report.skips.length);
  const closing = `${sum((report) => report.passed)} passed, ${sum((report) => report.failures.length)} failed`;
  return `${lines.join("\n")}\n\n${closing}${skipped > 0 ? `, ${skipped} skipped` : ""}\n`;
}
