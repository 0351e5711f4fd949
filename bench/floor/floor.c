/* The floor: the kernel work that one container of the bench's config cannot do without, and nothing else.
 *
 * It understands enough of runc's command line to be measured like every other runtime, but it reads no JSON, checks
 * nothing, and knows the bench's config by heart. Each bundle has a `floor.plan` of one item per line (rootfs,
 * hierarchies of cgroup v1 separated by colons, cgroup path, memory limit, number of binds, then the arguments) and, if
 * the config has a filter, `seccomp.bpf`, compiled.
 * Any failing call ends it with the line it stands on, so that a floor which did less work is never mistaken for a
 * faster one. Built by the harness: cc -O2 -static floor.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
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
#define MUST(call) ((long)(call) < 0 ? die(#call, __LINE__) : (void)0)
#define MAX_HIERARCHIES 16
#define INSTRUCTIONS 4096

static void die(const char *call, int line) {
  dprintf(2, "floor: line %d: %s: %s\n", line, call, strerror(errno));
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

/* ---- the plan ---- */

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
  if (!read_file(path, plan.text, sizeof plan.text - 1)) die("read floor.plan", __LINE__);
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

/* ---- cgroups ---- */

static void set(const char *directory, const char *file, const char *value) {
  char path[700];
  snprintf(path, sizeof path, "%s/%s", directory, file);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, value, strlen(value)) < 0) die(path, __LINE__);
  close(fd);
}

