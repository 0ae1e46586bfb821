// Redirects, answers and the times between them, over an exchange of the test's own.

import { describe, expect, test } from "bun:test";
import { fetchBundleDocument, REDIRECTS_MAX } from "../../src/federation/bundle_client.ts";
import {
  nextFetchMs,
  REFRESH_DEFAULT_MS,
  REFRESH_LEAST_MS,
  REFRESH_MOST_MS,
} from "../../src/federation/bundle_schedule.ts";
import type { HttpResponse } from "../../src/federation/endpoint/http_response.ts";

const START = new URL("https://partner.test/bundle");
const DOCUMENT = '{"keys":[]}';

function response(
  status: number,
  headers: Record<string, string | string[]> = {},
  body: string | Uint8Array = "",
): HttpResponse {
  const entries = Object.entries(headers).map(([name, value]): [string, string[]] => [name, [value].flat()]);
  return { status, headers: new Map(entries), body: Buffer.from(body) };
}

function fetching(answers: Readonly<Record<string, HttpResponse>>) {
  const asked: string[] = [];
  const document = fetchBundleDocument(START, async ({ href }) => {
    asked.push(href);
    return answers[href] ?? response(404);
  });
  return { asked, document };
}

const good = response(200, { "content-type": "application/json" }, DOCUMENT);
const to = (location: string, status = 302) => response(status, { location });

describe("fetchBundleDocument()", () => {
  test.each(["application/json", "application/json; charset=UTF-8", "application/jwk-set+json", "text/plain"])(
    "fetchBundleDocument() takes %s (row F-14)",
    async (type) => {
      const { document } = fetching({ [START.href]: response(200, { "content-type": type }, DOCUMENT) });
      expect(await document).toBe(DOCUMENT);
    },
  );

  test("fetchBundleDocument() follows redirects of every kind, each from the one before (rows F-15, F-17)", async () => {
    for (const status of [301, 302, 303, 307, 308]) {
      const other = "https://other.test:8443/x";
      const { document, asked } = fetching({
        [START.href]: to("/moved", status),
        "https://partner.test/moved": to(other),
        [other]: good,
      });
      expect([await document, asked]).toEqual([DOCUMENT, [START.href, "https://partner.test/moved", other]]);
    }
  });

  test("fetchBundleDocument() asks at the configured URL again, wherever it led before (row F-17)", async () => {
    const answers = { [START.href]: to("https://other.test/"), "https://other.test/": good };
    for (const round of [1, 2]) {
      const { document, asked } = fetching(answers);
      await document;
      expect([round, asked[0]]).toEqual([round, START.href]);
    }
  });

  test.each<[string, HttpResponse]>([
    ["to http", to("http://partner.test/bundle")],
    ["to a URL with a user", to("https://me@partner.test/bundle")],
    ["to a file", to("file:///etc/passwd")],
    ["to nothing", response(302)],
    ["to two places", response(302, { location: ["https://a.test/", "https://b.test/"] })],
    ["to itself", to(START.href)],
    ["to no URL", to("https://[")],
  ])("fetchBundleDocument() refuses a redirect %s (rows F-10, F-15)", async (_, first) => {
    const { document, asked } = fetching({ [START.href]: first });
    await expect(document).rejects.toMatchObject({ code: "redirect_refused" });
    await document.catch(() => undefined);
    expect(asked).toHaveLength(1);
  });

  test("fetchBundleDocument() ends a loop of two and a row without an end", async () => {
    const loop = fetching({ [START.href]: to("/b"), "https://partner.test/b": to("/bundle") });
    await expect(loop.document).rejects.toThrow("in a circle");
    let count = 0;
    const endless = fetchBundleDocument(START, async () => {
      count += 1;
      return to(`/${count}`);
    });
    await endless.catch(() => undefined);
    await expect(endless).rejects.toThrow("in a row");
    expect(count).toBe(REDIRECTS_MAX + 1);
  });

  test.each<[string, HttpResponse]>([
    ["a page for people", response(200, { "content-type": "text/html" }, "<html>")],
    ["another charset", response(200, { "content-type": "application/json; charset=latin1" }, DOCUMENT)],
    ["what is not UTF-8", response(200, { "content-type": "application/json" }, Uint8Array.of(0x22, 0xff, 0x22))],
    ["a coding nobody asked for", response(200, { "content-encoding": "gzip" }, DOCUMENT)],
    ["an empty 204", response(204)],
    ["a part", response(206, {}, DOCUMENT)],
    ["401", response(401)],
    ["500", response(500)],
  ])("fetchBundleDocument() refuses %s (row F-14)", async (_, answer) => {
    await expect(fetching({ [START.href]: answer }).document).rejects.toMatchObject({ code: "endpoint_refused" });
  });
});

describe("nextFetchMs()", () => {
  const wait = (refreshHintSeconds: number | undefined, failures = 0, isHeld = true, at = 0) =>
    nextFetchMs({ refreshHintSeconds, failures, isHeld }, at);

  test("nextFetchMs() is the refresh hint within bounds, and five minutes without one (rows B-14, F-3)", () => {
    expect([wait(600), wait(undefined), wait(0), wait(1), wait(31_536_000)]).toEqual([
      600_000,
      REFRESH_DEFAULT_MS,
      REFRESH_LEAST_MS,
      REFRESH_LEAST_MS,
      REFRESH_MOST_MS,
    ]);
  });

  test("nextFetchMs() comes a tenth earlier at most, so that nodes do not ask together, and never later", () => {
    expect([wait(600, 0, true, 0), wait(600, 0, true, 0.999999)].map((ms) => ms / 1000)).toEqual([600, 540]);
  });

  test("nextFetchMs() is not aggressive after failures, whatever their number (row F-22)", () => {
    const waits = [1, 2, 3, 4, 5, 6, 7, 50, 1e9].map((failures) => wait(3600, failures) / 1000);
    expect(waits).toEqual([30, 30, 30, 40, 80, 160, 300, 300, 300]);
    expect(wait(60, 9) / 1000).toBe(60);
  });

  test("nextFetchMs() is shorter while nothing is held: until then every peer is refused", () => {
    expect([1, 2, 3, 9].map((failures) => wait(undefined, failures, false) / 1000)).toEqual([5, 10, 20, 300]);
  });
});
