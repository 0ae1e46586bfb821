// What the control API shows of trust bundles, made of the daemon's rooms. Decides nothing.

import { hash, X509Certificate } from "node:crypto";
import { fingerprintBundle } from "../../bundle_fingerprint.ts";
import { parseBundleMap, writeBundleMap } from "../../bundle_map.ts";
import { RiprapError } from "../../error.ts";
import type { ForeignTrustDomain } from "../../resource.ts";
import { TrustDomain } from "../../spiffe_id.ts";
import { type TrustBundle, writeJwtBundle, writeTrustBundle } from "../../trust_bundle.ts";
import type { BundleBook, HeldBundle } from "../bundle.ts";
import type { BundleKeyView, BundlePort, BundleView, DomainView, LoadView } from "../control/bundle.ts";
import type { Endpoints } from "../endpoint.ts";
import type { Courier } from "./courier.ts";
import type { BundlePoller } from "./poller.ts";

export interface BundlePortParts {
  readonly book: BundleBook;
  readonly poller: Pick<BundlePoller, "stateOf">;
  readonly courier: Pick<Courier, "faultOf">;
  readonly endpoints: Pick<Endpoints, "view">;
  /** This node's own. */
  own(): TrustBundle;
}

export function createBundlePort({ book, poller, courier, endpoints, own }: BundlePortParts): BundlePort {
  const heldOf = (name: string): HeldBundle => {
    const held = book.held(TrustDomain.parse(name));
    if (held !== undefined) return held;
    throw new RiprapError("not_found", `Cannot show the bundle of ${name}: none is held; see \`riprap bundle list\``);
  };
  const isOwn = (name: string) => own().trustDomain.name === name;
  return {
    list: () => [
      ownDomain(own()),
      ...book.configured().map((resource) => domainView(resource, { book, poller, courier })),
    ],
    get: (name) => (isOwn(name) ? bundleView(own(), { source: "own" }) : heldView(heldOf(name))),
    document(name, format) {
      const bundle = isOwn(name) ? own() : heldOf(name).bundle;
      if (format === "pem") return bundle.x509.map((der) => new X509Certificate(der).toString()).join("");
      if (format === "jwks") return writeJwtBundle(bundle);
      return isOwn(name) ? writeTrustBundle(bundle) : heldOf(name).document;
    },
    map() {
      const foreign = book.configured().flatMap(({ trustDomain }) => book.held(trustDomain)?.bundle ?? []);
      return writeBundleMap([own(), ...foreign]);
    },
    set(name, document, { isForced }) {
      const trustDomain = TrustDomain.parse(name);
      if (isOwn(name))
        throw new RiprapError(
          "invalid",
          `Cannot set the bundle of ${name}: it is this node's own, made of its authorities`,
        );
      const { outcome, held } = book.take(trustDomain, document, { source: "command", isForced });
      return { outcome, bundle: heldView(held) };
    },
    load(text, { isForced }) {
      const mapped = parseBundleMap(text);
      const taken = book.takeMap(mapped, { source: "command", isForced });
      return mapped.map(({ bundle: { trustDomain } }): LoadView => {
        const { name } = trustDomain;
        const one = taken.get(name);
        if (one !== undefined) return { trustDomain: name, outcome: one.outcome, bundle: heldView(one.held) };
        return { trustDomain: name, outcome: isOwn(name) ? "own" : "no_rule" };
      });
    },
    pin(name, pin) {
      book.pin(TrustDomain.parse(name), pin);
      return { trustDomain: name, pin };
    },
    endpoints: () => endpoints.view(),
  };
}

export interface BundleState {
  readonly held: number;
  /** Trust domains whose endpoint did not give a good bundle when it was asked last. */
  readonly failing: number;
  /** For `status`: each says what is degraded, and how to mend it. */
  readonly warnings: readonly string[];
}

