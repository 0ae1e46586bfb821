// The house rules as tests: what may lie where, who may know whom, and what a file looks like. Each rule says why.

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const ROOT = dirname(import.meta.dir);

/** What git knows and what it is about to know; never what a build leaves behind. */
function listFiles(...which: readonly string[]): string[] {
  const { stdout } = Bun.spawnSync(["git", "ls-files", ...which], { cwd: ROOT });
  return stdout
    .toString()
    .split("\n")
    .filter((path) => path !== "" && existsSync(join(ROOT, path)));
}

const TRACKED = listFiles();
const FILES = listFiles("--cached", "--others", "--exclude-standard");
const SOURCES = FILES.filter((path) => /^src\/.*\.ts$/.test(path));
const TYPESCRIPT = FILES.filter((path) => /^(src|test)\/.*\.ts$/.test(path));
const C = FILES.filter((path) => /\.[ch]$/.test(path));

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

interface Import {
  readonly from: string;
  /** A path below the root, or the name of something outside. */
  readonly to: string;
  readonly isType: boolean;
}

const IMPORTS: readonly Import[] = SOURCES.flatMap((from) =>
  [...read(from).matchAll(/^(?:import|export)\s+(type\s)?[^;]*?from\s+"([^"]+)"|\bimport\("([^"]+)"\)/gms)].map(
    ([, type, name, lazy]) => {
      const target = name ?? lazy ?? "";
      return {
        from,
        to: target.startsWith(".") ? normalize(join(dirname(from), target)) : target,
        isType: type !== undefined,
      };
    },
  ),
);

/** A rule: its reason, and what breaks it, a line each. */
function rule(reason: string, broken: () => readonly string[]): void {
  test(reason, () => expect(broken()).toEqual([]));
}

function importing(from: RegExp, to: RegExp): string[] {
  return IMPORTS.filter((entry) => from.test(entry.from) && to.test(entry.to)).map(
    (entry) => `${entry.from} imports ${entry.to}`,
  );
}

