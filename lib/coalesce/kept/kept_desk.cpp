// SPDX-License-Identifier: MIT
#include <coalesce/kept/kept_desk.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include <coalesce/io/loop.h>
#include <coalesce/io/watch.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::size_t untidied_max = 64;

// The result of a request that wants none.
std::shared_ptr<const RunResult> warmed(const RefreshOrders& orders, const Result<>& started) {
    RunResult result;
    if (started)
        result.outcome = Outcome::exited(0);
    else if (started.error().code == std::errc::operation_canceled)
        result.outcome = Outcome::cancelled();
    else
        result.outcome = Outcome::refused(started.error().code.value(), "cannot " + started.error().message());
    result.title = orders.title;
    result.requested = result.started = system_clock::now();
    result.attempts = 1;
    return std::make_shared<const RunResult>(std::move(result));
}

}  // namespace

// What the thread has of a look.
struct KeptDesk::Lookup {
    std::shared_ptr<StoreAccess> access;
    KeptSubject subject;
    Wish wish;
    const SpoolLimits& limits;
    std::shared_ptr<const RunResult> result;
};

// What the loop has.
struct KeptDesk::Look {
    std::shared_ptr<Lookup> lookup;
    RefreshOrders orders;
    std::string key_name;
    Answer answer;
    bool again = false;  // something was kept under its key since it began
    bool waits = false;  // for what is being kept under its key
};

// What becomes of one flight's result. It may outlive the desk, as its flight's.
class KeptDesk::Keeper final : public Retention, public std::enable_shared_from_this<Keeper> {
  public:
    Keeper(KeptDesk& desk, KeptSubject subject, const Wish& wish)
        : desk_(desk), subject_(std::move(subject)), wish_(wish) {}

    void add(const Wish& wish) noexcept { widen(wish_, wish); }

    std::shared_ptr<const RunResult> find() override { return nullptr; }  // it was looked for before

    void keep(const std::shared_ptr<const RunResult>& result, UniqueFunction<void()> done) override {
        if (!wish_.keeps()) return done();
        if (std::string why = why_not_kept(*result, wish_); !why.empty())
            words_ = "not kept: " + why;
        else
            return desk_.keep(shared_from_this(), result, std::move(done));
        done();
    }

    [[nodiscard]] std::string words() const override { return words_; }
    [[nodiscard]] bool failed() const override { return failed_; }

  private:
    friend KeptDesk;
    KeptDesk& desk_;
    const KeptSubject subject_;
    Wish wish_;
    std::string words_;
    bool failed_ = false;
};

// What the loop has of a result that is being kept.
struct KeptDesk::Keep {
    std::shared_ptr<Keeper> keeper;
    std::shared_ptr<KeptFlight> flight;  // the thread's, until it is done
    std::optional<Timer> patience;
    UniqueFunction<void()> done;
    std::uint64_t bytes = 0;
    bool waited_for = true;

    void tell() {
        if (done) std::exchange(done, {})();
    }
};

KeptDesk::KeptDesk(Loop& loop, const SpoolLimits& limits, Options options, Events events)
    : loop_(loop),
      limits_(limits),
      access_(std::make_shared<StoreAccess>(std::move(options.place))),
      events_(std::move(events)),
      refreshes_(loop, std::move(options.make_refresh_program), options.in_child),
      looking_(loop),
      keeping_(loop),
      tidying_(loop) {}

KeptDesk::~KeptDesk() {
    *ending_ = true;
    if (uncounted_.joins == 0) return;
    if (auto store = access_->open(false); store && *store) add_savings((*store)->directory(), uncounted_);
}

const std::shared_ptr<const CanonicalSurroundings>& KeptDesk::in_store(
    const std::shared_ptr<const CanonicalSurroundings>& surroundings) const {
    if (last_surroundings_ != surroundings) {
        last_surroundings_ = surroundings;
        last_in_store_ = surroundings_in(access_->place(), surroundings);
    }
    return last_in_store_;
}

