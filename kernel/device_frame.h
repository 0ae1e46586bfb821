/* SPDX-License-Identifier: GPL-2.0 */
/* Between device.c, which moves frames, and device_frame.c, which hands them on. */
#ifndef RIPRAP_DEVICE_FRAME_H
#define RIPRAP_DEVICE_FRAME_H

#include <linux/types.h>

/* device_frame.c */
int riprap_device_check(const u8 *data, size_t size, u64 sequence);
u64 riprap_device_handle(const u8 *data, size_t size, u64 sequence);

/* device.c */
void riprap_device_start(void);
void riprap_device_wake(void);
u64 riprap_device_snapshots(void);

#endif
