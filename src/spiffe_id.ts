// SPIFFE IDs and trust domains as values that cannot be wrong (SPIFFE-ID.md). Never lower-cases, trims or decodes: what is not exact is refused.
import { RiprapError } from "./error.ts";

/** SPIFFE-ID section 2.3. */
export const SPIFFE_ID_MAX_BYTES = 2048;
/** SPIFFE-ID section 2.3. */
export const TRUST_DOMAIN_MAX_BYTES = 255;

const SCHEME = "spiffe://";
const QUOTE_MAX = 80;

/** The name of a trust domain, such as `edge.example.org`: 1 to 255 characters of `a-z 0-9 . - _` (SPIFFE-ID section 2.1). */
export class TrustDomain {
  readonly #name: string;
  #id: SpiffeId | undefined;

  private constructor(name: string) {
    this.#name = name;
  }

  /** Throws RiprapError `trust_domain_invalid`. Takes the bare name, without `spiffe://`. */
  static parse(text: string): TrustDomain {
    const fault = trustDomainFault(text);
    if (fault !== undefined) {
      throw new RiprapError("trust_domain_invalid", `Cannot parse trust domain ${quote(text)}: ${fault}`);
    }
    return new TrustDomain(text);
  }

  static tryParse(text: string): TrustDomain | undefined {
    return trustDomainFault(text) === undefined ? new TrustDomain(text) : undefined;
  }

  get name(): string {
    return this.#name;
  }

  /** The trust domain's own SPIFFE ID, without a path: the ID of its signing authorities (SPIFFE-ID section 3.1). */
  get id(): SpiffeId {
    this.#id ??= SpiffeId.parse(SCHEME + this.#name);
    return this.#id;
  }

  equals(other: TrustDomain): boolean {
    return this.#name === other.#name;
  }

  toString(): string {
    return this.#name;
  }
}

/** A SPIFFE ID: `spiffe://` + trust domain + path, at most 2048 bytes. The path is empty for a trust domain's own ID. */
export class SpiffeId {
  readonly trustDomain: TrustDomain;
  readonly path: string;
  readonly #text: string;

  private constructor(text: string, trustDomain: TrustDomain) {
    this.trustDomain = trustDomain;
    this.path = text.slice(SCHEME.length + trustDomain.name.length);
    this.#text = text;
  }

  /** Throws RiprapError `spiffe_id_invalid`. */
  static parse(text: string): SpiffeId {
    const fault = spiffeIdFault(text);
    if (fault !== undefined)
      throw new RiprapError("spiffe_id_invalid", `Cannot parse SPIFFE ID ${quote(text)}: ${fault}`);
    return new SpiffeId(text, TrustDomain.parse(authorityOf(text)));
  }

  static tryParse(text: string): SpiffeId | undefined {
    return spiffeIdFault(text) === undefined ? new SpiffeId(text, TrustDomain.parse(authorityOf(text))) : undefined;
  }

  isMemberOf(trustDomain: TrustDomain): boolean {
    return this.trustDomain.equals(trustDomain);
  }

  equals(other: SpiffeId): boolean {
    return this.#text === other.#text;
  }

  toString(): string {
    return this.#text;
  }

  toJSON(): string {
    return this.#text;
  }
}

function authorityOf(text: string): string {
  const slash = text.indexOf("/", SCHEME.length);
  return slash < 0 ? text.slice(SCHEME.length) : text.slice(SCHEME.length, slash);
}

function trustDomainFault(name: string): string | undefined {
  if (name.length === 0) return "it is empty";
  if (name.length > TRUST_DOMAIN_MAX_BYTES) return `it is longer than ${TRUST_DOMAIN_MAX_BYTES} bytes`;
  if (/^[a-z0-9._-]+$/.test(name) && !name.endsWith("\n")) return undefined;
  if (/[A-Z]/.test(name)) return "trust domain has an upper-case letter";
  if (name.includes("%")) return "trust domain has percent-encoding";
  if (name.includes("@")) return "trust domain has user information";
  if (name.includes(":")) return "trust domain has a port or a scheme; give the bare name";
  return "trust domain has a character outside a-z, 0-9, '.', '-' and '_'";
}

function spiffeIdFault(text: string): string | undefined {
  if (text.length > SPIFFE_ID_MAX_BYTES) return `it is longer than ${SPIFFE_ID_MAX_BYTES} bytes`;
  if (!text.startsWith(SCHEME)) return "it does not begin with spiffe:// in lower case";
  const authority = authorityOf(text);
  const queryOrFragment = /[?#]/.exec(text);
  if (queryOrFragment !== null) return queryOrFragment[0] === "?" ? "it has a query" : "it has a fragment";
  if (authority.length === 0) return "trust domain is empty";
  return trustDomainFault(authority) ?? pathFault(text.slice(SCHEME.length + authority.length));
}

function pathFault(path: string): string | undefined {
  if (path === "") return undefined;
  if (path.endsWith("/")) return "path ends in '/'";
  for (const segment of path.slice(1).split("/")) {
    if (segment === "") return "path has an empty segment";
    if (segment === "." || segment === "..") return `path has the relative segment "${segment}"`;
    if (segment.includes("%")) return "path has percent-encoding";
    if (/[^a-zA-Z0-9._-]/.test(segment)) return "path has a character outside a-z, A-Z, 0-9, '.', '-' and '_'";
  }
  return undefined;
}

/** Quoted for a message: control characters escaped, cut at a bound, so that hostile text stays one short line. */
function quote(text: string): string {
  return JSON.stringify(text.length > QUOTE_MAX ? `${text.slice(0, QUOTE_MAX)}…` : text);
}
