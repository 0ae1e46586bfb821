// The commands by which a further node joins without any network: request there, sign where the root is, install there.

import { systemClock } from "../../clock.ts";
import { asOwner, STATE_OPTION } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, type Option } from "../command.ts";
import { readText, writeNewFile } from "../file.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { configOf, stateDirOf } from "../setting.ts";
import type { Terminal } from "../terminal.ts";
import { nodeNameOfHost } from "./authority.ts";

const OUT: Option = {
  name: "out",
  short: "o",
  value: "FILE",
  sentence: "Write to a new FILE instead of standard output.",
};
const PLACE = [STATE_OPTION, JSON_OPTION, CONFIG_OPTION];
/** A grant with a chain and some roots is a few KiB. */
const DOCUMENT_BYTES_MAX = 262_144;
const YEAR_MS = 365 * 86_400_000;

const request: Command = {
  words: ["enrol", "request"],
  group: "Set up",
  sentence: "Make this machine's key, and ask to join a trust domain.",
  notes: ["Take the request to the node that holds the root (riprap enrol sign). The private key stays here."],
  arguments: [{ name: "DOMAIN", sentence: "The trust domain to join." }],
  options: [
    { name: "node", value: "NAME", sentence: "This node's name; the host's name when not given." },
    OUT,
    ...PLACE,
  ],
  example: "riprap enrol request edge.example --node gate-2 --out gate-2.request",
  async run(invocation, terminal) {
    const nodeName = invocation.option("node") ?? nodeNameOfHost();
    const trustDomain = invocation.argument("DOMAIN");
    const stateDir = stateDirOf(invocation);
    const custody = configOf(invocation).keyCustody;
    const [{ createEnrolmentRequest }, { encodeEnrolmentRequest }] = await rooms();
    const made = await asOwner(stateDir, () =>
      createEnrolmentRequest({ stateDir, trustDomain, nodeName, clock: systemClock, custody }),
    );
    const facts = { trustDomain, nodeName, expiresAt: new Date(made.expiresAt).toISOString() };
    deliver(encodeEnrolmentRequest(made), { invocation, terminal, facts });
    return 0;
  },
};

const sign: Command = {
  words: ["enrol", "sign"],
  group: "Set up",
  sentence: "Let a node join: sign its request, on the node that holds the root.",
  arguments: [{ name: "FILE", sentence: "The request, or - for standard input." }],
  options: [
    { name: "ttl", value: "DURATION", sentence: "How long the node may issue, 365d when not given." },
    {
      name: "prefix",
      value: "ID",
      sentence: "Only IDs below this one (it ends in /), or several with commas; all of the domain when not given.",
    },
    { name: "replace", sentence: "Sign although a node of this name has joined, and revoke that one." },
    OUT,
    ...PLACE,
  ],
  example: "riprap enrol sign gate-2.request --out gate-2.grant",
  async run(invocation, terminal) {
    const document = await readText(invocation.argument("FILE"), { terminal, bytesMax: DOCUMENT_BYTES_MAX });
    const idPrefixes = invocation.option("prefix")?.split(",");
    const stateDir = stateDirOf(invocation);
    const [{ signEnrolment }, { parseEnrolmentRequest, encodeEnrolmentGrant }] = await rooms();
    const options = {
      stateDir,
      request: parseEnrolmentRequest(document),
      lifetimeSeconds: Math.floor(invocation.duration("ttl", YEAR_MS) / 1_000),
      ...(idPrefixes === undefined ? {} : { idPrefixes }),
      replace: invocation.has("replace"),
      clock: systemClock,
    };
    const granted = await asOwner(stateDir, () => signEnrolment(options));
    const { trustDomain, nodeName, expiresAt } = granted;
    const facts = {
      trustDomain,
      nodeName,
      idPrefixes: granted.idPrefixes,
      expiresAt: new Date(expiresAt).toISOString(),
    };
    deliver(encodeEnrolmentGrant(granted), { invocation, terminal, facts });
    return 0;
  },
};

const install: Command = {
  words: ["enrol", "install"],
  group: "Set up",
  sentence: "Join: install the grant that answers this machine's request.",
  notes: [
    "Give the root's fingerprint as the first node's riprap init printed it, learned by another way than the file: without it the grant's own root is believed.",
  ],
  arguments: [{ name: "FILE", sentence: "The grant, or - for standard input." }],
  options: [{ name: "root-fingerprint", value: "SHA256", sentence: "Refuse a grant of any other root." }, ...PLACE],
  example: "riprap enrol install gate-2.grant --root-fingerprint 3b0c…",
  async run(invocation, terminal) {
    const document = await readText(invocation.argument("FILE"), { terminal, bytesMax: DOCUMENT_BYTES_MAX });
    const rootFingerprint = invocation.option("root-fingerprint");
    const stateDir = stateDirOf(invocation);
    const [{ installEnrolment }, { parseEnrolmentGrant }] = await rooms();
    const options = {
      stateDir,
      grant: parseEnrolmentGrant(document),
      clock: systemClock,
      ...(rootFingerprint === undefined ? {} : { rootFingerprint }),
    };
    const installed = await asOwner(stateDir, () => installEnrolment(options));
    show(installed, { invocation, terminal }, (answer) => [
      `node ${answer.nodeName} of ${answer.trustDomain}, until ${answer.expiresAt.toISOString()}`,
      `root fingerprint (SHA-256): ${answer.rootFingerprint}${answer.pinned ? ", as expected" : ""}`,
      ...(answer.pinned
        ? []
        : ["compare it with what riprap init printed on the first node: this one was believed as the file has it"]),
      "next: riprap run",
    ]);
    return 0;
  },
};

export const ENROL_COMMANDS: readonly Command[] = [request, sign, install];

/** Not imported at the top: every other command starts without their weight. */
function rooms() {
  return Promise.all([import("../../ca.ts"), import("../../federation/enrolment.ts")]);
}

/** The document (which is JSON itself) to standard output, or to --out and then the facts of it. */
function deliver(
  document: string,
  to: { invocation: Invocation; terminal: Terminal; facts: Readonly<Record<string, unknown>> },
): void {
  const { invocation, terminal, facts } = to;
  const path = invocation.option("out");
  if (path === undefined) {
    terminal.print(document.trimEnd());
    return;
  }
  writeNewFile(path, document);
  show({ file: path, ...facts }, { invocation, terminal }, () => [
    `wrote ${path}`,
    ...Object.entries(facts).map(([name, value]) => `  ${name}: ${value}`),
  ]);
}
