// Name constraints (RFC 5280 section 4.2.1.10) for the two name forms that SVIDs carry: URI hosts and DNS names. Pure.
import type { Certificate, NameConstraints } from "./certificate.ts";

/** Why the names of `subject` are not allowed below a CA with these constraints, or undefined when they are. */
export function nameConstraintFault(
  constraints: NameConstraints,
  subject: Pick<Certificate, "uris" | "dnsNames">,
): string | undefined {
  if (constraints.unsupported) return "a CA above it constrains a form of name that riprap does not process";
  for (const uri of subject.uris) {
    const host = hostOf(uri);
    if (host === undefined) return "its URI has no host name to hold against the name constraints";
    if (constraints.excludedUris.some((base) => hostMatches(base, host)))
      return `its URI host ${host} is excluded by a CA above it`;
    const { permittedUris } = constraints;
    if (permittedUris.length > 0 && !permittedUris.some((base) => hostMatches(base, host))) {
      return `its URI host ${host} is not among those permitted to a CA above it (${permittedUris.join(", ")})`;
    }
  }
  for (const name of subject.dnsNames) {
    if (constraints.excludedDns.some((base) => domainMatches(base, name)))
      return `its DNS name ${name} is excluded by a CA above it`;
    const { permittedDns } = constraints;
    if (permittedDns.length > 0 && !permittedDns.some((base) => domainMatches(base, name))) {
      return `its DNS name ${name} is not among those permitted to a CA above it`;
    }
  }
  return undefined;
}

/**
 * Why a trust domain cannot be a URI name constraint, or undefined when it can: RFC 5280 wants a fully qualified domain name,
 * and validators refuse a host that reads as an IP address or has an empty label.
 */
export function constraintFault(host: string): string | undefined {
  if (/^[0-9.]+$/.test(host)) return "it reads as an IP address";
  if (host.split(".").includes("")) return "it begins or ends with a dot or has two in a row";
  return undefined;
}

/** The host of a URI with an authority; undefined without one, or when it is an IP literal or holds anything but a plain name. */
function hostOf(uri: string): string | undefined {
  const host = /^[a-z][a-z0-9+.-]*:\/\/([A-Za-z0-9._-]+)(?:\/|$)/i.exec(uri)?.[1]?.toLowerCase();
  return host === undefined || /^[0-9.]+$/.test(host) ? undefined : host;
}

/** "host" is that host alone; ".host" is every name below it, and not itself. */
function hostMatches(base: string, host: string): boolean {
  const wanted = base.toLowerCase();
  return wanted.startsWith(".")
    ? wanted.length > 1 && host.length > wanted.length && host.endsWith(wanted)
    : host === wanted;
}

/** "name" is that name and every name below it. */
function domainMatches(base: string, name: string): boolean {
  const wanted = base.toLowerCase().replace(/^\./, "");
  const actual = name.toLowerCase();
  return wanted === "" || actual === wanted || actual.endsWith(`.${wanted}`);
}
