// The roots of another trust domain as chains are judged by them: what its bundle holds and this CA can verify with. Never joins two bundles.

import type { TrustBundle } from "../trust_bundle.ts";
import { type Certificate, parseCertificate } from "./certificate.ts";
import { issuerKeyFault } from "./issuer_key.ts";

/** A bundle is a value that never changes: its certificates are read once. */
const READ = new WeakMap<TrustBundle, readonly Certificate[]>();

/** Those of its certificates that may end a path: CAs with a key that is strong enough, which name no other trust domain. */
export function anchorsOf(bundle: TrustBundle): readonly Certificate[] {
  const known = READ.get(bundle);
  if (known !== undefined) return known;
  const anchors = bundle.x509.map(tryRead).filter((root) => root !== undefined && isAnchor(root, bundle));
  READ.set(bundle, anchors as readonly Certificate[]);
  return anchors as readonly Certificate[];
}

function tryRead(bytes: Uint8Array): Certificate | undefined {
  try {
    return parseCertificate(bytes);
  } catch {
    // Of another standard than SPIFFE's, or malformed: no path can end in it.
    return undefined;
  }
}

function isAnchor(root: Certificate, { trustDomain }: TrustBundle): boolean {
  const { ca, uris } = root;
  return ca && issuerKeyFault(root) === undefined && uris.every((uri) => uri === trustDomain.id.toString());
}
