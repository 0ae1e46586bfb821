// YAML text to a bounded tree of maps, lists and scalars that know where they stand. The one importer of `yaml`.
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseAllDocuments } from "yaml";
import { describeError } from "./error.ts";

/** Deeper than any resource needs; also what stops an alias that contains itself. */
export const YAML_DEPTH_MAX = 24;
/** Nodes of one file after aliases are followed: what a file of the largest size can hold without them. */
export const YAML_NODES_MAX = 1_000_000;
/** More than any rule file repeats itself; each alias is copied out in full. */
export const YAML_ALIASES_MAX = 1000;

/** Both from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface YamlMap {
  readonly type: "map";
  readonly at: Position;
  readonly entries: readonly YamlEntry[];
}

export interface YamlEntry {
  readonly key: string;
  readonly at: Position;
  readonly value: YamlNode;
}

export interface YamlList {
  readonly type: "list";
  readonly at: Position;
  readonly items: readonly YamlNode[];
}

export interface YamlScalar {
  readonly type: "scalar";
  readonly at: Position;
  readonly value: string | number | boolean | null;
  /** As written, without quotes: keeps `007` and `1.10` what they are. */
  readonly text: string;
}

export type YamlNode = YamlMap | YamlList | YamlScalar;

export interface YamlDocument {
  readonly root: YamlNode;
  readonly text: string;
}

export interface YamlFault {
  readonly at: Position;
  readonly message: string;
  readonly remedy: string;
}

/** Every document of the text that is not empty. `faults` is empty when all of it was good; a bad document is left out. */
export function parseYaml(text: string): { documents: YamlDocument[]; faults: YamlFault[] } {
  const lines = new LineCounter();
  const faults: YamlFault[] = [];
  const documents: YamlDocument[] = [];
  let parsed: ReturnType<typeof parseAllDocuments>;
  try {
    // uniqueKeys is quadratic there; the converter checks with a set.
    const options = { lineCounter: lines, prettyErrors: false, uniqueKeys: false, logLevel: "silent" } as const;
    parsed = parseAllDocuments(text, options);
  } catch (error) {
    // The parser recurses: brackets nested by the thousand end its stack.
    return { documents, faults: [{ at: { line: 1, column: 1 }, message: parserFact(error), remedy: NESTING_REMEDY }] };
  }
  if ("empty" in parsed)
    faults.push(...parsed.errors.map((e) => fault(place(lines, e.pos[0]), e.message, "correct the YAML")));
  const converter = new Converter(lines);
  for (const document of parsed) {
    const wrong = [...document.errors, ...document.warnings].slice(0, 10);
    faults.push(...wrong.map((e) => fault(place(lines, e.pos[0]), e.message, "correct the YAML")));
    if (document.directives?.yaml.explicit === true) {
      faults.push(
        fault(place(lines, document.range?.[0] ?? 0), "a %YAML directive changes what words mean", "remove it"),
      );
    } else if (wrong.length === 0 && document.contents !== null) {
      const root = converter.tryConvert(document.contents, faults);
      const source = text.slice(document.range?.[0] ?? 0, document.range?.[1]);
      if (root !== undefined && !isNull(root)) documents.push({ root, text: source });
    }
  }
  return { documents, faults };
}

/** The plain value of a tree, numbers and booleans included. */
export function toPlain(node: YamlNode): unknown {
  if (node.type === "scalar") return node.value;
  if (node.type === "list") return node.items.map(toPlain);
  return Object.fromEntries(node.entries.map((entry) => [entry.key, toPlain(entry.value)]));
}

const NESTING_REMEDY = "nest less";

function parserFact(error: unknown): string {
  return error instanceof RangeError ? "it is nested too deeply" : describeError(error);
}

function isNull(node: YamlNode): boolean {
  return node.type === "scalar" && node.value === null;
}

