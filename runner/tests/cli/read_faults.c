/* Makes the reading of one file fail: LD_PRELOAD this, with FAULT_FILE (the end of its path), FAULT_AFTER (bytes that can
   be read) and FAULT_ERRNO in the environment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The bytes of `count` at `offset` that can be read; -1 if none can. */
static ssize_t readable(int fd, size_t count, off_t offset) {
    const char *file = getenv("FAULT_FILE");
    char link[64], path[4096];
    if (file == NULL || offset < 0) return (ssize_t)count;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    size_t end = strlen(file);
    if (length < (ssize_t)end || memcmp(path + length - end, file, end) != 0) return (ssize_t)count;
    off_t after = atoll(getenv("FAULT_AFTER"));
    if (offset >= after) {
        errno = atoi(getenv("FAULT_ERRNO"));
        return -1;
    }
    return after - offset < (off_t)count ? after - offset : (ssize_t)count;
}

ssize_t read(int fd, void *buffer, size_t count) {
    ssize_t (*next)(int, void *, size_t) = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    ssize_t left = readable(fd, count, lseek(fd, 0, SEEK_CUR));
    return left < 0 ? -1 : next(fd, buffer, (size_t)left);
}

ssize_t pread64(int fd, void *buffer, size_t count, off_t offset) {
    ssize_t (*next)(int, void *, size_t, off_t) =
        (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
    ssize_t left = readable(fd, count, offset);
    return left < 0 ? -1 : next(fd, buffer, (size_t)left, offset);
}
