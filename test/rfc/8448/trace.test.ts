// RFC 8448: the engine's transcript, key schedule, record protection, Finished, binder and ticket follow every published trace.
import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { BUILD_MS, buildOverEngine, skipUnlessBuildable } from "../../kernel/build.ts";

const skipped = skipUnlessBuildable("the traces of RFC 8448");
const SECTIONS = readdirSync(import.meta.dir).filter((file) => file.endsWith(".txt"));

describe.skipIf(skipped)("RFC 8448", () => {
  for (const file of SECTIONS.sort()) {
    test(
      `trace gives every published value when it follows ${file.replace(/_|\.txt/g, " ").trim()}`,
      async () => {
        const text = await Bun.file(join(import.meta.dir, file)).text();
        const count = (verb: string) => text.split("\n").filter((line) => line.startsWith(`${verb} `)).length;
        const sealed = text.split("\n").filter((line) => /^record \w+ 17/.test(line)).length;
        const program = buildOverEngine("trace", ["trace.c"]);
        const { exitCode, stdout, stderr } = Bun.spawnSync([program, join(import.meta.dir, file)]);
        expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
        expect(stdout.toString().trim()).toBe(
          `${count("record")} records, ${sealed} of them opened and sealed, ${count("expect")} values`,
        );
      },
      BUILD_MS,
    );
  }
});
