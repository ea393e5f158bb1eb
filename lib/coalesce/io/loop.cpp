// SPDX-License-Identifier: MIT
#include <coalesce/io/loop.h>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

// With no descriptors left at the start nothing can work, and main says so.
[[noreturn]] void cannot_make_loop(int error) {
    throw std::system_error(error, std::system_category(), "cannot make an event loop");
}

// The first loop of a process makes an epoll set (and a ring for the kernel's queue,
// since libuv 1.45) and then a pipe, and libuv aborts where there is no pipe to be had.
void make_sure_of_descriptors() {
    const Descriptor set(::eventfd(0, EFD_CLOEXEC));
    const Descriptor ring(::eventfd(0, EFD_CLOEXEC));
    int pipe[2];
    if (!set || !ring || ::pipe2(pipe, O_CLOEXEC) != 0) cannot_make_loop(errno);
    ::close(pipe[0]);
    ::close(pipe[1]);
}

}  // namespace

Loop::Loop() : raw_(new uv_loop_t{}), wake_(new uv_idle_t{}) {
    make_sure_of_descriptors();
    if (const int refused = uv_loop_init(raw()); refused != 0) cannot_make_loop(-refused);
    uv_idle_init(raw(), wake_.get());
    wake_->data = this;
    ready_set_.emplace(raw());
}

// What was posted goes unrun; what it owns may post again as it goes.
Loop::~Loop() {
    while (!posted_.empty()) std::exchange(posted_, {}).clear();
    wake_.reset();
    ready_set_.reset();
    uv_run(raw(), UV_RUN_NOWAIT);  // runs pending close callbacks
    if (uv_loop_close(raw()) == 0) return;
    uv_walk(
        raw(), [](uv_handle_t*, void*) { std::abort(); }, nullptr);  // some owner outlived its loop
    // What a pool's thread is at writes there when it is done. Held, so that a leak check sees that it is meant.
    // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new): without memory for that this process is at its end
    static auto* const left_to_requests = new std::vector<uv_loop_t*>;
    left_to_requests->push_back(raw_.release());
}

void Loop::post(UniqueFunction<void()> task) {
    if (posted_.empty())
        uv_idle_start(wake_.get(), [](uv_idle_t* idle) {
            if (auto* loop = static_cast<Loop*>(idle->data)) loop->run_posted();
        });
    posted_.push_back(std::move(task));
}

// A task may post again; what it posts runs on the next turn, so that input and
// output get their turn between two rounds however busy the tasks are.
void Loop::run_posted() noexcept {
    running_.swap(posted_);
    uv_idle_stop(wake_.get());
    for (auto& task : running_) task();
    running_.clear();
}

void Loop::run() { uv_run(raw(), UV_RUN_DEFAULT); }

void Loop::stop() noexcept { uv_stop(raw()); }

const char* Loop::library_version() noexcept { return uv_version_string(); }

}  // namespace coalesce
