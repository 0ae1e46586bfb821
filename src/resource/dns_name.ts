// DNS names as certificates and resolvers take them (RFC 1123 section 2.1), in lower case.
import type { Field } from "./field.ts";
import { quote } from "./field.ts";

const NAME = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;

/** The name in lower case without a dot at its end, or undefined: no wildcards, no numbers in its last label alone. */
export function parseDnsName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  return NAME.test(name) && !/(^|\.)(\d+|0x[0-9a-f]*)$/.test(name) ? name : undefined;
}

export function checkDnsName(field: Field): string | undefined {
  const text = field.string();
  if (text === undefined) return undefined;
  const name = parseDnsName(text);
  if (name !== undefined) return name;
  const message = `${quote(text)} is not a DNS name`;
  return field.error({ code: "field_invalid", message, remedy: "write it like db.example.org, without a wildcard" });
}
