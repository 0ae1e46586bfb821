// The rules directory as texts: what applying or removing a resource makes of it, and the writing of it. All or nothing.

import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describeError, RiprapError } from "../../error.ts";
import type { ResourceText } from "../../resource.ts";
import { parseYaml, type YamlNode } from "../../yaml.ts";

/** A resource by its kind and name. */
export interface ResourceKey {
  readonly kind: string;
  readonly name: string;
}

interface Document {
  readonly key: ResourceKey | undefined;
  readonly text: string;
}

/** The kinds and names in a text; a document that has none is not listed, and is refused when the whole is parsed. */
export function listKeys(text: string): readonly ResourceKey[] {
  return splitDocuments(text).flatMap(({ key }) => (key === undefined ? [] : [key]));
}

/** The texts when every resource of `text` has a file of its own, in place of those with the same kind and name. */
export function applyText(texts: readonly ResourceText[], text: string, rulesDir: string): readonly ResourceText[] {
  const applied = splitDocuments(text);
  const keys = applied.flatMap(({ key }) => (key === undefined ? [] : [key]));
  const own = new Map<string, string>();
  for (const [index, document] of applied.entries()) {
    const file = document.key === undefined ? join(rulesDir, `document-${index}.yaml`) : fileOf(rulesDir, document.key);
    // A doubled resource stays doubled, so that it is refused.
    own.set(file, own.has(file) ? `${own.get(file)}---\n${document.text}` : document.text);
  }
  const kept = removeKeys(texts, keys).filter(({ file }) => !own.has(file));
  return [...kept, ...[...own].map(([file, ownText]) => ({ file, text: ownText }))];
}

/** The texts without these resources; a file that held nothing else is gone. */
export function removeKeys(texts: readonly ResourceText[], keys: readonly ResourceKey[]): readonly ResourceText[] {
  const isRemoved = ({ key }: Document): boolean => key !== undefined && keys.some((other) => isSame(key, other));
  return texts.flatMap((file) => {
    const documents = splitDocuments(file.text);
    if (!documents.some(isRemoved)) return [file];
    const left = documents.filter((document) => !isRemoved(document));
    return left.length === 0 ? [] : [{ file: file.file, text: left.map(({ text }) => text).join("---\n") }];
  });
}

/** Makes the files what `after` says, each whole by rename; when one fails those before it are put back. The names written. */
export function writeTexts(before: readonly ResourceText[], after: readonly ResourceText[]): readonly string[] {
  const old = new Map(before.map(({ file, text }) => [file, text]));
  const fresh = new Map(after.map(({ file, text }) => [file, text]));
  const files = [...new Set([...fresh.keys(), ...old.keys()])].filter((file) => fresh.get(file) !== old.get(file));
  const done: string[] = [];
  try {
    for (const file of files) {
      writeOrRemove(file, fresh.get(file));
      done.push(file);
    }
  } catch (cause) {
    for (const file of done) writeOrRemove(file, old.get(file));
    const path = files[done.length];
    throw new RiprapError("unavailable", `Cannot write ${path}: ${describeError(cause)}; nothing was changed`, {
      cause,
    });
  }
  return files;
}

function fileOf(rulesDir: string, { kind, name }: ResourceKey): string {
  const slug = kind.replace(/[A-Z]/g, (letter, at: number) => `${at === 0 ? "" : "_"}${letter.toLowerCase()}`);
  // Names and kinds are checked when the whole is parsed, before anything is written.
  return join(rulesDir, `${basename(slug)}-${basename(name)}.yaml`);
}

function splitDocuments(text: string): readonly Document[] {
  const { documents, faults } = parseYaml(text);
  // A text that is no good YAML stays whole: it is refused as it stands.
  if (faults.length > 0) return [{ key: undefined, text }];
  return documents.map(({ root, text: source }) => ({ key: keyOf(root), text: tidy(source) }));
}

function keyOf(root: YamlNode): ResourceKey | undefined {
  const kind = wordAt(root, "kind");
  const name = wordAt(valueAt(root, "metadata"), "name");
  return kind === undefined || name === undefined ? undefined : { kind, name };
}

function valueAt(node: YamlNode | undefined, key: string): YamlNode | undefined {
  return node?.type === "map" ? node.entries.find((entry) => entry.key === key)?.value : undefined;
}

function wordAt(node: YamlNode | undefined, key: string): string | undefined {
  const value = valueAt(node, key);
  return value?.type === "scalar" && typeof value.value === "string" ? value.value : undefined;
}

function tidy(text: string): string {
  const body = text.replace(/^\s*---[ \t]*\n/, "").replace(/\n(?:---|\.\.\.)\s*$/, "\n");
  return body.endsWith("\n") ? body : `${body}\n`;
}

function isSame(a: ResourceKey, b: ResourceKey): boolean {
  return a.kind === b.kind && a.name === b.name;
}

function writeOrRemove(path: string, text: string | undefined): void {
  if (text === undefined) {
    rmSync(path, { force: true });
    return;
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  // A leading dot: no reader of the directory takes the unfinished file for a rule.
  const temporary = join(dirname(path), `.${basename(path)}.new`);
  const fd = openSync(temporary, "w", 0o644);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
}
