/*
 * What bindgen reads: the DPDK headers the binding needs, and the few things that Rust cannot
 * take from them directly.
 *
 * - `shim_*` functions stand for DPDK's static inline functions.
 * - `SHIM_*` constants stand for macros over 64-bit values, and for the offsets of mbuf fields:
 *   those moved into anonymous unions in 24.11, while offsetof() names them alike in all versions.
 *
 * Every difference between the releases from DPDK 22.11 to 25.11 is absorbed here and in shim.c.
 */
#ifndef COLO_SHIM_H
#define COLO_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_telemetry.h>
#include <rte_version.h>

enum shim_mbuf_offset {
	SHIM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	SHIM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	SHIM_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	SHIM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	SHIM_MBUF_PORT = offsetof(struct rte_mbuf, port),
	SHIM_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	SHIM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	SHIM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	SHIM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	SHIM_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	SHIM_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	SHIM_MBUF_POOL = offsetof(struct rte_mbuf, pool),
};

/* The widths that mbuf_fields.rs reads and writes at those offsets. */
#define SHIM_ASSERT_WIDTH(field, bytes)                                                            \
	_Static_assert(sizeof(((struct rte_mbuf *)0)->field) == (bytes),                           \
		       "struct rte_mbuf: the width of " #field " has changed")
SHIM_ASSERT_WIDTH(buf_addr, sizeof(void *));
SHIM_ASSERT_WIDTH(data_off, 2);
SHIM_ASSERT_WIDTH(refcnt, 2);
SHIM_ASSERT_WIDTH(nb_segs, 2);
SHIM_ASSERT_WIDTH(port, 2);
SHIM_ASSERT_WIDTH(ol_flags, 8);
SHIM_ASSERT_WIDTH(pkt_len, 4);
SHIM_ASSERT_WIDTH(data_len, 2);
SHIM_ASSERT_WIDTH(buf_len, 2);
SHIM_ASSERT_WIDTH(next, sizeof(void *));
SHIM_ASSERT_WIDTH(tx_offload, 8);
SHIM_ASSERT_WIDTH(pool, sizeof(void *));

/* Where the parts of tx_offload begin, in bits; SHIM_MBUF_TSO_SEGSZ_OFS has 16 bits above it. */
enum shim_mbuf_tx_offload {
	SHIM_MBUF_L2_LEN_OFS = RTE_MBUF_L2_LEN_OFS,
	SHIM_MBUF_L3_LEN_OFS = RTE_MBUF_L3_LEN_OFS,
	SHIM_MBUF_L4_LEN_OFS = RTE_MBUF_L4_LEN_OFS,
	SHIM_MBUF_TSO_SEGSZ_OFS = RTE_MBUF_TSO_SEGSZ_OFS,
};

static const uint64_t SHIM_MBUF_F_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t SHIM_MBUF_F_EXTERNAL = RTE_MBUF_F_EXTERNAL;
static const uint64_t SHIM_MBUF_F_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;
static const uint64_t SHIM_MBUF_F_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t SHIM_MBUF_F_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t SHIM_MBUF_F_RX_LRO = RTE_MBUF_F_RX_LRO;
static const uint64_t SHIM_MBUF_F_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t SHIM_MBUF_F_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t SHIM_MBUF_F_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t SHIM_MBUF_F_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t SHIM_MBUF_F_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t SHIM_MBUF_F_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t SHIM_MBUF_F_TX_UDP_SEG = RTE_MBUF_F_TX_UDP_SEG;
static const uint64_t SHIM_ETH_RX_OFFLOAD_L4_CKSUM =
	RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_ETH_TX_OFFLOAD_L4_CKSUM =
	RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_ETH_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_ETH_TX_OFFLOAD_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t SHIM_ETH_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_ETH_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

/* How the name of the vhost library's event thread begins. */
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define SHIM_VHOST_THREAD "dpdk-vhost-ev"
#else
#define SHIM_VHOST_THREAD "vhost-ev"
#endif

/* glibc's CPU_SETSIZE, visible only with _GNU_SOURCE; checked in shim.c. */
#define SHIM_CPU_SETSIZE 1024
/* The kernel's IF_NAMESIZE, checked in shim.c. */
#define SHIM_IF_NAMESIZE 16

int shim_errno(void);

/** Marks all descriptors but the standard ones to be closed by exec; async-signal-safe. 0 or an errno. */
int shim_close_at_exec(void);

/** From now on DPDK's messages wait for nobody, and its errors are remembered as far as they fit. */
void shim_log_listen(void);
/** Ends the remembering, and copies them to `text`, which holds SHIM_LOG_SAID bytes. */
#define SHIM_LOG_SAID 4096
void shim_log_said(char *text);
uint64_t shim_tsc(void);
/* Whether the lcore may run on the CPU; cpu is below SHIM_CPU_SETSIZE. */
int shim_lcore_runs_on(unsigned int lcore, unsigned int cpu);
/* Makes a poll() end that a thread of this process waits in; other calls go on. 0 or an errno. */
int shim_interrupt_poll(int thread);

uint16_t shim_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);
uint16_t shim_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);
/* Readies frames for the offloads that they ask for; returns how many, from the first on, are. */
uint16_t shim_eth_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);
/* 1 up, 0 down, negative errno. Does not wait for a link that is coming up. */
int shim_eth_link_up(uint16_t port);

struct rte_mbuf *shim_pktmbuf_alloc(struct rte_mempool *pool);
int shim_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int n);
void shim_pktmbuf_free(struct rte_mbuf *frame);
/*
 * Makes the fresh mbuf `part` stand for `len` bytes of the segment `whole` from `offset` on, which
 * counts one more owner.
 */
void shim_pktmbuf_attach_part(struct rte_mbuf *part, struct rte_mbuf *whole, uint16_t offset,
			      uint16_t len);
/* 0, or negative if the chain would have too many segments. */
int shim_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
/* The folded sum of 16-bit words in the machine's byte order, at most 65,535 bytes of them. */
uint16_t shim_raw_cksum(const void *bytes, size_t len);

/* The name of a network interface (IF_NAMESIZE bytes) and its MTU in bytes, or a negative errno. */
int shim_interface(unsigned int index, char *name);
/* What a device was given behind its name, or NULL; it lives as long as the device. */
const char *shim_device_arguments(const struct rte_device *device);
/* Whether the descriptor is a packet socket in a fanout group that makes datagrams of fragments. */
int shim_is_defragmenting(int descriptor);

/* Both return -ERANGE for a value that this DPDK's telemetry cannot carry as a number. */
int shim_tel_dict_int(struct rte_tel_data *d, const char *name, int64_t value);
int shim_tel_dict_uint(struct rte_tel_data *d, const char *name, uint64_t value);
int shim_tel_array_uint(struct rte_tel_data *d, uint64_t value);
int shim_tel_start_uint_array(struct rte_tel_data *d);

#endif
