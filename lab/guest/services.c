/* The test guest's own services, written so that two copies of one VM answer with the same bytes.
 *
 *   tcp/80   HTTP: /page (300,000 bytes), /large (8 MiB), /big (32 MiB), /small (1 byte); one request a connection.
 *            POST: the body must be what a page is; the answer says whether it was
 *            /dated (1 byte) has a Date header by the VM's clock; /odd has one letter more, which no two VMs choose alike
 *   tcp/7    echo
 *   udp/7    echo, datagram by datagram
 *   tcp/9    one line of random characters, then close: no two VMs answer alike. The line goes to the
 *            debug port first, so that a test knows whose answer a client got.
 *   tcp/8    records, where the VM has a disk: 4096 bytes that begin with their number (64 bits, little endian) are
 *            written to the block of this number and to the first block of their region, synced, and only then
 *            answered with the number and the record's sum (FNV-1a)
 *
 * A stock web server will not do: its Date header follows the VM's clock, and two clocks differ. Of the pages here only
 * those have one that ask for it.
 * Body byte o is byte o mod 8 of the line "%07x\n" of o/8: a skipped or repeated piece shows.
 * All sockets are dual stack. Built static; started once by init.
 */
#include <endian.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* A region of records: its first block repeats the latest one. */
enum { RECORD = 4096, REGION = 16384 };

enum { PAGE = 300000, LARGE = 8 << 20, BIG = 32 << 20, SMALL = 1 };

static char *pattern;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int bound_socket(int type, int port)
{
    int on = 1, off = 0, fd = socket(AF_INET6, type, 0);
    struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

    if (fd < 0)
        fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (struct sockaddr *)&any, sizeof any) || (type == SOCK_STREAM && listen(fd, 128)))
        fail("bind");
    return fd;
}

static void write_whole(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n <= 0)
            _exit(1);
        data += n;
        len -= n;
    }
}

/* Compares a body of len bytes with the pattern; the first have of them have been read to body. */
static void take(int fd, const char *body, size_t have, size_t len)
{
    static char buf[65536];
    size_t at = 0, wrong = len;
    char said[64], answer[192];

    while (at < len) {
        size_t n = have < len - at ? have : len - at;
        if (n && wrong == len && memcmp(body, pattern + at, n))
            for (wrong = at; body[wrong - at] == pattern[wrong];)
                wrong++;
        at += n;
        if (at == len)
            break;
        ssize_t got = read(fd, buf, sizeof buf);
        if (got <= 0)
            return;
        body = buf;
        have = got;
    }
    int n = wrong == len ? snprintf(said, sizeof said, "%zu bytes right\n", len)
                         : snprintf(said, sizeof said, "byte %zu wrong\n", wrong);
    n = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", n, said);
    write_whole(fd, answer, n);
}

/* A page as stock web servers make it, with the time, and with one letter by the clock's nanoseconds if odd. */
static void dated(int fd, int odd)
{
    char date[64], page[256];
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now.tv_sec));
    int n = snprintf(page, sizeof page,
                     "HTTP/1.1 200 OK\r\nServer: lab\r\nDate: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n0",
                     date, odd ? 2 : 1);
    if (odd)
        page[n++] = 'a' + now.tv_nsec / 100 % 26;
    write_whole(fd, page, n);
}

static void http(int fd)
{
    char request[4096], head[128];
    size_t have = 0, len;

    do {
        ssize_t n = read(fd, request + have, sizeof request - 1 - have);
        if (n <= 0)
            return;
        request[have += n] = 0;
    } while (!strstr(request, "\r\n\r\n") && have < sizeof request - 1);
    char *length = strstr(request, "\r\nContent-Length: "), *body = strstr(request, "\r\n\r\n");
    if (!strncmp(request, "POST ", 5) && length && body) {
        len = strtoul(length + 18, NULL, 10);
        if (len <= BIG)
            take(fd, body + 4, request + have - (body + 4), len);
        return;
    }
    if (!strncmp(request, "GET /dated ", 11) || !strncmp(request, "GET /odd ", 9)) {
        dated(fd, request[5] == 'o');
        return;
    }
    if (!strncmp(request, "GET /big ", 9))
        len = BIG;
    else if (!strncmp(request, "GET /large ", 11))
        len = LARGE;
    else if (!strncmp(request, "GET /small ", 11))
        len = SMALL;
    else
        len = PAGE;
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", len);
    /* Head and body in one call: a one-byte page is then one segment. */
    struct iovec parts[2] = { { head, n }, { pattern, len } };
    ssize_t sent = writev(fd, parts, 2);
    if (sent >= n && (size_t)sent < n + len)
        write_whole(fd, pattern + (sent - n), len - (sent - n));
}