KeptSubject KeptDesk::subject_of(const KeptQuestion& question) const {
    const Command& command = question.job.command;
    return {.surroundings = in_store(question.surroundings),
            .words = std::string(question.words),
            .program = program_of(command, command.surroundings->cwd),
            .title = question.job.title,
            .directory = command.surroundings->cwd,
            .dependencies = {},
            .state = {}};
}

void KeptDesk::look(const KeptQuestion& question, Answer answer) {
    const Job& job = question.job;
    Wish wish = question.wish;
    if (job.retries > 0) wish.keep_failures.reset();  // a failure is no answer yet (T7)
    auto look = std::make_shared<Look>(
        Look{.lookup = std::make_shared<Lookup>(Lookup{access_, subject_of(question), wish, limits_, nullptr}),
             .orders = {.command = job.command,
                        .line = job.line,
                        .title = job.title,
                        .surroundings = question.surroundings,
                        .words = std::string(question.words),
                        .timeout = job.timeout,
                        .grace = job.grace,
                        .run_class = job.run_class,
                        .place = access_->place(),
                        .wish = question.wish},
             .key_name = store_key({in_store(question.surroundings), question.words}).name,
             .answer = std::move(answer)});
    looks_[look->key_name].push_back(look);
    give(look);
}

void KeptDesk::give(const std::shared_ptr<Look>& look) {
    looking_.give(
        [lookup = look->lookup] {
            KeptFlight flight(lookup->access, lookup->subject, lookup->wish, lookup->limits);
            lookup->result = flight.find();
        },
        [this, look] { looked(look); });
}

void KeptDesk::looked(const std::shared_ptr<Look>& look) {
    std::shared_ptr<const RunResult> result = std::move(look->lookup->result);
    if (!result && std::exchange(look->again, false)) return give(look);
    look->waits = !result && publishing_.contains(look->key_name);
    if (look->waits) return;
    const auto looks = looks_.find(look->key_name);
    std::erase(looks->second, look);
    if (looks->second.empty()) looks_.erase(looks);
    const bool warm = look->orders.wish.warm;
    const bool stale = result && result->kept->refreshing;
    const auto ended = !result ? system_clock::time_point()
                               : result->started + duration_cast<system_clock::duration>(result->duration);
    if (result && !warm) count(*result);
    const bool due = stale || (warm && ended == system_clock::time_point());
    if (warm && !due) return look->answer(warmed(look->orders, {}));
    Refreshes::Told told;
    if (warm)
        told = [look](const Result<>& started) { look->answer(warmed(look->orders, started)); };
    else
        look->answer(std::move(result));
    if (due) refreshes_.start(look->key_name, ended.time_since_epoch().count(), look->orders, std::move(told));
}

// Told to the store's sum when nobody has to wait for that.
void KeptDesk::count(const RunResult& hit) {
    for (Savings* const sum : {&hits_, &uncounted_}) {
        ++sum->joins;
        sum->time += hit.duration;
    }
    write_count();
}

// Whatever the thread is busy with comes first, and asks again when it is over.
void KeptDesk::write_count() {
    if (uncounted_.joins == 0 || !tidying_.idle()) return;
    tidying_.give(
        [access = access_, sum = std::exchange(uncounted_, {})] {
            if (auto store = access->open(false); store && *store) add_savings((*store)->directory(), sum);
        },
        [this] { write_count(); });
}

std::shared_ptr<Retention> KeptDesk::keeper(const KeptQuestion& question) {
    return std::make_shared<Keeper>(*this, subject_of(question), question.wish);
}

void KeptDesk::share(std::shared_ptr<Retention>& retention, const std::shared_ptr<Retention>& keeper) {
    if (!keeper) return;
    if (retention)
        static_cast<Keeper&>(*retention).add(static_cast<Keeper&>(*keeper).wish_);
    else
        retention = keeper;
}

