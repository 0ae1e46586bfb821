// The engine's files as the module compiles them: nothing but port.h and four memory functions, no floating point, small frames.
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { BUILD_MS, ENGINE_SOURCES } from "./build.ts";

const skipped = !Bun.which("gcc") || !Bun.which("nm");
if (skipped) process.stdout.write("skipped: the engine without a C library: gcc or nm is not installed\n");

const folder = mkdtempSync(join(tmpdir(), "riprap-engine-"));
const FRAME_MAX = 1000;
const HEADERS: Readonly<Record<string, string>> = {
  "types.h":
    "typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;\n" +
    "typedef __SIZE_TYPE__ size_t; typedef _Bool bool;\n#define true 1\n#define false 0\n#define NULL ((void *)0)\n",
  "string.h":
    "#include <linux/types.h>\nvoid *memcpy(void *, const void *, size_t); void *memmove(void *, const void *, size_t);\n" +
    "void *memset(void *, int, size_t); int memcmp(const void *, const void *, size_t); size_t strlen(const char *);\n",
  "errno.h":
    "#define EIO 5\n#define ENOENT 2\n#define ENOMEM 12\n#define EINVAL 22\n#define ENOSPC 28\n#define EPROTO 71\n" +
    "#define EBADMSG 74\n#define EKEYREJECTED 129\n",
};
const FROM_OUTSIDE = /^(port_\w+|tls13_\w+|memcpy|memmove|memset|memcmp|strlen)$/;

describe.skipIf(skipped)("kernel/tls13", () => {
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test(
    "every file compiles without a C library when the kernel's headers are bare",
    () => {
      mkdirSync(join(folder, "linux"));
      for (const [name, text] of Object.entries(HEADERS)) writeFileSync(join(folder, "linux", name), text);
      const flags =
        process.arch === "x64" ? ["-mno-sse", "-mno-mmx", "-mno-80387", "-mcmodel=kernel"] : ["-mgeneral-regs-only"];
      for (const source of ENGINE_SOURCES) {
        const object = join(folder, `${basename(source)}.o`);
        const { exitCode, stderr } = Bun.spawnSync([
          "gcc",
          "-std=gnu11",
          "-O2",
          "-ffreestanding",
          "-nostdinc",
          "-fno-pie",
          "-fno-stack-protector",
          "-D__KERNEL__",
          `-I${folder}`,
          ...flags,
          "-Wall",
          "-Wextra",
          "-Werror",
          "-Wvla",
          "-Wdeclaration-after-statement",
          `-Wframe-larger-than=${FRAME_MAX}`,
          "-c",
          source,
          "-o",
          object,
        ]);
        expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
        const { stdout } = Bun.spawnSync(["nm", "-u", object]);
        const foreign = [...stdout.toString().matchAll(/U (\S+)/g)]
          .map(([, symbol = ""]) => symbol)
          .filter((symbol) => !FROM_OUTSIDE.test(symbol));
        expect({ source: basename(source), foreign }).toEqual({ source: basename(source), foreign: [] });
      }
    },
    BUILD_MS,
  );

  test("every file stays within 500 lines and includes only the engine's headers", () => {
    for (const source of ENGINE_SOURCES) {
      const text = readFileSync(source, "utf8");
      expect(`${basename(source)} ${text.split("\n").length <= 501}`).toBe(`${basename(source)} true`);
      expect([...text.matchAll(/#include (.*)/g)].map(([, what]) => what)).toEqual(['"engine.h"']);
    }
  });
});
