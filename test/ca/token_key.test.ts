// Keys that sign tokens, as they are made.

import { expect, test } from "bun:test";
import { createTokenKey } from "../../src/ca/token_key.ts";
import type { KeyStore } from "../../src/ca.ts";

test("createTokenKey() gives no key a name that a command line takes for an option", () => {
  const keys = { sealSecret() {} } as Partial<KeyStore> as KeyStore;
  const plan = { kind: "jwt", algorithm: "ES256", keyName: "a", now: 0, lifetimeMs: 1 } as const;
  const names = Array.from({ length: 500 }, () => createTokenKey(keys, plan).id);
  expect(names.filter((name) => name.startsWith("-"))).toEqual([]);
  expect(new Set(names).size).toBe(500);
});