describe("the top level", () => {
  const TOP = new Set([
    "src",
    "kernel",
    "systemd",
    "test",
    "docs",
    ".ci",
    "run",
    "package.json",
    "bun.lock",
    "bunfig.toml",
    "tsconfig.json",
    "biome.json",
    ".gitignore",
    ".gitattributes",
    "README.md",
    "ARCHITECTURE.md",
    "STYLE.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "LICENSE",
  ]);

  rule(
    "a stranger finds everything from the first listing, so a new place at the top level is a decision, not an accident",
    () => [...new Set(TRACKED.map((path) => path.split("/")[0] ?? ""))].filter((name) => !TOP.has(name)),
  );

  rule(
    "C is compiled for the kernel or to test it; anything else is TypeScript, where hostile bytes are safer to parse",
    () => C.filter((path) => !/^(kernel|test)\//.test(path)),
  );

  rule("what was built is made again, never kept: a stale binary is worse than none", () =>
    FILES.filter(
      (path) =>
        /\.(o|ko|mod|a|so|exe|tar|gz|xz|zst)$/.test(path) &&
        !/\/(fixture|corpus)\//.test(path) &&
        !/\/go\.mod$/.test(path),
    ),
  );
});

describe("imports", () => {
  rule(
    "imports run one way (values ← ca, federation ← daemon ← cli ← main): below never knows above, so that it can be tested without",
    () => [
      ...importing(/^src\/(?!daemon|cli|main)/, /^src\/(daemon|cli|main)/),
      ...importing(/^src\/daemon/, /^src\/(cli|main)/),
      ...importing(/^src\/cli/, /^src\/main/),
    ],
  );

  rule("ca and federation do not know each other: a CA that spoke to the network could be asked by it", () => [
    ...importing(/^src\/ca(\/|\.ts)/, /^src\/federation/),
    ...importing(/^src\/federation/, /^src\/ca(\/|\.ts)/),
  ]);

  rule(
    "x.ts is the door of x/: who is outside knocks there, so that a room can be rearranged without a word to others",
    () =>
      IMPORTS.filter(({ from, to }) => {
        const [, door] = /^(src\/(?:abi|ca|policy|resource|selector))\//.exec(to) ?? [];
        return door !== undefined && from !== `${door}.ts` && !from.startsWith(`${door}/`);
      }).map(({ from, to }) => `${from} imports ${to}`),
  );

  rule("nothing but main.ts runs when it is imported, and nothing imports main.ts", () =>
    importing(/./, /^src\/main\.ts$/),
  );

  rule("no file imports itself round a corner: what waits for itself cannot be understood one piece at a time", () =>
    cycles(),
  );

  const ONE_IMPORTER: Readonly<Record<string, readonly [importers: string | readonly string[], reason: string]>> = {
    "bun:ffi": ["src/daemon/libc.ts", "a wrong pointer ends the process: every foreign call is in sight in one file"],
    "bun:sqlite": ["src/store.ts", "permissions, journal mode and migrations are decided once"],
    "@peculiar/x509": ["src/ca/x509.ts", "one place turns foreign certificates into our values"],
    "@grpc/grpc-js": [
      "src/daemon/workload_api/server.ts",
      "what comes over the Workload API's socket is told from who sent it in one place",
    ],
    jose: [
      ["src/jws.ts", "src/federation/discovery.ts"],
      "which tokens are taken is decided once, and how its keys are shown to those who know no SPIFFE",
    ],
    nats: ["src/federation/nats.ts", "what comes over the broker is told from what is believed in one place"],
    hono: [
      [
        "src/daemon/control.ts",
        "src/daemon/control/authority.ts",
        "src/daemon/control/bundle.ts",
        "src/daemon/control/fleet.ts",
        "src/daemon/endpoint/app.ts",
      ],
      "an application is apart from its listener: the control API, whose rooms have routes of their own, and the endpoints",
    ],
    yaml: ["src/yaml.ts", "one reader decides which YAML is too clever to be taken"],
    "@noble/curves": ["src/federation/curve.ts", "which curve does what, and why, is said in one place"],
    "node:http": ["", "Bun.serve serves"],
    "node:https": ["", "node:tls shows the client's certificate, which this does not"],
    "node:vm": ["", "nothing is evaluated"],
  };

  for (const [outside, [importers, reason]] of Object.entries(ONE_IMPORTER)) {
    const names = [importers].flat().join(", ");
    rule(`${outside} is imported by ${names === "" ? "nothing" : names} alone: ${reason}`, () =>
      IMPORTS.filter(
        ({ from, to }) => (to === outside || to.startsWith(`${outside}/`)) && ![importers].flat().includes(from),
      ).map(({ from }) => from),
    );
  }

  rule("only what package.json names is imported, so that the lock file is the whole truth", () => {
    const known = new Set(Object.keys(manifest().dependencies));
    // `@scope/name/file` and `name/file` are of the package before the file.
    const packageOf = (to: string) => /^(@[^/]+\/)?[^/]+/.exec(to)?.[0] ?? to;
    return IMPORTS.filter(
      ({ to }) => !/^(src\/|package\.json$|node:|bun:|bun$)/.test(to) && !known.has(packageOf(to)),
    ).map(({ from, to }) => `${from} imports ${to}`);
  });

  rule("deciders take the time as a value: a test owns the clock, and an answer can be had again", () =>
    SOURCES.filter(
      (path) =>
        /^src\/(ca|federation|policy|resource|selector)(\/|\.ts)/.test(path) &&
        /\b(Date\.now|performance\.now|Math\.random|setTimeout|setInterval)\(/.test(read(path)),
    ),
  );
});

describe("files", () => {
  rule("a file of more than 400 lines (C: 500) is two things; abi.h alone is one contract, in one place", () => [
    ...SOURCES.filter((path) => lines(path) > 400),
    ...C.filter((path) => /^kernel\//.test(path) && path !== "kernel/abi.h" && lines(path) > 500),
  ]);

  rule("the first line says what a file does, so that it can be chosen without being read", () =>
    // A test's own name is the sentence: it says what it tests.
    TYPESCRIPT.filter((path) => {
      if (path.endsWith(".test.ts")) return false;
      const [first = "", second = ""] = read(path).split("\n");
      const sentence = first.startsWith("#!") ? second : first;
      return !/^\/\/ .{10,}/.test(sentence);
    }),
  );

  rule("every C file begins with its licence, because kernel/ is not under the licence of the rest", () =>
    C.filter((path) => !/SPDX-License-Identifier: /.test(read(path).split("\n")[0] ?? "")),
  );

  rule("names are snake_case, the same on every file system", () =>
    FILES.filter((path) => /^(src|kernel|systemd|test|docs)\//.test(path) && /\.(ts|c|h|md)$/.test(path)).filter(
      // In capitals as the pages at the top: it is what a stranger asks for by that name.
      (path) =>
        path !== "docs/CONFORMANCE.md" && path.split("/").some((name) => !/^\.?[a-z0-9_]+(\.[a-z0-9_]+)*$/.test(name)),
    ),
  );

  rule("a file that is named for what it is not (utils, helpers, common, manager) collects what nobody wanted", () =>
    FILES.filter((path) => /(^|[/_.])(utils?|helpers?|common|misc|managers?)([/_.]|$)/.test(path)),
  );

  rule("a named export is found by its name: no default exports, no barrels", () =>
    TYPESCRIPT.filter((path) => /^export (default\b|\*)/m.test(read(path))),
  );

  rule("what is left to do is an issue, not a remark in the code", () =>
    [...TYPESCRIPT, ...C].filter((path) =>
      /\b(TODO|FIXME|XXX|HACK)\b/.test(read(path).replaceAll(/\/\\b\(TODO.*$/gm, "")),
    ),
  );

  rule("a path of one machine, or the host of a registry, works nowhere else", () => {
    const machine = new RegExp(`["'\`(\\s](/${"work"}/|/${"home"}/[a-z]+/|https?://(registry|deb|pypi|proxy)\\.)`);
    return FILES.filter(
      (path) =>
        /\.(ts|c|h|md|json|service|ya?ml)$|^run$|^\.ci\//.test(path) && path !== "bun.lock" && machine.test(read(path)),
    );
  });
});

describe("dependencies", () => {
  rule("an exact pin is what was looked at; a range lets in what was not", () => {
    const { dependencies, devDependencies } = manifest();
    return Object.entries({ ...dependencies, ...devDependencies })
      .filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))
      .map(([name, version]) => `${name} ${version}`);
  });

  rule("every dependency has its reason in docs/dependencies.md, or it goes", () => {
    const { dependencies, devDependencies } = manifest();
    const text = read("docs/dependencies.md");
    return Object.keys({ ...dependencies, ...devDependencies }).filter((name) => !text.includes(`| \`${name}\` |`));
  });

  rule("docs/dependencies.md speaks of nothing that is gone, and of nothing twice", () => {
    const { dependencies, devDependencies } = manifest();
    const named = [...read("docs/dependencies.md").matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name ?? "");
    return named.filter(
      (name, index) => (dependencies[name] ?? devDependencies[name]) === undefined || named.indexOf(name) !== index,
    );
  });
});

function manifest(): { dependencies: Record<string, string>; devDependencies: Record<string, string> } {
  return JSON.parse(read("package.json"));
}

function lines(path: string): number {
  return read(path).split("\n").length - 1;
}

/** Each cycle of imports that are there at run time, once, by its first file. */
function cycles(): string[] {
  const next = new Map<string, string[]>();
  for (const { from, to, isType } of IMPORTS) {
    // A room may ask its own door for the values that the door shows.
    const isOwnDoor = from.startsWith(`${to.replace(/\.ts$/, "")}/`);
    if (!isType && !isOwnDoor && to.startsWith("src/")) next.set(from, [...(next.get(from) ?? []), to]);
  }
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (file: string, way: readonly string[]): void => {
    if (way.includes(file)) {
      found.push([...way.slice(way.indexOf(file)), file].join(" → "));
      return;
    }
    if (done.has(file)) return;
    for (const other of next.get(file) ?? []) visit(other, [...way, file]);
    done.add(file);
  };
  for (const file of SOURCES) visit(file, []);
  return found;
}
