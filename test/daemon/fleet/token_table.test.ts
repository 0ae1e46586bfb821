// How many tokens an issuing node keeps: those that live have a bound, and those that have ended make room.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openNodeKeys } from "../../../src/ca.ts";
import { openTokenTable, TOKENS_MAX, type TokenTable } from "../../../src/daemon/fleet/token_table.ts";
import type { TokenRecord } from "../../../src/federation/token.ts";
import { openStore } from "../../../src/store.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
let folder: string;
let tokens: TokenTable;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "riprap-tokens-"));
  tokens = openTokenTable(openStore(":memory:"), openNodeKeys(folder));
});
afterEach(() => rmSync(folder, { recursive: true }));

function fill(from: number, expiresAt: number): void {
  for (let i = from; i < from + TOKENS_MAX; i++)
    tokens.put({ id: i.toString(16).padStart(32, "0"), expiresAt } as TokenRecord);
}

test("countLive() counts those that have not ended, so that there is room again when they have", () => {
  fill(0, HOUR_MS);
  expect(tokens.countLive(0)).toBe(TOKENS_MAX);
  expect(tokens.countLive(2 * HOUR_MS)).toBe(0);
  expect(tokens.list().length).toBe(TOKENS_MAX);
});

test("countLive() forgets what ended a week ago, and of those that ended since the first beyond as many as may live", () => {
  fill(0, HOUR_MS);
  fill(TOKENS_MAX, 2 * HOUR_MS);
  tokens.countLive(3 * HOUR_MS);
  expect(new Set(tokens.list().map(({ expiresAt }) => expiresAt))).toEqual(new Set([2 * HOUR_MS]));
  tokens.countLive(8 * DAY_MS);
  expect(tokens.list()).toEqual([]);
});

test("countLive() forgets nothing that lives, however many there are", () => {
  fill(0, HOUR_MS);
  fill(TOKENS_MAX, HOUR_MS);
  expect(tokens.countLive(0)).toBe(2 * TOKENS_MAX);
  expect(tokens.list().length).toBe(2 * TOKENS_MAX);
});
