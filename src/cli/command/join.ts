// The commands by which nodes join over NATS: tokens, join, and a person's word about those who wait.

import { systemClock } from "../../clock.ts";
import type { PendingNode } from "../../daemon/fleet/admitter.ts";
import type { NewTokenView, TokenView } from "../../daemon/fleet/port.ts";
import { RiprapError } from "../../error.ts";
import { readPrivateFile } from "../../private_file.ts";
import { asOwner, STATE_OPTION } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, SOCKET_OPTION } from "../command.ts";
import { readText } from "../file.ts";
import { layOut } from "../grid.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { clientOf, configOf, stateDirOf } from "../setting.ts";
import { nodeNameOfHost } from "./authority.ts";

const HOUR_MS = 3_600_000;
const TOKEN_BYTES_MAX = 16_384;
const CREDENTIAL_BYTES_MAX = 2048;
const DAEMON_OPTIONS = [JSON_OPTION, SOCKET_OPTION, CONFIG_OPTION];

const create: Command = {
  words: ["token", "create"],
  group: "Fleet",
  sentence: "Make a token with which one node joins, once.",
  notes: [
    "The token is a secret: who has it joins as what it says, within its life. It is printed once and kept nowhere. Give it to riprap join on the machine that is to join.",
    "It has the CA of the broker's certificates (natsCa), where this node has one. Broker credentials in it are readable to who has the token: give those of a user that may do nothing but join, as docs/fleet.md says.",
  ],
  arguments: [],
  options: [
    { name: "ttl", value: "DURATION", sentence: "How long it can be used, 1h when not given, 168h at most." },
    { name: "node", value: "NAME", sentence: "Only for a node of this name; any name when not given." },
    { name: "group", value: "NAME", sentence: "The group that the node is in, default when not given." },
    {
      name: "ids",
      value: "ID",
      sentence: "Only IDs below this one (it ends in /), or several with commas; all of the domain when not given.",
    },
    { name: "approve", sentence: "A person has to approve the node as well (riprap node approve)." },
    { name: "replace", sentence: "It may take the place of the node that has its name now." },
    {
      name: "server",
      value: "URL",
      sentence:
        "The broker that the node connects to, nats://HOST:PORT or tls://HOST:PORT, or several with commas; this node's own when not given.",
    },
    {
      name: "broker-credentials",
      value: "FILE",
      sentence: "A NATS credentials file or nkey seed with which the node joins, where the broker demands one.",
    },
    ...DAEMON_OPTIONS,
  ],
  example: "riprap token create --ttl 10m --node gate-2",
  async run(invocation, terminal) {
    const ids = invocation.option("ids");
    const nodeName = invocation.option("node");
    const credentialsFile = invocation.option("broker-credentials");
    const client = clientOf(invocation);
    const { trustDomain } = await client.get<{ trustDomain: string }>("/v1/fleet/status");
    const request = {
      ...(nodeName === undefined ? {} : { nodeName }),
      group: invocation.option("group") ?? "default",
      idPrefixes: ids?.split(",") ?? [`spiffe://${trustDomain}/`],
      needsApproval: invocation.has("approve"),
      mayReplace: invocation.has("replace"),
      lifetimeMs: invocation.duration("ttl", HOUR_MS),
      servers: invocation.option("server")?.split(",") ?? [],
      ...(credentialsFile === undefined ? {} : { brokerCredentials: readCredentials(credentialsFile) }),
    };
    const body = JSON.stringify(request);
    const made = await client.post<NewTokenView>("/v1/fleet/tokens", { body });
    // The token alone, so that it can be piped; what is to know about it goes beside.
    if (invocation.has("json")) terminal.print(JSON.stringify(made, undefined, 2));
    else {
      terminal.print(made.token);
      terminal.warn(`token ${made.id}, until ${made.expiresAt}; on the other machine: riprap join TOKEN`);
    }
    if (made.lacksBrokerCa) {
      const remedy = "copy it to the other machine and set natsServers and natsCa there";
      terminal.warn(`the token does not hold the CA of the broker, which is too large for it: ${remedy}`);
    }
    return 0;
  },
};

const list: Command = {
  words: ["token", "list"],
  group: "Fleet",
  sentence: "List the tokens that this node has made, and who came with them.",
  arguments: [],
  options: DAEMON_OPTIONS,
  example: "riprap token list",
  async run(invocation, terminal) {
    const tokens = await clientOf(invocation).get<readonly TokenView[]>("/v1/fleet/tokens");
    show(tokens, { invocation, terminal }, (views) =>
      views.length === 0
        ? ["No token yet: make one with riprap token create."]
        : layOut(
            [{ title: "TOKEN" }, { title: "STATE" }, { title: "NODE" }, { title: "GROUP" }, { title: "UNTIL" }],
            views.map((view) => [view.id, view.state, view.node ?? "(any)", view.group, view.expiresAt]),
          ),
    );
    return 0;
  },
};