static void echo(int fd)
{
    char buf[65536];
    ssize_t n;

    while ((n = read(fd, buf, sizeof buf)) > 0)
        write_whole(fd, buf, n);
}

/* QEMU's isa-debugcon: a port without state, interrupts or a driver that could wait. */
enum { DEBUG_CONSOLE = 0xe9 };

static void differ(int fd)
{
    uint64_t seed;
    struct timespec now;
    char line[64];
    int random = open("/dev/urandom", O_RDONLY);

    /* A copied VM has the same random pool, so the clock has to part them: its nanoseconds never agree. */
    if (read(random, &seed, sizeof seed) != sizeof seed)
        _exit(1);
    clock_gettime(CLOCK_MONOTONIC, &now);
    seed ^= now.tv_sec * 1000000000ULL + now.tv_nsec;
    uint64_t a = seed * 0x9e3779b97f4a7c15ULL, b = (a ^ (a >> 29)) * 0xbf58476d1ce4e5b9ULL;
    int n = snprintf(line, sizeof line, "answer %016llx%016llx\n", (unsigned long long)(a ^ (a >> 32)),
                     (unsigned long long)(b ^ (b >> 31)));
    if (ioperm(DEBUG_CONSOLE, 1, 1) == 0)
        outsb(DEBUG_CONSOLE, line, n);
    write_whole(fd, line, n);
}

static int write_block(int disk, const char *record, uint64_t block)
{
    return pwrite(disk, record, RECORD, block * RECORD) != RECORD;
}

static void records(int fd)
{
    static char record[RECORD];
    int disk = open("/dev/vda", O_RDWR);

    while (disk >= 0) {
        uint64_t number, sum = 0xcbf29ce484222325;
        char answer[64];

        for (size_t have = 0; have < RECORD;) {
            ssize_t n = read(fd, record + have, RECORD - have);
            if (n <= 0)
                return;
            have += n;
        }
        memcpy(&number, record, sizeof number);
        number = le64toh(number);
        for (int i = 0; i < RECORD; i++)
            sum = (sum ^ (unsigned char)record[i]) * 0x100000001b3;
        if (write_block(disk, record, number) || write_block(disk, record, number - number % REGION) || fsync(disk))
            return;
        int n = snprintf(answer, sizeof answer, "written %llu %016llx\r\n", (unsigned long long)number,
                         (unsigned long long)sum);
        write_whole(fd, answer, n);
    }
}

static void serve_tcp(int port, void (*serve)(int))
{
    int on = 1, listener = bound_socket(SOCK_STREAM, port);

    if (fork())
        return;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (fork() == 0) {
            serve(fd);
            _exit(0);
        }
        close(fd);
    }
}

static void serve_udp_echo(int port)
{
    int fd = bound_socket(SOCK_DGRAM, port);
    static char buf[65536];

    if (fork())
        return;
    for (;;) {
        struct sockaddr_in6 peer;
        socklen_t len = sizeof peer;
        ssize_t n = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&peer, &len);
        if (n >= 0)
            sendto(fd, buf, n, 0, (struct sockaddr *)&peer, len);
    }
}

int main(void)
{
    /* Shared, so that a fork copies no page tables of it. */
    pattern = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pattern == MAP_FAILED)
        fail("mmap");
    for (unsigned i = 0; i < BIG / 8; i++) {
        char *at = pattern + 8 * i;
        for (int digit = 0; digit < 7; digit++)
            at[digit] = "0123456789abcdef"[i >> (24 - 4 * digit) & 15];
        at[7] = '\n';
    }
    signal(SIGCHLD, SIG_IGN);
    serve_tcp(80, http);
    serve_tcp(7, echo);
    serve_tcp(9, differ);
    serve_tcp(8, records);
    serve_udp_echo(7);
    return 0;
}
