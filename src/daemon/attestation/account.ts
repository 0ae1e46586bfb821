// Names of users and groups from /etc/passwd and /etc/group. Never asks a network directory.

import { readFileSync, statSync } from "node:fs";

const FILE_BYTES_MAX = 16 << 20; // more accounts than a node has

export interface AccountNames {
  userName(uid: number): string | undefined;
  groupName(gid: number): string | undefined;
}

/** Reads each file again when its inode, size or mtime changes. */
export function openAccountNames(files = { passwd: "/etc/passwd", group: "/etc/group" }): AccountNames {
  const users = new NameFile(files.passwd);
  const groups = new NameFile(files.group);
  return { userName: (uid) => users.nameOf(uid), groupName: (gid) => groups.nameOf(gid) };
}

class NameFile {
  readonly #path: string;
  #stamp = "";
  #names: ReadonlyMap<number, string> = new Map();

  constructor(path: string) {
    this.#path = path;
  }

  nameOf(id: number): string | undefined {
    try {
      const { ino, size, mtimeMs } = statSync(this.#path);
      const stamp = `${ino} ${size} ${mtimeMs}`;
      if (stamp !== this.#stamp) {
        this.#names = size > FILE_BYTES_MAX ? new Map() : parseNames(readFileSync(this.#path, "utf8"));
        this.#stamp = stamp;
      }
    } catch {
      this.#names = new Map(); // no file, no names: the labels are then unknown
      this.#stamp = "";
    }
    return this.#names.get(id);
  }
}

/** `name:x:id:…` lines; the first name of an ID counts, as getpwuid has it. */
export function parseNames(text: string): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (const line of text.split("\n")) {
    const [name = "", , id = ""] = line.split(":");
    if (/^[^#+-]/.test(name) && /^\d+$/.test(id) && !names.has(Number(id))) names.set(Number(id), name);
  }
  return names;
}
