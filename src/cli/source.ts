// What `riprap apply` sends: a file, standard input, or a folder as one stream, whose errors are brought back to file and line.

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { APPLY_BYTES_MAX } from "../daemon/control/request.ts";
import { RiprapError } from "../error.ts";
import { readText, readTextFile } from "./file.ts";
import type { Terminal } from "./terminal.ts";

export interface Source {
  /** As the daemon names it in its errors, before `:LINE`. */
  readonly name: string;
  readonly text: string;
  /** A sentence of the daemon about this source, with the places of the person's own files. */
  locate(message: string): string;
}

const SEPARATOR = "---\n";

export async function readSource(path: string, terminal: Terminal): Promise<Source> {
  const locate = (message: string) => message;
  if (path === "-") {
    return { name: "standard input", text: await readText(path, { terminal, bytesMax: APPLY_BYTES_MAX }), locate };
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) return readFolder(path);
  return { name: path, text: readTextFile(path, APPLY_BYTES_MAX), locate };
}

/** All or nothing over several files needs one stream; the files follow one another by name, as the daemon reads its own folder. */
function readFolder(path: string): Source {
  const names = readdirSync(path).filter((name) => /\.ya?ml$/.test(name));
  if (names.length === 0) throw new RiprapError("not_found", `Cannot apply ${path}: the folder has no .yaml file`);
  const starts: { file: string; line: number }[] = [];
  let text = "";
  for (const name of names.sort()) {
    const file = join(path, name);
    const part = readTextFile(file, APPLY_BYTES_MAX);
    if (text !== "") text += SEPARATOR;
    starts.push({ file, line: text.split("\n").length - 1 });
    text += part.endsWith("\n") ? part : `${part}\n`;
  }
  const locate = (message: string) =>
    message.split(`${path}:`).reduce((before, after) => {
      const [, digits = "", rest = ""] = /^(\d+)([\s\S]*)$/.exec(after) ?? [];
      const start = starts.findLast(({ line }) => line < Number(digits));
      return start === undefined
        ? `${before}${path}:${after}`
        : `${before}${start.file}:${Number(digits) - start.line}${rest}`;
    });
  return { name: path, text, locate };
}
