/* SPDX-License-Identifier: GPL-2.0 */
/* The keys of the node's CA: taken in once, used here, never given out. */
#ifndef RIPRAP_AUTHORITY_KEY_H
#define RIPRAP_AUTHORITY_KEY_H

/* May sleep. Only for the holder of the device. */
long riprap_authority_key_ioctl(unsigned int command, unsigned long argument);

/* The device is closed: all keys are wiped. */
void riprap_authority_key_forget_all(void);

#endif
