// Collects what is wrong with a set of resources, up to a bound that a person can still read.
import type { ResourceProblem } from "../resource.ts";

const PROBLEMS_MAX = 200;

export class ProblemList {
  readonly #errors: ResourceProblem[] = [];
  readonly #warnings: ResourceProblem[] = [];

  error(problem: ResourceProblem): void {
    if (this.#errors.length < PROBLEMS_MAX) this.#errors.push(problem);
  }

  warn(problem: ResourceProblem): void {
    if (this.#warnings.length < PROBLEMS_MAX) this.#warnings.push(problem);
  }

  get errors(): readonly ResourceProblem[] {
    return this.#errors;
  }

  get warnings(): readonly ResourceProblem[] {
    return this.#warnings;
  }
}
