/* SPDX-License-Identifier: GPL-2.0 */
/* Life of the kernel primitives behind tls13/port.h. */
#ifndef RIPRAP_TLS13_PORT_LIFE_H
#define RIPRAP_TLS13_PORT_LIFE_H

/* 0 or -errno when this kernel lacks a primitive that TLS 1.3 needs. */
int riprap_crypto_init(void);
void riprap_crypto_exit(void);

#endif
