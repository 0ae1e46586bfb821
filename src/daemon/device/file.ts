// The real /dev/riprap. Reads in the thread pool, so that a quiet device costs nothing; writes at once.

import { closeSync, constants, openSync, read, writeSync } from "node:fs";
import { ABI, FRAME_HEAD } from "../../abi.ts";
import { RiprapError } from "../../error.ts";
import type { DeviceFile } from "../device.ts";
import { ioctl } from "../libc.ts";

/** Two of the largest frames: the module fills it with as many whole ones as fit. */
const BUFFER_BYTES = 2 * (ABI.FRAME_MAX + FRAME_HEAD.size);

const REMEDY: Readonly<Record<string, string>> = {
  ENOENT: "the kernel module is not loaded; load it with `riprap kernel load`",
  ENXIO: "the kernel module is not loaded; load it with `riprap kernel load`",
  ENODEV: "the kernel module is not loaded; load it with `riprap kernel load`",
  EBUSY: "another daemon holds it; stop that one first",
  EACCES: "only root may open it; run the daemon as root",
  EPERM: "only root may open it; run the daemon as root",
};

/** Opens the device for this process alone. RiprapError with the errno's name as code. */
export function openDeviceFile(path: string): DeviceFile {
  const fd = tryOpen(path);
  const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  return {
    read: () =>
      new Promise((resolve, reject) => {
        read(fd, buffer, 0, buffer.length, null, (error, length) => {
          // A copy: the buffer is filled again while a decoded chain may still be looked at.
          if (error === null) resolve(new Uint8Array(buffer.subarray(0, length)));
          else reject(new RiprapError(error.code ?? "EIO", `Cannot read ${path}: ${error.code ?? error.message}`));
        });
      }),
    write(bytes) {
      const written = writeSync(fd, bytes);
      if (written !== bytes.length)
        throw new RiprapError("EIO", `Cannot write ${path}: ${written} of ${bytes.length} bytes`);
    },
    ioctl: (request, argument) => ioctl(fd, request, argument),
    close: () => closeSync(fd),
  };
}

function tryOpen(path: string): number {
  try {
    return openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "EIO";
    throw new RiprapError(code, `Cannot open ${path}: ${REMEDY[code] ?? code}`, { cause });
  }
}