const revoke: Command = {
  words: ["token", "revoke"],
  group: "Fleet",
  sentence: "Make a token worthless.",
  arguments: [{ name: "TOKEN", sentence: "The token's ID, as riprap token list shows it; never the token itself." }],
  options: DAEMON_OPTIONS,
  example: "riprap token revoke 3f1c0a52b7d94e6f8a1b2c3d4e5f6071",
  async run(invocation, terminal) {
    const id = invocation.argument("TOKEN");
    const query = { target: `token:${id}`, reason: "revoked by a person" };
    const answer = await clientOf(invocation).post<{ statement: string }>("/v1/fleet/revoke", { query });
    show(answer, { invocation, terminal }, ({ statement }) => [`token ${id} revoked, statement ${statement}`]);
    return 0;
  },
};

const join: Command = {
  words: ["join"],
  group: "Fleet",
  sentence: "Join a trust domain with a token, over NATS.",
  notes: [
    "Believes only what the root signed whose fingerprint is in the token. Nothing is copied by hand; the private key never leaves this machine.",
  ],
  arguments: [
    {
      name: "TOKEN",
      sentence: "The token of riprap token create, or - for standard input, which other users cannot see.",
    },
  ],
  options: [
    { name: "node", value: "NAME", sentence: "This node's name; the host's name when not given." },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap join - --node gate-2 < token",
  async run(invocation, terminal) {
    const given = invocation.argument("TOKEN");
    const token = given === "-" ? await readText("-", { terminal, bytesMax: TOKEN_BYTES_MAX }) : given;
    const stateDir = stateDirOf(invocation);
    const { joinFleet } = await import("../../daemon/fleet/joiner.ts");
    const joined = await asOwner(stateDir, () =>
      joinFleet({
        config: { ...configOf(invocation), stateDir },
        token,
        nodeName: invocation.option("node") ?? nodeNameOfHost(),
        clock: systemClock,
        random: Math.random,
        signal: terminal.signal,
        onProgress: (sentence) => terminal.warn(`riprap: ${sentence}`),
      }),
    );
    show(joined, { invocation, terminal }, (answer) => [
      `node ${answer.nodeName} of ${answer.trustDomain}, until ${answer.expiresAt}, in ${answer.milliseconds} ms`,
      `root fingerprint (SHA-256): ${answer.rootFingerprint}, as the token says`,
      `broker: ${answer.servers.join(", ")}`,
      "next: riprap run",
    ]);
    return 0;
  },
};

const pending: Command = {
  words: ["node", "pending"],
  group: "Fleet",
  sentence: "List the nodes that wait for a person's word.",
  notes: ["Compare the fingerprint with the one that riprap join printed on the machine in front of you."],
  arguments: [],
  options: DAEMON_OPTIONS,
  example: "riprap node pending",
  async run(invocation, terminal) {
    const waiting = await clientOf(invocation).get<readonly PendingNode[]>("/v1/fleet/pending");
    show(waiting, { invocation, terminal }, (nodes) =>
      nodes.length === 0
        ? ["No node waits."]
        : layOut(
            [{ title: "NODE" }, { title: "FINGERPRINT" }, { title: "SINCE" }, { title: "TOKEN" }],
            nodes.map((node) => [node.nodeName, node.fingerprint, new Date(node.since).toISOString(), node.token]),
          ),
    );
    return 0;
  },
};

/** Refused when other users can read it: what is in it is a secret before it is in the token. */
function readCredentials(path: string): string {
  const bytes = readPrivateFile(path, CREDENTIAL_BYTES_MAX);
  try {
    return Buffer.from(bytes).toString("utf8");
  } finally {
    bytes.fill(0);
  }
}

export const JOIN_COMMANDS: readonly Command[] = [
  create,
  list,
  revoke,
  join,
  pending,
  decision("approve", "Let a node in that waits."),
  decision("deny", "Refuse a node that waits; its token is spent."),
];

function decision(verb: "approve" | "deny", sentence: string): Command {
  return {
    words: ["node", verb],
    group: "Fleet",
    sentence,
    arguments: [{ name: "NODE", sentence: "The node's name, as riprap node pending shows it." }],
    options: DAEMON_OPTIONS,
    example: `riprap node ${verb} gate-2`,
    async run(invocation: Invocation, terminal) {
      const node = invocation.argument("NODE");
      if (node === "") throw new RiprapError("invalid", "Cannot decide: the node has no name");
      const query = { node, approve: verb === "approve" ? "1" : "0" };
      const answer = await clientOf(invocation).post<{ decision: string }>("/v1/fleet/decide", { query });
      show(answer, { invocation, terminal }, () => [`node ${node} ${answer.decision}`]);
      return 0;
    },
  };
}
