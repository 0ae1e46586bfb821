// Writes the part of a NATS server's configuration that lets each node of a fleet do what it must, and nothing else. Pure.

import { hash } from "node:crypto";
import { RiprapError } from "../error.ts";
import { TrustDomain } from "../spiffe_id.ts";
import { type FleetSubjects, fleetSubjects } from "./subject.ts";

export interface NatsUser {
  readonly node: string;
  /** Public nkey of the node: `U…`. */
  readonly nkey: string;
  readonly isIssuer: boolean;
}

export interface NatsConfigInput {
  readonly trustDomain: string;
  readonly users: readonly NatsUser[];
  /** Nodes may keep statements in the server's JetStream. */
  readonly hasStore: boolean;
  /** Let whoever has no nkey try a token, and nothing more. */
  readonly hasEnrolment: boolean;
  /** Other trust domains whose bundle this account takes from theirs. */
  readonly imports?: readonly string[];
  /** The account alone, for a server whose configuration has an accounts block already. */
  readonly isAccountAlone?: boolean;
}

const NKEY = /^U[A-Z2-7]{55}$/;

/** Text for `include` into a server's own configuration. Throws RiprapError `nkey_invalid`, `trust_domain_invalid`. */
export function natsConfig(input: NatsConfigInput): string {
  const subjects = fleetSubjects(input.trustDomain);
  const users = [...input.users].sort((a, b) => (a.node < b.node ? -1 : 1));
  requireOwnNkeys(users);
  const { imports = [], isAccountAlone = false } = input;
  const hasOpenDoor = input.hasEnrolment && !isAccountAlone;
  const foreign = imports.map((name) => fleetSubjects(TrustDomain.parse(name).name).bundle);
  return [
    `# NATS users of the trust domain ${input.trustDomain}, by riprap fleet nats-config. Include it in the server's configuration.`,
    ...(hasOpenDoor
      ? ["# A reload does not take up no_auth_user: restart the server when it takes this in for the first time."]
      : []),
    "# A node that joins later is not in it: print it anew, and reload the server. Each node is held to the subjects that it",
    "# needs; what it says there is believed for its signature alone, so that this file keeps the fleet quiet and private",
    "# rather than safe.",
    ...(hasOpenDoor ? [`no_auth_user: ${enrolmentUser(input.trustDomain)}`] : []),
    ...(isAccountAlone ? [] : ["accounts {"]),
    `  ${accountName(input.trustDomain)} {`,
    ...(input.hasStore ? ["    jetstream: enabled"] : []),
    // Another trust domain's account may import this one stream.
    `    exports: [ { stream: "${subjects.bundle}" } ]`,
    ...imports.map((name, i) => {
      const open = i === 0 ? "    imports: [ " : "               ";
      const end = i === imports.length - 1 ? " ]" : "";
      return `${open}{ stream: { account: ${accountName(name)}, subject: "${foreign[i]}" } }${end}`;
    }),
    "    users: [",
    ...users.flatMap((user) => userLines(user, { subjects, foreign, hasStore: input.hasStore })),
    ...(input.hasEnrolment ? enrolmentLines(subjects, enrolmentUser(input.trustDomain)) : []),
    "    ]",
    "  }",
    ...(isAccountAlone ? [] : ["}"]),
    "",
  ].join("\n");
}

/** A server takes no configuration that has one user twice. */
function requireOwnNkeys(users: readonly NatsUser[]): void {
  const owners = new Map<string, string>();
  for (const { node, nkey } of users) {
    const other = owners.get(nkey);
    owners.set(nkey, node);
    if (other === undefined) continue;
    throw new RiprapError(
      "nkey_twice",
      `Cannot write the NATS configuration: ${other} and ${node} have one nkey, and no server takes a user twice; give one of them a seed file of its own (natsCredentials)`,
    );
  }
}

/** `RIPRAP_edge_example`: letters that need no quotes. Each trust domain has its own: what is more than dots and letters is told by a hash. */
function accountName(trustDomain: string): string {
  const name = `RIPRAP_${trustDomain.replaceAll(/[^a-z0-9]/g, "_")}`;
  return /^[a-z0-9.]*$/.test(trustDomain) ? name : `${name}_X${hash("sha256", trustDomain, "hex").slice(0, 12)}`;
}

function userLines(
  { node, nkey, isIssuer }: NatsUser,
  {
    subjects,
    foreign,
    hasStore,
  }: { readonly subjects: FleetSubjects; readonly foreign: readonly string[]; readonly hasStore: boolean },
): string[] {
  if (!NKEY.test(nkey)) {
    throw new RiprapError(
      "nkey_invalid",
      `Cannot write the NATS configuration: ${JSON.stringify(nkey.slice(0, 60))} of the node ${node} is no public nkey of a user`,
    );
  }
  const { store } = subjects;
  const publish = [
    subjects.gossip(node),
    subjects.ask("*"),
    ...(isIssuer ? [subjects.bundle] : []),
    ...(hasStore ? storeSubjects(store) : []),
  ];
  const subscribe = [
    subjects.allGossip,
    subjects.ask(node),
    `${subjects.inbox(node)}.>`,
    subjects.bundle,
    ...foreign,
    ...(isIssuer ? [subjects.allJoins] : []),
  ];
  return [
    "      {",
    `        # ${node}${isIssuer ? ", an issuing node" : ""}`,
    `        nkey: ${nkey}`,
    "        permissions: {",
    `          publish: { allow: [${quoted(publish)}] }`,
    `          subscribe: { allow: [${quoted(subscribe)}] }`,
    // One answer to each question that was put to it, within two minutes.
    '          allow_responses: { max: 1, expires: "2m" }',
    "        }",
    "      }",
  ];
}

/**
 * What JetStream's protocol asks for one bucket: look, make it where it is not there yet, read, write; not change, purge or delete it, and no other.
 * The server takes no stream of another name on this subject.
 */
function storeSubjects(store: string): string[] {
  const stream = `KV_${store}`;
  return [
    `$KV.${store}.>`,
    "$JS.API.INFO",
    `$JS.API.STREAM.INFO.${stream}`,
    `$JS.API.STREAM.CREATE.${stream}`,
    `$JS.API.CONSUMER.CREATE.${stream}.>`,
    `$JS.API.CONSUMER.CREATE.${stream}`,
    `$JS.API.CONSUMER.DELETE.${stream}.>`,
    `$JS.API.DIRECT.GET.${stream}.>`,
    `$JS.FC.${stream}.>`,
  ];
}

/** One name for each trust domain: a server has no two users of one name, in whatever accounts they are. */
function enrolmentUser(trustDomain: string): string {
  return `enrolment_${accountName(trustDomain)}`;
}

function enrolmentLines(subjects: FleetSubjects, user: string): string[] {
  return [
    "      {",
    "        # who has a token and no nkey yet",
    `        user: ${user}, password: enrolment`,
    "        permissions: {",
    `          publish: { allow: [${quoted([subjects.join("*")])}] }`,
    `          subscribe: { allow: [${quoted([`${subjects.joinInbox}.>`])}] }`,
    "        }",
    "      }",
  ];
}

function quoted(subjects: readonly string[]): string {
  return subjects.map((subject) => `"${subject}"`).join(", ");
}
