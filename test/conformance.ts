// The rows of the SPIFFE standards, in our words, and the page that is made of them: docs/CONFORMANCE.md.

import { readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..");

/** Of a row that no test names; its note says why. */
type Standing = "not done" | "not ours";
type Row = readonly [section: string, says: string, note?: string, standing?: Standing];

interface Standard {
  readonly title: string;
  readonly rows: Readonly<Record<string, Row>>;
}

const NO_BROKER = "there is no Broker API";

/** How many rows each part of the standards has, numbered from 1: none of them may be missing below. */
export const ROWS_OF: Readonly<Record<string, number>> = {
  ID: 19,
  X: 18,
  J: 13,
  W: 21,
  B: 15,
  F: 24,
  E: 14,
  A: 25,
  BE: 7,
  BA: 12,
};

/** Revision 665a28f (2026-07-01) of the SPIFFE standards. */
export const STANDARDS: readonly Standard[] = [
  {
    title: "SPIFFE-ID",
    rows: {
      "ID-1": ["2", "the scheme is spiffe"],
      "ID-2": ["2, 2.1", "the trust domain is not empty"],
      "ID-3": ["2", "no query, no fragment"],
      "ID-4": ["2.1", "no user, no port"],
      "ID-5": ["2.1", "the trust domain is in lower case"],
      "ID-6": ["2.1", "the trust domain is made of a-z, 0-9, dot, dash and underscore"],
      "ID-7": ["2.1", "no percent-encoding in the trust domain"],
      "ID-8": ["2.1", "a trust domain that looks like an address or a name is one like any other"],
      "ID-9": ["2.2", "no percent-encoding in the path"],
      "ID-10": ["2.2", "no empty segment, no . and no .."],
      "ID-11": ["2.2", "no slash at the end"],
      "ID-12": ["2.2", "segments are made of letters, digits, dot, dash and underscore"],
      "ID-13": ["2.3", "2048 bytes are taken, and no more are made"],
      "ID-14": ["2.3", "a trust domain has at most 255 bytes"],
      "ID-15": ["2.4", "the path keeps its case", "capitals in scheme and trust domain are refused, as go-spiffe does"],
      "ID-16": ["3.1", "a trust domain has a signing authority, with an SVID of its own"],
      "ID-17": ["3.1", "the signing authority's own ID has no path"],
      "ID-18": ["3.2", "the SPIFFE ID and the public key are in what is signed"],
      "ID-19": ["3.3", "what is not defined as an SVID is none"],
    },
  },
  {
    title: "X509-SVID",
    rows: {
      "X-1": ["2", "exactly one URI name"],
      "X-2": ["2", "other names may be there"],
      "X-3": ["3.1", "a leaf's SPIFFE ID has a path"],
      "X-4": ["3.1", "the names are critical when the subject is empty"],
      "X-5": ["3.2", "a signing certificate is an SVID without a path"],
      "X-6": ["3.2", "a signing certificate may sign further ones", "of its own trust domain alone"],
      "X-7": ["3.2", "a signing certificate authenticates nobody"],
      "X-8": ["4.1", "cA is true on signing certificates and false on leaves"],
      "X-9": ["4.2", "URI name constraints are obeyed"],
      "X-10": ["4.3", "key usage is there and critical"],
      "X-11": ["4.3", "a signing certificate has keyCertSign"],
      "X-12": ["4.3", "a leaf has digitalSignature, and neither keyCertSign nor cRLSign"],
      "X-13": ["App. A", "digitalSignature is of leaves alone"],
      "X-14": ["4.4", "extended key usage, where it is, holds client and server"],
      "X-15": ["5.1", "path validation as RFC 5280 has it"],
      "X-16": ["5.2", "a leaf is checked to be one"],
      "X-17": ["6.1", "a bundle holds each CA certificate in a JWK of its own, with use and without kid"],
      "X-18": ["6.2", "elements without a certificate are passed over; the first of x5c counts"],
    },
  },
  {
    title: "JWT-SVID",
    rows: {
      "J-1": ["1, 5.1", "compact serialization alone"],
      "J-2": ["2", "no header besides alg, kid and typ"],
      "J-3": ["2.1", "one of nine algorithms, RSA or ECDSA"],
      "J-4": [
        "2.2",
        "kid may be missing",
        "it is always written, and a token without one is tried with each fitting key",
      ],
      "J-5": ["2.3", "typ is JWT or JOSE, or missing"],
      "J-6": ["3.1", "sub is the workload's SPIFFE ID"],
      "J-7": ["3.2", "aud is there, and holds whoever validates"],
      "J-8": ["3.3", "exp is there and not past", "ten seconds of leeway; more than a day away is refused"],
      "J-9": ["4", "the algorithm is checked before anything is done with it; nbf is honoured"],
      "J-10": [
        "5.2, 5.3",
        "a token is carried as a bearer token of HTTP or gRPC",
        "whoever uses the token carries it: riprap sends none",
        "not ours",
      ],
      "J-11": ["6.1", "a bundle's JWT keys have use and kid"],
      "J-12": ["6.2", "keys are chosen by use; a domain without one has no JWT-SVIDs"],
      "J-13": ["7.1", "jti is allowed", "always written"],
    },
  },
  {
    title: "WIT-SVID (incubating, behind the setting witSvid)",
    rows: {
      "W-1": ["2.1", "kid is there, and compared letter by letter"],
      "W-2": ["2.2", "typ is wit+jwt"],
      "W-3": ["2.3", "one of nine algorithms, RSA or ECDSA"],
      "W-4": ["2.4", "headers that are not known are passed over, unless crit names them", "none is written"],
      "W-5": ["3.1", "sub is the workload's SPIFFE ID"],
      "W-6": ["3.2", "cnf is there, its key with one of the nine algorithms"],
      "W-7": ["3.3", "jti is no defence against replay", "the proof's own jti is"],
      "W-8": ["3.4", "exp is there and not past"],
      "W-9": ["3.5", "nbf is honoured; a life has a bound", "a day"],
      "W-10": ["3.6", "iat is no earliest time"],
      "W-11": [
        "3.7",
        "iss is fit for OIDC discovery",
        "where the setting oidcIssuer names a URL; else the trust domain's ID",
      ],
      "W-12": ["3.8", "no aud"],
      "W-13": ["3.8", "claims that are not known are passed over"],
      "W-14": ["4", "the issuer sets alg, typ, kid, sub, exp, cnf and cnf.jwk.alg"],
      "W-15": ["4, 7.1", "nothing is accepted without proof of possession"],
      "W-16": ["5", "it is never a bearer token", "there is no way to validate one without its proof"],
      "W-17": ["5", "proofs are of a WIMSE protocol", "Workload Proof Tokens, draft-ietf-wimse-wpt-01"],
      "W-18": ["6.1", "a bundle's WIT keys have use and a kid that no other key has"],
      "W-19": ["6.2", "keys are chosen by use"],
      "W-20": ["7.2", "the life of a proof has a bound", "five minutes, and it is taken once"],
      "W-21": [
        "7.3",
        "token and proof travel over a secure channel",
        "whoever uses the token carries it: riprap gives it over a local socket and sends none",
        "not ours",
      ],
    },
  },
  {
    title: "SPIFFE Trust Domain and Bundle",
    rows: {
      "B-1": ["3", "an SVID is judged by the bundle of its own trust domain"],
      "B-2": ["4.1", "members that are not known may be there"],
      "B-3": ["4.1.1", "the sequence number has 64 bits and changes with the contents"],
      "B-4": ["4.1.2", "the refresh hint is in whole seconds"],
      "B-5": ["4.1.3", "keys is there, and may be empty"],
      "B-6": ["4.1.3", "elements that are not known are passed over, and the rest kept"],
      "B-7": ["4.1.3", "an empty bundle makes every SVID of its domain invalid"],
      "B-8": ["4.2", "no parameter is written that is not defined"],
      "B-9": ["4.2.1", "kty is there; an unknown one is passed over"],
      "B-10": ["4.2.2", "use is there; an element without a known one is passed over"],
      "B-11": ["5.1.1", "a bundle map has its trust domains, each once"],
      "B-12": ["5.1.1, 6.3", "a bundle map with a doubled trust domain is refused"],
      "B-13": ["5.1.1", "there are no refresh hints within a bundle map"],
      "B-14": ["6.1", "a bundle without a refresh hint is asked for every five minutes"],
      "B-15": [
        "App. B.1",
        "a bundle map is loaded as a whole",
        "all of it or nothing; bundles of trust domains that it does not name stay, as they have other sources",
      ],
    },
  },
  {
    title: "SPIFFE Federation",
    rows: {
      "F-1": [
        "4.1",
        "a key is in the bundle before it signs, by several refresh hints",
        "15 minutes by default, three hints of our own bundle; earlier by force, or where a key ended while the node slept",
      ],
      "F-2": [
        "4.1",
        "a key leaves the bundle after the last that it signed",
        "token keys by themselves, a root when a person says so",
      ],
      "F-3": ["4.1", "a bundle is asked for again by its refresh hint", "within 30 s and a day"],
      "F-4": ["4.2", "the latest bundle is kept, in the order of sequence numbers; a person may override"],
      "F-5": ["4.2", "bundles of different trust domains are never joined"],
      "F-6": ["5", "both profiles, as client and as server"],
      "F-7": ["5", "TLS as Mozilla's intermediate configuration has it"],
      "F-8": ["5.1", "URL, profile and trust domain are configured, each for itself"],
      "F-9": ["5.1", "the name of the trust domain goes with its bundle to the workloads"],
      "F-10": ["5.2.1.1, 5.2.2.1", "an https URL without a user"],
      "F-11": ["5.2.1.2", "https_web takes no more than its URL"],
      "F-12": ["5.2.1.3", "the certificate of an https_web server has an alternative name"],
      "F-13": ["5.2.1.3, 5.2.2.3", "a client is not asked who it is"],
      "F-14": ["5.2.1.3, 5.2.2.3", "GET answers with the latest bundle, in JSON and UTF-8"],
      "F-15": ["5.2.1.3, 5.2.2.3", "a redirect leads to an endpoint URL, and to the same SPIFFE ID"],
      "F-16": ["5.2.1.4", "an https_web server is known by its name and the roots of the system"],
      "F-17": ["5.2.1.4, 5.2.2.4", "redirects are followed with the same checks, and never remembered"],
      "F-18": ["5.2.2.2", "https_spiffe is configured with the server's SPIFFE ID and a first bundle"],
      "F-19": ["5.2.2.2", "a server of another trust domain needs that domain to be configured"],
      "F-20": ["5.2.2.3", "an https_spiffe server shows a valid X509-SVID"],
      "F-21": ["5.2.2.4", "it is the configured ID, under the latest bundle of its trust domain"],
      "F-22": ["6.2", "failures are not answered with haste"],
      "F-23": ["6.3", "a trust domain that is trusted no longer loses its bundle, everywhere"],
      "F-24": ["7.6", "each request for a bundle is in the log, with the server that answered"],
    },
  },
  {
    title: "SPIFFE Workload Endpoint",
    rows: {
      "E-1": ["2", "the endpoint is local, for one host", "a Unix socket and loopback"],
      "E-2": [
        "3",
        "gRPC on a Unix socket; over TCP only where the source is known for certain",
        "loopback, by the kernel's table",
      ],
      "E-3": ["3", "every request carries the security header, once, or is refused"],
      "E-4": ["3.1", "no TLS is asked for"],
      "E-5": ["4", "a client falls back to SPIFFE_ENDPOINT_SOCKET", "`riprap svid watch`"],
      "E-6": ["4", "unix: with an absolute path alone; tcp: with an address and a port alone", "`riprap svid watch`"],
      "E-7": ["5", "the workload takes no part in its own authentication"],
      "E-8": ["5", "callers are checked out of band"],
      "E-9": ["6", "a missing header is InvalidArgument"],
      "E-10": ["6", "shedding of load is Unavailable"],
      "E-11": ["6", "no identity is PermissionDenied"],
      "E-12": ["App. A", "an unknown call is Unimplemented"],
      "E-13": ["7", "nothing is added to the service: what is new is a service of its own"],
      "E-14": ["7", "gRPC server reflection", "v1 and v1alpha"],
    },
  },
  {
    title: "SPIFFE Workload API",
    rows: {
      "A-1": ["1", "the X.509 and the JWT profile are there"],
      "A-2": ["1", "the WIT-SVID profile may be missing"],
      "A-3": ["1, 2", "nothing is added to the API"],
      "A-4": ["4.2", "a client keeps its stream, and connects again", "`riprap svid watch`"],
      "A-5": ["4.3", "each message of a stream is the whole state"],
      "A-6": ["4.3", "the first answer comes as soon as it can"],
      "A-7": ["4.3", "updates may be spread in time", "renewals are; a change goes to all at once"],
      "A-8": ["4.4", "what a message does not have is gone for the client", "`riprap svid watch`"],
      "A-9": ["4.5", "a mandatory field that is missing is InvalidArgument"],
      "A-10": ["4.6", "a peer is judged by the bundle of its own trust domain; without one it is untrusted"],
      "A-11": ["5.2, 6.2.2", "bundles of one kind are not used for another"],
      "A-12": ["5.2.1", "one SVID at least, with all its fields"],
      "A-13": ["5.2.1", "no two SVIDs of an answer have one hint", "there is one SVID, without a hint"],
      "A-14": ["5.2, 6.2", "whoever is not entitled gets PermissionDenied"],
      "A-15": ["5.2.1", "an identity that is taken away ends the stream"],
      "A-16": ["5.2.2", "the bundle of the own trust domain is there"],
      "A-17": ["6.2.1", "audiences are mandatory and all in the token; without an ID every identity answers"],
      "A-18": ["6.2.2", "JWT bundles hold JWT keys alone"],
      "A-19": ["6.2.3", "a token is validated by the JWT-SVID standard, and its claims come back"],
      "A-20": ["6.3", "it is validated with the bundle of its subject's trust domain, or not at all"],
      "A-21": ["7", "both calls of the WIT profile are Unimplemented where it is missing"],
      "A-22": ["7.2.1", "a WIT-SVID comes with all its fields; without an ID every identity answers"],
      "A-23": ["7.2.2", "WIT bundles have the own trust domain, and a kid on each key"],
      "A-24": ["8", "no hint has more than 1024 bytes", "no hint is written"],
      "A-25": ["8", "the first SVID is the default identity", "there is one"],
    },
  },
  {
    title: "SPIFFE Broker Endpoint and API (incubating)",
    rows: {
      "BE-1": ["2", "the endpoint is for its designated clients alone", NO_BROKER, "not done"],
      "BE-2": ["3", "gRPC, and a security header of its own", NO_BROKER, "not done"],
      "BE-3": ["3.1, 5", "both sides show X509-SVIDs, on a Unix socket too", NO_BROKER, "not done"],
      "BE-4": ["4", "a client falls back to SPIFFE_BROKER_SOCKET", NO_BROKER, "not done"],
      "BE-5": ["5", "clients are listed by their SPIFFE IDs", NO_BROKER, "not done"],
      "BE-6": ["6", "statuses of refusals", NO_BROKER, "not done"],
      "BE-7": ["7", "the service is not extended; reflection", NO_BROKER, "not done"],
      "BA-1": ["1", "the X.509 and the JWT profile are there", NO_BROKER, "not done"],
      "BA-2": ["2", "no calls besides those of the standard; references of one's own may be", NO_BROKER, "not done"],
      "BA-3": ["3.1", "a reference is of one workload, on this node", NO_BROKER, "not done"],
      "BA-4": ["3.1.1", "a reference is resolved and checked by the server", NO_BROKER, "not done"],
      "BA-5": ["3.1.3", "a PID is above 0, and the workload's own", NO_BROKER, "not done"],
      "BA-6": ["3.1.4", "an unknown kind of reference is InvalidArgument", NO_BROKER, "not done"],
      "BA-7": ["4.1", "policy allows, and what it does not is denied", NO_BROKER, "not done"],
      "BA-8": ["4.2", "what is of one workload touches no other", NO_BROKER, "not done"],
      "BA-9": ["4.4", "each message is the whole state; the first comes at once", NO_BROKER, "not done"],
      "BA-10": ["4.8", "statuses of a wrong, an ended and a forbidden reference", NO_BROKER, "not done"],
      "BA-11": ["4.9", "nothing more comes once the process has ended", NO_BROKER, "not done"],
      "BA-12": ["5.2, 6.2", "fields as in the Workload API", NO_BROKER, "not done"],
    },
  },
];

const ROW = new RegExp(`\\b(?:${Object.keys(ROWS_OF).join("|")})-\\d+\\b`, "g");
const WITHOUT_COMMENTS = new Bun.Transpiler({ loader: "ts" });

/** Row → the test files that name it in their titles, below test/; what a comment says is no test. */
export function testsOfRows(): ReadonlyMap<string, readonly string[]> {
  const tests = new Map<string, string[]>();
  for (const file of [...new Bun.Glob("test/**/*.test.ts").scanSync(ROOT)].sort()) {
    const code = WITHOUT_COMMENTS.transformSync(readFileSync(join(ROOT, file), "utf8"));
    for (const row of new Set(code.match(ROW) ?? []))
      tests.set(row, [...(tests.get(row) ?? []), file.replace("test/", "")]);
  }
  return tests;
}

/** docs/CONFORMANCE.md */
export function conformancePage(): string {
  const tests = testsOfRows();
  const section = ({ title, rows }: Standard) => [
    "",
    `## ${title}`,
    "",
    "| row | section | what it asks | tests | note |",
    "|---|---|---|---|---|",
    ...Object.entries(rows).map(([row, [place, says, note = "", standing]]) => {
      const files = (tests.get(row) ?? []).map((file) => `\`${file}\``).join(", ");
      return `| ${row} | ${place} | ${says} | ${standing ?? files} | ${note} |`;
    }),
  ];
  return [
    "# Conformance",
    "",
    "riprap implements SPIFFE at revision 665a28f of its standards (2026-07-01): X509-SVID and JWT-SVID, their bundles, the",
    "Workload API, and federation over HTTPS. WIT-SVID, which is incubating there, is implemented at the same revision behind the",
    "setting `witSvid`, its proofs by draft-ietf-wimse-wpt-01. The Broker API is not there.",
    "",
    "Every requirement of the standards has its row, and is held by the tests that name it in their titles. What no test holds is",
    "not claimed: it says *not done*, or *not ours* where it asks something of others, and why. Made by `bun run generate` from",
    "`test/conformance.ts` and the tests themselves.",
    ...STANDARDS.flatMap(section),
    "",
  ].join("\n");
}
