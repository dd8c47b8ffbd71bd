/*
 * DPDK's messages on their way to stderr. Nobody waits where nobody reads it: the vhost library's thread, which
 * QEMU waits for, has messages as well. Errors of EAL's start are remembered, for the program's own last line.
 */
#define _GNU_SOURCE /* fopencookie() */
#include "shim.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_log.h>

static FILE *stream;
/* Guarded by the stream's lock. */
static char said[SHIM_LOG_SAID];
static size_t length;
static int listens;

static ssize_t
pass_on(void *cookie, const char *text, size_t size)
{
	size_t room = sizeof(said) - 1 - length, kept = size < room ? size : room, at = 0;

	(void)cookie;
	if (listens && rte_log_cur_msg_loglevel() <= (int)RTE_LOG_ERR) {
		memcpy(said + length, text, kept);
		length += kept;
	}
	while (at < size) {
		struct pollfd err = { .fd = STDERR_FILENO, .events = POLLOUT };
		/* A pipe that can be written to takes as much at once. */
		size_t part = size - at < PIPE_BUF ? size - at : PIPE_BUF;
		ssize_t written;

		if (poll(&err, 1, 0) != 1 || !(err.revents & POLLOUT))
			break;
		written = write(STDERR_FILENO, text + at, part);
		/* There is nowhere left to report it. */
		if (written <= 0)
			break;
		at += written;
	}
	return size;
}

void
shim_log_listen(void)
{
	cookie_io_functions_t functions = { .write = pass_on };

	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return;
	listens = 1;
	rte_openlog_stream(stream);
}

void
shim_log_said(char *text)
{
	if (stream == NULL) {
		text[0] = 0;
		return;
	}
	flockfile(stream);
	memcpy(text, said, length);
	text[length] = 0;
	listens = 0;
	funlockfile(stream);
}
