/*
 * A disk that fills up and loses power, for the files of one SQLite database: put before a program by LD_PRELOAD.
 *
 *   LAB_DISK_FILE   path of the database; its -wal and -journal belong to it
 *   LAB_DISK_FULL   while this file exists, every write to them fails with ENOSPC
 *
 * After each fsync or fdatasync of one of them its content is copied to NAME.synced: what a power cut would leave. (That
 * is harsher than a real disk, which may have written more by itself.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS 4096

/* The path of each descriptor that is one of ours. */
static char *paths[FDS];

static int ours(const char *path)
{
	const char *file = getenv("LAB_DISK_FILE");
	size_t length;

	if (file == NULL || path == NULL)
		return 0;
	length = strlen(file);
	if (strncmp(path, file, length) != 0)
		return 0;
	return path[length] == '\0' || strcmp(path + length, "-wal") == 0 || strcmp(path + length, "-journal") == 0;
}

static int known(int fd)
{
	return fd >= 0 && fd < FDS && paths[fd] != NULL;
}

static int remember(int fd, const char *path)
{
	if (fd >= 0 && fd < FDS && ours(path)) {
		free(paths[fd]);
		paths[fd] = strdup(path);
	}
	return fd;
}

static int full(int fd)
{
	const char *flag = getenv("LAB_DISK_FULL");

	if (!known(fd) || flag == NULL || access(flag, F_OK) != 0)
		return 0;
	errno = ENOSPC;
	return 1;
}

static void *next(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (found == NULL)
		abort();
	return found;
}

static int call_open(const char *name, const char *path, int flags, mode_t mode)
{
	int (*real)(const char *, int, ...) = next(name);

	return remember(real(path, flags, mode), path);
}

int open(const char *path, int flags, ...)
{
	va_list rest;
	mode_t mode = 0;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(rest, flags);
		mode = va_arg(rest, mode_t);
		va_end(rest);
	}
	return call_open("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list rest;
	mode_t mode = 0;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(rest, flags);
		mode = va_arg(rest, mode_t);
		va_end(rest);
	}
	return call_open("open64", path, flags, mode);
}

int close(int fd)
{
	static int (*real)(int);

	if (real == NULL)
		real = next("close");
	if (known(fd)) {
		free(paths[fd]);
		paths[fd] = NULL;
	}
	return real(fd);
}

ssize_t write(int fd, const void *octets, size_t count)
{
	static ssize_t (*real)(int, const void *, size_t);

	if (real == NULL)
		real = next("write");
	return full(fd) ? -1 : real(fd, octets, count);
}

ssize_t pwrite(int fd, const void *octets, size_t count, off_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off_t);

	if (real == NULL)
		real = next("pwrite");
	return full(fd) ? -1 : real(fd, octets, count, at);
}

ssize_t pwrite64(int fd, const void *octets, size_t count, off64_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off64_t);

	if (real == NULL)
		real = next("pwrite64");
	return full(fd) ? -1 : real(fd, octets, count, at);
}

/* What is in the file now survives from now on. */
static int survives(int fd)
{
	char name[PATH_MAX], fresh[PATH_MAX], block[65536];
	off_t at = 0;
	ssize_t count;
	int copy;

	snprintf(name, sizeof name, "%s.synced", paths[fd]);
	snprintf(fresh, sizeof fresh, "%s.syncing", paths[fd]);
	copy = open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (copy < 0)
		return -1;
	while ((count = pread(fd, block, sizeof block, at)) > 0) {
		if (write(copy, block, (size_t)count) != count)
			abort();
		at += count;
	}
	close(copy);
	return rename(fresh, name);
}

int fsync(int fd)
{
	static int (*real)(int);

	if (real == NULL)
		real = next("fsync");
	return known(fd) ? survives(fd) : real(fd);
}

int fdatasync(int fd)
{
	static int (*real)(int);

	if (real == NULL)
		real = next("fdatasync");
	return known(fd) ? survives(fd) : real(fd);
}

int unlink(const char *path)
{
	int (*real)(const char *) = next("unlink");
	char name[PATH_MAX];

	if (ours(path)) {
		snprintf(name, sizeof name, "%s.synced", path);
		real(name);
	}
	return real(path);
}