function place(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

function fault(at: Position, message: string, remedy: string): YamlFault {
  return { at, message, remedy };
}

class Refusal extends Error {
  readonly fault: YamlFault;
  constructor(refused: YamlFault) {
    super(refused.message);
    this.fault = refused;
  }
}

/** Copies the parser's tree into ours under the bounds; one for each file, so that documents share the bounds. */
class Converter {
  readonly #lines: LineCounter;
  #anchors = new Map<string, unknown>();
  #nodes = 0;
  #aliases = 0;

  constructor(lines: LineCounter) {
    this.#lines = lines;
  }

  tryConvert(root: unknown, faults: YamlFault[]): YamlNode | undefined {
    this.#anchors = new Map();
    try {
      return this.#convert(root, 0, place(this.#lines, 0), faults);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      faults.push(error.fault);
      return undefined;
    }
  }

  #convert(node: unknown, depth: number, parent: Position, faults: YamlFault[]): YamlNode {
    const at = this.#at(node, parent);
    if (depth > YAML_DEPTH_MAX)
      throw new Refusal(fault(at, `it nests deeper than ${YAML_DEPTH_MAX} levels`, NESTING_REMEDY));
    if (++this.#nodes > YAML_NODES_MAX) {
      throw new Refusal(fault(at, `it has more than ${YAML_NODES_MAX} nodes`, "split the file, and use fewer aliases"));
    }
    if (isAlias(node)) return this.#follow(node.source, at, depth, faults);
    this.#note(node, at);
    if (isScalar(node)) return this.#scalar(node, at);
    if (isSeq(node)) {
      return { type: "list", at, items: node.items.map((item) => this.#convert(item, depth + 1, at, faults)) };
    }
    if (isMap(node)) return { type: "map", at, entries: this.#entries(node.items, depth, at, faults) };
    return { type: "scalar", at, value: null, text: "" };
  }

  #entries(
    pairs: readonly { key: unknown; value: unknown }[],
    depth: number,
    at: Position,
    faults: YamlFault[],
  ): YamlEntry[] {
    const seen = new Map<string, Position>();
    return pairs.map((pair) => {
      const keyAt = this.#at(pair.key, at);
      if (!isScalar(pair.key) || pair.key.value === null) {
        throw new Refusal(fault(keyAt, "a key is not a plain word", "write it as a string"));
      }
      const key = typeof pair.key.value === "string" ? pair.key.value : (pair.key.source ?? String(pair.key.value));
      const first = seen.get(key);
      if (first !== undefined) {
        const message = `key ${JSON.stringify(key)} is there twice, first on line ${first.line}`;
        faults.push(fault(keyAt, message, "keep one of them; several values go in a list"));
      }
      seen.set(key, keyAt);
      return { key, at: keyAt, value: this.#convert(pair.value, depth + 1, keyAt, faults) };
    });
  }

  #scalar(node: { value: unknown; source?: string }, at: Position): YamlScalar {
    const { value } = node;
    if (value !== null && typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") {
      throw new Refusal(fault(at, `a value is a ${typeof value}`, "write a string, number or boolean"));
    }
    return { type: "scalar", at, value, text: typeof value === "string" ? value : (node.source ?? String(value)) };
  }

  #note(node: unknown, at: Position): void {
    if (typeof node !== "object" || node === null) return;
    const { anchor, tag } = node as { anchor?: string; tag?: string };
    if (tag !== undefined) throw new Refusal(fault(at, `tag ${JSON.stringify(tag)} is not allowed`, "remove the tag"));
    if (anchor !== undefined) this.#anchors.set(anchor, node);
  }

  #follow(name: string, at: Position, depth: number, faults: YamlFault[]): YamlNode {
    const target = this.#anchors.get(name);
    if (target === undefined) throw new Refusal(fault(at, `alias *${name} has no anchor before it`, "define it first"));
    if (++this.#aliases > YAML_ALIASES_MAX) {
      throw new Refusal(fault(at, `it has more than ${YAML_ALIASES_MAX} aliases, followed`, "write the values out"));
    }
    return this.#convert(target, depth + 1, at, faults);
  }

  #at(node: unknown, fallback: Position): Position {
    const range = (node as { range?: readonly number[] | null } | null)?.range;
    return range?.[0] === undefined ? fallback : place(this.#lines, range[0]);
  }
}
