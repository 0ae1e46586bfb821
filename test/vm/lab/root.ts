// The disk of programs that every VM shares: Debian packages unpacked into a tree, with the few files that their maintainer scripts would write.
import { cp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached, digestOf, runHost } from "./cache.ts";
import { openPackages } from "./debian.ts";
import { makeDisk } from "./image.ts";

export const ROOT_PACKAGES: readonly string[] = [
  // a system to stand on
  "base-files",
  "base-passwd",
  "bash",
  "coreutils",
  "dash",
  "findutils",
  "grep",
  "gzip",
  "hostname",
  "iproute2",
  "iputils-ping",
  "kmod",
  "libc-bin",
  "mawk",
  "mount",
  "netbase",
  "procps",
  "psmisc",
  "sed",
  "tar",
  "util-linux",
  // the programs that know nothing of riprap
  "curl",
  "haproxy",
  "nats-server",
  "nginx-light",
  "openssl",
  "postgresql-15",
  "postgresql-client-15",
  "python3",
  "redis-server",
  "redis-tools",
  "socat",
  "wget",
  // to look at them
  "strace",
  "tcpdump",
];

// Half of the bytes, and nothing of it runs: the JIT of PostgreSQL, and what only maintainer scripts call.
export const LEFT_OUT =
  /^(libllvm14|libz3-4|locales|libc-l10n|perl|perl-base|perl-modules.*|libperl5.*|usrmerge|debconf|dpkg|adduser|ucf)_/;
const PATHS_LEFT_OUT = [
  "./usr/share/doc",
  "./usr/share/man",
  "./usr/share/locale",
  "./usr/share/info",
  "./usr/share/lintian",
];

// uid and gid of the accounts that packages would make when installed, and of two people for tests.
const ACCOUNTS: readonly (readonly [name: string, id: number, home: string])[] = [
  ["postgres", 110, "/var/lib/postgresql"],
  ["redis", 111, "/var/lib/redis"],
  ["haproxy", 112, "/var/lib/haproxy"],
  ["tcpdump", 113, "/nonexistent"],
  ["alice", 1000, "/home/alice"],
  ["bob", 1001, "/home/bob"],
];

const FILES: Record<string, string> = {
  "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  "etc/hostname": "vm\n",
  "etc/resolv.conf": "",
};

/** Path of the disk. */
export async function prepareRootDisk(): Promise<string> {
  const packages = await openPackages();
  const names = (await packages.closure(ROOT_PACKAGES)).filter((name) => !LEFT_OUT.test(name));
  const recipe = await readFile(import.meta.path);
  const directory = await cached("root", digestOf(recipe, ...names), async (fresh) => {
    const tree = join(fresh, "tree");
    await makeSkeleton(tree);
    for (const file of await packages.downloadClosure(ROOT_PACKAGES))
      if (!LEFT_OUT.test(basename(file))) await unpack(file, tree);
    await writeSystemFiles(tree);
    // python3's maintainer script would compile its library; without, every start of Python takes seconds under emulation.
    if (process.getuid?.() === 0)
      await runHost(["chroot", tree, "python3", "-m", "compileall", "-q", "/usr/lib/python3.11"]);
    await makeDisk(tree, join(fresh, "root.ext4"));
    await rm(tree, { recursive: true });
  });
  return join(directory, "root.ext4");
}

async function makeSkeleton(tree: string): Promise<void> {
  await mergeUsr(tree);
  for (const name of ["dev", "proc", "sys", "run", "tmp", "root", "home/alice", "home/bob", "etc/riprap", "var/lib"])
    await mkdir(join(tree, name), { recursive: true });
  await symlink("/run", join(tree, "var/run"));
}

/** Debian 12 is a merged-/usr system, but its packages still ship files under /bin and /lib: the links must be there first. */
export async function mergeUsr(tree: string): Promise<void> {
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await mkdir(join(tree, "usr", name), { recursive: true });
    await symlink(`usr/${name}`, join(tree, name));
  }
}

export async function unpack(file: string, tree: string): Promise<void> {
  const excludes = PATHS_LEFT_OUT.map((path) => `--exclude=${path}`).join(" ");
  const owner = process.getuid?.() === 0 ? "--same-owner" : "--no-same-owner";
  const script = `dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --keep-directory-symlink --numeric-owner ${owner} ${excludes}`;
  await runHost(["bash", "-o", "pipefail", "-c", script, file, tree]);
}

async function writeSystemFiles(tree: string): Promise<void> {
  const master = join(tree, "usr/share/base-passwd");
  const passwd = ACCOUNTS.map(([name, id, home]) => `${name}:x:${id}:${id}::${home}:/bin/sh\n`).join("");
  const group = ACCOUNTS.map(([name, id]) => `${name}:x:${id}:\n`).join("");
  await writeFile(join(tree, "etc/passwd"), (await readFile(join(master, "passwd.master"), "utf8")) + passwd);
  await writeFile(join(tree, "etc/group"), (await readFile(join(master, "group.master"), "utf8")) + group);
  for (const [path, text] of Object.entries(FILES)) await writeFile(join(tree, path), text);
  // update-alternatives and dpkg-divert would make these.
  await cp(join(tree, "usr/bin/mawk"), join(tree, "usr/bin/awk"));
  await rm(join(tree, "usr/bin/sh"), { force: true });
  await symlink("dash", join(tree, "usr/bin/sh"));
  for (const server of ["initdb", "pg_ctl", "postgres", "psql"]) {
    await rm(join(tree, "usr/bin", server), { force: true });
    await symlink(`/usr/lib/postgresql/15/bin/${server}`, join(tree, "usr/bin", server));
  }
}
