// SPDX-License-Identifier: MIT
#include <coalesce/meeting/class_queue.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <map>
#include <string_view>
#include <utility>

#include <coalesce/command/number.h>
#include <coalesce/io/directory.h>
#include <coalesce/io/process_facts.h>
#include <coalesce/meeting/leftovers.h>
#include <coalesce/protocol/format.h>

namespace coalesce {
namespace {

constexpr std::string_view directory_ending = ".class";

// Beside a ticket: how many milliseconds its run usually takes, that it waits, which process it runs, and that this
// is over while its group is not.
constexpr std::string_view usual = ".usual";
constexpr std::string_view waiting = ".waits";
constexpr std::string_view running = ".run";
constexpr std::string_view lingering = ".over";

// A FIFO that nobody holds yet.
constexpr const char* unheld = "new";

// What was killed is gone in no time, unless it is frozen, or waits for a disk (SPEC R6).
constexpr std::int64_t end_of_leftovers_us = 10'000'000;

std::int64_t since_boot_us() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1'000'000 + now.tv_nsec / 1000;
}

std::string file_of(const std::string& ticket, std::string_view ending) { return ticket + std::string(ending); }

// "NUMBER.NUMBER@JOBS": the numbers of the tickets that it stands behind, and its own.
std::string name_of(const std::vector<std::uint64_t>& path, unsigned jobs) {
    std::string name;
    for (const std::uint64_t number : path) name += (name.empty() ? "" : ".") + std::to_string(number);
    return name + "@" + std::to_string(jobs);
}

// Whether the ticket of that path is the other, or stands behind it; without a path it is none, and all do.
bool is_below(const std::vector<std::uint64_t>& path, const std::vector<std::uint64_t>& other) {
    return path.size() >= other.size() && std::equal(other.begin(), other.end(), path.begin());
}

class Umask {
  public:
    Umask() : before_(::umask(077)) {}  // the caller's may forbid even the owner to open what it makes
    ~Umask() { ::umask(before_); }
    Umask(const Umask&) = delete;
    Umask& operator=(const Umask&) = delete;

  private:
    const mode_t before_;
};

class Lock {
  public:
    explicit Lock(int directory) : file_(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
        if (!file_) return;
        int locked = 0;
        while ((locked = ::flock(file_.get(), LOCK_EX | LOCK_NB)) != 0 && errno == EINTR) {
        }
        held_ = locked == 0;
    }
    // Not by closing: a child being started may hold a copy for a moment.
    ~Lock() {
        if (held_) ::flock(file_.get(), LOCK_UN);
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    explicit operator bool() const noexcept { return held_; }

  private:
    Descriptor file_;
    bool held_ = false;
};

// Whether its process group has members that run: where no init reaps, zombies stay for ever. It may have been killed
// a moment ago.
bool group_is_there(const FlightRecord& record) {
    if (::kill(-record.pid, 0) != 0 && errno == ESRCH) return false;
    const auto own = Numbering::own();
    if (!own || record.numbering != own->text()) return false;  // it means nothing here
    if (!Numbering::shown_by_proc()) return true;
    const auto leader = ProcessFacts::of(record.pid);
    if (leader && !is_recorded(record, *leader, *own)) return false;  // its number is somebody else's by now
    return !has_only_zombies(record.pid);
}

}  // namespace

struct ClassQueue::Found {
    std::string name;
    Ticket::Path path;
    unsigned jobs = 0;