/* A new cpuset of cgroup v1 is empty, and takes no task before it has its parent's processors and memory nodes. */
static void inherit(const char *directory, const char *file) {
  char path[700], value[256] = {0};
  snprintf(path, sizeof path, "%s/../%s", directory, file);
  if (!read_file(path, value, sizeof value - 1)) die(path, __LINE__);
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
#include <linux/bpf.h>
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

/* ---- inside ---- */

static void loopback_up(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  MUST(ioctl(fd, SIOCSIFFLAGS, &request));
  close(fd);
}

static void bind_read_only(const char *path, int must) {
  int tree = syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
  if (tree < 0 && !must && errno == ENOENT) return;
  MUST(tree);
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
  MUST(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
  MUST(syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH));
  close(tree);
}

static void mount_cgroups_v1(void) {
  MUST(mount("tmpfs", "sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755"));
  for (int i = 0; i < plan.groups; i++) {
    char target[128];
    snprintf(target, sizeof target, "sys/fs/cgroup/%s", plan.hierarchy[i]);
    MUST(mkdir(target, 0755));
    int tree = syscall(SYS_open_tree, AT_FDCWD, plan.directory[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    MUST(tree);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
    MUST(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
    MUST(syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH));
    close(tree);
  }
  MUST(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
}

static void mount_all(void) {
  const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  MUST(mount("proc", "proc", "proc", plain, NULL));
  MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
  MUST(mkdir("dev/pts", 0755));
  MUST(mkdir("dev/mqueue", 01777));
  MUST(mkdir("dev/shm", 01777));
  MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
  MUST(mount("sysfs", "sys", "sysfs", plain | MS_RDONLY, NULL));
  mark("mounts-fs");
  if (plan.unified)
    MUST(mount("cgroup2", "sys/fs/cgroup", "cgroup2", plain | MS_RDONLY, NULL));
  else
    mount_cgroups_v1();
  mark("mounts-cgroup");
  MUST(mount("mqueue", "dev/mqueue", "mqueue", plain, NULL));
  MUST(mount("shm", "dev/shm", "tmpfs", plain, "mode=1777,size=65536k"));
  static const char *const files[] = {"resolv.conf", "hostname", "hosts"};
  char source[4096], target[64];
  for (size_t i = 0; i < LENGTH(files); i++) {
    snprintf(source, sizeof source, "%s/%s", plan.bundle, files[i]);
    snprintf(target, sizeof target, "etc/%s", files[i]);
    MUST(mount(source, target, NULL, MS_BIND | MS_REC, NULL));
  }
  for (int i = 0; i < plan.binds; i++) {
    snprintf(source, sizeof source, "%s/hosts", plan.bundle);
    snprintf(target, sizeof target, "mnt/b%d", i);
    MUST(mount(source, target, NULL, MS_BIND | MS_REC, NULL));
  }
  mark("mounts-other");
}

static void make_devices(void) {
  static const struct { const char *path; int major, minor; } nodes[] = {
      {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/tty", 5, 0}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};
  static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},     {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
                                         {"/proc/self/fd/2", "dev/stderr"}, {"/proc/kcore", "dev/core"},      {"pts/ptmx", "dev/ptmx"}};
  for (size_t i = 0; i < LENGTH(nodes); i++) MUST(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
  for (size_t i = 0; i < LENGTH(links); i++) MUST(symlink(links[i][0], links[i][1]));
  mark("devices");
}

static void hide_paths(void) {
  static const char *const masked[] = {"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                                       "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"};
  static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  for (size_t i = 0; i < LENGTH(read_only); i++) bind_read_only(read_only[i], 0);
  for (size_t i = 0; i < LENGTH(masked); i++)
    if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) < 0) {
      if (errno == ENOENT) continue;
      MUST(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL));
    }
  mark("hide");
}

static const int KEPT[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD, CAP_NET_RAW, CAP_SETGID, CAP_SETUID,
                           CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_KILL, CAP_AUDIT_WRITE};

static void drop_privileges(void) {
  uint64_t kept = 0;
  for (size_t i = 0; i < LENGTH(KEPT); i++) kept |= 1ull << KEPT[i];
  for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
    if (!(kept >> cap & 1)) MUST(prctl(PR_CAPBSET_DROP, cap));
  MUST(syscall(SYS_setgroups, 0, NULL));
  MUST(syscall(SYS_setresgid, 0, 0, 0));
  MUST(syscall(SYS_setresuid, 0, 0, 0));
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {kept >> 32, kept >> 32, 0}};
  MUST(syscall(SYS_capset, &header, data));
  mark("caps");
}

static char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "HOSTNAME=bench", NULL};

/* The life of the container's first process; `gate` is a listening socket for create, or -1 for run. */
static void inside(int gate, int ready) {
  mark("clone");
  if (!plan.unified)
    for (int i = 0; i < plan.groups; i++) MUST(write(plan.tasks[i], "0", 1));
  mark("cgroup-join");
  MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor"));
  loopback_up();
  mark("loopback");
  MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
  MUST(mount(plan.rootfs, plan.rootfs, NULL, MS_BIND | MS_REC, NULL));
  MUST(chdir(plan.rootfs));
  umask(0);
  mark("rootfs-bind");
  mount_all();
  make_devices();
  umask(022);
  MUST(syscall(SYS_pivot_root, ".", "."));
  MUST(umount2(".", MNT_DETACH));
  MUST(chdir("/"));
  mark("pivot");
  hide_paths();
  MUST(sethostname("bench", 5));
  MUST(setsid());
  if (plan.filter.len) MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &plan.filter));
  mark("seccomp");
  drop_privileges();
  if (gate >= 0) {
    MUST(write(ready, "1", 1));
    close(ready);
    int peer = accept4(gate, NULL, NULL, SOCK_CLOEXEC);
    MUST(peer);
    close(gate);
  }
  MUST(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC));
  print_marks("child");
  execve(plan.args[0], plan.args, environment);
  die("execve", __LINE__);
}

/* ---- commands ---- */

static pid_t launch(int gate, int ready) {
  mark("start");
  if (plan.unified) make_cgroup_v2();
  else make_cgroups_v1();
  struct clone_args arguments = {
      .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | (plan.unified ? CLONE_INTO_CGROUP | CLONE_NEWCGROUP : 0),
      .exit_signal = SIGCHLD,
      .cgroup = plan.unified ? plan.tasks[0] : 0,
  };
  pid_t pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  MUST(pid);
  if (pid == 0) inside(gate, ready);
  mark("clone");
  return pid;
}

static void remove_cgroups(void) {
  for (int i = 0; i < plan.groups; i++) MUST(rmdir(plan.directory[i]));
}

static int run(void) {
  read_plan();
  pid_t pid = launch(-1, -1);
  int status;
  MUST(waitpid(pid, &status, 0));
  mark("wait");
  remove_cgroups();
  mark("cgroup-rmdir");
  print_marks("parent");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void state_path(char *path, size_t size, const char *id, const char *file) {
  if (snprintf(path, size, "%s/%s/%s", plan.root, id, file) >= (int)size) die("path too long", __LINE__);
}

static int gate_socket(const char *id, int listening) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  state_path(address.sun_path, sizeof address.sun_path, id, "gate");
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  MUST(fd);
  if (listening) {
    MUST(bind(fd, (struct sockaddr *)&address, sizeof address));
    MUST(listen(fd, 1));
  } else
    MUST(connect(fd, (struct sockaddr *)&address, sizeof address));
  return fd;
}

