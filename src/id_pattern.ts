// Patterns of SPIFFE IDs: one ID, or all below a prefix. Never lists what they match.

/** One SPIFFE ID, or every ID that begins with `text` (which then ends in "/") and goes on. */
export interface IdPattern {
  readonly text: string;
  readonly match: "exact" | "prefix";
}

/** `spiffe://td/`, `spiffe://td/a/`, … of an ID; the ID goes on after each. */
export function prefixesOf(id: string): string[] {
  const prefixes: string[] = [];
  for (let at = id.indexOf("/", "spiffe://".length); at >= 0 && at < id.length - 1; at = id.indexOf("/", at + 1)) {
    prefixes.push(id.slice(0, at + 1));
  }
  return prefixes;
}

export function matchesId(pattern: IdPattern, id: string): boolean {
  if (pattern.match === "exact") return pattern.text === id;
  return id.length > pattern.text.length && id.startsWith(pattern.text);
}
