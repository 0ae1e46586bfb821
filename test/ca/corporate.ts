// A CA outside of riprap, played by openssl: the root of a company that signs what a node asks it for.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { scratchDirectories } from "../scratch.ts";
import { openssl } from "./authority_fixture.ts";

const scratch = scratchDirectories();

/** The extensions of an intermediate as riprap wants them. */
export const GOOD = [
  "basicConstraints=critical,CA:TRUE,pathlen:0",
  "keyUsage=critical,keyCertSign,cRLSign",
  "nameConstraints=critical,permitted;URI:example.org",
  "subjectAltName=URI:spiffe://example.org",
  "subjectKeyIdentifier=hash",
  "authorityKeyIdentifier=keyid",
];

export interface Corporate {
  readonly folder: string;
  readonly root: string;
  /** Signs a request with these extensions; answers PEM. */
  sign(request: string, extensions: readonly string[], days?: number): string;
}

/** A CA of openssl's own, on the machine's clock. `key`: what `-newkey` takes, or a private key in PEM. */
export function corporate(
  extensions = "basicConstraints=critical,CA:TRUE",
  key: readonly string[] | string = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
  digest: readonly string[] = ["-sha256"],
): Corporate {
  const folder = scratch();
  const name = ["-subj", "/O=Corp/CN=Corp Root", "-days", "30", ...digest];
  const config = `[req]\ndistinguished_name=d\n[d]\n[v]\n${extensions}\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n`;
  const made = openssl(
    folder,
    { "root.cnf": config, ...(typeof key === "string" ? { "root.key": key } : {}) },
    "req",
    "-x509",
    ...(typeof key === "string" ? ["-key", "root.key"] : ["-newkey", ...key, "-nodes", "-keyout", "root.key"]),
    "-out",
    "root.pem",
    "-config",
    "root.cnf",
    "-extensions",
    "v",
    ...name,
  );
  if (made.code !== 0) throw new Error(made.text);
  return {
    folder,
    root: readFileSync(join(folder, "root.pem"), "utf8"),
    sign(request, list, days = 20) {
      const files = { "node.csr": request, "node.ext": list.join("\n") };
      const words = [
        "x509",
        "-req",
        "-in",
        "node.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
        "-extfile",
        "node.ext",
        "-out",
        "node.pem",
      ];
      const signed = openssl(folder, files, ...words, "-days", String(days), "-set_serial", "0x1234", ...digest);
      if (signed.code !== 0) throw new Error(signed.text);
      return readFileSync(join(folder, "node.pem"), "utf8");
    },
  };
}
