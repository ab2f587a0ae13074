/* Makes writes of a process fail, by LD_PRELOAD: those of Python and those of libraries in C and C++.
 *
 * faults_watch(root, log) notes every write below a folder; faults_arm() chooses one that fails.
 * Operations: create (an open that makes or empties a file), write, sync, rename, mkdir, remove. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX] = "";
static int notes = -1; /* file descriptor of the log */
static char armed[32] = "";
static regex_t pattern;
static int number, come, code, stays, fired;

void faults_watch(const char *folder, const char *log) {
  pthread_mutex_lock(&mutex);
  if (notes >= 0) syscall(SYS_close, notes);
  notes = -1;
  strncpy(root, folder, PATH_MAX - 1);
  if (*log) notes = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  pthread_mutex_unlock(&mutex);
}

/* The count-th operation of a name whose path matches fails with an error number. With stay, so does every
 * later one: of a full disk what writes bytes (stay 1), of a disk that is read-only everything (stay 2). */
int faults_arm(const char *operation, const char *path, int count, int error, int stay) {
  pthread_mutex_lock(&mutex);
  if (*armed) regfree(&pattern);
  *armed = 0;
  number = count, code = error, stays = stay, come = fired = 0;
  int bad = *operation ? regcomp(&pattern, path, REG_EXTENDED | REG_NOSUB) : 0;
  if (*operation && !bad) strncpy(armed, operation, sizeof armed - 1);
  pthread_mutex_unlock(&mutex);
  return bad;
}

static long looks, steps_back;

/* From now on, the clock goes back by some seconds at the first look and at every thousandth, a day's worth
 * of hours in all; 0 sets it right again. */
void faults_clock(long seconds) { looks = 0, steps_back = seconds; }

int clock_gettime(clockid_t clock, struct timespec *time) {
  int result = syscall(SYS_clock_gettime, clock, time);
  if (clock == CLOCK_REALTIME && steps_back) {
    long jumps = 1 + __atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED) / 1000;
    time->tv_sec -= steps_back * (jumps < 24 ? jumps : 24);
  }
  return result;
}

int faults_fired(void) { return fired; }

static int fails(const char *operation, const char *given, int at) {
  if (!*root) return 0;
  int saved = errno, result = 0;
  char path[2 * PATH_MAX], link[64];
  if (given && *given == '/') {
    snprintf(path, sizeof path, "%s", given);
  } else {
    ssize_t length;
    char base[PATH_MAX];
    if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    length = readlink(link, base, sizeof base - 1);
    errno = saved;
    if (length < 0) return 0;
    base[length] = 0;
    if (given) snprintf(path, sizeof path, "%s/%s", base, given);
    else snprintf(path, sizeof path, "%s", base);
  }
  size_t length = strlen(root);
  if (strncmp(path, root, length) || path[length] != '/') return 0;
  const char *relative = path + length + 1;
  pthread_mutex_lock(&mutex);
  if (notes >= 0) {
    char line[2 * PATH_MAX];
    int size = snprintf(line, sizeof line, "%s %s\n", operation, relative);
    syscall(SYS_write, notes, line, size);
  }
  if (*armed) {
    int bytes = !strcmp(operation, "write");
    int removes = !strcmp(operation, "remove");
    if (fired && stays) result = stays == 2 || bytes;
    else if (!removes && !fired && !strcmp(operation, armed) && !regexec(&pattern, relative, 0, NULL, 0))
      result = ++come == number;
    if (result) fired++;
  }
  pthread_mutex_unlock(&mutex);
  errno = result ? code : saved;
  return result;
}

#define REAL(type, name, ...)                                  \
  static type (*real)(__VA_ARGS__);                            \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPENS(name, arguments, given, at, ...)                                          \
  int name arguments {                                                                  \
    REAL(int, name, __VA_ARGS__);                                                       \
    mode_t mode = 0;                                                                    \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                \
      va_list rest;                                                                     \
      va_start(rest, flags);                                                            \
      mode = va_arg(rest, mode_t);                                                      \
      va_end(rest);                                                                     \
    }                                                                                   \
    if ((flags & O_ACCMODE) != O_RDONLY && fails("create", path, at)) return -1;        \
    return real given;                                                                  \
  }
