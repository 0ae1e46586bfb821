// The commands of other trust domains' bundles and of the endpoints of this node. They ask the daemon.

import { MAP_BYTES_MAX } from "../../bundle_map.ts";
import {
  BUNDLE_FORMATS,
  type BundleView,
  type DomainView,
  type LoadView,
  type SetView,
} from "../../daemon/control/bundle.ts";
import type { EndpointView } from "../../daemon/control/port.ts";
import { BUNDLE_BYTES_MAX } from "../../trust_bundle.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION, SOCKET_OPTION } from "../command.ts";
import { readText } from "../file.ts";
import { layOut } from "../grid.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { clientOf } from "../setting.ts";
import type { Terminal } from "../terminal.ts";

const DAEMON_OPTIONS = [SOCKET_OPTION, CONFIG_OPTION];
const KEY_CHARS_MAX = 100;
const DOMAIN_ARGUMENT = { name: "TRUST-DOMAIN", sentence: "The bare name of the trust domain." };

const list: Command = {
  words: ["bundle", "list"],
  group: "See",
  sentence: "List the trust domains that are known here, and what is held of each.",
  arguments: [],
  options: [JSON_OPTION, ...DAEMON_OPTIONS],
  example: "riprap bundle list",
  async run(invocation, terminal) {
    const views = await clientOf(invocation).get<readonly DomainView[]>("/v1/bundles");
    show(views, { invocation, terminal }, describeDomains);
    return 0;
  },
};

