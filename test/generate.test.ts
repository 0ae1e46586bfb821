// Holds the generated files equal to the tables that they are made from.

import { expect, test } from "bun:test";
import { parseConfig } from "../src/daemon/config.ts";
import { GENERATED, readGenerated } from "./generate.ts";

test.each(Object.keys(GENERATED))("%s is what its table says (bun run generate writes it)", async (path) => {
  expect(await readGenerated(path)).toBe(GENERATED[path]?.() ?? "");
});

test("parseConfig() takes riprap.yaml as it stands, and with every default spelled out, as the defaults", async () => {
  const text = await readGenerated("systemd/riprap.yaml");
  const defaults = parseConfig("");
  expect(parseConfig(text)).toEqual(defaults);
  expect(parseConfig(text.replaceAll(/^#(?=[a-zA-Z]+: )/gm, ""))).toEqual(defaults);
});
