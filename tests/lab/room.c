/*
 * A new side whose file system has a quota that runs out: put before Dovecot by LD_PRELOAD.
 *
 *   LAB_ROOM   path of a file that says how many octets each process of its doveadm service may write; while it exists,
 *              what goes beyond that fails with EDQUOT, and from then on (the file says 0) everything
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_doveadm;
static long long written;

__attribute__((constructor)) static void begin(void)
{
	is_doveadm = strncmp(program_invocation_short_name, "doveadm", 7) == 0;
}

/* Whether `length` octets more are too many. */
static int full(int fd, size_t length)
{
	const char *path = getenv("LAB_ROOM");
	long long left = 0;
	struct stat st;
	FILE *file;

	if (!is_doveadm || path == NULL || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return 0;
	/* What has no name is no mail yet: it lies in /tmp. */
	if (st.st_nlink == 0)
		return 0;
	file = fopen(path, "r");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%lld", &left) != 1)
		left = 0;
	fclose(file);
	written += length;
	if (written <= left)
		return 0;
	/* Only what is there: the test may have taken it away. */
	fd = open(path, O_WRONLY | O_TRUNC);
	if (fd >= 0)
		close(fd);
	errno = EDQUOT;
	return 1;
}

static size_t sum(const struct iovec *parts, int count)
{
	size_t octets = 0;

	while (count-- > 0)
		octets += parts[count].iov_len;
	return octets;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t length)
{
	return full(fd, length) ? -1 : REAL(write)(fd, data, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
	return full(fd, length) ? -1 : REAL(pwrite)(fd, data, length, at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at)
{
	return full(fd, length) ? -1 : REAL(pwrite64)(fd, data, length, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
	return full(fd, sum(parts, count)) ? -1 : REAL(writev)(fd, parts, count);
}
