// Faults of a file system, for a process that loads this library before others.
//
// FAULTS is a list of rules, separated by ';': function:part of the path:error:when, for example
// "linkat:_COMMITTED:EEXIST:after;fsyncdir::EINVAL:before". `before` fails in place of the call, `after` does it first, and
// `committed` fails once a marker was linked. The functions are linkat, rename, fsyncdir, open and statx.
//
// With BARRIER, a folder, a process that is about to link a marker waits until two of them are.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum when { NEVER, BEFORE, AFTER };
static int committed;

static int error_of(const char *name) {
    static const struct { const char *name; int error; } errors[] = {
        {"EPERM", EPERM}, {"EIO", EIO}, {"EEXIST", EEXIST}, {"EINVAL", EINVAL}, {"ENOSYS", ENOSYS},
        {"EOPNOTSUPP", EOPNOTSUPP}, {"ESTALE", ESTALE}, {"ETIMEDOUT", ETIMEDOUT}, {"EACCES", EACCES}, {"ENOENT", ENOENT},
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(errors[i].name, name)) return errors[i].error;
    fprintf(stderr, "unknown error %s\n", name);
    abort();
}

static enum when fault(const char *function, const char *path, int *error) {
    const char *rules = getenv("FAULTS");
    char copy[1024], *rule_end = NULL;
    if (!rules || strlen(rules) >= sizeof copy) return NEVER;
    strcpy(copy, rules);
    for (char *rule = strtok_r(copy, ";", &rule_end); rule; rule = strtok_r(NULL, ";", &rule_end)) {
        char *name = strsep(&rule, ":"), *part = strsep(&rule, ":"), *code = strsep(&rule, ":"), *when = rule;
        if (!part || !code || !when || strcmp(name, function) || (path && !strstr(path, part))) continue;
        *error = error_of(code);
        if (!strcmp(when, "after")) return AFTER;
        if (!strcmp(when, "before") || committed) return BEFORE;
    }
    return NEVER;
}

static int entries(const char *folder) {
    int count = -2;
    DIR *dir = opendir(folder);
    while (dir && readdir(dir)) count++;
    if (dir) closedir(dir);
    return count;
}

static void wait_at_barrier(void) {
    const char *folder = getenv("BARRIER");
    char name[1024];
    if (!folder) return;
    snprintf(name, sizeof name, "%s/%d", folder, getpid());
    close(creat(name, 0600));
    while (entries(folder) < 2) usleep(1000);
}

#define REAL(result, name, ...)                                        \
    static result (*real)(__VA_ARGS__);                                \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name);
#define FAIL(when_it_fails)                                            \
    if (when == when_it_fails) {                                       \
        errno = error;                                                 \
        return -1;                                                     \
    }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int)
    int error, is_marker = strstr(to, "_COMMITTED") != NULL;
    enum when when = fault("linkat", to, &error);
    if (is_marker) wait_at_barrier();
    FAIL(BEFORE)
    int result = real(from_dir, from, to_dir, to, flags);
    if (is_marker) committed = 1;
    FAIL(AFTER)
    return result;
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *)
    int error;
    enum when when = fault("rename", to, &error);
    FAIL(BEFORE)
    int result = real(from, to);
    FAIL(AFTER)
    return result;
}

int fsync(int fd) {
    REAL(int, "fsync", int)
    struct stat status;
    char link[64], path[1024] = "";
    int error;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0 || fstat(fd, &status) != 0) return real(fd);
    enum when when = fault(S_ISDIR(status.st_mode) ? "fsyncdir" : "fsync", path, &error);
    FAIL(BEFORE)
    int result = real(fd);
    FAIL(AFTER)
    return result;
}

static int open_with(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
    int error;
    enum when when = fault("open", path, &error);
    FAIL(BEFORE)
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return open_with("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return open_with("open64", path, flags, mode);
}

int statx(int dir, const char *path, int flags, unsigned mask, struct statx *status) {
    REAL(int, "statx", int, const char *, int, unsigned, struct statx *)
    int error;
    enum when when = fault("statx", path, &error);
    FAIL(BEFORE)
    return real(dir, path, flags, mask, status);
}
