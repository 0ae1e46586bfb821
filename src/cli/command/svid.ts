// The commands of the node's JWT authority and of its trust bundle. They work on the state directory, not through the daemon.

import { fingerprintBundle } from "../../bundle_fingerprint.ts";
import type { JwtAuthority, NodeAuthority } from "../../ca.ts";
import { systemClock } from "../../clock.ts";
import { RiprapError } from "../../error.ts";
import type { Store } from "../../store.ts";
import type { TrustBundle } from "../../trust_bundle.ts";
import { asOwner, STATE_OPTION, withAuthority } from "../authority.ts";
import { CONFIG_OPTION, type Command, JSON_OPTION } from "../command.ts";
import { readText } from "../file.ts";
import { layOut } from "../grid.ts";
import type { Invocation } from "../invocation.ts";
import { show } from "../output.ts";
import { configOf, stateDirOf } from "../setting.ts";
import { svidList } from "./svid_list.ts";
import { svidWatch } from "./svid_watch.ts";

const FIVE_MINUTES_MS = 300_000;
const TOKEN_BYTES_MAX = 16_384;

const jwt: Command = {
  words: ["svid", "jwt"],
  group: "Set up",
  sentence: "Issue a JWT-SVID to a peer outside riprap.",
  notes: [
    "Whoever holds the token is the peer until it ends: give it a short life and one audience. Programs of this machine get theirs from the Workload API. Journaled as every SVID is.",
  ],
  arguments: [],
  options: [
    { name: "spiffe-id", value: "ID", required: true, sentence: "The SPIFFE ID, of this node's trust domain." },
    { name: "audience", value: "NAME", required: true, sentence: "Who may accept it, or several with commas." },
    { name: "ttl", value: "DURATION", sentence: "How long it is valid, 5m when not given, 1h at most." },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap svid jwt --spiffe-id spiffe://edge.example/printer --audience spool.example",
  async run(invocation, terminal) {
    const spiffeId = invocation.required("spiffe-id");
    const audience = invocation.required("audience").split(",");
    const lifetimeSeconds = Math.floor(invocation.duration("ttl", FIVE_MINUTES_MS) / 1000);
    const request = { spiffeId, audience, lifetimeSeconds, context: { by: "riprap svid jwt" } };
    const answer = await withTrust(invocation, ({ jwt: authority }) => authority.issue(request));
    show({ spiffeId, ...answer }, { invocation, terminal }, ({ token }) => [token]);
    return 0;
  },
};

const validate: Command = {
  words: ["svid", "validate"],
  group: "Set up",
  sentence: "Validate a JWT-SVID against this node's trust bundle.",
  arguments: [
    { name: "FILE", sentence: "The token, or - for standard input: it is a secret, and arguments are none." },
  ],
  options: [
    { name: "audience", value: "NAME", required: true, sentence: "For whom it must be meant." },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap svid validate --audience spool.example - < token.jwt",
  async run(invocation, terminal) {
    const audience = invocation.required("audience");
    const bytesMax = TOKEN_BYTES_MAX + 2;
    const token = (await readText(invocation.argument("FILE"), { terminal, bytesMax })).trim();
    const { validateJwtSvid } = await import("../../jwt_svid.ts");
    const answer = await withTrust(invocation, ({ bundle }) =>
      validateJwtSvid(token, {
        audience,
        now: systemClock.now(),
        keysOf: ({ name }) => (name === bundle.trustDomain.name ? bundle.jwt : undefined),
      }),
    );
    if (!answer.ok) throw new RiprapError(answer.code, answer.message);
    const valid = {
      spiffeId: answer.spiffeId.toString(),
      audience: answer.audience,
      expiresAt: new Date(answer.expiresAt * 1000).toISOString(),
    };
    show(valid, { invocation, terminal }, () => [`${valid.spiffeId}, until ${valid.expiresAt}`]);
    return 0;
  },
};

const bundleShow: Command = {
  words: ["bundle", "show"],
  group: "Set up",
  sentence: "Show the trust bundle: what others need to verify this trust domain's SVIDs.",
  notes: [
    "With --format spiffe it is the document that other trust domains take, with jwks the JWT keys alone, with pem the roots alone.",
  ],
  arguments: [],
  options: [
    {
      name: "format",
      value: "FORMAT",
      choices: ["table", "spiffe", "jwks", "pem"],
      sentence: "In which form; a table when not given.",
    },
    STATE_OPTION,
    JSON_OPTION,
    CONFIG_OPTION,
  ],
  example: "riprap bundle show --format spiffe > edge.example.json",
  async run(invocation, terminal) {
    const { writeJwtBundle, writeTrustBundle } = await import("../../trust_bundle.ts");
    const { bundlePem } = await import("../../ca.ts");
    const { bundle, roots, pem } = await withTrust(invocation, ({ bundle, authority }) => ({
      bundle,
      roots: authority.info().roots,
      pem: bundlePem(authority),
    }));
    const format = invocation.option("format") ?? "table";
    if (format === "table") {
      const view = viewOf(bundle, roots);
      show(view, { invocation, terminal }, () => linesOf(view));
    } else if (format === "pem") terminal.print(pem.trimEnd());
    else terminal.print(format === "spiffe" ? writeTrustBundle(bundle) : writeJwtBundle(bundle));
    return 0;
  },
};

export const SVID_COMMANDS: readonly Command[] = [jwt, validate, svidList, svidWatch, bundleShow];

interface Trust {
  readonly authority: NodeAuthority;
  readonly jwt: JwtAuthority;
  readonly bundle: TrustBundle;
}

function withTrust<T>(invocation: Invocation, use: (trust: Trust) => T | Promise<T>): Promise<T> {
  const stateDir = stateDirOf(invocation);
  const work = async (authority: NodeAuthority, store: Store) => {
    const [{ openNodeKeys }, { openPublication }] = await Promise.all([
      import("../../ca.ts"),
      import("../../daemon/publication.ts"),
    ]);
    // As the daemon does it: a bundle of other keys would have another sequence number.
    const config = { ...configOf(invocation), stateDir };
    const keys = openNodeKeys(stateDir);
    const publication = openPublication({ config, clock: systemClock, store, authority, keys });
    return use({ authority, jwt: publication.jwt, bundle: publication.bundle() });
  };
  return asOwner(stateDir, () => withAuthority(stateDir, work));
}

interface KeyView {
  readonly use: "x509-svid" | "jwt-svid" | "wit-svid";
  /** Fingerprint of a root, `kid` of a token key. */
  readonly key: string;
  readonly notAfter?: string;
}

function viewOf(bundle: TrustBundle, roots: readonly { fingerprint: string; notAfter: Date }[]) {
  const x509 = roots.map(
    ({ fingerprint, notAfter }): KeyView => ({
      use: "x509-svid",
      key: fingerprint,
      notAfter: notAfter.toISOString().replace(".000Z", "Z"),
    }),
  );
  const jwtKeys = bundle.jwt.map(({ keyId }): KeyView => ({ use: "jwt-svid", key: keyId }));
  const witKeys = (bundle.wit ?? []).map(({ keyId }): KeyView => ({ use: "wit-svid", key: keyId }));
  return {
    trustDomain: bundle.trustDomain.name,
    fingerprint: fingerprintBundle(bundle),
    // A text: it may be greater than what JSON readers take for a number.
    sequence: String(bundle.sequence ?? 0n),
    refreshHintSeconds: bundle.refreshHintSeconds ?? 0,
    keys: [...x509, ...jwtKeys, ...witKeys],
  };
}

function linesOf({ trustDomain, fingerprint, sequence, keys }: ReturnType<typeof viewOf>): readonly string[] {
  return [
    `trust domain ${trustDomain}, sequence ${sequence}`,
    `fingerprint ${fingerprint}`,
    ...layOut(
      [{ title: "USE" }, { title: "KEY" }, { title: "UNTIL" }],
      keys.map(({ use, key, notAfter }) => [use, key, notAfter ?? ""]),
    ),
  ];
}
