/* SPDX-License-Identifier: GPL-2.0 */
/* Where the module meets TCP: new sockets, and the ways round the mediation. */
#ifndef RIPRAP_HOOK_H
#define RIPRAP_HOOK_H

int riprap_hook_init(void);
void riprap_hook_exit(void);

/* hook_mptcp.c */
void riprap_hook_mptcp_init(void);
void riprap_hook_mptcp_exit(void);

#endif