static int create(const char *id) {
  char path[512], state[4096];
  read_plan();
  state_path(path, sizeof path, id, "");
  MUST(mkdir(path, 0700));
  int gate = gate_socket(id, 1), ready[2];
  MUST(pipe2(ready, O_CLOEXEC));
  pid_t pid = launch(gate, ready[1]);
  close(ready[1]);
  if (read(ready[0], path, 1) != 1) die("init", __LINE__);
  state_path(path, sizeof path, id, "state");
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  MUST(fd);
  int length = snprintf(state, sizeof state, "%d\n%s\n%s\n%s\n", pid, plan.bundle, plan.hierarchies, plan.cgroup);
  MUST(write(fd, state, length));
  return 0;
}

static struct { char text[4096], *bundle, *hierarchies, *cgroup; pid_t pid; } saved;

static void load(const char *id) {
  char path[512];
  state_path(path, sizeof path, id, "state");
  if (!read_file(path, saved.text, sizeof saved.text - 1)) die("read state", __LINE__);
  char *rest = saved.text;
  saved.pid = atoi(next_line(&rest));
  saved.bundle = next_line(&rest);
  saved.hierarchies = next_line(&rest);
  saved.cgroup = next_line(&rest);
}

/* A zombie polls as readable: the container has ended. */
static int ended(int pidfd) {
  struct pollfd wait = {.fd = pidfd, .events = POLLIN};
  return pidfd < 0 || poll(&wait, 1, 0) > 0;
}

static void find_cgroups(int open_tasks);

static int is_frozen(void) {
  char path[700], text[16] = "";
  find_cgroups(0);
  snprintf(path, sizeof path, "%s/%s", plan.unified ? plan.directory[0] : directory_of("freezer"),
           plan.unified ? "cgroup.freeze" : "freezer.self_freezing");
  return read_file(path, text, sizeof text - 1) && *text == '1';
}

static int state(const char *id) {
  char path[512];
  load(id);
  const char *status = "stopped";
  if (!ended(syscall(SYS_pidfd_open, saved.pid, 0))) {
    state_path(path, sizeof path, id, "gate");
    status = access(path, F_OK) == 0 ? "created" : is_frozen() ? "paused" : "running";
  }
  printf("{\"ociVersion\":\"1.0.2\",\"id\":\"%s\",\"status\":\"%s\",\"pid\":%d,\"bundle\":\"%s\"}\n", id, status, saved.pid, saved.bundle);
  return 0;
}

static int start(const char *id) {
  char path[512], answer;
  load(id);
  int fd = gate_socket(id, 0);
  MUST(read(fd, &answer, 1));
  state_path(path, sizeof path, id, "gate");
  MUST(unlink(path));
  return 0;
}

static int kill_container(const char *id) {
  load(id);
  int fd = syscall(SYS_pidfd_open, saved.pid, 0);
  MUST(fd);
  MUST(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
  return 0;
}

/* The cgroups of a container that is there: their directories, and for v1 the open `tasks` files. */
static void find_cgroups(int open_tasks) {
  char path[700];
  plan.unified = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
  if (plan.unified)
    plan.groups = 1, snprintf(plan.directory[0], sizeof *plan.directory, "/sys/fs/cgroup%s", saved.cgroup);
  else
    name_cgroups_v1(saved.hierarchies, saved.cgroup);
  for (int i = 0; open_tasks && i < plan.groups; i++) {
    snprintf(path, sizeof path, "%s%s", plan.directory[i], plan.unified ? "" : "/tasks");
    plan.tasks[i] = open(path, plan.unified ? O_PATH | O_CLOEXEC : O_WRONLY | O_CLOEXEC);
    MUST(plan.tasks[i]);
  }
}

/* One more process in the container, with the filter and the capabilities of the first. */
static int exec_process(const char *id, char **args) {
  load(id);
  snprintf(plan.bundle, sizeof plan.bundle, "%s", saved.bundle);
  read_plan();
  int init = syscall(SYS_pidfd_open, saved.pid, 0), status;
  MUST(init);
  find_cgroups(1);
  MUST(prctl(PR_SET_DUMPABLE, 0));
  MUST(setns(init, CLONE_NEWPID));
  struct clone_args arguments = {
      .flags = plan.unified ? CLONE_INTO_CGROUP : 0,
      .exit_signal = SIGCHLD,
      .cgroup = plan.unified ? plan.tasks[0] : 0,
  };
  pid_t pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  MUST(pid);
  if (pid == 0) {
    if (!plan.unified)
      for (int i = 0; i < plan.groups; i++) MUST(write(plan.tasks[i], "0", 1));
    MUST(setns(init, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | (plan.unified ? CLONE_NEWCGROUP : 0)));
    MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor"));
    MUST(setsid());
    if (plan.filter.len) MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &plan.filter));
    drop_privileges();
    MUST(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC));
    execve(args[0], args, environment);
    die("execve", __LINE__);
  }
  MUST(waitpid(pid, &status, 0));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int update(const char *id, const char *limit) {
  load(id);
  find_cgroups(0);
  set(plan.unified ? plan.directory[0] : directory_of("pids"), "pids.max", limit);
  return 0;
}

