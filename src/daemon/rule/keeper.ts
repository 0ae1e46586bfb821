// Brings the rules directory into force: reads, parses, resolves names, swaps. Errors leave the last good generation where it is.

import { createHash } from "node:crypto";
import { RiprapError } from "../../error.ts";
import {
  listDnsNames,
  listResources,
  parseResources,
  type Resource,
  type ResourceSet,
  type ResourceText,
  readResourceTexts,
} from "../../resource.ts";
import type { TrustDomain } from "../../spiffe_id.ts";
import type { ApplyView } from "../control/port.ts";
import type { Log } from "../log.ts";
import type { NameKeeper } from "../name.ts";
import type { RuleBook } from "../rule_book.ts";
import type { DaemonState } from "../state.ts";
import { applyText, listKeys, type ResourceKey, removeKeys, writeTexts } from "./file.ts";

/** YAML text and the name it goes by in messages. */
export interface ResourceSource {
  readonly name: string;
  readonly text: string;
}

export interface RuleKeeperParts {
  readonly rulesDir: string;
  readonly trustDomain: TrustDomain;
  readonly book: RuleBook;
  readonly names: NameKeeper;
  readonly state: DaemonState;
  readonly log: Log;
  /** What the fleet says, a text for each resource: it takes the place of a file's resource of the same kind and name. */
  readonly fleetTexts?: () => readonly ResourceText[];
  /** A new set is in force. */
  readonly onSwap: () => void;
}

/** How long new rules wait for the addresses of new names; later ones come as a change. */
const NAME_PATIENCE_MS = 1000;

export class RuleKeeper {
  readonly #parts: RuleKeeperParts;
  /** Of the texts that were last tried, good or bad. */
  #digest = "";
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: RuleKeeperParts) {
    this.#parts = parts;
  }

  /** At start: the directory, or what was last good when the directory is broken. Never rejects. */
  async start(): Promise<void> {
    await this.reload();
    const { book, state, log, trustDomain } = this.#parts;
    if (book.resources !== undefined) return;
    const saved = state.savedRules();
    if (saved.length === 0) return;
    try {
      const fault = book.view.error;
      await this.#swap(parseResources(saved, { trustDomain }));
      if (fault !== undefined) book.refuse(new RiprapError("invalid", fault));
      log.warn("the rules of the last good generation are in force", { files: saved.length });
    } catch (thrown) {
      book.refuse(thrown);
    }
  }

  /** Reads the directory again; nothing happens when it says what it said before. Never rejects. */
  reload(): Promise<void> {
    return this.#inTurn(async () => {
      const { book, rulesDir, trustDomain } = this.#parts;
      try {
        const texts = this.#withFleet(readResourceTexts(rulesDir));
        const digest = digestOf(texts);
        if (digest === this.#digest) return;
        this.#digest = digest;
        await this.#swap(parseResources(texts, { trustDomain }), texts);
      } catch (thrown) {
        // What the book could not apply it has said itself.
        if (!(thrown instanceof RiprapError) || !APPLY_FAILURES.has(thrown.code)) book.refuse(thrown);
        // The files are good: they are tried again when the device is opened anew.
        else this.#digest = "";
      }
    });
  }

  /** Checks the whole set that would result, writes it, and puts it in force. Rejects when any of that fails. */
  apply(source: ResourceSource): Promise<ApplyView> {
    return this.#change((texts) => {
      const keys = listKeys(source.text);
      this.#refuseFleetKeys(keys);
      const asGiven = { file: source.name, text: source.text };
      // Checked as it was given first, so that errors name the lines of the person's own file.
      const others = removeKeys(texts, keys);
      parseResources(this.#withFleet([...others, asGiven]), { trustDomain: this.#parts.trustDomain });
      if (keys.length > 0) return applyText(texts, source.text, this.#parts.rulesDir);
      throw new RiprapError("invalid", `Cannot apply ${source.name}: it holds no resource`);
    });
  }

  /** What a text holds, when it is good together with all that is in force here; changes nothing. Throws ResourceError. */
  check(source: ResourceSource): readonly Resource[] {
    const { rulesDir, trustDomain } = this.#parts;
    const others = removeKeys(this.#withFleet(readResourceTexts(rulesDir)), listKeys(source.text));
    const set = parseResources([...others, { file: source.name, text: source.text }], { trustDomain });
    return listResources(set).filter((resource) => resource.source.file === source.name);
  }

  async remove(kind: string, name: string): Promise<ApplyView> {
    return this.#change((texts) => {
      this.#refuseFleetKeys([{ kind, name }]);
      const left = removeKeys(texts, [{ kind, name }]);
      const isThere = texts.some(({ text }) => listKeys(text).some((key) => key.kind === kind && key.name === name));
      if (isThere) return left;
      throw new RiprapError(
        "not_found",
        `Cannot remove ${kind}/${name}: there is no such resource; see \`riprap get\``,
      );
    });
  }

  #change(edit: (texts: readonly ResourceText[]) => readonly ResourceText[]): Promise<ApplyView> {
    return this.#inTurn(async () => {
      const { book, rulesDir, trustDomain } = this.#parts;
      const before = readResourceTexts(rulesDir);
      const after = edit(before);
      const whole = this.#withFleet(after);
      const resources = parseResources(whole, { trustDomain });
      const written = writeTexts(before, after);
      // The watcher will see these files: they are in force by then.
      this.#digest = digestOf(this.#withFleet(readResourceTexts(rulesDir)));
      try {
        await this.#swap(resources, whole);
      } catch (thrown) {
        writeTexts(after, before);
        this.#digest = digestOf(this.#withFleet(readResourceTexts(rulesDir)));
        throw thrown;
      }
      return { generation: book.view.applied, written, warnings: book.warnings };
    });
  }

  #withFleet(own: readonly ResourceText[]): readonly ResourceText[] {
    const fleet = this.#parts.fleetTexts?.() ?? [];
    if (fleet.length === 0) return own;
    return [
      ...removeKeys(
        own,
        fleet.flatMap(({ text }) => listKeys(text)),
      ),
      ...fleet,
    ];
  }

  #refuseFleetKeys(keys: readonly ResourceKey[]): void {
    const fleet = (this.#parts.fleetTexts?.() ?? []).flatMap(({ text }) => listKeys(text));
    const taken = keys.find((key) => fleet.some((other) => other.kind === key.kind && other.name === key.name));
    if (taken === undefined) return;
    const remedy = "change it there (riprap apply --fleet), or choose another name";
    throw new RiprapError(
      "conflict",
      `Cannot change ${taken.kind}/${taken.name} on this node: the fleet says what it is; ${remedy}`,
    );
  }

  async #swap(resources: ResourceSet, texts?: readonly ResourceText[]): Promise<void> {
    const { book, names, state, onSwap } = this.#parts;
    await names.watch(listDnsNames(resources), NAME_PATIENCE_MS);
    await book.swap(resources);
    if (texts !== undefined) state.saveRules(texts);
    onSwap();
  }

  // One change at a time: two that are checked against the same files could each be good and both be bad.
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

const APPLY_FAILURES: ReadonlySet<string> = new Set([
  "policy_too_large",
  "policy_too_complex",
  "device_lost",
  "device_refused",
  "too_many",
]);

function digestOf(texts: readonly ResourceText[]): string {
  const hash = createHash("sha256");
  for (const { file, text } of [...texts].sort((a, b) => (a.file < b.file ? -1 : 1))) {
    hash.update(`${file.length} ${file} ${text.length} ${text}`);
  }
  return hash.digest("hex");
}
