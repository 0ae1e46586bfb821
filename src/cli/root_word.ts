// What a node asks of the root, and what the root signs, gathered from this machine's own files. Beside a daemon that may run; never over a network.
import { readFileSync } from "node:fs";
import type { RootSigner } from "../ca.ts";
import { systemClock } from "../clock.ts";
import { RiprapError } from "../error.ts";
import type { OperatorBody } from "../federation/body.ts";
import type { RootAnswer, RootAsk, RootRequest } from "../federation/root_request.ts";
import { type Keep, writeTarget } from "../fleet.ts";
import { certificatesInPem, toPem } from "../pem.ts";
import type { Store } from "../store.ts";
import { asOwner, withAuthority } from "./authority.ts";

const KEY_BYTES_MAX = 4096;

export interface Wanted {
  /** A CA that signs intermediates, and the right to admit nodes. */
  readonly issuing: boolean;
  /** Rights for the operator's key of this machine, which is made when there is none. */
  readonly operator: { readonly name: string; readonly rights: Omit<OperatorBody, "key"> } | undefined;
  /** The roots of this node, where the fleet does not know all of them. */
  readonly roots: boolean;
  /** A node whose issuing role is to end. */
  readonly end: { readonly issuer: string; readonly reason: string; readonly keep: Keep } | undefined;
}

/** Throws what openAuthority throws. */
export async function makeRootRequest(stateDir: string, wanted: Wanted): Promise<RootRequest> {
  const [{ openAuthorities, openNodeKeys, publicKeysOf }, { openFleetKey, ensureOperatorKey }] = await Promise.all([
    import("../ca.ts"),
    import("../daemon/fleet/member.ts"),
  ]);
  const { FleetState } = await import("../federation/fleet_state.ts");
  const { openStatementStore } = await import("../federation/fleet_store.ts");
  const { keepOf } = await import("../federation/roster.ts");
  const { unsaidRoots } = await import("../daemon/fleet/root_voice.ts");
  const { DOMAIN_BUNDLE } = await import("../federation/statement.ts");
  return await asOwner(stateDir, () =>
    withAuthority(stateDir, async (authority, store) => {
      const { trustDomain, nodeName, bundle } = authority;
      const keys = openNodeKeys(stateDir);
      const state = new FleetState({ trustDomain, roots: publicKeysOf(bundle), store: openStatementStore(store) });
      const revisionOf = (kind: RootAsk["kind"], name: string) => state.nextRevision(kind, name);
      const hexOf = (key: Uint8Array) => Buffer.from(key).toString("hex");
      const asks: RootAsk[] = [];
      let csr = "";
      if (wanted.issuing) {
        csr = await openAuthorities({ stateDir, store, clock: systemClock, keys }).request("issuing");
        const { idPrefixes } = authority.info();
        const body = { key: hexOf(openFleetKey(keys).publicKey), authority: undefined, idPrefixes };
        asks.push({ kind: "issuer", name: nodeName, revision: revisionOf("issuer", nodeName), body });
      }
      if (wanted.operator !== undefined) {
        const { name, rights } = wanted.operator;
        const body = { key: hexOf(ensureOperatorKey(keys).publicKey), ...rights };
        asks.push({ kind: "operator", name, revision: revisionOf("operator", name), body });
      }
      if (wanted.roots) {
        const roots = unsaidRoots(state, { stateDir, store, keys, now: systemClock.now() });
        if (roots === undefined) {
          const remedy = "see riprap authority list --all";
          throw new RiprapError(
            "nothing_new",
            `Cannot ask for the roots: the fleet knows those of this node; ${remedy}`,
          );
        }
        asks.push({
          kind: "bundle",
          name: DOMAIN_BUNDLE,
          revision: revisionOf("bundle", DOMAIN_BUNDLE),
          body: { roots },
        });
      }
      if (wanted.end !== undefined) {
        const target = { type: "issuer", value: wanted.end.issuer } as const;
        const body = { reason: wanted.end.reason, keep: keepOf(state, target, wanted.end.keep) };
        // Under the key of each root that may sign it there is no other word.
        asks.push({ kind: "revocation", name: writeTarget(target), revision: 1, body });
      }
      return { trustDomain, node: nodeName, csr, asks };
    }),
  );
}

export interface RootPlace {
  readonly stateDir: string;
  /** An exported key, with the roots in PEM; the key of this node when not given. */
  readonly exported: { readonly key: string; readonly roots: string } | undefined;
}

/** Throws RiprapError `root_not_here`, `root_unknown`, `ca_key_invalid`, `root_foreign`, and what signIssuing throws. */
export async function answerRootRequest(request: RootRequest, place: RootPlace): Promise<RootAnswer> {
  const { signIssuing } = await import("../ca.ts");
  const { grantRootRequest } = await import("../federation/root_request.ts");
  return await withRoot(place, async (root) => {
    const trustDomain = root.trustDomain.name;
    if (request.trustDomain !== trustDomain) {
      const fact = `it is of ${request.trustDomain}, and this is the root of ${trustDomain}`;
      throw new RiprapError("root_foreign", `Cannot sign the request: ${fact}`);
    }
    const time = systemClock.now();
    const csr = request.csr === "" ? undefined : derOf(request.csr);
    const issuing = csr === undefined ? undefined : await signIssuing(root, { csr, now: time });
    if (issuing !== undefined && issuing.nodeName !== request.node) {
      const fact = `its certificate request is of the node ${issuing.nodeName}, and it is ${request.node} that asks`;
      throw new RiprapError("request_forged", `Cannot sign the request: ${fact}`);
    }
    const statements = grantRootRequest(request, root.key, { time, authority: issuing?.authority });
    const certificates = issuing === undefined ? "" : toPem(issuing.chain);
    return { trustDomain, certificates, statements: statements.map(({ bytes }) => bytes) };
  });
}

async function withRoot<T>({ stateDir, exported }: RootPlace, use: (root: RootSigner) => Promise<T>): Promise<T> {
  const { openRoot, openRootExport } = await import("../ca.ts");
  if (exported !== undefined) {
    const roots = certificatesInPem(readSmall(exported.roots).toString("latin1"));
    const pkcs8 = readSmall(exported.key, KEY_BYTES_MAX);
    try {
      return await use(openRootExport(pkcs8, { roots, path: exported.key }));
    } finally {
      pkcs8.fill(0);
    }
  }
  return await asOwner(stateDir, () =>
    withAuthority(stateDir, async (_authority, store: Store) => {
      const root = openRoot({ stateDir, store, now: systemClock.now() });
      try {
        return await use(root);
      } finally {
        root.key.close();
      }
    }),
  );
}

function readSmall(path: string, bytesMax = 262_144): Buffer {
  const bytes = readFileSync(path);
  if (bytes.length <= bytesMax) return bytes;
  throw new RiprapError("too_large", `Cannot read ${path}: it is larger than ${bytesMax} bytes`);
}

function derOf(pem: string): Uint8Array {
  return new Uint8Array(Buffer.from(pem.replaceAll(/-----[A-Z0-9 ]+-----|\s/g, ""), "base64"));
}
