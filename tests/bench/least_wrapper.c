// SPDX-License-Identifier: MIT
// least_wrapper PLACE PROGRAM [ARGUMENT…]: what `coalesce run` does to run a command that
// nobody joins, and nothing else. It binds a socket where others could ask for the run,
// forks a supervisor that outlives it, which starts the program by vfork, reads what it
// writes, waits for it and tells the outcome; then it passes both on. No key, no check
// of the place, no joiner, no signal, no limit, no error is dealt with, no library is
// used. What coalesce takes beyond that is the price of all it promises.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { said_max = 65536 };

// As in the program, output and outcome go through the one connection.
static void supervise(int listener, int requester, char** argv) {
    int out[2], error[2], status = 0;
    char bytes[said_max];
    setsid();
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0) _exit(125);
    const int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const pid_t command = vfork();
    if (command == 0) {
        setsid();
        dup2(input, 0);
        dup2(out[1], 1);
        dup2(error[1], 2);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(out[1]);
    close(error[1]);
    const int set = epoll_create1(EPOLL_CLOEXEC);
    const int watched[3] = {listener, out[0], error[0]};
    for (int i = 0; i < 3; ++i) {
        struct epoll_event interest = {.events = EPOLLIN, .data.fd = watched[i]};
        epoll_ctl(set, EPOLL_CTL_ADD, watched[i], &interest);
    }
    for (int open_pipes = 2; open_pipes > 0;) {
        struct epoll_event event;
        if (epoll_wait(set, &event, 1, -1) != 1 || event.data.fd == listener) continue;
        const ssize_t got = read(event.data.fd, bytes, sizeof bytes);
        if (got > 0) {
            if (write(requester, bytes, (size_t)got) != got) _exit(125);
        } else {
            close(event.data.fd);
            --open_pipes;
        }
    }
    waitpid(command, &status, 0);
    if (write(requester, &status, sizeof status) != sizeof status) _exit(125);
    _exit(0);
}

int main(int argc, char** argv) {
    if (argc < 3) return 125;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ends[2];
    if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0 || listen(listener, 128) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return 125;
    const pid_t supervisor = fork();
    if (supervisor < 0) return 125;
    if (supervisor == 0) {
        close(ends[0]);
        supervise(listener, ends[1], argv + 2);
    }
    close(ends[1]);
    // The last bytes are the outcome.
    char bytes[said_max + sizeof(int)];
    size_t held = 0;
    int status = 125 << 8;
    for (ssize_t got; (got = read(ends[0], bytes + held, sizeof bytes - held)) > 0;) {
        held += (size_t)got;
        if (held <= sizeof status) continue;
        const size_t said = held - sizeof status;
        if (write(1, bytes, said) != (ssize_t)said) return 125;
        __builtin_memmove(bytes, bytes + said, sizeof status);
        held = sizeof status;
    }
    if (held == sizeof status) __builtin_memcpy(&status, bytes, sizeof status);
    unlink(argv[1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
