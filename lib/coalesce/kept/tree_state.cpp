// SPDX-License-Identifier: MIT
#include <coalesce/kept/tree_state.h>

#include <fcntl.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/directory.h>
#include <coalesce/kept/contents.h>

namespace coalesce {
namespace {

// The names in a directory, sorted: a directory lists them in any order.
std::vector<std::string> names_in(Directory& directory) {
    std::vector<std::string> names;
    while (const char* const name = directory.next()) names.emplace_back(name);
    std::sort(names.begin(), names.end());
    return names;
}

// Links that lead in circles lead nowhere: that is a state, which their text tells.
bool gone(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP; }

std::string below(const std::string& directory, const std::string& name) {
    if (directory.empty()) return name;
    return directory.back() == '/' ? directory + name : directory + "/" + name;
}

// What was seen of all that was named, in the order in which it was come by. What is in the files is read meanwhile.
class Sightings {
  public:
    Sightings(std::deque<TreeState::Seen>& seen, UniqueFunction<bool()>& enough) : seen_(seen), contents_(enough) {}

    // An error once it is enough, which nobody reads.
    Result<> see(const std::string& path, const Checksum& state) {
        seen_.push_back({path, state});
        return go_on(path);
    }
    Result<> see(const std::string& path, std::string_view type, std::string_view state) {
        return see(path, checksum_of(type, state));
    }
    Result<> see_file(const std::string& path, std::string_view type, Descriptor file) {
        seen_.push_back({path, {}});
        contents_.read(std::move(file), type, seen_.back().path, seen_.back().state);
        return go_on(path);
    }

    // All files have been read; or the error of the first that could not be.
    Result<> finish() { return contents_.finish(); }
    [[nodiscard]] bool stopped() { return contents_.stopped(); }

  private:
    Result<> go_on(const std::string& path) {
        return contents_.stopped() ? system_error_of(ECANCELED, "look at " + path) : Result<>();
    }

    std::deque<TreeState::Seen>& seen_;
    Contents contents_;
};

// The first bit says whether it is executable: no file is so long.
Checksum dated(const struct stat& info, bool executable) {
    const std::uint64_t size = static_cast<std::uint64_t>(info.st_size) | std::uint64_t{executable} << 63;
    const std::uint64_t modified = static_cast<std::uint64_t>(info.st_mtim.tv_sec) * 1'000'000'000 +
                                   static_cast<std::uint64_t>(info.st_mtim.tv_nsec);
    Checksum state{};
    std::memcpy(state.data(), &size, sizeof size);
    std::memcpy(state.data() + sizeof size, &modified, sizeof modified);
    return state;
}

// Walks what was named, and tells everything that there is.
class Walk {
  public:
    Walk(Dependency::Kind kind, Sightings& sightings) : kind_(kind), sightings_(sightings) {}

    // What the user named himself may be a symbolic link: its text counts and, since the
    // command will follow it, what it leads to. In a list of a whole tree it is one file of it.
    Result<> named(const std::string& path) {
        struct stat info {};
        if (::lstat(path.c_str(), &info) != 0) return missing_or_error(path);
        if (S_ISLNK(info.st_mode)) {
            if (auto seen = link(AT_FDCWD, path.c_str(), path); !seen || kind_ == Dependency::Kind::listed) return seen;
            if (::stat(path.c_str(), &info) != 0) return missing_or_error(path);
        }
        if (S_ISDIR(info.st_mode)) return directory(AT_FDCWD, path.c_str(), path);
        if (S_ISREG(info.st_mode)) return file(AT_FDCWD, path.c_str(), path, info);
        return Error{{}, "look at " + path + ": it is neither a file nor a directory"};
    }

  private:
    Result<> missing_or_error(const std::string& path, const char* doing = "look at ", int error = errno) {
        if (!gone(error)) return system_error_of(error, doing + path);
        return sightings_.see(path, "missing", {});
    }