void KeptDesk::keep(const std::shared_ptr<Keeper>& keeper, const std::shared_ptr<const RunResult>& result,
                    UniqueFunction<void()> done) {
    const std::uint64_t bytes = result->spool->size();
    if (unwritten_bytes_ > 0 && unwritten_bytes_ + bytes > unwritten_bytes_max()) {
        not_written(*keeper, "not kept: cannot write " + access_->place().path() + ": too much waits to be written");
        return done();
    }
    auto twin = result->spool->twin();  // whoever reads the output here goes on
    if (!twin) {
        not_written(*keeper, "not kept: cannot " + twin.error().message());
        return done();
    }
    unwritten_bytes_ += bytes;
    auto own = std::make_shared<RunResult>(*result);
    own->spool = std::move(*twin);
    auto keep = std::make_unique<Keep>();
    keep->keeper = keeper;
    keep->bytes = bytes;
    keep->flight = std::make_shared<KeptFlight>(access_, keeper->subject_, keeper->wish_, limits_);
    publishing_.insert(keep->flight->key_name());
    keep->done = std::move(done);
    keep->patience.emplace(loop_);
    keep->patience->start(publishing_max, [this, keep = keep.get()] {
        look_again(*keep);
        keep->tell();
    });
    auto work = [flight = keep->flight, ended = now(),
                 own = std::shared_ptr<const RunResult>(std::move(own))]() mutable {
        flight->keep(own, ended, std::nullopt);
        own.reset();
        flight.reset();
    };
    keeping_.give(std::move(work), [this, keep = std::move(keep)] { kept(*keep); });
}

void KeptDesk::kept(Keep& keep) {
    keep.patience.reset();
    unwritten_bytes_ -= keep.bytes;
    if (keep.flight->failed())
        not_written(*keep.keeper, keep.flight->words());
    else
        keep.keeper->words_ = keep.flight->words();
    look_again(keep);
    tidy(std::move(keep.flight));
    keep.tell();
}

// A disk that is slower than the runs syncs what it can: each that waits for it has its file open.
void KeptDesk::tidy(std::shared_ptr<KeptFlight> flight) {
    if (untidied_ >= untidied_max && !flight->words().empty()) return flight->leave();
    ++untidied_;
    tidying_.give(
        [flight = std::move(flight), ending = ending_] {
            if (*ending)
                flight->leave();
            else
                flight->after_delivery();
        },
        [this] {
            --untidied_;
            write_count();
        });
}

void KeptDesk::not_written(Keeper& keeper, std::string words) {
    if (std::exchange(not_written_, words) != words) events_.on_not_written(words);
    keeper.words_ = std::move(words);
    keeper.failed_ = true;
}

// It lies in memory as a rule, of which the flights that are under way need the most.
std::uint64_t KeptDesk::unwritten_bytes_max() const {
    constexpr std::uint64_t most = 256 << 20;
    return std::min(most, limits_.store.budget->limit() / 2);
}

// What is being kept is there, or takes too long.
void KeptDesk::look_again(Keep& keep) {
    const std::string& key_name = keep.flight->key_name();
    if (std::exchange(keep.waited_for, false)) publishing_.erase(publishing_.find(key_name));
    const auto looks = looks_.find(key_name);
    if (looks == looks_.end()) return;
    for (const std::shared_ptr<Look>& look : looks->second) {
        if (std::exchange(look->waits, false))
            give(look);
        else
            look->again = true;
    }
}

void KeptDesk::forget(const KeyView& key, UniqueFunction<void(Result<>)> done) {
    auto error = std::make_shared<std::optional<Error>>();
    const auto surroundings = std::make_shared<const CanonicalSurroundings>(key.surroundings->bytes);
    keeping_.give(
        [access = access_, error, name = store_key({in_store(surroundings), key.words}).name] {
            auto store = access->open(true);  // so that a run under way is not kept either
            if (!store)
                *error = store.error();
            else if (auto forgotten = (*store)->forget(name, now()); !forgotten)
                *error = forgotten.error();
        },
        [error, done = std::move(done)]() mutable { done(*error ? Result<>(std::move(**error)) : Result<>()); });
}

void KeptDesk::ask_entry_limit(UniqueFunction<void(std::uint64_t)> answer) {
    auto bytes = std::make_shared<std::uint64_t>(0);
    looking_.give(
        [access = access_, bytes] {
            auto store = access->open(false);
            *bytes = store && *store ? (*store)->limits().entry_bytes : KeptLimits().entry_bytes;
        },
        [bytes, answer = std::move(answer)]() mutable { answer(*bytes); });
}

}  // namespace coalesce
