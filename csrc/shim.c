/* DPDK's static inline functions as functions that Rust can call. */
#define _GNU_SOURCE /* rte_lcore_cpuset() and cpu_set_t */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(CPU_SETSIZE == SHIM_CPU_SETSIZE, "the size of cpu_set_t has changed");
_Static_assert(IF_NAMESIZE == SHIM_IF_NAMESIZE, "the length of interface names has changed");

int
shim_errno(void)
{
	return rte_errno;
}

int
shim_close_at_exec(void)
{
#if defined(SYS_close_range) && defined(CLOSE_RANGE_CLOEXEC)
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return 0;
#endif
	/* Linux before 5.11. More descriptors than that would take seconds to go through, and nobody has them. */
	const rlim_t bound = 1 << 20;
	struct rlimit most;

	if (getrlimit(RLIMIT_NOFILE, &most) != 0)
		return errno;
	if (most.rlim_cur > bound)
		most.rlim_cur = bound;
	for (rlim_t fd = 3; fd < most.rlim_cur; fd++)
		(void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

uint64_t
shim_tsc(void)
{
	return rte_rdtsc();
}

int
shim_lcore_runs_on(unsigned int lcore, unsigned int cpu)
{
	rte_cpuset_t cpus = rte_lcore_cpuset(lcore);

	return CPU_ISSET(cpu, &cpus) != 0;
}

static void
nothing(int signal)
{
	(void)signal;
}

int
shim_interrupt_poll(int thread)
{
	/* poll() is never restarted, whatever SA_RESTART says (signal(7)). */
	struct sigaction action = { .sa_handler = nothing, .sa_flags = SA_RESTART };

	if (sigaction(SIGURG, &action, NULL) != 0 ||
	    syscall(SYS_tgkill, getpid(), thread, SIGURG) != 0)
		return errno;
	return 0;
}

int
shim_interface(unsigned int index, char *name)
{
	struct ifreq request = { 0 };
	int fd, ret;

	if (if_indextoname(index, name) == NULL)
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	memcpy(request.ifr_name, name, IF_NAMESIZE);
	ret = ioctl(fd, SIOCGIFMTU, &request) == 0 ? request.ifr_mtu : -errno;
	close(fd);
	return ret;
}

const char *
shim_device_arguments(const struct rte_device *device)
{
	const struct rte_devargs *devargs = device == NULL ? NULL : rte_dev_devargs(device);

	return devargs == NULL ? NULL : devargs->args;
}

uint16_t
shim_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, frames, n);
}

uint16_t
shim_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, frames, n);
}

uint16_t
shim_eth_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_tx_prepare(port, queue, frames, n);
}

int
shim_eth_link_up(uint16_t port)
{
	struct rte_eth_link link;
	int ret = rte_eth_link_get_nowait(port, &link);

	return ret < 0 ? ret : link.link_status == RTE_ETH_LINK_UP;
}

struct rte_mbuf *
shim_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int
shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int n)
{
	return rte_pktmbuf_alloc_bulk(pool, frames, n);
}

void
shim_pktmbuf_free(struct rte_mbuf *frame)
{
	rte_pktmbuf_free(frame);
}

void
shim_pktmbuf_attach_part(struct rte_mbuf *part, struct rte_mbuf *whole, uint16_t offset,
			 uint16_t len)
{
	rte_pktmbuf_attach(part, whole);
	part->ol_flags &= ~RTE_MBUF_F_TX_OFFLOAD_MASK;
	part->data_off += offset;
	part->data_len = len;
	part->pkt_len = len;
}

int
shim_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail)
{
	return rte_pktmbuf_chain(head, tail);
}

uint16_t
shim_raw_cksum(const void *bytes, size_t len)
{
	return rte_raw_cksum(bytes, len);
}

/* 23.03 widened telemetry's int to 64 bits and renamed u64 to uint. */
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)

int
shim_tel_dict_int(struct rte_tel_data *d, const char *name, int64_t value)
{
	return rte_tel_data_add_dict_int(d, name, value);
}

int
shim_tel_dict_uint(struct rte_tel_data *d, const char *name, uint64_t value)
{
	return rte_tel_data_add_dict_uint(d, name, value);
}

int
shim_tel_array_uint(struct rte_tel_data *d, uint64_t value)
{
	return rte_tel_data_add_array_uint(d, value);
}

int
shim_tel_start_uint_array(struct rte_tel_data *d)
{
	return rte_tel_data_start_array(d, RTE_TEL_UINT_VAL);
}

#else

int
shim_tel_dict_int(struct rte_tel_data *d, const char *name, int64_t value)
{
	if (value < INT_MIN || value > INT_MAX)
		return -ERANGE;
	return rte_tel_data_add_dict_int(d, name, (int)value);
}

int
shim_tel_dict_uint(struct rte_tel_data *d, const char *name, uint64_t value)
{
	return rte_tel_data_add_dict_u64(d, name, value);
}

int
shim_tel_array_uint(struct rte_tel_data *d, uint64_t value)
{
	return rte_tel_data_add_array_u64(d, value);
}

int
shim_tel_start_uint_array(struct rte_tel_data *d)
{
	return rte_tel_data_start_array(d, RTE_TEL_U64_VAL);
}

#endif
