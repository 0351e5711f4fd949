/* What the floor knows of a container, how it ends when a call fails, and the marks of its parts. */
#pragma once
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define HERE __FILE__, __LINE__
#define MUST(call) ((long)(call) < 0 ? die(#call, HERE) : (void)0)
#define MAX_HIERARCHIES 16
#define INSTRUCTIONS 4096

static void die(const char *call, const char *file, int line) {
  dprintf(2, "floor: %s:%d: %s: %s\n", file, line, call, strerror(errno));
  _exit(1);
}

/* With -DMARKS, prints how many microseconds each part took. */
#ifdef MARKS
static struct { const char *name; struct timespec at; } marks[64];
static int mark_count;
static void mark(const char *name) {
  clock_gettime(CLOCK_MONOTONIC, &marks[mark_count].at);
  marks[mark_count++].name = name;
}
static void print_marks(const char *who) {
  char text[4096];
  int used = 0;
  for (int i = 1; i < mark_count; i++)
    used += snprintf(text + used, sizeof text - used, "%s %s %ld\n", who, marks[i].name,
                     (marks[i].at.tv_sec - marks[i - 1].at.tv_sec) * 1000000 +
                         (marks[i].at.tv_nsec - marks[i - 1].at.tv_nsec) / 1000);
  dprintf(2, "%s", text);
}
#else
#define mark(name) ((void)0)
#define print_marks(who) ((void)0)
#endif

static struct {
  char text[4096];
  char *rootfs, *hierarchies, *hierarchy[MAX_HIERARCHIES], *cgroup, *memory, *args[16];
  int binds;
  int unified;
  char bundle[3900], root[256];
  char directory[MAX_HIERARCHIES][512];
  int tasks[MAX_HIERARCHIES];
  int groups;
  struct sock_fprog filter;
} plan;
static struct sock_filter program[INSTRUCTIONS];

static char *next_line(char **rest) { return strsep(rest, "\n"); }

static size_t read_file(const char *path, void *buffer, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t count = read(fd, buffer, size);
  MUST(count);
  close(fd);
  return count;
}

static void read_plan(void) {
  char path[4000];
  snprintf(path, sizeof path, "%s/floor.plan", plan.bundle);
  if (!read_file(path, plan.text, sizeof plan.text - 1)) die("read floor.plan", HERE);
  char *rest = plan.text;
  plan.rootfs = next_line(&rest);
  plan.hierarchies = next_line(&rest);
  plan.cgroup = next_line(&rest);
  plan.memory = next_line(&rest);
  plan.binds = atoi(next_line(&rest));
  for (int i = 0; i < 15 && rest && *rest; i++) plan.args[i] = next_line(&rest);
  snprintf(path, sizeof path, "%s/seccomp.bpf", plan.bundle);
  plan.filter.len = read_file(path, program, sizeof program) / sizeof *program;
  plan.filter.filter = program;
  plan.unified = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
}
