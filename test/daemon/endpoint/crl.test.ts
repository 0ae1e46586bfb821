// The CRL over HTTP, as openssl reads it.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { openJwtAuthority, trustBundle } from "../../../src/ca.ts";
import { createWebApp } from "../../../src/daemon/endpoint/app.ts";
import { makeNode, openssl } from "../../ca/authority_fixture.ts";
import { scratchDirectories } from "../../scratch.ts";

const scratch = scratchDirectories();

test("createWebApp() serves the CRL of now, and none where there is none to serve", async () => {
  const node = await makeNode(scratch());
  const bundle = () => trustBundle(node.store, node.authority, openJwtAuthority(node));
  const app = createWebApp({ bundle, crl: () => node.authority.crl() }, { issuer: undefined });
  const answer = await app.request("/crl");
  expect(answer.headers.get("content-type")).toBe("application/pkix-crl");
  const folder = scratch();
  writeFileSync(join(folder, "crl.der"), new Uint8Array(await answer.arrayBuffer()));
  expect(openssl(folder, {}, "crl", "-inform", "DER", "-in", "crl.der", "-noout", "-crlnumber").text).toContain("0x01");
  expect((await createWebApp({ bundle }, { issuer: undefined }).request("/crl")).status).toBe(404);
  node.close();
});
