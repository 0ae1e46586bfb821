// Writes an initramfs: a cpio archive in the "newc" format of the kernel's buffer-format page. Values in, bytes out.

export interface InitramfsEntry {
  path: string;
  /** Absent for a directory. */
  content?: Uint8Array;
}

/** The archive of `entries`, in their order: a directory must come before what it holds. Files are 0755. */
export function makeInitramfs(entries: readonly InitramfsEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  entries.forEach((entry, index) => {
    parts.push(...encodeEntry(entry.path, index + 1, entry.content ? 0o100755 : 0o040755, entry.content));
  });
  parts.push(...encodeEntry("TRAILER!!!", 0, 0, undefined));
  return Buffer.concat(parts);
}

function encodeEntry(path: string, inode: number, mode: number, content: Uint8Array | undefined): Uint8Array[] {
  const name = Buffer.from(`${path}\0`);
  const size = content?.length ?? 0;
  const fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.length, 0];
  const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return [head, name, padding(head.length + name.length), content ?? new Uint8Array(0), padding(size)];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}
