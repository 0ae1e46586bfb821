// The numbers of processes.

/** PID_MAX_LIMIT of Linux on 64 bits: kernel.pid_max goes no higher, and each number is below it. */
export const PID_MAX = 2 ** 22;