static int freeze(const char *id, int frozen) {
  char path[700], text[256];
  load(id);
  find_cgroups(0);
  const char *directory = plan.unified ? plan.directory[0] : directory_of("freezer");
  if (plan.unified) set(directory, "cgroup.freeze", frozen ? "1" : "0");
  else set(directory, "freezer.state", frozen ? "FROZEN" : "THAWED");
  const char *done = plan.unified ? "frozen 1" : "FROZEN";
  snprintf(path, sizeof path, "%s/%s", directory, plan.unified ? "cgroup.events" : "freezer.state");
  while (frozen) {
    memset(text, 0, sizeof text);
    if (!read_file(path, text, sizeof text - 1)) die(path, __LINE__);
    if (strstr(text, done)) break;
  }
  return 0;
}

static int delete(const char *id) {
  char path[512];
  load(id);
  if (!ended(syscall(SYS_pidfd_open, saved.pid, 0))) die("still running", __LINE__);
  find_cgroups(0);
  remove_cgroups();
  state_path(path, sizeof path, id, "gate");
  unlink(path);
  state_path(path, sizeof path, id, "state");
  MUST(unlink(path));
  state_path(path, sizeof path, id, "");
  MUST(rmdir(path));
  return 0;
}

#include <dirent.h>
static int list(void) {
  DIR *directory = opendir(plan.root);
  if (!directory) return 0;
  for (struct dirent *entry; (entry = readdir(directory));)
    if (*entry->d_name != '.') state(entry->d_name);
  return 0;
}

int main(int count, char **words) {
  const char *command = NULL, *id = NULL, *limit = NULL;
  snprintf(plan.root, sizeof plan.root, "/run/floor");
  snprintf(plan.bundle, sizeof plan.bundle, ".");
  for (int i = 1; i < count; i++) {
    if (!strcmp(words[i], "--version")) return printf("floor 1\n") < 0;
    else if (!strcmp(words[i], "--root")) snprintf(plan.root, sizeof plan.root, "%s", words[++i]);
    else if (!strcmp(words[i], "--bundle")) snprintf(plan.bundle, sizeof plan.bundle, "%s", words[++i]);
    else if (!strcmp(words[i], "--pids-limit")) limit = words[++i];
    else if (*words[i] == '-') continue;
    else if (!command) command = words[i];
    else if (!id) id = words[i];
    if (id && command && !strcmp(command, "exec")) return exec_process(id, words + i + 1);
  }
  if (!command) return 2;
  if (!strcmp(command, "list")) return list();
  if (!id) return 2;
  if (!strcmp(command, "run")) return run();
  if (!strcmp(command, "create")) return create(id);
  if (!strcmp(command, "state")) return state(id);
  if (!strcmp(command, "start")) return start(id);
  if (!strcmp(command, "update") && limit) return update(id, limit);
  if (!strcmp(command, "pause")) return freeze(id, 1);
  if (!strcmp(command, "resume")) return freeze(id, 0);
  if (!strcmp(command, "kill")) return kill_container(id);
  if (!strcmp(command, "delete")) return delete(id);
  return 2;
}
