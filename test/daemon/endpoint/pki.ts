// A PKI of the web as openssl makes it: a root, and servers' certificates with the names that a test asks for.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

export interface WebPki {
  readonly folder: string;
  readonly rootPath: string;
  /** Paths of a certificate and its key (0600). */
  issue(name: string, options?: { readonly san?: string; readonly days?: number }): { cert: string; key: string };
}

const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

export function makePki(folder: string): WebPki {
  const run = (...words: string[]) => {
    const { exitCode, stderr } = Bun.spawnSync(["openssl", ...words], { cwd: folder });
    if (exitCode !== 0) throw new Error(`openssl ${words[0]} failed: ${stderr}`);
  };
  run("req", "-x509", ...KEY, "-subj", "/CN=web root", "-days", "2", "-keyout", "root.key", "-out", "root.crt");
  return {
    folder,
    rootPath: join(folder, "root.crt"),
    issue(name, { san = "DNS:localhost,IP:127.0.0.1", days = 2 } = {}) {
      run("req", ...KEY, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
      writeFileSync(join(folder, `${name}.ext`), san === "" ? "" : `subjectAltName=${san}\n`);
      const by = ["-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-extfile", `${name}.ext`];
      run("x509", "-req", "-in", `${name}.csr`, ...by, "-days", String(days), "-out", `${name}.crt`);
      return { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
    },
  };
}