    static std::optional<Found> in(std::string_view file) {
        Found found{.name = std::string(file)};
        const char* at = file.data();
        const char* const end = file.data() + file.size();
        while (true) {
            std::uint64_t number = 0;
            const auto [stopped, error] = std::from_chars(at, end, number);
            if (error != std::errc() || stopped == end) return std::nullopt;
            found.path.push_back(number);
            at = stopped + 1;
            if (*stopped == '@') break;
            if (*stopped != '.') return std::nullopt;
        }
        if (!read_whole_number({at, end}, found.jobs)) return std::nullopt;
        return found;
    }
};

Result<std::shared_ptr<ClassQueue>> ClassQueue::open(const MeetingPlace& place, const std::string& name) {
    const std::string directory = name + std::string(directory_ending);
    const auto opened = [&] {
        return Descriptor(
            ::openat(place.directory(), directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    };
    Descriptor found = opened();
    if (!found && errno == ENOENT) {
        const Umask own;
        if (::mkdirat(place.directory(), directory.c_str(), 0700) == 0 || errno == EEXIST) found = opened();
    }
    if (!found) return system_error_now("use " + place.path() + "/" + directory);
    return std::shared_ptr<ClassQueue>(new ClassQueue(std::move(found), name));
}

// Where they cannot be read nobody is known to be there, which is not that there is nobody (SPEC F14).
Result<std::vector<ClassQueue::Found>> ClassQueue::tickets() const {
    std::vector<Found> found;
    Directory files(directory_.get(), ".");
    while (const char* const file = files.next())
        if (auto ticket = Found::in(file)) found.push_back(std::move(*ticket));
    if (files.error() != 0) return system_error_of(files.error(), "wait in the class " + name_);
    std::sort(found.begin(), found.end(), [](const Found& one, const Found& other) { return one.path < other.path; });
    return found;
}

// A variable for each class: a run in one may ask a server for another in a second one, which asks for one in the
// first. In hexadecimal, since shells drop names that they could not set.
std::string ClassQueue::mark_of(const std::string& ticket) const {
    std::string mark = "COALESCE_TURN_";
    for (const char byte : name_) mark += formatted("{:02x}", static_cast<unsigned char>(byte));
    return mark + "=" + ticket;
}

// That run is known by its mark in the environment, or where it got lost by the processes above (as in SPEC F11).
ClassQueue::Ticket::Path ClassQueue::run_above(const std::vector<Found>& tickets, pid_t asker) const {
    if (tickets.empty() || asker <= 0) return {};
    const std::vector<std::string> environment = environment_of(asker);
    for (const Found& ticket : tickets)
        if (std::find(environment.begin(), environment.end(), mark_of(ticket.name)) != environment.end() &&
            watch(ticket.name))
            return ticket.path;
    const auto own = Numbering::own();
    if (!own) return {};
    std::map<pid_t, std::pair<const Found*, FlightRecord>> runs;
    for (const Found& ticket : tickets)
        if (auto record = FlightRecord::read(directory_.get(), file_of(ticket.name, running).c_str()))
            runs.emplace(record->pid, std::pair(&ticket, std::move(*record)));
    if (runs.empty()) return {};
    for (const ProcessFacts& above : session_leaders_above(asker))
        if (const auto run = runs.find(above.pid); run != runs.end() && is_recorded(run->second.second, above, *own))
            return run->second.first->path;
    return {};
}

ClassQueue::Ticket::Path ClassQueue::run_above(const std::vector<Found>& tickets,
                                               const std::vector<pid_t>& askers) const {
    Ticket::Path path;
    for (auto asker = askers.rbegin(); asker != askers.rend(); ++asker)
        if (auto above = run_above(tickets, *asker); is_below(above, path)) path = std::move(above);
    return path;
}

bool ClassQueue::has_run_of(const std::vector<pid_t>& askers) const {
    auto standing_there = tickets();
    return standing_there && !run_above(*standing_there, askers).empty();
}

// Made and held by us. Only with the lock. It has its name when it is held: others look without the lock, and take away
// what nobody holds.
Result<Descriptor> ClassQueue::hold(const std::string& file) const {
    const Umask own;
    if (::mkfifoat(directory_.get(), unheld, 0600) != 0 && errno != EEXIST)  // left by one that was killed here
        return system_error_now("wait in the class " + name_);
    Descriptor held(::openat(directory_.get(), unheld, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
    if (held && ::renameat(directory_.get(), unheld, directory_.get(), file.c_str()) == 0) return held;
    Error refused = system_error_now("wait in the class " + name_);
    ::unlinkat(directory_.get(), unheld, 0);
    return refused;
}

// Empty, with ENXIO: nobody holds it, with ENOENT: it has gone.
Descriptor ClassQueue::watch(const std::string& file) const noexcept {
    return Descriptor(::openat(directory_.get(), file.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
}

Result<std::unique_ptr<ClassQueue::Ticket>> ClassQueue::take(unsigned jobs, const std::vector<pid_t>& askers,
                                                             Turns::Time takes, Standing& standing) {
    const Lock lock(directory_.get());
    if (!lock && errno == EWOULDBLOCK) return std::unique_ptr<Ticket>();
    if (!lock) return system_error_now("wait in the class " + name_);
    auto standing_there = tickets();
    if (!standing_there) return standing_there.error();
    const std::vector<Found>& before = *standing_there;
    auto number = static_cast<std::uint64_t>(since_boot_us());  // so that none is ever given twice
    for (const Found& ticket : before) number = std::max(number, ticket.path.back() + 1);
    Ticket::Path path = run_above(before, askers);
    path.push_back(number);
    std::unique_ptr<Ticket> ticket(new Ticket(shared_from_this(), std::move(path), jobs));
    auto held = hold(ticket->name_);
    if (!held) return held.error();
    ticket->alive_ = std::move(*held);
    if (takes)  // else, or where that fails, those behind it are told of no time
        static_cast<void>(::symlinkat(std::to_string(takes->count()).c_str(), directory_.get(),
                                      file_of(ticket->name_, usual).c_str()));
    if (before.empty()) {
        standing.may_start = true;
        return ticket;
    }
    standing = ticket->look();
    if (standing.may_start) return ticket;
    held = hold(file_of(ticket->name_, waiting));
    if (!held) return held.error();
    ticket->waiting_ = std::move(*held);
    return ticket;
}

void ClassQueue::remove(const std::string& ticket) const noexcept {
    for (const std::string_view ending : {usual, waiting, running, lingering, std::string_view()})  // itself last
        ::unlinkat(directory_.get(), file_of(ticket, ending).c_str(), 0);
}

ClassQueue::Ticket::Ticket(std::shared_ptr<ClassQueue> queue, Path path, unsigned jobs)
    : queue_(std::move(queue)),
      path_(std::move(path)),
      jobs_(jobs),
      name_(name_of(path_, jobs)),
      mark_(queue_->mark_of(name_)),
      recorder_(queue_->directory_.get(), file_of(name_, running), Numbering::own()) {}

// A descriptor is closed last, so that who is told of it finds all as it is to be.
ClassQueue::Ticket::~Ticket() {
    if (!alive_) return;
    const int directory = queue_->directory_.get();
    const std::string record_file = file_of(name_, running);
    const auto record = started_ ? FlightRecord::read(directory, record_file.c_str()) : std::nullopt;
    if (record && group_is_there(*record) &&
        ::renameat(directory, record_file.c_str(), directory, file_of(name_, lingering).c_str()) == 0)
        return;
    queue_->remove(name_);
}

bool ClassQueue::Ticket::stands_apart_from(pid_t asker) const {
    auto tickets = queue_->tickets();
    return tickets && !is_below(path_, queue_->run_above(*tickets, asker));
}

void ClassQueue::Ticket::start() noexcept {
    started_ = true;
    if (!waiting_) return;
    ::unlinkat(queue_->directory_.get(), file_of(name_, waiting).c_str(), 0);
    waiting_.reset();
}

ProcessMark ClassQueue::Ticket::mark() noexcept {
    return {.hook = {[](const void* recorder) noexcept {
                         static_cast<const FlightRecorder*>(recorder)->record_this_process();
                     },
                     &recorder_},
            .environment = mark_.c_str()};
}

void ClassQueue::Ticket::touch() const noexcept { ::futimens(alive_.get(), nullptr); }

// What is left of a ticket that nobody holds.
ClassQueue::Left ClassQueue::left_of(const std::string& ticket) const {
    if (const auto record = FlightRecord::read(directory_.get(), file_of(ticket, lingering).c_str()))
        return group_is_there(*record) ? Left::group : Left::nothing;
    const auto record = FlightRecord::read(directory_.get(), file_of(ticket, running).c_str());
    if (!record) return Left::nothing;
    const std::string mark = mark_of(ticket);
    const auto is_marked = [&mark](const std::vector<std::string>& environment) {
        return std::find(environment.begin(), environment.end(), mark) != environment.end();
    };
    return end_leftovers(*record, is_marked) == Leftovers::dying ? Left::dying : Left::nothing;
}

// Whether one before ours, which nobody holds, still counts. What will not die is left to itself in the end.
bool ClassQueue::Ticket::counts(const std::string& ticket, bool& dying) {
    const Left left = queue_->left_of(ticket);
    if (left == Left::nothing) queue_->remove(ticket);
    if (left != Left::dying) return left == Left::group;
    dying = true;
    if (!dying_since_us_) dying_since_us_ = since_boot_us();
    return since_boot_us() - *dying_since_us_ < end_of_leftovers_us;
}

ClassQueue::Standing ClassQueue::Ticket::look() {
    const std::size_t depth = path_.size() - 1;
    Standing standing;
    // Behind the ticket of a run there is one turn; it is that run's.
    std::size_t turns = depth == 0 ? jobs_ : 1;
    std::optional<std::uint64_t> counted;  // the last number: a run and those behind its ticket are one
    const Found* last = nullptr;
    bool dying = false;
    auto tickets = queue_->tickets();
    if (!tickets) return {.others = 1, .look_soon = true};
    for (const Found& before : *tickets) {
        if (before.path.size() <= depth || before.path[depth] >= path_[depth] ||
            !std::equal(path_.begin(), path_.end() - 1, before.path.begin()))
            continue;
        Descriptor holder = queue_->watch(before.name);
        if (!holder && errno == ENOENT) continue;
        if (!holder && errno == ENXIO && !counts(before.name, dying)) continue;
        if (!holder) standing.look_soon = true;
        if (depth == 0 && before.path.size() == 1) turns = std::min<std::size_t>(turns, before.jobs);
        if (counted != before.path[depth]) ++standing.others;
        counted = before.path[depth];
        last = &before;
        if (holder) standing.watched.push_back(std::move(holder));
    }
    if (!dying) dying_since_us_.reset();
    standing.may_start = standing.others < turns;
    if (standing.may_start || last == nullptr || last->path.size() > depth + 1) return standing;
    if (Descriptor waits = queue_->watch(file_of(last->name, waiting))) {  // ours cannot come before that one's turn
        standing.watched.clear();
        standing.watched.push_back(std::move(waits));
    }
    return standing;
}

// Of the run of a ticket: what is left where it has started, else all that it takes.
Turns::Time ClassQueue::left_by(const std::string& ticket) const {
    char text[24];
    const ssize_t length = ::readlinkat(directory_.get(), file_of(ticket, usual).c_str(), text, sizeof text);
    std::int64_t takes = 0;
    if (length <= 0 || !read_whole_number({text, static_cast<std::size_t>(length)}, takes)) return std::nullopt;
    struct stat record {};
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    if (::fstatat(directory_.get(), file_of(ticket, running).c_str(), &record, AT_SYMLINK_NOFOLLOW) == 0)
        takes -= (now.tv_sec - record.st_mtim.tv_sec) * 1000;
    return std::chrono::milliseconds(std::max<std::int64_t>(takes, 0));
}

Turns::Time ClassQueue::Ticket::expected() const {
    const std::size_t depth = path_.size() - 1;
    auto tickets = queue_->tickets();
    if (!tickets) return std::nullopt;
    std::vector<Found>& before = *tickets;
    std::erase_if(before, [&](const Found& ticket) {
        return ticket.path.size() != path_.size() || ticket.path[depth] >= path_[depth] ||
               !std::equal(path_.begin(), path_.end() - 1, ticket.path.begin());
    });
    unsigned jobs = depth == 0 ? jobs_ : 1;
    if (depth == 0)
        for (const Found& ticket : before) jobs = std::min(jobs, ticket.jobs);
    Turns turns(jobs);
    const auto runs = [&](const Found& ticket) {
        return ::faccessat(queue_->directory_.get(), file_of(ticket.name, waiting).c_str(), F_OK, 0) != 0;
    };
    const auto waiting_from = std::stable_partition(before.begin(), before.end(), runs);
    std::for_each(before.begin(), waiting_from,
                  [&](const Found& ticket) { turns.running(queue_->left_by(ticket.name)); });
    std::for_each(waiting_from, before.end(), [&](const Found& ticket) {
        static_cast<void>(turns.waiting(queue_->left_by(ticket.name), Turns::Time(0)));
    });
    return turns.waiting(std::nullopt, Turns::Time(0));
}

}  // namespace coalesce