export function stateOfBundles(
  book: Pick<BundleBook, "configured" | "held" | "faultOf">,
  poller: Pick<BundlePoller, "stateOf">,
): BundleState {
  const domains = book.configured();
  const failures = domains.map(({ trustDomain }) => poller.stateOf(trustDomain)?.error);
  const warnings = domains.flatMap(({ trustDomain }, i) => {
    const reason = failures[i] ?? book.faultOf(trustDomain);
    if (book.held(trustDomain) === undefined) {
      const remedy = reason ?? `hold one with \`riprap bundle set ${trustDomain} FILE\``;
      return [`No bundle of ${trustDomain} is held, so its workloads are refused: ${remedy}`];
    }
    return reason === undefined ? [] : [`The bundle of ${trustDomain} is not renewed: ${reason}`];
  });
  const held = domains.filter(({ trustDomain }) => book.held(trustDomain) !== undefined).length;
  return { held, failing: failures.filter((error) => error !== undefined).length, warnings };
}

function ownDomain(bundle: TrustBundle): DomainView {
  const { keys, ignored: _, ...view } = bundleView(bundle, { source: "own" });
  return { trustDomain: view.trustDomain, bundle: { ...view, ...countKeys(keys) } };
}

function domainView(
  { trustDomain, name, endpoint }: ForeignTrustDomain,
  { book, poller, courier }: Pick<BundlePortParts, "book" | "poller" | "courier">,
): DomainView {
  const held = book.held(trustDomain);
  const fault = book.faultOf(trustDomain) ?? courier.faultOf(trustDomain);
  const pin = book.pinOf(trustDomain);
  return {
    trustDomain: trustDomain.name,
    resource: `TrustDomain/${name}`,
    ...(held === undefined ? {} : { bundle: summaryOf(held) }),
    ...(endpoint === undefined ? {} : { endpoint: endpointOf(endpoint, poller.stateOf(trustDomain)) }),
    ...(pin === undefined ? {} : { pin }),
    ...(fault === undefined ? {} : { fault }),
  };
}

function endpointOf(
  endpoint: NonNullable<ForeignTrustDomain["endpoint"]>,
  state: ReturnType<BundlePoller["stateOf"]>,
): NonNullable<DomainView["endpoint"]> {
  const { url, profile } = endpoint;
  return {
    url: url.href,
    profile,
    ...(endpoint.profile === "https_spiffe" ? { spiffeId: endpoint.spiffeId.toString() } : {}),
    failures: state?.failures ?? 0,
    ...(state?.fetchedAt === undefined ? {} : { fetchedAt: iso(state.fetchedAt) }),
    ...(state?.nextAt === undefined ? {} : { nextAt: iso(state.nextAt) }),
    ...(state?.error === undefined ? {} : { error: state.error }),
  };
}

function summaryOf(held: HeldBundle): NonNullable<DomainView["bundle"]> {
  const { keys, ignored: _, ...view } = heldView(held);
  return { ...view, ...countKeys(keys) };
}

function countKeys(keys: readonly BundleKeyView[]) {
  const count = (wanted: BundleKeyView["use"]) => keys.filter(({ use }) => use === wanted).length;
  return { x509: count("x509-svid"), jwt: count("jwt-svid"), wit: count("wit-svid") };
}

function heldView({ bundle, source, takenAt }: HeldBundle): BundleView {
  return { ...bundleView(bundle, { source, ignored: bundle.ignored }), takenAt: iso(takenAt) };
}

function bundleView(
  bundle: TrustBundle,
  { source, ignored = [] }: { readonly source: BundleView["source"]; readonly ignored?: readonly string[] },
): BundleView {
  const { trustDomain, x509, jwt, wit = [], sequence, refreshHintSeconds } = bundle;
  return {
    trustDomain: trustDomain.name,
    source,
    fingerprint: fingerprintBundle(bundle),
    ...(sequence === undefined ? {} : { sequence: String(sequence) }),
    ...(refreshHintSeconds === undefined ? {} : { refreshHintSeconds }),
    keys: [
      ...x509.map((der): BundleKeyView => {
        const notAfter = iso(Date.parse(new X509Certificate(der).validTo));
        return { use: "x509-svid", key: hash("sha256", der, "hex"), notAfter };
      }),
      ...jwt.map(({ keyId }): BundleKeyView => ({ use: "jwt-svid", key: keyId })),
      ...wit.map(({ keyId }): BundleKeyView => ({ use: "wit-svid", key: keyId })),
    ],
    ignored,
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString().replace(".000Z", "Z");
}
