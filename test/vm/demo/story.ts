// Tells the demo as it happens: steps, what was seen in each, and the closing line. Knows nothing of VMs.
import { describeError } from "../../../src/error.ts";

export class Story {
  readonly #begun = performance.now();
  #passed = 0;
  #failed = 0;

  get failed(): number {
    return this.#failed;
  }

  /** Runs a step; what it throws is a failed check, and the demo goes on with the next. */
  async step(title: string, tell: () => Promise<void>): Promise<void> {
    this.#print(`\n${this.#clock()}  ${title}`);
    try {
      await tell();
    } catch (error) {
      this.check("the step went to its end", false, describeError(error));
    }
  }

  /** A fact that the step rests on, with what was seen. */
  check(sentence: string, holds: boolean, seen = ""): void {
    if (holds) this.#passed++;
    else this.#failed++;
    const [first = "", ...rest] = seen.trim().split("\n");
    this.#print(`  ${holds ? "ok  " : "FAIL"} ${sentence}${first ? `: ${first}` : ""}`);
    for (const line of rest) this.#print(`         ${line}`);
  }

  /** What was seen and proves nothing by itself. */
  note(text: string): void {
    for (const line of text.trimEnd().split("\n")) this.#print(`       ${line}`);
  }

  close(): void {
    this.#print(`\n${this.#clock()}  end`);
    this.#print(`demo: ${this.#passed} checks passed, ${this.#failed} failed`);
  }

  #clock(): string {
    const seconds = Math.floor((performance.now() - this.#begun) / 1000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }

  #print(line: string): void {
    process.stdout.write(`${line}\n`);
  }
}
