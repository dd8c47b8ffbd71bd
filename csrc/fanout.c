/*
 * Keeps the packet sockets of DPDK's net_af_packet out of fanout groups.
 *
 * The driver puts each of its sockets into a group with PACKET_FANOUT_FLAG_DEFRAG, even with one
 * queue, and has no argument against it (22.11, rte_pmd_init_internals). The kernel then makes one
 * datagram of the fragments of an IPv4 datagram and cuts it off at the length of a frame of the ring.
 * A node polls one queue of a port, so it needs no group. The driver resolves setsockopt() in the
 * program first, which exports this one, and then in the C library.
 */
#include "shim.h"

#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int
setsockopt(int descriptor, int level, int option, const void *value, socklen_t length)
{
	if (level == SOL_PACKET && option == PACKET_FANOUT)
		return 0;
	return (int)syscall(SYS_setsockopt, descriptor, level, option, value, length);
}

int
shim_is_defragmenting(int descriptor)
{
	/* Id, type and flags of the group; 0 without one (packet_getsockopt of Linux). */
	unsigned int group = 0;
	socklen_t length = sizeof(group);

	return getsockopt(descriptor, SOL_PACKET, PACKET_FANOUT, &group, &length) == 0 &&
	       (group >> 16 & PACKET_FANOUT_FLAG_DEFRAG) != 0;
}
