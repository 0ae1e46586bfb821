// The kernel module as keeper of the CA's keys: three calls on the open device. Keeps no copy of what it hands over.

import { ABI, AUTHORITY } from "../abi.ts";
import type { KeyModule } from "../ca.ts";
import { RiprapError } from "../error.ts";

/** One call with its struct, which it changes; throws RiprapError with the errno's name as code. */
export type DeviceCall = (request: number, argument: Uint8Array) => void;

/** By the calls of one opening of the device: what it keeps ends with that. */
export function keyModuleOf(call: DeviceCall): KeyModule {
  return {
    import(privateKey) {
      const publicKey = new Uint8Array(AUTHORITY_POINT_BYTES);
      const argument = AUTHORITY.import.encode({ privateKey, publicKey, slot: 0 });
      privateKey.fill(0);
      try {
        call(ABI.AUTHORITY_IMPORT, argument);
        const { slot, publicKey: point } = AUTHORITY.import.decode(viewOf(argument), 0);
        return { slot, publicKey: point };
      } finally {
        argument.fill(0);
      }
    },
    sign(slot, digest) {
      const empty = { signatureLen: 0, signature: new Uint8Array(AUTHORITY_SIGNATURE_BYTES) };
      const argument = AUTHORITY.sign.encode({ slot, digest, ...empty });
      call(ABI.AUTHORITY_SIGN, argument);
      const { signatureLen, signature } = AUTHORITY.sign.decode(viewOf(argument), 0);
      return signature.subarray(0, signatureLen);
    },
    forget(slot) {
      try {
        call(ABI.AUTHORITY_FORGET, AUTHORITY.forget.encode({ slot }));
      } catch (thrown) {
        // Closed or gone: then the module has wiped it already.
        if (!(thrown instanceof RiprapError)) throw thrown;
      }
    },
  };
}

const AUTHORITY_POINT_BYTES = 65;
const AUTHORITY_SIGNATURE_BYTES = 72;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
