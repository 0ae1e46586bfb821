// Labels: what is known of a process, as a flat set of names with one or several values each.

/** Label name (`process:uid`, `systemd:unit`, …) to its values; a name that is absent is unknown, never empty. */
export type LabelSet = ReadonlyMap<string, readonly string[]>;
