// SPDX-License-Identifier: MIT
#include <coalesce/kept/contents.h>

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include <coalesce/io/thread.h>

namespace coalesce {
namespace {

constexpr std::size_t block_bytes = 64 * 1024;
constexpr std::uint64_t much_bytes = 256 * 1024;
constexpr std::size_t threads_max = 4;
constexpr std::chrono::milliseconds between_questions{10};

std::size_t usual_threads() {
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    return std::min(static_cast<std::size_t>(CPU_COUNT(&allowed)), threads_max);
}

}  // namespace

Checksum checksum_of(std::string_view type, std::string_view state) {
    Digester<sizeof(Checksum)> digester;
    digester.add_field(type);
    digester.add_field(state);
    return digester.end();
}

Contents::~Contents() {
    stopped_ = true;
    (void)finish();
}

bool Contents::stopped() {
    if (!stopped_ && enough_()) stopped_ = true;
    return stopped_;
}

void Contents::read(Descriptor file, std::string_view type, const std::string& path, Checksum& into) {
    File next{number_++, std::move(file), type, &path, &into};
    if (alone_ && own_bytes_ >= much_bytes) start_helpers();
    if (!helpers_.empty()) {
        std::unique_lock<std::mutex> held(mutex_);
        if (waiting_.size() < 2 * helpers_.size()) {
            waiting_.push_back(std::move(next));
            held.unlock();
            return filled_.notify_one();
        }
    }
    read_now(next, block_, [this] { return stopped(); });
}

// Once: without a thread all goes on without one.
void Contents::start_helpers() {
    alone_ = false;
    blocks_.assign(threads_.value_or(usual_threads()) - 1, std::string(block_bytes, '\0'));
    helpers_.reserve(blocks_.size());
    for (std::string& block : blocks_) {
        std::thread helper = thread_without_signals([this, &block] { help(block); });
        if (!helper.joinable()) return;
        helpers_.push_back(std::move(helper));
    }
}

void Contents::help(std::string& block) noexcept {
    std::unique_lock<std::mutex> held(mutex_);
    while (true) {
        filled_.wait(held, [this] { return closed_ || !waiting_.empty(); });
        if (waiting_.empty()) return;
        ++busy_;
        {
            const File file = std::move(waiting_.front());
            waiting_.pop_front();
            held.unlock();
            read_now(file, block, [this] { return stopped_.load(); });
        }
        held.lock();
        if (--busy_ == 0) idle_.notify_one();
    }
}

template <class Stopped>
void Contents::read_now(const File& file, std::string& block, Stopped stopped) {
    Digester<sizeof(Digest)> content;
    block.resize(block_bytes);
    while (true) {
        const ssize_t got = ::read(file.file.get(), block.data(), block.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            const std::lock_guard<std::mutex> held(mutex_);
            if (!failure_ || file.number < failure_->number) failure_ = {file.number, file.path, errno};
            return;
        }
        if (got == 0) break;
        content.add({block.data(), static_cast<std::size_t>(got)});
        if (alone_) own_bytes_ += static_cast<std::uint64_t>(got);
        if (stopped()) return;
    }
    const Digest digest = content.end();
    *file.into = checksum_of(file.type, bytes_of(digest));
}

Result<> Contents::finish() {
    std::unique_lock<std::mutex> held(mutex_);
    while (!waiting_.empty()) {
        const File file = std::move(waiting_.front());
        waiting_.pop_front();
        held.unlock();
        read_now(file, block_, [this] { return stopped(); });
        held.lock();
    }
    while (!idle_.wait_for(held, between_questions, [this] { return busy_ == 0; })) {
        held.unlock();
        (void)stopped();
        held.lock();
    }
    closed_ = true;
    held.unlock();
    filled_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
    helpers_.clear();
    return failure_ ? Result<>(system_error_of(failure_->error, "read " + *failure_->path)) : Result<>();
}

}  // namespace coalesce
