/* Runs one command and writes what it cost: meter RESULT SECONDS COMMAND...
 *
 * The line in RESULT: wall in nanoseconds, user and system time in microseconds (children that were waited for
 * included), peak resident set in KiB, page faults, wait status. It exists because the kernel counts the memory of the
 * process that starts a command as that command's peak: the harness is larger than the runtimes that it measures. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long microseconds(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

int main(int count, char **words) {
  if (count < 4) return 2;
  int result = open(words[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (result < 0) return 2;
  alarm(atoi(words[2])); /* not inherited: a command that hangs loses its meter, and the harness ends it */
  long long begin = nanoseconds();
  pid_t pid = vfork();
  if (pid == 0) {
    execv(words[3], words + 3);
    _exit(127);
  }
  int status;
  struct rusage usage;
  if (pid < 0 || wait4(pid, &status, 0, &usage) != pid) return 2;
  long long wall = nanoseconds() - begin;
  dprintf(result, "%lld %lld %lld %ld %ld %d\n", wall, microseconds(usage.ru_utime), microseconds(usage.ru_stime), usage.ru_maxrss,
          usage.ru_minflt + usage.ru_majflt, status);
  return 0;
}
