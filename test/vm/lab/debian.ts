// Finds and downloads Debian packages with an apt state of our own: what this machine has installed plays no part, and nothing is installed.
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { RiprapError } from "../../../src/error.ts";
import { cached, digestOf, runHost } from "./cache.ts";
import { withLock } from "./lock.ts";

const NOTHING = "no-archives";
/** What apt has answered from these lists: it takes seconds to, and every VM asks the same. */
const ANSWER = "closure-";

/** Reads the package lists of this machine's apt sources once per cache. */
export async function openPackages(): Promise<PackageIndex> {
  const directory = await cached("packages", "index", async (fresh) => {
    await mkdir(join(fresh, "lists/partial"), { recursive: true });
    await mkdir(join(fresh, "archives/partial"), { recursive: true });
    await mkdir(join(fresh, NOTHING, "partial"), { recursive: true });
    await writeFile(join(fresh, "status"), "");
    await runHost([...aptGet(fresh), "update"]);
  });
  return new PackageIndex(directory);
}

export class PackageIndex {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** apt's own locks are off, as nothing is installed; this one keeps two runs from the lists and the archive at once. */
  #locked<T>(work: () => Promise<T>): Promise<T> {
    return withLock(join(this.#directory, "lock"), work);
  }

  /** The name of the real package behind a metapackage: `linux-image-6.12-cloud-amd64` gives the one with the release in it. */
  async resolveMetapackage(name: string, pattern: RegExp): Promise<string> {
    const command = ["apt-cache", ...aptOptions(this.#directory), "depends", "--important", name];
    const text = await this.#locked(() => runHost(command));
    for (const [, found] of text.matchAll(/^\s*Depends: (\S+)/gm)) if (found && pattern.test(found)) return found;
    throw new RiprapError(
      "package_unknown",
      `Cannot resolve ${name}: no dependency matches ${pattern}; is Debian 12 among the apt sources?`,
    );
  }

  /** File names (not paths) of the packages and all that they depend on, without recommendations; a stable key for a cache. */
  async closure(names: readonly string[]): Promise<string[]> {
    const answer = join(this.#directory, `${ANSWER}${digestOf(...names)}`);
    const known = await readFile(answer, "utf8").catch(() => undefined);
    if (known !== undefined) return known.split("\n");
    return this.#locked(async () => {
      const found = await this.#askClosure(names);
      await writeFile(`${answer}.part`, found.join("\n"));
      await rename(`${answer}.part`, answer);
      return found;
    });
  }

  async #askClosure(names: readonly string[]): Promise<string[]> {
    // apt leaves out what it has downloaded already: show it an archive with nothing in it.
    const empty = ["-o", `Dir::Cache::archives=${join(this.#directory, NOTHING)}`];
    const text = await runHost([...aptGet(this.#directory), ...empty, "--print-uris", "install", ...names]);
    return [...text.matchAll(/^'[^']+' (\S+)/gm)].map((match) => match[1] ?? "").sort();
  }

  /** Paths of the downloaded packages and all that they depend on. */
  async downloadClosure(names: readonly string[]): Promise<string[]> {
    await this.#download(["--download-only", "install", ...names], this.#directory);
    // Asked afterwards: the download may have renewed the lists.
    const files = await this.closure(names);
    return files.map((file) => join(this.#directory, "archives", file));
  }

  /** Downloads just these packages into `directory`; their paths. */
  async download(names: readonly string[], directory: string): Promise<string[]> {
    await this.#download(["download", ...names], directory);
    const found = new Bun.Glob("*.deb").scan({ cwd: directory, absolute: true });
    return (await Array.fromAsync(found)).filter((path) => names.some((name) => basename(path).startsWith(`${name}_`)));
  }

  #download(command: readonly string[], cwd: string): Promise<void> {
    return this.#locked(async () => {
      try {
        await runHost([...aptGet(this.#directory), ...command], { cwd });
      } catch {
        // The lists may be older than the archive, which drops a version as its successor comes.
        await this.#renew();
        await runHost([...aptGet(this.#directory), ...command], { cwd });
      }
    });
  }

  async #renew(): Promise<void> {
    await runHost([...aptGet(this.#directory), "update"]);
    for (const name of await readdir(this.#directory))
      if (name.startsWith(ANSWER)) await rm(join(this.#directory, name), { force: true });
  }
}

function aptGet(directory: string): string[] {
  return ["apt-get", "-q", "-y", "--no-install-recommends", ...aptOptions(directory)];
}

function aptOptions(directory: string): string[] {
  const settings = {
    "Dir::State": directory,
    "Dir::State::status": join(directory, "status"),
    "Dir::Cache": directory,
    "Dir::Cache::pkgcache": "",
    "Dir::Cache::srcpkgcache": "",
    // The hooks of this machine (clean the archive, refresh a desktop's catalogue) are not for this state.
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::parts": "/dev/null",
    "APT::Sandbox::User": "",
    "APT::Architecture": "amd64",
    "Acquire::Languages": "none",
    "Acquire::Retries": "3",
    "Acquire::Check-Valid-Until": "false",
    "Debug::NoLocking": "true",
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}
