// SPDX-License-Identifier: MIT
#include <coalesce/io/spawn.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif

namespace coalesce {
namespace {

constexpr std::size_t child_stack_bytes = 64 * 1024;

// As the kernel counts: the C library keeps the first few for itself.
constexpr int first_real_time_signal = 32;

// Half of all signals, which nobody ignores but by inheritance: they are looked at once.
// Handlers of ours end with exec.
struct IgnoredRealTimeSignals {
    int numbers[NSIG - first_real_time_signal];
    int count = 0;
    IgnoredRealTimeSignals() {
        struct sigaction action;
        for (int number = first_real_time_signal; number < NSIG; ++number)
            if (sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) numbers[count++] = number;
    }
};

const IgnoredRealTimeSignals& ignored_real_time_signals() {
    static const IgnoredRealTimeSignals ignored;
    return ignored;
}

#define RUNS_IN_THE_CHILD __attribute__((no_sanitize("address", "undefined", "thread")))

// All that the child needs, made ready before it exists: between clone and exec
// it shares our memory and must neither allocate nor take a lock.
struct Orders {
    const Program& program;
    std::vector<const char*> candidates;  // tried in turn, as execvp does
    std::vector<char*> argv;
    std::vector<char*> env;
    pid_t parent;
    char* stack = nullptr;            // of the program's process, where another is between it and us
    volatile pid_t program_pid = -1;  // then
    const IgnoredRealTimeSignals& real_time = ignored_real_time_signals();
    std::size_t begin = 0;              // candidates before this one are not tried
    int refused = ENOENT;               // for which reason they would be
    volatile std::size_t executed = 0;  // the last that was tried
    volatile Started::Step failed = Started::Step::none;
    volatile int error = 0;
};

// Those after which execvp tries the next directory; EACCES is remembered.
RUNS_IN_THE_CHILD bool goes_on_after(int error) {
    return error == EACCES || error == ENOENT || error == ENOTDIR || error == ESTALE || error == ENODEV ||
           error == ETIMEDOUT;
}

// The first candidate that looks as if it could be executed; where that is a link of the name to us, the one behind
// it, which we execute when called so (SPEC A2) and find by other rules (find_other_program). None: who tries them
// says why.
std::optional<struct stat> look(Orders& orders) {
    struct stat own {};
    const bool own_known = ::stat("/proc/self/exe", &own) == 0;
    struct stat info {};
    std::optional<struct stat> ourselves;
    int refused = ENOENT;
    for (std::size_t at = 0; at < orders.candidates.size(); ++at) {
        const char* const candidate = orders.candidates[at];
        const bool there = ::stat(candidate, &info) == 0;
        const bool is_own = there && own_known && info.st_dev == own.st_dev && info.st_ino == own.st_ino;
        if (ourselves) {
            if (there && !is_own && S_ISREG(info.st_mode) && ::access(candidate, X_OK) == 0) return info;
        } else if (there && S_ISREG(info.st_mode) && (info.st_mode & 0111) != 0) {
            orders.begin = at;
            orders.executed = at;
            orders.refused = refused;
            if (!is_own) return info;
            ourselves = info;
        } else if (there || errno == EACCES) {
            refused = EACCES;
        } else if (!goes_on_after(errno)) {
            break;
        }
    }
    return ourselves;
}

std::string_view path_of(const std::vector<std::string>& env) {
    constexpr std::string_view name = "PATH=";
    for (const std::string& entry : env)
        if (entry.starts_with(name)) return std::string_view(entry).substr(name.size());
    return "/bin:/usr/bin";  // what execvp looks through when PATH is unset
}

// `storage` holds the texts that `candidates` points into.
void list_candidates(const Program& program, std::vector<std::string>& storage, std::vector<const char*>& candidates) {
    if (program.path != nullptr) {
        candidates.push_back(program.path);
        return;
    }
    const std::string& name = program.argv.front();
    if (name.find('/') != std::string::npos || name.empty()) {
        candidates.push_back(name.c_str());
        return;
    }
    std::string_view rest = path_of(program.env);
    while (true) {
        const std::size_t colon = rest.find(':');
        const std::string_view directory = rest.substr(0, colon);
        storage.push_back(directory.empty() ? name : std::string(directory) + "/" + name);
        if (colon == std::string_view::npos) break;
        rest.remove_prefix(colon + 1);
    }
    for (const std::string& candidate : storage) candidates.push_back(candidate.c_str());
}

std::vector<char*> pointers_to(const std::vector<std::string>& strings, std::size_t room_before = 0) {
    std::vector<char*> pointers(room_before, nullptr);
    pointers.reserve(room_before + strings.size() + 3);  // for two marks
    for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
    pointers.push_back(nullptr);
    return pointers;
}

// In place of an outer one, which is not for what runs here.
void set_mark(std::vector<char*>& env, const char* mark) {
    const std::size_t name = std::string_view(mark).find('=') + 1;
    const auto same = std::find_if(env.begin(), env.end() - 1,
                                   [&](const char* entry) { return std::strncmp(entry, mark, name) == 0; });
    if (same == env.end() - 1)
        env.insert(env.end() - 1, const_cast<char*>(mark));
    else
        *same = const_cast<char*>(mark);
}

RUNS_IN_THE_CHILD void make_default(int number) {
    struct sigaction action;
    if (sigaction(number, nullptr, &action) != 0 || action.sa_handler == SIG_DFL) return;
    action.sa_handler = SIG_DFL;
    action.sa_flags = 0;
    sigaction(number, &action, nullptr);
}

RUNS_IN_THE_CHILD void reset_signals(const IgnoredRealTimeSignals& real_time) {
    for (int number = 1; number < first_real_time_signal; ++number) make_default(number);
    for (int i = 0; i < real_time.count; ++i) make_default(real_time.numbers[i]);
}

// A descriptor that already has the wanted number must lose its close-on-exec
// flag, which dup2 onto itself does not do.
RUNS_IN_THE_CHILD bool place(int from, int to) {
    if (from == to) return fcntl(from, F_SETFD, 0) == 0;
    return dup2(from, to) >= 0;
}

RUNS_IN_THE_CHILD void execute(Orders& orders) {
    int refused = orders.refused;
    for (std::size_t at = orders.begin; at < orders.candidates.size(); ++at) {
        const char* const candidate = orders.candidates[at];
        orders.executed = at;
        execve(candidate, orders.argv.data() + 1, orders.env.data());
        if (errno == ENOEXEC) {  // a script without #!: execvp hands it to the shell
            orders.argv[0] = const_cast<char*>("/bin/sh");
            orders.argv[1] = const_cast<char*>(candidate);
            execve("/bin/sh", orders.argv.data(), orders.env.data());
        }
        if (errno == EACCES)
            refused = EACCES;  // remembered: a later directory may still have it
        else if (!goes_on_after(errno)) {
            refused = errno;
            break;
        } else if (orders.candidates.size() == 1)
            refused = errno;
    }
    orders.error = refused;
    orders.failed = Started::Step::execute;
}

// Our parent died before it could be arranged that we die with it. 0 is a parent that this pid namespace does not
// show: it has made one for its children and stays outside.
RUNS_IN_THE_CHILD bool is_orphan(pid_t parent) {
    const pid_t shown = getppid();
    return shown != parent && shown != 0;
}

RUNS_IN_THE_CHILD int child_main(void* argument) {
    auto& orders = *static_cast<Orders*>(argument);
    const Program& program = orders.program;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (is_orphan(orders.parent)) _exit(127);
    if (program.leads_session)
        setsid();
    else
        setpgid(0, 0);
    if (program.guard_line != nullptr) program.guard_line->enter();
    for (const ChildHook& hook : {program.hook, program.mark.hook})
        if (hook.call != nullptr) hook.call(hook.argument);
    reset_signals(orders.real_time);
    orders.failed = Started::Step::spawn;
    if (!place(program.standard_input, 0) || !place(program.standard_output, 1) || !place(program.standard_error, 2)) {
        orders.error = errno;
        _exit(127);
    }
    // Closed here rather than by close-on-exec: the parent goes on before exec has
    // closed anything, and would find its locks and sockets still held.
    constexpr int inherited[] = {0, 1, 2};
    if (!close_all_but(inherited)) {
        orders.error = errno;
        orders.failed = Started::Step::descriptors;
        _exit(127);
    }
    umask(program.umask);
    if (program.directory != nullptr && chdir(program.directory) != 0) {
        orders.error = errno;
        orders.failed = Started::Step::directory;
        _exit(127);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    orders.failed = Started::Step::none;
    execute(orders);
    _exit(127);
}

// Makes the session, and starts the program in it as a child of our parent's. Suspended until that has called exec.
RUNS_IN_THE_CHILD int session_main(void* argument) {
    auto& orders = *static_cast<Orders*>(argument);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (is_orphan(orders.parent)) _exit(127);
    setsid();
    orders.program_pid = clone(child_main, orders.stack, CLONE_VM | CLONE_VFORK | CLONE_PARENT | SIGCHLD, &orders);
    if (orders.program_pid < 0) {
        orders.error = errno;
        orders.failed = Started::Step::spawn;
    }
    _exit(0);
}

// Two stacks a thread, kept: while a child is on one the thread is suspended.
char* top_of_child_stacks() {
    struct Stack {
        void* base = MAP_FAILED;
        ~Stack() {
            if (base != MAP_FAILED) munmap(base, 2 * child_stack_bytes);
        }
    };
    thread_local Stack stack;
    if (stack.base == MAP_FAILED)  // the first time, or there was no memory
        stack.base = mmap(nullptr, 2 * child_stack_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    return stack.base == MAP_FAILED ? nullptr : static_cast<char*>(stack.base) + 2 * child_stack_bytes;
}

void reap(pid_t pid) {
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {  // it has called _exit, or is about to
    }
}

// Started by way of a process that is gone by now: the program's own stands in `started`.
void take_program(Orders& orders, Started& started) {
    reap(started.pid);
    started.pid = orders.program_pid;
    if (started.pid > 0) {
        started.pidfd = Descriptor(static_cast<int>(syscall(SYS_pidfd_open, started.pid, 0U)));
    } else if (orders.failed == Started::Step::none) {  // somebody killed it
        orders.failed = Started::Step::spawn;
        orders.error = ESRCH;
    }
}

}  // namespace

Started spawn(const Program& program) {
    Started started;
    std::vector<std::string> storage;
    // A place before argv lets the shell take over a script without copying it.
    Orders orders{.program = program,
                  .candidates = {},
                  .argv = pointers_to(program.argv, 1),
                  .env = pointers_to(program.env),
                  .parent = getpid()};
    list_candidates(program, storage, orders.candidates);
    if (program.looks) started.file = look(orders);
    if (program.guard != nullptr) set_mark(orders.env, program.guard->mark());
    if (program.mark.environment != nullptr) set_mark(orders.env, program.mark.environment);

    char* const stack = top_of_child_stacks();
    if (stack == nullptr) {
        started.failed = Started::Step::spawn;
        started.error = ENOMEM;
        return started;
    }
    orders.stack = stack - child_stack_bytes;
    int (*const first)(void*) = program.leads_session ? child_main : session_main;
    // No handler of ours may run in the child: it would run on our memory.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int pidfd = -1;
    constexpr int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
    started.pid = clone(first, stack, flags | CLONE_PIDFD, &orders, &pidfd);
    if (started.pid < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM))  // no pidfds here
        started.pid = clone(first, stack, flags, &orders);
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);

    if (started.pid < 0) {
        started.failed = Started::Step::spawn;
        started.error = error;
        return started;
    }
    started.pidfd = Descriptor(pidfd);
    if (!program.leads_session) take_program(orders, started);
    if (orders.failed != Started::Step::none) {
        started.failed = orders.failed;
        started.error = orders.error;
        if (started.pid > 0) reap(started.pid);
        started.pid = -1;
    }
    if (orders.executed != orders.begin) started.file.reset();  // that one was refused after all
    return started;
}

}  // namespace coalesce
