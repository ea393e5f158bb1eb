// SPDX-License-Identifier: MIT
#include <coalesce/meeting/meeting_places.h>

#include <coalesce/command/command.h>

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace coalesce {
namespace {

constexpr const char* directory_name = "/coalesce";
constexpr std::chrono::seconds end_of_leftovers{10};

std::optional<struct stat> facts_of(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return std::nullopt;
    return info;
}

bool is_ours(const struct stat& info) { return info.st_uid == ::geteuid(); }

// For messages, and for those who look at sockets from elsewhere.
std::string absolute(const std::string& path) {
    if (path.starts_with('/')) return path;
    char here[4096];
    return ::getcwd(here, sizeof here) != nullptr && here[0] == '/' ? std::string(here) + "/" + path : path;
}

struct Found {
    std::string runtime;      // empty: there is none
    bool is_logins = false;   // the one that a login makes
    std::string passed_over;  // named, and not there
};

// Another's runtime directory, as sudo and su leave it in the environment, would get a
// place that its owner cannot use.
Found runtime_directory(const std::vector<std::string>& env) {
    Found found;
    const std::string named(env_value(env, "XDG_RUNTIME_DIR").value_or(""));
    const std::string made_by_login = "/run/user/" + std::to_string(::geteuid());
    const auto login = facts_of(made_by_login);
    if (named.starts_with('/')) {
        const auto facts = facts_of(named);
        if (!facts) {
            found.passed_over = named;
        } else if (is_ours(*facts)) {
            found.runtime = named;
            found.is_logins = login && login->st_dev == facts->st_dev && login->st_ino == facts->st_ino;
            return found;
        }
    }
    if (login && is_ours(*login)) {
        found.runtime = made_by_login;
        found.is_logins = true;
    }
    return found;
}

std::string last_place() { return "/tmp/coalesce-" + std::to_string(::geteuid()); }

bool is_busy(const Error& error) { return error.code == std::errc::resource_unavailable_try_again; }

}  // namespace

Result<MeetingPlaces> MeetingPlaces::open(const std::vector<std::string>& env, const std::string& named) {
    if (!named.empty()) {
        auto own = MeetingPlace::open_named(absolute(named));
        if (!own) return own.error();
        return MeetingPlaces(std::move(*own));
    }
    const std::string last = last_place();
    Found found = runtime_directory(env);
    auto own = MeetingPlace::open(found.runtime.empty() ? last : found.runtime + directory_name);
    if (!own) return own.error();
    MeetingPlaces places(std::move(*own));
    places.passed_over_ = std::move(found.passed_over);
    places.is_logins_ = found.is_logins;
    if (found.is_logins) places.other_ = MeetingPlace::look(last);
    return places;
}

Result<std::variant<MeetingPlaces::Joined, MeetingPlaces::Leading, MeetingPlaces::Busy>> MeetingPlaces::join_or_lead(
    const std::string& key, bool over_leftovers) {
    using Way = std::variant<Joined, Leading, Busy>;
    const auto refused = [](const Error& error) -> Result<Way> {
        return is_busy(error) ? Result<Way>(Way(Busy::taken)) : Result<Way>(error);
    };
    auto connection = own_.connect(key);
    if (!connection) return refused(connection.error());
    if (*connection) return Way(Joined{std::move(*connection)});
    const auto locked = own_.lock();
    if (!locked) return refused(locked.error());
    connection = connect(key);
    if (!connection) return refused(connection.error());
    if (*connection) return Way(Joined{std::move(*connection)});
    if (!over_leftovers) {
        if (own_.end_leftovers(key) == Leftovers::dying) return Way(Busy::leftovers);
        if (other_ && !other_->clean(key)) return Way(Busy::leftovers);
    }
    auto listener = own_.bind(key);
    if (!listener) return listener.error();
    return Way(Leading{std::move(*listener)});
}

Result<Descriptor> MeetingPlaces::connect(const std::string& key) const {
    auto connection = own_.connect(key);
    if (!connection || *connection || !other_) return connection;
    return other_->connect(key);
}

std::vector<const MeetingPlace*> MeetingPlaces::all() const {
    std::vector<const MeetingPlace*> all{&own_};
    if (other_) all.push_back(&*other_);
    return all;
}

// Our own has been opened already, as what it is.
Result<MeetingPlace> MeetingPlaces::for_classes() const {
    if (is_logins_)
        if (auto last = MeetingPlace::open(last_place())) return last;
    return MeetingPlace::open_named(own_.path());
}

bool LeftoversPatience::ends_now() {
    const auto now = std::chrono::steady_clock::now();
    if (!until_) until_ = now + end_of_leftovers;
    return over_ = now >= *until_;
}

void MeetingPlaces::sweep() {
    own_.sweep();
    if (other_) other_->sweep();
}

}  // namespace coalesce
