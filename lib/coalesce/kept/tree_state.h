// SPDX-License-Identifier: MIT
// TreeState: what the files that a command depends on look like, as a part of its key (T9, T10).
//
// Taken before the store is looked at and once more after the run; where the two differ the
// result is of neither state and is not kept. Names count as they were given, so that two work
// trees with equal contents are the same state. Of a file count its content, whether it is
// executable and, of a symbolic link, its text; owner, other permissions and times do not, but for
// `modtime`, where type, size and time of modification stand for the content. A directory is all
// that lies below it. What is missing is a state as well; what cannot be read is an error, since it
// could hide a change.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/kept/digest.h>

namespace coalesce {

/// One thing that the user named.
struct Dependency {
    enum class Kind {
        content,  ///< --depends PATH
        modtime,  ///< --modtime PATH
        listed,   ///< one line of --depends-from: content, and no pattern
    };
    Kind kind;
    std::string path;  ///< as given: a file, a directory, or a pattern with * ? [ or **

    bool operator==(const Dependency&) const = default;
};

/// The paths in a list that ends each with NUL, if there is one in it, else with a newline. In
/// whatever order, and however often, it has them: sorted, each once.
[[nodiscard]] std::vector<Dependency> listed_dependencies(std::string_view list);

class TreeState {
  public:
    /// Looks at everything now; paths are relative to the working directory. The error names a
    /// path that cannot be read, or a device or socket that was named.
    [[nodiscard]] static Result<TreeState> take(const std::vector<Dependency>& dependencies);
    /// The same; no value once `enough` says so, which is asked for each path, and within long files.
    [[nodiscard]] static Result<std::optional<TreeState>> take_unless(const std::vector<Dependency>& dependencies,
                                                                      UniqueFunction<bool()> enough);

    /// What goes into a key: one digest a dependency that was named, and one for all that were listed. The
    /// digest does not depend on the order in which a directory lists its files.
    struct Part {
        std::string name;  ///< "depends: src", "modtime: a.c", "depends-from"
        Digest digest;
    };
    [[nodiscard]] const std::vector<Part>& parts() const noexcept { return parts_; }
    /// One path among all that there was.
    struct Seen {
        std::string path;
        Checksum state;
        bool operator==(const Seen&) const = default;
    };

    /// The first path that differs between two states of the same dependencies; nothing: they are equal.
    [[nodiscard]] static std::optional<std::string> first_change(const TreeState& before, const TreeState& after);

  private:
    std::vector<Part> parts_;
    std::deque<Seen> seen_;  // which stay where they are
};

}  // namespace coalesce
