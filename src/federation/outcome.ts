// What a state answers to a statement: taken, with all that it changed, or not, and why.

import type { RightRefusalCode } from "./right.ts";
import type { Statement } from "./statement.ts";

export type StatementRefusalCode =
  | RightRefusalCode
  | "wrong_trust_domain"
  | "forged"
  | "expired"
  | "revision_ahead"
  | "state_full"
  | "author_full";

/** `stale`: one that stands under this key is later; `held` is it. */
export type ApplyOutcome =
  | { readonly outcome: "accepted"; readonly changes: readonly Change[] }
  | { readonly outcome: "duplicate" }
  | { readonly outcome: "stale"; readonly held: Statement; readonly conflict: Conflict | undefined }
  | { readonly outcome: "refused"; readonly code: StatementRefusalCode; readonly message: string };

export type Change =
  /** `replaced` stood there before; `conflict` when both were said without knowing of one another. */
  | {
      readonly type: "put";
      readonly statement: Statement;
      readonly replaced: Statement | undefined;
      readonly conflict: Conflict | undefined;
    }
  /** It stands no more, because what gave its author the right is gone, or because it has ended. */
  | { readonly type: "removed"; readonly statement: Statement; readonly reason: string }
  /** A revocation of one serial number that a set of its author says now. */
  | { readonly type: "covered"; readonly statement: Statement };

/** Two of one revision under one key: `winner` stands everywhere. */
export interface Conflict {
  readonly winner: Statement;
  readonly loser: Statement;
}
