// SPDX-License-Identifier: MIT
#include <coalesce/io/guard.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <coalesce/io/boot_time.h>
#include <coalesce/io/process_facts.h>

namespace coalesce {
namespace {

// Pages of it that nobody uses cost nothing. A run takes three descriptors, so the kernel's
// usual limit for a process is reached long before.
constexpr std::uint32_t lines_max = 1 << 17;
constexpr std::uint32_t deadlines_max = 1 << 16;

constexpr std::chrono::milliseconds until_there_is_room{100};
constexpr int looks_max = 400;  // at what is being killed; what is there still will not end
constexpr int between_looks_ms = 5;
constexpr std::int64_t between_looks_at_overdue_max_ms = 200;
constexpr int cannot_guard = 125;  // its exit status: another would fare no better

std::int64_t since_boot_ms() noexcept { return since_boot().count(); }

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
    std::atomic<std::uint32_t> deadlines;
    std::array<std::atomic<std::int64_t>, deadlines_max> deadline;  // since boot, ms; 0: none now
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
    int timer = -1;
    while (true) {
        const std::int64_t next = next_deadline();
        if (next > 0 && timer < 0) timer = ::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
        if (timer >= 0) {
            const itimerspec at{.it_interval = {}, .it_value = {next / 1000, next % 1000 * 1'000'000}};
            ::timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, nullptr);  // without one: disarmed
            std::array<pollfd, 2> either{
                {{.fd = pipe, .events = POLLIN, .revents = 0}, {.fd = timer, .events = POLLIN, .revents = 0}}};
            if (::poll(either.data(), either.size(), -1) < 0) continue;
            if (either[1].revents != 0) end_groups(true);
            if (either[0].revents == 0) continue;
        }
        std::array<char, 64> bytes;
        const ssize_t got = ::read(pipe, bytes.data(), bytes.size());
        if (got == 0 || (got < 0 && errno != EINTR)) break;
    }
    end_groups(false);
    ::_exit(0);
}

// The first that is yet to come. One that has passed is looked at again, and ever more rarely, for as long as it
// stands: there may be what cannot be ended, and what begins late.
std::int64_t Guard::next_deadline() const noexcept {
    const std::int64_t now = since_boot_ms();
    std::int64_t next = 0;
    const std::uint32_t deadlines = page_->deadlines.load(std::memory_order_acquire);
    for (std::uint32_t i = 0; i < deadlines; ++i) {
        std::int64_t at = page_->deadline[i].load(std::memory_order_acquire);
        if (at == 0) continue;
        if (at <= now) at = now + std::clamp<std::int64_t>(now - at, between_looks_ms, between_looks_at_overdue_max_ms);
        if (next == 0 || at < next) next = at;
    }
    return next;
}

void Guard::end_groups(bool overdue_only) const {
    const std::int64_t now = since_boot_ms();
    const auto overdue = [&](std::uint32_t number) {
        const std::int64_t at = number == 0 ? 0 : page_->deadline[number - 1].load(std::memory_order_acquire);
        return at > 0 && at <= now;
    };
    std::vector<Recorded> recorded;
    const std::uint32_t lines = page_->lines.load(std::memory_order_acquire);
    for (std::uint32_t i = 0; i < lines; ++i) {
        const Line& line = page_->line[i];
        const pid_t group = line.group.load(std::memory_order_acquire);
        if (group > 1 && (!overdue_only || overdue(line.deadline.load(std::memory_order_acquire))))
            recorded.push_back(
                {group, line.session.load(std::memory_order_relaxed), line.at_ms.load(std::memory_order_relaxed)});
    }
    if (recorded.empty()) return;
    const Search search(std::move(recorded), mark_);
    // What does not end at once is not waited for where others have deadlines, too.
    const int looks = overdue_only ? 1 : looks_max;
    for (int look = 0; look < looks && kill_each([&](pid_t pid) { return search.has(pid); }); ++look)
        ::poll(nullptr, 0, between_looks_ms);
}

Guard::Place Guard::reserve(std::uint32_t deadline) {
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
    if (deadline != 0) place.line_->deadline.store(deadline, std::memory_order_release);
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
    if (line_->deadline.load(std::memory_order_relaxed) != 0) line_->deadline.store(0, std::memory_order_release);
    guard_->free_.push_back(static_cast<std::uint32_t>(line_ - guard_->page_->line.data()));
    line_ = nullptr;
}

Guard::Deadline Guard::reserve_deadline() {
    Deadline deadline;
    if (!free_deadlines_.empty()) {
        deadline.number_ = free_deadlines_.back();
        free_deadlines_.pop_back();
    } else {
        const std::uint32_t before = page_->deadlines.load(std::memory_order_relaxed);
        if (before == deadlines_max) return deadline;
        page_->deadlines.store(before + 1, std::memory_order_release);
        deadline.number_ = before + 1;
    }
    deadline.guard_ = this;
    return deadline;
}

Guard::Deadline::Deadline(Deadline&& other) noexcept
    : guard_(std::exchange(other.guard_, nullptr)), number_(std::exchange(other.number_, 0)) {}

Guard::Deadline& Guard::Deadline::operator=(Deadline&& other) noexcept {
    std::swap(guard_, other.guard_);
    std::swap(number_, other.number_);
    return *this;
}

Guard::Deadline::~Deadline() {
    if (guard_ == nullptr) return;
    clear();
    guard_->free_deadlines_.push_back(number_);
}

// The guard sleeps until the first deadline that it knows; one that is put off it looks up then.
void Guard::Deadline::set(std::chrono::milliseconds at) noexcept {
    if (guard_ == nullptr) return;
    const std::int64_t due = std::max<std::int64_t>(at.count(), 1);  // 0 would be none
    const std::int64_t before = guard_->page_->deadline[number_ - 1].exchange(due, std::memory_order_acq_rel);
    if (before == 0 || due < before) guard_->wake();
}

void Guard::Deadline::clear() noexcept {
    if (guard_ != nullptr) guard_->page_->deadline[number_ - 1].store(0, std::memory_order_release);
}

// Where there is no room in the pipe it will wake anyway.
void Guard::wake() const noexcept {
    ::fcntl(pipe_.get(), F_SETFL, O_NONBLOCK);
    const char byte = 0;
    while (::write(pipe_.get(), &byte, 1) < 0 && errno == EINTR) {
    }
}

Guard::Watched::Watched(Loop& loop, Guard& guard) : loop_(loop), guard_(guard), again_(loop) {
    again_.in_background();
    watch();
}

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
        if (useless) return watch_.reset();
        replace();
    });
    if (watch) watch_ = std::move(*watch);
}

// Where there is no room for a process there may be soon.
void Guard::Watched::replace() {
    if (guard_.fork_guard()) return watch();
    watch_.reset();
    again_.start(until_there_is_room, [this] { replace(); });
}

}  // namespace coalesce
