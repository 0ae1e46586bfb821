// Names of Linux capabilities by bit (capabilities(7)).

const NAMES = (
  "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE " +
  "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN " +
  "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE " +
  "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
  .split(" ")
  .map((name) => `CAP_${name}`);

/** `CAP_NET_RAW`, … of a mask, lowest bit first; bits without a name are left out. */
export function capabilityNames(mask: bigint): readonly string[] {
  // Bits of a bigint are slow to come by, and there are more calls than kinds of processes.
  const low = Number(BigInt.asUintN(32, mask));
  const high = Number(BigInt.asUintN(32, mask >> 32n));
  return NAMES.filter((_, bit) => (((bit < 32 ? low : high) >>> (bit & 31)) & 1) === 1);
}
