// SPDX-License-Identifier: MIT
#include <coalesce/io/guard.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <coalesce/io/process_facts.h>

namespace coalesce {
namespace {

// Pages of it that nobody uses cost nothing. A run takes three descriptors, so the kernel's
// usual limit for a process is reached long before.
constexpr std::uint32_t lines_max = 1 << 17;

constexpr int looks_max = 400;  // at what is being killed; what is there still will not end
constexpr int between_looks_ms = 5;
constexpr int cannot_guard = 125;  // its exit status: another would fare no better

std::int64_t since_boot_ms() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

struct Recorded {
    pid_t group = 0;
    pid_t session = 0;
    std::int64_t at_ms = 0;
};

// A process that began later has the number from somebody else. A start is told in ticks,
// rounded down.
bool is_recorded(const Recorded& recorded, const ProcessFacts& facts) { return facts.started_ms <= recorded.at_ms; }

class Search {
  public:
    Search(std::vector<Recorded> recorded, const std::string& mark) : recorded_(std::move(recorded)), mark_(mark) {
        std::sort(recorded_.begin(), recorded_.end(),
                  [](const Recorded& one, const Recorded& other) { return one.session < other.session; });
    }

    [[nodiscard]] bool has(pid_t pid) const {
        const auto facts = ProcessFacts::of(pid);
        if (!facts || !facts->alive()) return false;
        const auto at = std::lower_bound(recorded_.begin(), recorded_.end(), facts->session,
                                         [](const Recorded& one, pid_t session) { return one.session < session; });
        if (at == recorded_.end() || at->session != facts->session) return false;
        if (pid == at->group) return is_recorded(*at, *facts);
        // The kernel gives a number to nobody else while a session has it.
        const auto leader = ProcessFacts::of(at->group);
        if (leader && is_recorded(*at, *leader)) return true;
        if (leader && at->session == at->group) return false;
        const auto entries = environment_of(pid);
        return std::find(entries.begin(), entries.end(), mark_) != entries.end();
    }

  private:
    std::vector<Recorded> recorded_;
    const std::string& mark_;
};

}  // namespace

struct Guard::Page {
    std::atomic<std::uint32_t> lines;  // that have been in use
    std::array<Line, lines_max> line;
};

static_assert(std::atomic<std::int64_t>::is_always_lock_free && std::atomic<std::int32_t>::is_always_lock_free);

void Guard::Line::enter() noexcept {
    at_ms.store(since_boot_ms(), std::memory_order_relaxed);
    session.store(::getsid(0), std::memory_order_relaxed);
    group.store(::getpid(), std::memory_order_release);
}

Result<std::unique_ptr<Guard>> Guard::start() {
    void* const page =
        ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (page == MAP_FAILED) return system_error_now("start a guard for the commands");
    std::unique_ptr<Guard> guard(new Guard(static_cast<Page*>(page)));
    if (auto forked = guard->fork_guard(); !forked) return forked.error();
    return guard;
}

// The mark need not be secret, only be nobody else's by chance.
Guard::Guard(Page* page)
    : page_(page), mark_("COALESCE_GUARD=" + std::to_string(::getpid()) + "." + std::to_string(since_boot_ms())) {}

Guard::~Guard() {
    dismiss();
    ::munmap(page_, sizeof(Page));
}

void Guard::dismiss() noexcept {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    pipe_.reset();
}

Result<> Guard::fork_guard() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return system_error_now("start a guard for the commands");
    Descriptor theirs(ends[0]);
    pipe_ = Descriptor(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) keep_watch(theirs.get());
    if (pid_ < 0) return system_error_now("start a guard for the commands");
    return {};
}

void Guard::keep_watch(int pipe) const noexcept {
    ::setsid();
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
    ::prctl(PR_SET_NAME, "coalesce-guard");
    const std::array kept{pipe};
    if (!close_all_but(kept) || ::chdir("/") != 0) ::_exit(cannot_guard);
    char byte = 0;
    while (::read(pipe, &byte, 1) < 0 && errno == EINTR) {
    }
    end_groups();
    ::_exit(0);
}

void Guard::end_groups() const {
    std::vector<Recorded> recorded;
    const std::uint32_t lines = page_->lines.load(std::memory_order_acquire);
    for (std::uint32_t i = 0; i < lines; ++i)
        if (const pid_t group = page_->line[i].group.load(std::memory_order_acquire); group > 1)
            recorded.push_back({group, page_->line[i].session.load(std::memory_order_relaxed),
                                page_->line[i].at_ms.load(std::memory_order_relaxed)});
    if (recorded.empty()) return;
    const Search search(std::move(recorded), mark_);
    for (int look = 0; look < looks_max && kill_each([&](pid_t pid) { return search.has(pid); }); ++look)
        ::poll(nullptr, 0, between_looks_ms);
}

Guard::Place Guard::reserve() {
    Place place;
    std::uint32_t number = 0;
    if (!free_.empty()) {
        number = free_.back();
        free_.pop_back();
    } else {
        number = page_->lines.load(std::memory_order_relaxed);
        if (number == lines_max) return place;
        page_->lines.store(number + 1, std::memory_order_release);
    }
    place.guard_ = this;
    place.line_ = &page_->line[number];
    return place;
}

Guard::Place::Place(Place&& other) noexcept
    : guard_(std::exchange(other.guard_, nullptr)), line_(std::exchange(other.line_, nullptr)) {}

Guard::Place& Guard::Place::operator=(Place&& other) noexcept {
    std::swap(guard_, other.guard_);
    std::swap(line_, other.line_);
    return *this;
}

void Guard::Place::clear() noexcept {
    if (line_ == nullptr) return;
    line_->group.store(0, std::memory_order_release);
    guard_->free_.push_back(static_cast<std::uint32_t>(line_ - guard_->page_->line.data()));
    line_ = nullptr;
}

Guard::Watched::Watched(Loop& loop, Guard& guard) : loop_(loop), guard_(guard) { watch(); }

// Where there are no pidfds a guard that is killed is not missed.
void Guard::Watched::watch() {
    watch_.reset();
    pidfd_ = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, guard_.pid_, 0U)));
    if (!pidfd_) return;
    auto watch = Watch::start_in_background(loop_, pidfd_.get(), Readiness::readable, [this] {
        int status = 0;
        const bool useless = ::waitpid(guard_.pid_, &status, 0) == guard_.pid_ && WIFEXITED(status) &&
                             WEXITSTATUS(status) == cannot_guard;
        guard_.pid_ = -1;
        if (useless || !guard_.fork_guard()) return watch_.reset();
        this->watch();
    });
    if (watch) watch_ = std::move(*watch);
}

}  // namespace coalesce
