/* The floor: the kernel work that one container of the bench's config cannot do without, and nothing else.
 *
 * It understands enough of runc's command line to be measured like every other runtime, but it reads no JSON, checks
 * nothing, and knows the bench's config by heart. Each bundle has a `floor.plan` of one item per line (rootfs,
 * hierarchies of cgroup v1 separated by colons, cgroup path, memory limit, number of binds, then the arguments) and, if
 * the config has a filter, `seccomp.bpf`, compiled.
 * plan.h is what it knows, cgroups.h and inside.h are the two halves of the work, and here are the commands.
 * Any failing call ends it with the line it stands on, so that a floor which did less work is never mistaken for a
 * faster one. Built by the harness: cc -O2 -static floor.c. */
#include "plan.h"
#include "cgroups.h"
#include "inside.h"

#include <dirent.h>

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
  if (snprintf(path, size, "%s/%s/%s", plan.root, id, file) >= (int)size) die("path too long", HERE);
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
  if (read(ready[0], path, 1) != 1) die("init", HERE);
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
  if (!read_file(path, saved.text, sizeof saved.text - 1)) die("read state", HERE);
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
    MUST(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC));
    execve(args[0], args, environment);
    die("execve", HERE);
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
    if (!read_file(path, text, sizeof text - 1)) die(path, HERE);
    if (strstr(text, done)) break;
  }
  return 0;
}

static int delete(const char *id) {
  char path[512];
  load(id);
  if (!ended(syscall(SYS_pidfd_open, saved.pid, 0))) die("still running", HERE);
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
