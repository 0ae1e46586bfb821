// SPDX-License-Identifier: GPL-2.0
/* 6.14: kTLS takes a second key for a direction (TLS 1.3 KeyUpdate). */
#include <uapi/linux/snmp.h>

int probe(void);
int probe(void)
{
	return LINUX_MIB_TLSRXREKEYOK;
}