const get: Command = {
  words: ["bundle", "get"],
  group: "See",
  sentence: "Show the trust bundle that the daemon holds of a trust domain.",
  notes: [
    "With --format spiffe it is the document as it came, with jwks its JWT keys alone, with pem its roots alone.",
  ],
  arguments: [DOMAIN_ARGUMENT],
  options: [
    {
      name: "format",
      value: "FORMAT",
      choices: ["table", ...BUNDLE_FORMATS],
      sentence: "In which form; a table when not given.",
    },
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap bundle get partner.example --format pem",
  async run(invocation, terminal) {
    const route = routeOf(invocation.argument("TRUST-DOMAIN"));
    const format = invocation.option("format") ?? "table";
    const client = clientOf(invocation);
    if (format !== "table") {
      terminal.print((await client.text(route, { query: { format } })).trimEnd());
      return 0;
    }
    show(await client.get<BundleView>(route), { invocation, terminal }, describeBundle);
    return 0;
  },
};

const map: Command = {
  words: ["bundle", "map"],
  group: "See",
  sentence: "Print all trust bundles that the daemon holds as one SPIFFE bundle map.",
  notes: [
    "What programs take that judge peers of several trust domains: gRPC has it as spiffe_trust_bundle_map_file. Bundles change: write it anew as often as you would ask a bundle endpoint, and under another name before it takes the place of the old file.",
  ],
  arguments: [],
  options: [...DAEMON_OPTIONS],
  example: "riprap bundle map",
  async run(invocation, terminal) {
    terminal.print((await clientOf(invocation).text("/v1/bundle_map")).trimEnd());
    return 0;
  },
};

const set: Command = {
  words: ["bundle", "set"],
  group: "Rules",
  sentence: "Hold a trust bundle of another trust domain that a TrustDomain resource names.",
  notes: [
    "Compare the fingerprint that is printed with what `riprap bundle show` says on the other side: whoever gives you the file could give you another. The bundle stays until its endpoint has a newer one, or the resource is removed.",
  ],
  arguments: [
    DOMAIN_ARGUMENT,
    { name: "FILE", sentence: "A bundle document in SPIFFE's JSON form, or - for standard input." },
  ],
  options: [
    { name: "force", sentence: "Take it though it is older than what is held, or not the pinned one." },
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap bundle set partner.example partner.json",
  async run(invocation, terminal) {
    const route = routeOf(invocation.argument("TRUST-DOMAIN"));
    const view = await offer<SetView>(route, { invocation, terminal, bytesMax: BUNDLE_BYTES_MAX });
    show(view, { invocation, terminal }, ({ outcome, bundle }) => [
      outcome === "taken" ? "The bundle is held from now on." : "The bundle is held already.",
      ...describeBundle(bundle),
    ]);
    return 0;
  },
};

const load: Command = {
  words: ["bundle", "load"],
  group: "Rules",
  sentence: "Hold the trust bundles of a SPIFFE bundle map, all of them or none.",
  notes: [
    "What `riprap bundle map` prints on another node, or any other implementation makes. Trust domains that no TrustDomain resource names are passed over, as is this node's own, and the bundles of those that the map does not name stay.",
    "Whoever gives you the file speaks for every trust domain in it: compare the fingerprints that are printed, as after `riprap bundle set`.",
  ],
  arguments: [{ name: "FILE", sentence: "A bundle map in SPIFFE's JSON form, or - for standard input." }],
  options: [
    { name: "force", sentence: "Take bundles too that are older than what is held, or not the pinned ones." },
    JSON_OPTION,
    ...DAEMON_OPTIONS,
  ],
  example: "riprap bundle load partners.json",
  async run(invocation, terminal) {
    const place = { invocation, terminal, bytesMax: MAP_BYTES_MAX };
    const views = await offer<readonly LoadView[]>("/v1/bundle_map", place);
    show(views, { invocation, terminal }, describeLoaded);
    return 0;
  },
};

const endpoint: Command = {
  words: ["bundle", "endpoint"],
  group: "See",
  sentence: "Show where this node serves its trust bundle, OIDC discovery and its health.",
  notes: ["What is open is said by bundleListen, webListen, oidcIssuer and healthListen of the configuration."],
  arguments: [],
  options: [JSON_OPTION, ...DAEMON_OPTIONS],
  example: "riprap bundle endpoint",
  async run(invocation, terminal) {
    const views = await clientOf(invocation).get<readonly EndpointView[]>("/v1/endpoints");
    show(views, { invocation, terminal }, describeEndpoints);
    return 0;
  },
};

const pin: Command = {
  words: ["bundle", "pin"],
  group: "Rules",
  sentence: "Pin the first bundle of another trust domain that comes over NATS.",
  notes: [
    "Compare it with a person there: `riprap bundle show` prints the fingerprint of the bundle (sha256:…), `riprap authority list --json` that of the root (64 digits), which stays the same when token keys are replaced. It counts at the first contact; later bundles rest on those before them.",
  ],
  arguments: [DOMAIN_ARGUMENT, { name: "FINGERPRINT", sentence: "Of the bundle, or of the root above its author." }],
  options: [JSON_OPTION, ...DAEMON_OPTIONS],
  example: "riprap bundle pin partner.example sha256:$FINGERPRINT",
  async run(invocation, terminal) {
    const query = { fingerprint: invocation.argument("FINGERPRINT") };
    const route = `${routeOf(invocation.argument("TRUST-DOMAIN"))}/pin`;
    const view = await clientOf(invocation).post<{ trustDomain: string; pin: string }>(route, { query });
    show(view, { invocation, terminal }, ({ trustDomain, pin: pinned }) => [
      `The first bundle of ${trustDomain} over the broker must have ${pinned}.`,
    ]);
    return 0;
  },
};

export const BUNDLE_COMMANDS: readonly Command[] = [list, get, map, set, load, pin, endpoint];

interface OfferParts {
  readonly invocation: Invocation;
  readonly terminal: Terminal;
  readonly bytesMax: number;
}

/** Posts FILE, with --force as it was given. */
async function offer<View>(route: string, { invocation, terminal, bytesMax }: OfferParts): Promise<View> {
  const body = await readText(invocation.argument("FILE"), { terminal, bytesMax });
  const query = { force: invocation.has("force") ? "1" : undefined };
  return await clientOf(invocation).post<View>(route, { query, body });
}

function routeOf(trustDomain: string): string {
  return `/v1/bundles/${encodeURIComponent(trustDomain)}`;
}

function describeDomains(views: readonly DomainView[]): readonly string[] {
  const rows = views.map(({ trustDomain, bundle, endpoint: from }) => [
    trustDomain,
    bundle === undefined ? "nothing: its peers are refused" : bundle.source,
    bundle === undefined ? "" : (bundle.sequence ?? "none"),
    bundle === undefined
      ? ""
      : `${bundle.x509} X.509, ${bundle.jwt} JWT${bundle.wit === 0 ? "" : `, ${bundle.wit} WIT`}`,
    from === undefined ? "" : `${from.profile} ${from.url}`,
  ]);
  const titles = ["TRUST DOMAIN", "HELD BY", "SEQUENCE", "KEYS", "ENDPOINT"].map((title) => ({ title }));
  const remarks = views.flatMap(({ trustDomain, endpoint: from, fault }) => [
    ...(fault === undefined ? [] : [`${trustDomain}: ${fault}`]),
    ...(from?.error === undefined ? [] : [`${trustDomain}: ${from.error} (${from.failures} in a row)`]),
  ]);
  return [...layOut(titles, rows), ...remarks];
}

const OUTCOMES: Readonly<Record<LoadView["outcome"], string>> = {
  taken: "is held from now on",
  unchanged: "is held already",
  own: "passed over: it is this node's own",
  no_rule: "passed over: no TrustDomain names it",
};

function describeLoaded(views: readonly LoadView[]): readonly string[] {
  if (views.length === 0) return ["The map has no trust domain: nothing has changed."];
  const rows = views.map(({ trustDomain, outcome, bundle }) => [
    trustDomain,
    OUTCOMES[outcome],
    bundle === undefined ? "" : (bundle.sequence ?? "none"),
  ]);
  const passedOver = views.flatMap(({ trustDomain, bundle }) =>
    (bundle?.ignored ?? []).map((sentence) => `${trustDomain}: passed over: ${sentence}`),
  );
  return [
    ...layOut([{ title: "TRUST DOMAIN" }, { title: "ITS BUNDLE" }, { title: "SEQUENCE" }], rows),
    ...views.flatMap(({ trustDomain, bundle }) =>
      bundle === undefined ? [] : [`${trustDomain}: fingerprint ${bundle.fingerprint}`],
    ),
    ...passedOver,
  ];
}

function describeBundle(view: BundleView): readonly string[] {
  const { trustDomain, source, fingerprint, sequence, refreshHintSeconds, takenAt, keys, ignored } = view;
  const hint = refreshHintSeconds === undefined ? "" : `, to be looked at again every ${refreshHintSeconds} s`;
  return [
    `trust domain ${trustDomain}, ${sequence === undefined ? "without a sequence number" : `sequence ${sequence}`}${hint}`,
    `fingerprint ${fingerprint}`,
    takenAt === undefined ? `source: ${source}` : `source: ${source}, taken ${takenAt}`,
    ...layOut(
      [{ title: "USE" }, { title: "KEY" }, { title: "UNTIL" }],
      keys.map(({ use, key, notAfter }) => [use, showKey(key), notAfter ?? ""]),
    ),
    ...ignored.map((sentence) => `passed over: ${sentence}`),
  ];
}

/** A `kid` is what the other side made of it: no control character of it reaches the terminal, and no page of it. */
function showKey(key: string): string {
  const shown = key.slice(0, KEY_CHARS_MAX).replaceAll(/[^\x20-\x7e]/g, "?");
  return key.length > KEY_CHARS_MAX ? `${shown}...` : shown;
}

function describeEndpoints(views: readonly EndpointView[]): readonly string[] {
  if (views.length === 0) return ["No endpoint is configured: set bundleListen, webListen or healthListen."];
  const rows = views.map(({ name, profile, address, state, notAfter, paths }) => [
    name,
    profile,
    address,
    state,
    notAfter ?? "",
    paths.join(" "),
  ]);
  const titles = ["ENDPOINT", "PROFILE", "ADDRESS", "STATE", "CERTIFICATE UNTIL", "PATHS"].map((title) => ({ title }));
  return [
    ...layOut(titles, rows),
    ...views.flatMap(({ name, spiffeId }) => (spiffeId === undefined ? [] : [`${name}: ${spiffeId}`])),
    ...views.flatMap(({ name, reason }) => (reason === undefined ? [] : [`${name}: ${reason}`])),
  ];
}
