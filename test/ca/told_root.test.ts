// Roots that are in a node's bundle by the fleet's word alone: they leave it with that word, and no root of this node tells the fleet of them again.
import { beforeAll, describe, expect, test } from "bun:test";
import { Authorities } from "../../src/ca/authorities.ts";
import { fingerprint } from "../../src/ca/key.ts";
import { adoptRoots, listRoots } from "../../src/ca.ts";
import { makeRoot } from "../federation/fleet_fixture.ts";
import { RootFixture } from "../federation/root_fixture.ts";
import { scratchDirectories } from "../scratch.ts";
import { makeNode, type Node } from "./authority_fixture.ts";

const scratch = scratchDirectories();
const [second, child] = [makeRoot("second"), makeRoot("child")];
let certificates: { readonly second: Uint8Array; readonly child: Uint8Array };

beforeAll(async () => {
  const made = await RootFixture.make({ second, child });
  certificates = { second: made.certificateOf(second), child: made.certificateOf(child) };
});

interface Told {
  readonly node: Node;
  tell(...roots: readonly (Uint8Array | { readonly revoked: Uint8Array })[]): ReturnType<typeof adoptRoots>;
  bundle(): readonly string[];
  listed(): readonly string[];
}

async function told(): Promise<Told> {
  const node = await makeNode(scratch());
  const options = () => ({ stateDir: node.stateDir, store: node.store, now: node.clock.now() });
  const named = (der: Uint8Array) => {
    const known = Object.entries(certificates).find(([, certificate]) => Buffer.compare(certificate, der) === 0);
    return known?.[0] ?? "first";
  };
  return {
    node,
    tell(...roots) {
      const [own] = node.authority.bundle as [Uint8Array];
      const all = roots.map((root) =>
        root instanceof Uint8Array
          ? { certificate: root, isRevoked: false }
          : { certificate: root.revoked, isRevoked: true },
      );
      return adoptRoots([{ certificate: own, isRevoked: false }, ...all], options());
    },
    bundle: () => node.authority.bundle.map(named),
    listed: () => listRoots(options()).map(({ certificate, phase }) => `${named(certificate)} ${phase}`),
  };
}

describe("adoptRoots()", () => {
  test("takes a root out of the bundle when the fleet names it no more, and has nobody told of it again", async () => {
    const { node, tell, bundle, listed } = await told();
    expect(tell(certificates.second, certificates.child).added).toHaveLength(2);
    expect(bundle()).toEqual(["first", "second", "child"]);
    expect(tell(certificates.second)).toEqual({ added: [], revoked: [fingerprint(certificates.child)], refused: [] });
    // What its file still has comes back by no look at it.
    await new Authorities(node).advance();
    expect(bundle()).toEqual(["first", "second"]);
    expect(listed()).toEqual(["first active", "second published"]);
    expect(tell(certificates.second)).toEqual({ added: [], revoked: [], refused: [] });
  });

  test("takes it in again when another brings it in, and not when it was revoked meanwhile", async () => {
    const { tell, bundle, listed } = await told();
    tell(certificates.second, certificates.child);
    tell(certificates.second);
    expect(tell(certificates.second, certificates.child).added).toEqual([fingerprint(certificates.child)]);
    expect(bundle().toSorted()).toEqual(["child", "first", "second"]);
    tell(certificates.second);
    expect(tell(certificates.second, { revoked: certificates.child }).revoked).toEqual([]);
    expect(tell(certificates.second, certificates.child).added).toEqual([]);
    expect(bundle()).toEqual(["first", "second"]);
    expect(listed()).toContain("child revoked");
  });

  test("leaves roots alone that are here by a file or a person, whatever the fleet names", async () => {
    const { node, tell, bundle } = await told();
    await new Authorities(node).prepare("x509");
    const before = bundle().length;
    tell();
    expect(adoptRoots([], { stateDir: node.stateDir, store: node.store, now: node.clock.now() }).revoked).toEqual([]);
    expect(bundle()).toHaveLength(before);
  });
});
