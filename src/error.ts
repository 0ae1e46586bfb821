// The one error class that riprap throws on purpose: a stable code, a sentence for a person, and the remedy.

/** A failure with a stable `code` (snake_case, never reworded) and a message that names the present fact and the remedy. */
export class RiprapError extends Error {
  override readonly name = "RiprapError";
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The sentence of anything that was thrown. */
export function describeError(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
