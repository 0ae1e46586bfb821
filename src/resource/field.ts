// Reads typed fields out of a YAML tree: each reader gives the value, or undefined after it has noted the problem.
import type { Source } from "../resource.ts";
import type { TrustDomain } from "../spiffe_id.ts";
import type { YamlMap, YamlNode } from "../yaml.ts";
import type { ProblemList } from "./problem.ts";

/** What every check of one file needs. */
export interface CheckContext {
  readonly file: string;
  readonly problems: ProblemList;
  readonly trustDomain: TrustDomain;
}

export interface Complaint {
  readonly code: string;
  readonly message: string;
  readonly remedy: string;
}

/** A node with its dotted path. */
export class Field {
  readonly node: YamlNode;
  readonly path: string;
  readonly #context: CheckContext;

  constructor(node: YamlNode, path: string, context: CheckContext) {
    this.node = node;
    this.path = path;
    this.#context = context;
  }

  get source(): Source {
    return { file: this.#context.file, line: this.node.at.line, column: this.node.at.column };
  }

  get trustDomain(): TrustDomain {
    return this.#context.trustDomain;
  }

  error(complaint: Complaint): undefined {
    this.#context.problems.error({ ...this.source, field: this.path, ...complaint });
    return undefined;
  }

  warn(complaint: Complaint): void {
    this.#context.problems.warn({ ...this.source, field: this.path, ...complaint });
  }

  /** The entries of a map, of which only `known` names may be there (`undefined`: any). */
  map(known?: readonly string[]): FieldMap | undefined {
    if (this.node.type !== "map") return this.#wrong("a map");
    const map = new FieldMap(this, this.node, this.#context);
    if (known !== undefined) map.refuseUnknown(known);
    return map;
  }

  list(): Field[] | undefined {
    if (this.node.type !== "list") return this.#wrong("a list");
    return this.node.items.map((item, i) => new Field(item, `${this.path}[${i}]`, this.#context));
  }

  /** A list that may be written as its only element. */
  listOrOne(): Field[] {
    return (this.node.type === "list" ? this.list() : undefined) ?? [this];
  }

  /** A string that is not empty. */
  string(): string | undefined {
    if (this.node.type !== "scalar" || typeof this.node.value !== "string") return this.#wrong("a string");
    if (this.node.value === "")
      return this.error({ code: "field_empty", message: "it is empty", remedy: "give it a value" });
    return this.node.value;
  }

  /** A string, number or boolean as it was written. */
  text(): string | undefined {
    if (this.node.type !== "scalar" || this.node.value === null) return this.#wrong("a string, number or boolean");
    if (this.node.text === "")
      return this.error({ code: "field_empty", message: "it is empty", remedy: "give it a value" });
    return this.node.text;
  }

  boolean(): boolean | undefined {
    if (this.node.type !== "scalar" || typeof this.node.value !== "boolean") return this.#wrong("true or false");
    return this.node.value;
  }

  oneOf<const T extends string>(choices: readonly T[]): T | undefined {
    const text = this.string();
    if (text === undefined) return undefined;
    const found = choices.find((choice) => choice === text);
    if (found !== undefined) return found;
    const message = `${quote(text)} is none of ${choices.join(", ")}`;
    return this.error({
      code: "field_invalid",
      message,
      remedy: suggest(text, choices) ?? `write one of ${choices.join(", ")}`,
    });
  }

  #wrong(wanted: string): undefined {
    const message = `it is ${describe(this.node)} where ${wanted} belongs`;
    return this.error({ code: "field_type", message, remedy: `write ${wanted}` });
  }
}

/** The entries of one map, by name. */
export class FieldMap {
  readonly field: Field;
  readonly entries: readonly { readonly key: string; readonly value: Field }[];
  readonly #context: CheckContext;
  readonly #node: YamlMap;

  constructor(field: Field, node: YamlMap, context: CheckContext) {
    this.field = field;
    this.#node = node;
    this.#context = context;
    const prefix = field.path === "" ? "" : `${field.path}.`;
    this.entries = node.entries.map((entry) => ({
      key: entry.key,
      value: new Field(entry.value, prefix + entry.key, context),
    }));
  }

  /** Undefined when it is not there or null. */
  optional(name: string): Field | undefined {
    const found = this.entries.find((entry) => entry.key === name)?.value;
    if (found?.node.type === "scalar" && found.node.value === null) {
      return found.error({ code: "field_empty", message: "it has no value", remedy: "give it one, or remove it" });
    }
    return found;
  }

  required(name: string): Field | undefined {
    if (this.entries.some((entry) => entry.key === name)) return this.optional(name);
    return this.field.error({ code: "field_missing", message: `${quote(name)} is missing`, remedy: `add ${name}:` });
  }

  has(name: string): boolean {
    return this.entries.some((entry) => entry.key === name);
  }

  refuseUnknown(known: readonly string[]): void {
    for (const entry of this.#node.entries) {
      if (known.includes(entry.key)) continue;
      const path = this.field.path === "" ? entry.key : `${this.field.path}.${entry.key}`;
      const message = `unknown field ${quote(entry.key)}`;
      const remedy = suggest(entry.key, known) ?? `known here: ${known.join(", ")}`;
      this.#context.problems.error({
        file: this.#context.file,
        ...entry.at,
        code: "field_unknown",
        field: path,
        message,
        remedy,
      });
    }
  }
}

/** A map of texts. */
export function readTexts(field: Field | undefined): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const { key, value } of field?.map()?.entries ?? []) {
    const text = value.text();
    if (text !== undefined) texts.set(key, text);
  }
  return texts;
}

/** Quoted and cut, for messages. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

/** "did you mean …" for a name that is two letters away at most. */
export function suggest(name: string, known: readonly string[]): string | undefined {
  if (name.length > 40) return undefined;
  const near = known.map((candidate) => ({
    candidate,
    distance: editDistance(name.toLowerCase(), candidate.toLowerCase()),
  }));
  const best = near.sort((a, b) => a.distance - b.distance)[0];
  return best !== undefined && best.distance <= Math.min(2, name.length / 2)
    ? `did you mean ${best.candidate}?`
    : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function describe(node: YamlNode): string {
  if (node.type !== "scalar") return `a ${node.type}`;
  if (node.value === null) return "nothing";
  return typeof node.value === "string" ? `the string ${quote(node.value)}` : `the ${typeof node.value} ${node.text}`;
}
