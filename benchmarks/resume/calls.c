/* Counts the system calls that change files in a folder, and attacks one of them. Loaded by LD_PRELOAD.

   RESUME_FOLDER   the folder
   RESUME_CALLS    the file to which the calls are logged: batch, number since the batch, name, bytes, path
   RESUME_CALL     "batch number kill", "batch number tear" (half of a write, then kill) or "batch number full" (ENOSPC
                   for this write and all later ones); at this call or, if another thread was late, at the next one
   `resume_mark(batch)` is called by the task at each training batch. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int batch = -1, number = 0, is_full = 0, at_batch = INT_MAX, at_number = 0, log_file = -1;
static pid_t process;
static char act[8], folder[PATH_MAX + 1];
static size_t folder_length;

/* Reads the variables. A forked process calls it again. */
__attribute__((constructor)) void resume_begin(void) {
  const char *root = getenv("RESUME_FOLDER"), *calls = getenv("RESUME_CALLS"), *call = getenv("RESUME_CALL");
  if (!root || !realpath(root, folder)) return;
  process = getpid();
  strcat(folder, "/");
  folder_length = strlen(folder);
  if (calls) log_file = syscall(SYS_openat, AT_FDCWD, calls, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (call) sscanf(call, "%d %d %7s", &at_batch, &at_number, act);
}

void resume_mark(int now) {
  batch = now;
  number = 0;
}

static int concerns(const char *path) {
  char whole[PATH_MAX];
  if (!folder_length || !path) return 0;
  if (path[0] != '/') {
    if (!getcwd(whole, sizeof whole - 1)) return 0;
    strcat(whole, "/");
    return strncmp(whole, folder, folder_length) == 0;
  }
  return strncmp(path, folder, folder_length) == 0;
}

/* Counts a call. Returns -1 if it must fail. */
static int before(const char *name, const char *path, size_t bytes, int descriptor, const void *data) {
  int saved = errno, due;
  if (getpid() != process) return 0; /* a worker process of the data loader */
  if (log_file >= 0) {
    char line[PATH_MAX + 80];
    int length = snprintf(line, sizeof line, "%d %d %s %zu %s\n", batch, number, name, bytes, path);
    syscall(SYS_write, log_file, line, (size_t)length);
  }
  due = batch > at_batch || (batch == at_batch && number >= at_number);
  number++;
  if (due && strcmp(act, "full") != 0) {
    if (strcmp(act, "tear") == 0 && data) syscall(SYS_write, descriptor, data, bytes / 2);
    kill(getpid(), SIGKILL);
  }
  if (due) is_full = 1;
  if (is_full && bytes) {
    errno = ENOSPC;
    return -1;
  }
  errno = saved;
  return 0;
}

static int before_write(const char *name, int descriptor, size_t bytes, const void *data) {
  char link[40], path[PATH_MAX];
  ssize_t length;
  if (!folder_length || descriptor <= 2) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return path[0] == '/' && concerns(path) ? before(name, path, bytes, descriptor, data) : 0;
}

#define NEXT(result, name, ...) ((result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))
#define OF_PATH(result, name, shown, checked, parameters, arguments, ...)       \
  result name parameters {                                                      \
    if (concerns(checked) && before(#name, shown, 0, -1, NULL)) return -1;      \
    return NEXT(result, name, __VA_ARGS__) arguments;                           \
  }
#define OF_FILE(result, name, descriptor, bytes, data, parameters, arguments, ...) \
  result name parameters {                                                         \
    if (before_write(#name, descriptor, bytes, data)) return -1;                   \
    return NEXT(result, name, __VA_ARGS__) arguments;                              \
  }

OF_FILE(ssize_t, write, file, bytes, data, (int file, const void *data, size_t bytes), (file, data, bytes), int,
        const void *, size_t)
OF_FILE(ssize_t, pwrite, file, bytes, NULL, (int file, const void *data, size_t bytes, off_t place),
        (file, data, bytes, place), int, const void *, size_t, off_t)
OF_FILE(ssize_t, pwrite64, file, bytes, NULL, (int file, const void *data, size_t bytes, off64_t place),
        (file, data, bytes, place), int, const void *, size_t, off64_t)
static size_t total(const struct iovec *parts, int count) {
  size_t bytes = 0;
  for (int index = 0; index < count; index++) bytes += parts[index].iov_len;
  return bytes;
}

OF_FILE(ssize_t, writev, file, total(parts, count), NULL, (int file, const struct iovec *parts, int count), (file, parts, count), int,
        const struct iovec *, int)
OF_FILE(ssize_t, sendfile, out, bytes, NULL, (int out, int in, off_t *place, size_t bytes), (out, in, place, bytes),
        int, int, off_t *, size_t)
OF_FILE(ssize_t, sendfile64, out, bytes, NULL, (int out, int in, off64_t *place, size_t bytes),
        (out, in, place, bytes), int, int, off64_t *, size_t)
OF_FILE(ssize_t, copy_file_range, out, bytes, NULL,
        (int in, off64_t *from, int out, off64_t *to, size_t bytes, unsigned flags),
        (in, from, out, to, bytes, flags), int, off64_t *, int, off64_t *, size_t, unsigned)
OF_FILE(int, fsync, file, 0, NULL, (int file), (file), int)
OF_FILE(int, fdatasync, file, 0, NULL, (int file), (file), int)
OF_FILE(int, ftruncate, file, 0, NULL, (int file, off_t size), (file, size), int, off_t)
OF_FILE(int, ftruncate64, file, 0, NULL, (int file, off64_t size), (file, size), int, off64_t)
OF_PATH(int, rename, to, to, (const char *from, const char *to), (from, to), const char *, const char *)
OF_PATH(int, renameat, to, to, (int place, const char *from, int other, const char *to), (place, from, other, to), int,
        const char *, int, const char *)
OF_PATH(int, renameat2, to, to, (int place, const char *from, int other, const char *to, unsigned flags),
        (place, from, other, to, flags), int, const char *, int, const char *, unsigned)
OF_PATH(int, unlink, path, path, (const char *path), (path), const char *)
OF_PATH(int, unlinkat, path, path, (int place, const char *path, int flags), (place, path, flags), int, const char *,
        int)
OF_PATH(int, rmdir, path, path, (const char *path), (path), const char *)
OF_PATH(int, mkdir, path, path, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
OF_PATH(int, link, to, to, (const char *from, const char *to), (from, to), const char *, const char *)
OF_PATH(int, symlink, to, to, (const char *from, const char *to), (from, to), const char *, const char *)

#define OF_OPEN(name, parameters, arguments, ...)                                                   \
  int name parameters {                                                                             \
    mode_t mode = 0;                                                                                \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                            \
      va_list list;                                                                                 \
      va_start(list, flags);                                                                        \
      mode = va_arg(list, mode_t);                                                                  \
      va_end(list);                                                                                 \
    }                                                                                               \
    if ((flags & (O_CREAT | O_TRUNC)) && concerns(path) && before(#name, path, 0, -1, NULL)) return -1; \
    return NEXT(int, name, __VA_ARGS__) arguments;                                                  \
  }

OF_OPEN(open, (const char *path, int flags, ...), (path, flags, mode), const char *, int, mode_t)
OF_OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), const char *, int, mode_t)
OF_OPEN(openat, (int place, const char *path, int flags, ...), (place, path, flags, mode), int, const char *, int,
        mode_t)
OF_OPEN(openat64, (int place, const char *path, int flags, ...), (place, path, flags, mode), int, const char *, int,
        mode_t)