OPENS(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD, const char *, int, ...)
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD, const char *, int, ...)
OPENS(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode), at, int, const char *, int, ...)
OPENS(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode), at, int, const char *, int, ...)

#define FOPENS(name)                                                                    \
  FILE *name(const char *path, const char *mode) {                                      \
    REAL(FILE *, name, const char *, const char *);                                     \
    if (strpbrk(mode, "wa+") && fails("create", path, AT_FDCWD)) return NULL;           \
    return real(path, mode);                                                            \
  }
FOPENS(fopen)
FOPENS(fopen64)

#define ON_FILE(type, name, operation, parameters, given, ...)                          \
  type name parameters {                                                                \
    REAL(type, name, __VA_ARGS__);                                                      \
    return fails(operation, NULL, file) ? -1 : real given;                              \
  }
ON_FILE(ssize_t, write, "write", (int file, const void *data, size_t size), (file, data, size), int, const void *, size_t)
ON_FILE(ssize_t, writev, "write", (int file, const struct iovec *data, int count), (file, data, count), int, const struct iovec *, int)
ON_FILE(ssize_t, pwrite, "write", (int file, const void *data, size_t size, off_t at), (file, data, size, at), int, const void *, size_t, off_t)
ON_FILE(ssize_t, pwrite64, "write", (int file, const void *data, size_t size, off_t at), (file, data, size, at), int, const void *, size_t, off_t)
ON_FILE(ssize_t, pwritev, "write", (int file, const struct iovec *data, int count, off_t at), (file, data, count, at), int, const struct iovec *, int, off_t)
ON_FILE(ssize_t, pwritev64, "write", (int file, const struct iovec *data, int count, off_t at), (file, data, count, at), int, const struct iovec *, int, off_t)
ON_FILE(int, ftruncate, "write", (int file, off_t size), (file, size), int, off_t)
ON_FILE(int, ftruncate64, "write", (int file, off_t size), (file, size), int, off_t)
ON_FILE(int, fsync, "sync", (int file), (file), int)
ON_FILE(int, fdatasync, "sync", (int file), (file), int)

/* Nothing is written where a folder is to be made that is there. */
static int is_there(const char *operation, int at, const char *path) {
  int saved = errno, there = !strcmp(operation, "mkdir") && !faccessat(at, path, F_OK, 0);
  errno = saved;
  return there;
}

#define ON_PATH(name, operation, parameters, given, path, at, ...)                      \
  int name parameters {                                                                 \
    REAL(int, name, __VA_ARGS__);                                                       \
    if (is_there(operation, at, path)) return real given;                               \
    return fails(operation, path, at) ? -1 : real given;                                \
  }
ON_PATH(rename, "rename", (const char *from, const char *to), (from, to), to, AT_FDCWD, const char *, const char *)
ON_PATH(renameat, "rename", (int a, const char *from, int b, const char *to), (a, from, b, to), to, b, int, const char *, int, const char *)
ON_PATH(renameat2, "rename", (int a, const char *from, int b, const char *to, unsigned int flags), (a, from, b, to, flags), to, b, int, const char *, int, const char *, unsigned int)
ON_PATH(mkdir, "mkdir", (const char *path, mode_t mode), (path, mode), path, AT_FDCWD, const char *, mode_t)
ON_PATH(mkdirat, "mkdir", (int at, const char *path, mode_t mode), (at, path, mode), path, at, int, const char *, mode_t)
ON_PATH(unlink, "remove", (const char *path), (path), path, AT_FDCWD, const char *)
ON_PATH(unlinkat, "remove", (int at, const char *path, int flags), (at, path, flags), path, at, int, const char *, int)
ON_PATH(rmdir, "remove", (const char *path), (path), path, AT_FDCWD, const char *)
