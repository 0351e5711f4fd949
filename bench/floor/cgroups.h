/* The cgroups of the container, v1 and v2, with their limits and device rules. */
#pragma once
#include <linux/bpf.h>

#include "plan.h"

static void set(const char *directory, const char *file, const char *value) {
  char path[700];
  snprintf(path, sizeof path, "%s/%s", directory, file);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, value, strlen(value)) < 0) die(path, HERE);
  close(fd);
}

/* A new cpuset of cgroup v1 is empty, and takes no task before it has its parent's processors and memory nodes. */
static void inherit(const char *directory, const char *file) {
  char path[700], value[256] = {0};
  snprintf(path, sizeof path, "%s/../%s", directory, file);
  if (!read_file(path, value, sizeof value - 1)) die(path, HERE);
  set(directory, file, value);
}

static const char *const DEVICE_RULES[] = {"c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
                                           "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm", "c *:* m", "b *:* m"};

static void deny_devices_v1(const char *directory) {
  char path[700];
  snprintf(path, sizeof path, "%s/devices.deny", directory);
  set(directory, "devices.deny", "a");
  snprintf(path, sizeof path, "%s/devices.allow", directory);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  MUST(fd);
  for (size_t i = 0; i < LENGTH(DEVICE_RULES); i++) MUST(write(fd, DEVICE_RULES[i], strlen(DEVICE_RULES[i])));
  close(fd);
}

/* The device program of cgroup v2: the rules above, as BPF. */
#define INSN(c, d, s, o, i) {.code = c, .dst_reg = d, .src_reg = s, .off = o, .imm = i}
static void deny_devices_v2(int cgroup) {
  static struct bpf_insn code[64];
  int at = 0;
#define EMIT(...) code[at++] = (struct bpf_insn)INSN(__VA_ARGS__)
  EMIT(BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0);           /* type | access << 16 */
  EMIT(BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0);
  EMIT(BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16);
  EMIT(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
  EMIT(BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0);           /* major */
  EMIT(BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0);           /* minor */
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, 15, 1);          /* mknod alone: allowed for all */
  EMIT(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 12, 2);          /* not a character device: denied */
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 4, 0, 13, 136);
  EMIT(BPF_JMP | BPF_JNE | BPF_K, 4, 0, 5, 1);
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 11, 3);
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 10, 5);
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 9, 7);
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 8, 8);
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 7, 9);
  EMIT(BPF_JMP | BPF_JNE | BPF_K, 4, 0, 4, 5);
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 5, 0);
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 4, 1);
  EMIT(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 3, 2);
  EMIT(BPF_JMP | BPF_JA, 0, 0, 0, 0);
  EMIT(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
  EMIT(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  EMIT(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
  EMIT(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = at, .insns = (uintptr_t)code, .license = (uintptr_t)"Apache"};
  int fd = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
  MUST(fd);
  union bpf_attr attach = {.target_fd = cgroup, .attach_bpf_fd = fd, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI};
  MUST(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
  close(fd);
}

/* Splits the list of hierarchies; what they are called is what they are mounted as ("cpu,cpuacct"). */
static void name_cgroups_v1(char *list, const char *cgroup) {
  for (char *name; (name = strsep(&list, ":")) && plan.groups < MAX_HIERARCHIES; plan.groups++) {
    plan.hierarchy[plan.groups] = name;
    snprintf(plan.directory[plan.groups], sizeof *plan.directory, "/sys/fs/cgroup/%s%s", name, cgroup);
  }
}

/* The container's directory below the hierarchy that has this controller, or NULL. */
static const char *directory_of(const char *controller) {
  size_t length = strlen(controller);
  for (int i = 0; i < plan.groups; i++)
    for (const char *name = plan.hierarchy[i]; name; name = strchr(name, ',') ? strchr(name, ',') + 1 : NULL)
      if (!strncmp(name, controller, length) && (!name[length] || name[length] == ',')) return plan.directory[i];
  return NULL;
}

static void make_cgroups_v1(void) {
  name_cgroups_v1(strdup(plan.hierarchies), plan.cgroup);
  for (int i = 0; i < plan.groups; i++) MUST(mkdir(plan.directory[i], 0755));
  mark("cgroup-mkdir");
  const char *cpu = directory_of("cpu"), *cpuset = directory_of("cpuset"), *memory = directory_of("memory"), *pids = directory_of("pids");
  if (cpu) set(cpu, "cpu.shares", "512"), set(cpu, "cpu.cfs_period_us", "100000"), set(cpu, "cpu.cfs_quota_us", "150000");
  if (cpuset) inherit(cpuset, "cpuset.cpus"), inherit(cpuset, "cpuset.mems");
  if (memory) set(memory, "memory.limit_in_bytes", plan.memory), set(memory, "memory.soft_limit_in_bytes", "268435456");
  if (pids) set(pids, "pids.max", "200");
  if (directory_of("devices")) deny_devices_v1(directory_of("devices"));
  mark("cgroup-limits");
  for (int i = 0; i < plan.groups; i++) {
    char path[700];
    snprintf(path, sizeof path, "%s/tasks", plan.directory[i]);
    MUST(plan.tasks[i] = open(path, O_WRONLY | O_CLOEXEC));
  }
  mark("cgroup-open");
}

static void make_cgroup_v2(void) {
  plan.groups = 1;
  snprintf(plan.directory[0], sizeof plan.directory[0], "/sys/fs/cgroup%s", plan.cgroup);
  MUST(mkdir(plan.directory[0], 0755));
  MUST(plan.tasks[0] = open(plan.directory[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  mark("cgroup-mkdir");
  set(plan.directory[0], "cpu.weight", "59");
  set(plan.directory[0], "cpu.max", "150000 100000");
  set(plan.directory[0], "memory.max", plan.memory);
  set(plan.directory[0], "memory.low", "268435456");
  set(plan.directory[0], "pids.max", "200");
  deny_devices_v2(plan.tasks[0]);
  mark("cgroup-limits");
}
