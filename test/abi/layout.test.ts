// Holds the TypeScript descriptors against sizeof, offsetof and constants that a C compiler gives for kernel/abi.h.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as abi from "../../src/abi.ts";

const HEADER = join(import.meta.dir, "../../kernel/abi.h");
const compiler = ["gcc", "cc", "clang"].find((name) => Bun.which(name) !== null);
if (compiler === undefined) process.stderr.write("skipped: test/abi/layout.test.ts needs a C compiler (gcc)\n");

const ENUMS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  FRAME_: abi.FRAME_FLAG,
  MODE_: abi.MODE,
  FEATURE_: abi.FEATURE,
  CAUSE_: abi.CAUSE,
  PROCESS_: abi.PROCESS_FLAG,
  FLOW_: { ...abi.FLOW_STATE, ...abi.FLOW_FLAG },
  TLS_: abi.FLOW_TLS,
  REASON_: abi.REASON,
  ACK_: abi.ACK,
  CUT_: abi.CUT_BY,
  QUERY_: abi.QUERY_WHAT,
  ACTION_: abi.ACTION,
  PEER_: abi.PEER_MATCH,
  FILTER_: abi.FILTER_HAS,
};

const STRUCTS = [
  abi.FRAME_HEAD,
  ...Object.values(abi.FRAME).flatMap((codec) => (codec.struct.name === "" ? [] : [codec.struct])),
  abi.TABLE_HEAD,
  abi.TABLE_SUBJECT,
  abi.TABLE_RULE,
  abi.TABLE_PEER,
  abi.TABLE_FILTER,
  ...Object.values(abi.AUTHORITY),
];

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function constants(): Map<string, number> {
  const found = new Map<string, number>();
  for (const [name, value] of Object.entries(abi.ABI)) found.set(`RIPRAP_${name}`, value);
  for (const [name, codec] of Object.entries(abi.FRAME)) found.set(`RIPRAP_${snake(name).toUpperCase()}`, codec.type);
  for (const [prefix, values] of Object.entries(ENUMS)) {
    for (const [name, value] of Object.entries(values))
      found.set(`RIPRAP_${prefix}${snake(name).toUpperCase()}`, value);
  }
  return found;
}

/** Every name of a #define with a value and of an enumerator. */
function namesInHeader(): string[] {
  const text = readFileSync(HEADER, "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const defines = [...text.matchAll(/^#define\s+(RIPRAP_\w+)[ \t]+\S/gm)].map((match) => match[1] ?? "");
  const enumerators = [...text.matchAll(/^\s+(RIPRAP_\w+)\s*=/gm)].map((match) => match[1] ?? "");
  return [...defines, ...enumerators];
}

function dumpWithCompiler(): Map<string, number> {
  const folder = mkdtempSync(join(tmpdir(), "riprap-abi-"));
  try {
    const lines: string[] = [];
    for (const name of namesInHeader()) lines.push(`printf("${name} %llu\\n", (unsigned long long)${name});`);
    for (const { name, fields } of STRUCTS) {
      lines.push(`printf("${name} %zu\\n", sizeof(struct ${name}));`);
      for (const field of fields) {
        const path = `${name}, ${snake(field.name)}`;
        lines.push(`printf("${name}.${field.name} %zu\\n", offsetof(struct ${path}));`);
        lines.push(`printf("${name}.${field.name}:size %zu\\n", sizeof(((struct ${name} *)0)->${snake(field.name)}));`);
      }
    }
    const source = `#include <stdio.h>\n#include <stddef.h>\n#include "${HEADER}"\nint main(void) {\n${lines.join("\n")}\nreturn 0; }\n`;
    writeFileSync(join(folder, "dump.c"), source);
    const built = Bun.spawnSync([
      compiler ?? "gcc",
      "-Wall",
      "-Werror",
      "-o",
      join(folder, "dump"),
      join(folder, "dump.c"),
    ]);
    if (built.exitCode !== 0) throw new Error(built.stderr.toString());
    const text = Bun.spawnSync([join(folder, "dump")]).stdout.toString();
    return new Map(
      text
        .trim()
        .split("\n")
        .map((line) => [line.split(" ")[0] ?? "", Number(line.split(" ")[1])]),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe.skipIf(compiler === undefined)("kernel/abi.h", () => {
  const dump = compiler === undefined ? new Map<string, number>() : dumpWithCompiler();

  test("struct() has the size, offsets and widths of C when every struct is laid out", () => {
    for (const { name, size, fields } of STRUCTS) {
      expect(`${name} ${size}`).toBe(`${name} ${dump.get(name)}`);
      for (const field of fields) {
        const label = `${name}.${field.name}`;
        expect(`${label} ${field.offset}`).toBe(`${label} ${dump.get(label)}`);
        expect(`${label} ${field.size}`).toBe(`${label} ${dump.get(`${label}:size`)}`);
      }
    }
  });

  test("ABI has the values of C when every constant of the header is looked up", () => {
    const mine = constants();
    for (const name of namesInHeader()) expect(`${name} ${mine.get(name)}`).toBe(`${name} ${dump.get(name)}`);
  });
});

test("ABI names no constant that the header lacks when both are listed", () => {
  const header = new Set(namesInHeader());
  for (const name of constants().keys()) expect(header.has(name) ? name : `${name} is not in abi.h`).toBe(name);
});
