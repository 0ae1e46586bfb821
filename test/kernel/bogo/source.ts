// Fetches BoringSSL's test runner, which is Go, fits it to what the engine speaks, and compiles it. Nothing of it is ever committed.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const CACHE = join(import.meta.dir, "../../../.cache/bogo");

/** BoringSSL as Debian 12 has it: the one place with a version that stays. */
const PACKAGE = "android-platform-external-boringssl";
const VERSION = "13.0.0+r24-2";
const ARCHIVE = `${PACKAGE}_13.0.0+r24.orig.tar.xz`;
const ARCHIVE_SHA256 = "583b7aeee1fca68b8244d086cea6fca23bd19d517bd63f0b9de714e048f92a7d";
const WANTED = ["src/ssl/test/runner", "src/util/testresult", "src/go.mod", "src/go.sum"];

/** The runner and the folder with its certificates. */
export interface Runner {
  program: string;
  resources: string;
}

/** The runner, or why there is none here. */
export function prepareRunner(): Runner | string {
  const recipe = createHash("sha256")
    .update(readFileSync(import.meta.path))
    .digest("hex")
    .slice(0, 16);
  const entry = join(CACHE, `runner-${recipe}`);
  const runner = { program: join(entry, "runner"), resources: join(entry, "resources") };
  if (existsSync(entry)) return runner;
  for (const tool of ["apt-get", "go", "tar"]) if (Bun.which(tool) === null) return `there is no ${tool} here`;
  const part = `${entry}.${process.pid}`;
  try {
    mkdirSync(join(part, "apt/lists/partial"), { recursive: true });
    mkdirSync(join(part, "apt/archives/partial"), { recursive: true });
    const reason = makeRunner(part);
    if (reason === undefined) renameSync(part, entry);
    return reason ?? runner;
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
}

function makeRunner(folder: string): string | undefined {
  if (!download(folder)) return `Debian's source package ${PACKAGE} ${VERSION} cannot be had`;
  if (
    createHash("sha256")
      .update(readFileSync(join(folder, ARCHIVE)))
      .digest("hex") !== ARCHIVE_SHA256
  )
    return `${ARCHIVE} is not the file that this checkout knows`;
  run(["tar", "xf", ARCHIVE, "--strip-components=1", "--wildcards", ...WANTED.map((path) => `*/${path}`)], folder);
  const source = join(folder, "src");
  const tests = join(source, "ssl/test/runner");
  writeFileSync(join(tests, "runner.go"), fit(readFileSync(join(tests, "runner.go"), "utf8")));
  const compiled = run(["nice", "go", "test", "-c", "-o", join(folder, "runner"), "./ssl/test/runner"], source);
  if (!compiled) return "the runner does not compile: its Go modules cannot be had, or this Go is too old";
  mkdirSync(join(folder, "resources"));
  for (const name of readdirSync(tests).filter((file) => file.endsWith(".pem")))
    cpSync(join(tests, name), join(folder, "resources", name));
  for (const name of ["src", "apt", ARCHIVE]) rmSync(join(folder, name), { recursive: true, force: true });
  return undefined;
}

/** The package's files, from where this machine has its Debian, by an apt state of their own: that knows source packages. */
function download(folder: string): boolean {
  const { stdout } = Bun.spawnSync(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)"]);
  const archive = /^(\S+) bookworm main$/m.exec(stdout.toString())?.[1];
  if (archive === undefined) return false;
  writeFileSync(join(folder, "apt/sources"), `deb-src ${archive} bookworm main\n`);
  const settings = {
    "Dir::Etc::sourcelist": join(folder, "apt/sources"),
    "Dir::Etc::sourceparts": "-",
    "Dir::State::lists": join(folder, "apt/lists"),
    "Dir::Cache": join(folder, "apt"),
    "APT::Sandbox::User": "",
    "Acquire::Languages": "none",
    "Acquire::Retries": "2",
  };
  const apt = ["apt-get", "-q", ...Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`])];
  return run([...apt, "update"], folder) && run([...apt, "source", "--download-only", `${PACKAGE}=${VERSION}`], folder);
}

function run(command: string[], cwd: string): boolean {
  const env = { ...process.env, GOTOOLCHAIN: "local", GOWORK: "off", GOFLAGS: "-mod=mod", LC_ALL: "C" };
  const { exitCode, stderr } = Bun.spawnSync(command, { cwd, env, stdout: "ignore", stderr: "pipe" });
  if (exitCode !== 0) process.stdout.write(`${command[0]} ended with ${exitCode}: ${stderr.toString().slice(-2000)}\n`);
  return exitCode === 0;
}

/**
 * The runner takes RSA where the algorithm plays no part, and P-384 as the group that makes a client ask again. The engine has
 * neither: P-256 takes both places, everywhere but where the RSA key itself is declared, loaded or looked into.
 */
function fit(source: string): string {
  const isDeclaration =
    /^\s*rsa(Certificate|CertificateFile|KeyFile)\s|^\t\t(certFile: rsa|keyFile: {2}rsa)|&rsaCertificate|\*rsa\.P|loadRSA/;
  return source
    .split("\n")
    .map((line) =>
      isDeclaration.test(line) ? line : line.replace(/\brsa(Certificate|CertificateFile|KeyFile)\b/g, "ecdsaP256$1"),
    )
    .join("\n")
    .replaceAll("[]CurveID{CurveP384}", "[]CurveID{CurveP256}")
    .replace(
      /SendHelloRetryRequestCurve: CurveP384(,\s+[^\n]*\n\s+SendCurve: )CurveP256/,
      "SendHelloRetryRequestCurve: CurveP256$1CurveX25519",
    )
    .replaceAll("SendHelloRetryRequestCurve: CurveP384", "SendHelloRetryRequestCurve: CurveP256");
}
