// The keys of the node's CA in kernel/abi.h: arguments of ioctl() on the open device.
import { struct } from "./struct.ts";

export const IMPORT = struct("riprap_authority_import", {
  privateKey: "bytes32",
  publicKey: "bytes65",
  pad0: "pad3",
  slot: "u32",
});
export const SIGN = struct("riprap_authority_sign", {
  slot: "u32",
  signatureLen: "u32",
  digest: "bytes32",
  signature: "bytes72",
});
export const FORGET = struct("riprap_authority_forget", { slot: "u32", pad0: "pad4" });