    Result<> entry(int at, const std::string& name, const std::string& path) {
        struct stat info {};
        if (::fstatat(at, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return missing_or_error(path);
        if (S_ISLNK(info.st_mode)) return link(at, name.c_str(), path);
        if (S_ISDIR(info.st_mode)) return directory(at, name.c_str(), path);
        if (S_ISREG(info.st_mode)) return file(at, name.c_str(), path, info);
        // A pipe, a socket: it has no content.
        return sightings_.see(path, "other", std::to_string(info.st_mode & S_IFMT));
    }

    Result<> directory(int at, const char* name, const std::string& path) {
        Directory opened = with_room([&] { return Directory(at, name); });
        if (opened.fd() < 0) return missing_or_error(path, "read ", opened.error());
        const std::vector<std::string> names = names_in(opened);
        if (opened.error() != 0) return system_error_of(opened.error(), "read " + path);
        if (auto seen = sightings_.see(path, "directory", {}); !seen) return seen;
        for (const std::string& inside : names)
            if (auto seen = entry(opened.fd(), inside, below(path, inside)); !seen) return seen;
        return {};
    }

    Result<> link(int at, const char* name, const std::string& path) {
        const ssize_t length = ::readlinkat(at, name, text_, sizeof text_);
        if (length < 0) return errno == EINVAL ? missing_or_error(path) : missing_or_error(path, "read ");
        return sightings_.see(path, "link", {text_, static_cast<std::size_t>(length)});
    }

    Result<> file(int at, const char* name, const std::string& path, const struct stat& info) {
        const bool executable = (info.st_mode & S_IXUSR) != 0;
        if (kind_ == Dependency::Kind::modtime) return sightings_.see(path, dated(info, executable));
        Descriptor opened =
            with_room([&] { return Descriptor(::openat(at, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)); });
        if (!opened) return missing_or_error(path, "read ");
        return sightings_.see_file(path, executable ? "executable" : "file", std::move(opened));
    }
    // What `open` has opened; again without the files that are held to be read yet, where they take its room.
    template <class Open>
    std::invoke_result_t<Open> with_room(Open open) {
        errno = 0;
        auto opened = open();
        if (errno != EMFILE) return opened;
        (void)sightings_.finish();
        return open();
    }

    Dependency::Kind kind_;
    Sightings& sightings_;
    char text_[PATH_MAX];  // of a link; one for all directories that are open
};

bool is_pattern(std::string_view path) { return path.find_first_of("*?[") != std::string_view::npos; }

// Paths that a pattern finds, `**` standing for any number of directories. Names with a dot in front
// must be matched by one, as in a shell.
class Pattern {
  public:
    static Result<std::vector<std::string>> expand(const std::string& pattern, UniqueFunction<bool()> stopped) {
        Pattern expansion(std::move(stopped));
        const std::string base = pattern.starts_with('/') ? "/" : "";
        if (auto matched = expansion.match(base, std::string_view(pattern).substr(base.size())); !matched)
            return matched.error();
        std::sort(expansion.found_.begin(), expansion.found_.end());
        expansion.found_.erase(std::unique(expansion.found_.begin(), expansion.found_.end()), expansion.found_.end());
        return std::move(expansion.found_);
    }

  private:
    explicit Pattern(UniqueFunction<bool()> stopped) : stopped_(std::move(stopped)) {}

    Result<> match(const std::string& base, std::string_view rest) {
        while (rest.starts_with('/')) rest.remove_prefix(1);
        if (rest.empty()) {
            found_.push_back(base);
            return {};
        }
        const std::size_t slash = std::min(rest.find('/'), rest.size());
        const std::string component(rest.substr(0, slash));
        rest.remove_prefix(slash);
        if (!is_pattern(component)) {
            const std::string path = below(base, component);
            struct stat info {};
            if (::lstat(path.c_str(), &info) != 0)
                return gone(errno) ? Result<>() : system_error_now("look at " + path);
            return match(path, rest);
        }
        const bool deep = component == "**";
        if (deep) {
            while (rest.starts_with("/**") && (rest.size() == 3 || rest[3] == '/')) rest.remove_prefix(3);  // the same
            if (auto matched = match_here(base, rest); !matched) return matched;
        }
        if (stopped_()) return system_error_of(ECANCELED, "read " + base);
        Directory opened(AT_FDCWD, base.empty() ? "." : base.c_str());
        const std::vector<std::string> names = names_in(opened);
        if (opened.error() != 0)
            return opened.fd() < 0 && gone(opened.error()) ? Result<>()
                                                           : system_error_of(opened.error(), "read " + base);
        for (const std::string& name : names) {
            const std::string path = below(base, name);
            if (deep) {
                struct stat info {};
                if (name.front() == '.' || ::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) continue;
                if (auto matched = match(path, "**" + std::string(rest)); !matched) return matched;
            } else if (::fnmatch(component.c_str(), name.c_str(), FNM_PERIOD) == 0) {
                if (auto matched = match(path, rest); !matched) return matched;
            }
        }
        return {};
    }

    // `**` as the last component is everything below.
    Result<> match_here(const std::string& base, std::string_view rest) {
        if (rest.find_first_not_of('/') == std::string_view::npos) return match(base, "*");
        return match(base, rest);
    }

    UniqueFunction<bool()> stopped_;
    std::vector<std::string> found_;
};

Result<> walk(const Dependency& dependency, Sightings& sightings) {
    Walk walk(dependency.kind, sightings);
    if (dependency.kind == Dependency::Kind::listed || !is_pattern(dependency.path)) return walk.named(dependency.path);
    const auto expand = [&] { return Pattern::expand(dependency.path, [&sightings] { return sightings.stopped(); }); };
    auto found = expand();
    if (!found && found.error().code == std::errc::too_many_files_open) {
        (void)sightings.finish();
        found = expand();
    }
    if (!found) return found.error();
    for (const std::string& path : found.value())
        if (auto walked = walk.named(path); !walked) return walked;
    return {};
}

std::string part_name(const Dependency& dependency) {
    switch (dependency.kind) {
        case Dependency::Kind::content:
            return "depends: " + dependency.path;
        case Dependency::Kind::modtime:
            return "modtime: " + dependency.path;
        case Dependency::Kind::listed:
            break;
    }
    return "depends-from";
}

}  // namespace

std::vector<Dependency> listed_dependencies(std::string_view list) {
    const char end = list.find('\0') != std::string_view::npos ? '\0' : '\n';
    std::vector<Dependency> dependencies;
    while (!list.empty()) {
        const std::size_t length = std::min(list.find(end), list.size());
        if (length > 0) dependencies.push_back({Dependency::Kind::listed, std::string(list.substr(0, length))});
        list.remove_prefix(std::min(length + 1, list.size()));
    }
    // git lists what is not in its index before what is, and twice what is in conflict: neither
    // is a difference between two work trees.
    std::sort(dependencies.begin(), dependencies.end(),
              [](const Dependency& one, const Dependency& other) { return one.path < other.path; });
    dependencies.erase(std::unique(dependencies.begin(), dependencies.end()), dependencies.end());
    return dependencies;
}

Result<TreeState> TreeState::take(const std::vector<Dependency>& dependencies) {
    auto taken = take_unless(dependencies, [] { return false; });
    if (!taken) return taken.error();
    return std::move(*taken.value());
}

Result<std::optional<TreeState>> TreeState::take_unless(const std::vector<Dependency>& dependencies,
                                                        UniqueFunction<bool()> enough) {
    TreeState state;
    if (dependencies.empty()) return std::optional<TreeState>(std::move(state));  // as nearly always
    Sightings sightings(state.seen_, enough);
    std::vector<std::size_t> ends;  // of what was seen of each
    Result<> walked;
    for (const Dependency& dependency : dependencies) {
        walked = walk(dependency, sightings);
        if (!walked) break;
        ends.push_back(state.seen_.size());
    }
    const Result<> read = sightings.finish();
    if (sightings.stopped()) return std::optional<TreeState>();
    if (!read) return read.error();  // it came before what ended the walk
    if (!walked) return walked.error();
    auto seen = state.seen_.begin();
    for (std::size_t at = 0; at < dependencies.size();) {
        // All that was listed is one part: nobody wants to read a thousand.
        const Dependency& first = dependencies[at];
        const bool listed = first.kind == Dependency::Kind::listed;
        Digester<sizeof(Digest)> digester;
        do {
            digester.add_field(dependencies[at].path);
            const auto end = state.seen_.begin() + static_cast<std::ptrdiff_t>(ends[at]);
            for (; seen != end; ++seen) {
                digester.add_field(seen->path);
                digester.add(bytes_of(seen->state));
            }
            ++at;
        } while (listed && at < dependencies.size() && dependencies[at].kind == Dependency::Kind::listed);
        state.parts_.push_back({part_name(first), digester.end()});
    }
    return std::optional<TreeState>(std::move(state));
}

std::optional<std::string> TreeState::first_change(const TreeState& before, const TreeState& after) {
    const auto [one, other] =
        std::mismatch(before.seen_.begin(), before.seen_.end(), after.seen_.begin(), after.seen_.end());
    if (one == before.seen_.end() && other == after.seen_.end()) return std::nullopt;
    if (one == before.seen_.end()) return other->path;
    if (other == after.seen_.end()) return one->path;
    // Of one that is new and one that stayed, the smaller name came between.
    return std::min(one->path, other->path);
}

}  // namespace coalesce
