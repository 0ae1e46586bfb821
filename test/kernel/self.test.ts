// The engine against itself: client and server in one process under AddressSanitizer and UBSan (self*.c).
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { BUILD_MS, buildOverEngine, skipUnlessBuildable } from "./build.ts";

const skipped = skipUnlessBuildable("the engine against itself");
const FILES = ["self.c", "self_handshake.c", "self_hello.c", "self_mutation.c", "self_record.c", "self_ticket.c"];

/** The titles stand in the C tables; they are read from there so that the tests have names before anything is compiled. */
const titles = (await Promise.all(FILES.map((file) => Bun.file(join(import.meta.dir, file)).text()))).flatMap((text) =>
  [...text.matchAll(/^\t\{ "([^"]+)", \w+ \},$/gm)].map(([, title = ""]) => title),
);

describe.skipIf(skipped)("the engine against itself", () => {
  test(
    "self lists the same tests when it is asked",
    () => {
      const { stdout } = Bun.spawnSync([program()]);
      expect(stdout.toString().trim().split("\n").sort()).toEqual([...titles].sort());
    },
    BUILD_MS,
  );

  for (const title of titles) {
    test(
      title,
      () => {
        const { exitCode, stderr } = Bun.spawnSync([program(), title]);
        expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
      },
      BUILD_MS,
    );
  }
});

function program(): string {
  return buildOverEngine("self", FILES);
}
