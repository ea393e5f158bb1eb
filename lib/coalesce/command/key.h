// SPDX-License-Identifier: MIT
// Key: the bytes that decide whether two requests are duplicates (K1, K2).
//
// A key is compared whole, never by hash alone (K3), and its encoding is
// injective: every part is tagged and length-prefixed, so no two different
// commands have the same bytes. It comes in two halves. The surroundings
// (directory, environment, umask, scope) are the same for a whole batch or
// connection and are interned; the words (argv, stdin) are all that is built
// for a line. The alternative, one string a request, would copy and hash a few
// kilobytes of environment a million times.
//
// Wrong sharing is worse than a missed join, so in doubt something is in the
// key: duplicate variables stay, in their order; the user's own filter rules
// are part of it, for a request that ignores FOO has agreed to any FOO and one
// that does not ignore it has not. Different users are kept apart by whoever
// serves several, through KeyRules::user. Hashing a key for file names is left
// to the meeting place.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <coalesce/command/command.h>

namespace coalesce {

/// With whom besides this machine a request may share (SPEC M2, M9, M10).
struct ClusterRules {
    std::string engine;    ///< where they meet
    std::string scope;     ///< what files the command sees there, in the user's words; empty: with nobody
    std::string platform;  ///< the kind of machine; empty: it does not count
};

/// What the user says about identity.
struct KeyRules {
    std::vector<std::string> ignore_env;               ///< glob patterns (* and ?), beside the default ones
    std::optional<std::vector<std::string>> only_env;  ///< glob patterns; present and empty: no environment at all
    bool ignore_cwd = false;
    bool ignore_namespaces = false;  ///< containers that share a tree: their namespaces and roots do not count
    bool no_share = false;           ///< joins nobody, and nobody joins it: append_unshared()
    std::string scope;               ///< added to the key
    std::optional<std::string> key;  ///< replaces argv, cwd, env and stdin
    /// States of files that the command depends on (SPEC T9): what was named, and a digest.
    std::vector<std::pair<std::string, std::string>> states;
    std::optional<uid_t> user;  ///< set by a door that serves several users (K3)
    std::optional<ClusterRules> cluster;
};

/// A variable that is no part of a key unless --only-env names it.
struct IgnoredVariable {
    std::string_view pattern;
    std::string_view reason;
    bool last_field_only = false;  ///< what follows its last comma; the rest counts
};

/// The variables ignored by default, each with the reason a user can read.
/// They differ between two terminals of one user and change no result.
[[nodiscard]] std::span<const IgnoredVariable> default_ignored_env();

/// Does the name match the pattern? '*' is any run of bytes, '?' any one byte.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view name);

/// The canonical bytes of everything but the words: the identity of who will run the command,
/// the umask, the directory with its device and inode, the environment. PWD itself is not part
/// of it, but when it names the directory by another path (through a symbolic
/// link), that spelling is: compilers and `pwd` show it. This is the one place
/// that looks at the file system, and only when PWD and cwd differ.
[[nodiscard]] std::string canonical_surroundings(const Surroundings& surroundings, const KeyRules& rules);

/// The same canonical bytes without what one kernel's numbers name: the namespaces, the root directory, and the
/// directory's device and inode. For results that are to outlive a boot and a container (SPEC T16).
[[nodiscard]] std::string portable_surroundings(std::string_view canonical);

/// What of a key names its command, and not one run of it: argv or rules.key, the directory and the scope, as
/// canonical bytes. `own` is the user whose commands need no name of theirs. For what is remembered over runs (SPEC
/// H1).
[[nodiscard]] std::string canonical_command(std::string_view surroundings, std::string_view words, uid_t own);

/// The same canonical bytes without what tells one machine from another: the identity, the directory's device
/// and inode, the engine's address, and the variables HOSTNAME and HOST. For runs that machines share (SPEC M9).
[[nodiscard]] std::string cluster_surroundings(std::string_view canonical);

/// Whether such bytes name a cluster scope: then whoever has them agreed to share with other machines.
[[nodiscard]] bool has_cluster_scope(std::string_view canonical);

/// The canonical bytes of argv and stdin, or of rules.key in their stead.
[[nodiscard]] std::string canonical_words(const std::vector<std::string>& argv,
                                          const std::optional<std::string>& stdin_bytes, const KeyRules& rules);

/// Makes words like no other of any process: whoever has them joins nobody, and is joined by
/// nobody, but is a flight like any other.
void append_unshared(std::string& words);

/// Whether the words were made like no other.
[[nodiscard]] bool is_unshared(std::string_view words);

/// The words of a request's key: canonical_words(), unshared if the rules say so.
[[nodiscard]] std::string words_of_key(const std::vector<std::string>& argv,
                                       const std::optional<std::string>& stdin_bytes, const KeyRules& rules);

/// What the words of all lines that this shell runs begin with.
[[nodiscard]] std::string canonical_shell(std::string_view shell);

/// Appends the bytes of canonical_words(argv_of_line(shell, line), nullopt, {}) without building vectors;
/// `begin` is canonical_shell(shell).
void append_canonical_line(std::string& out, std::string_view begin, std::string_view line);

/// Canonical surroundings with their hash, computed once.
struct CanonicalSurroundings {
    explicit CanonicalSurroundings(std::string canonical)
        : bytes(std::move(canonical)), hash(std::hash<std::string_view>{}(bytes)) {}

    std::string bytes;
    std::size_t hash;
};

/// The identity of a request. Owns its words, shares its surroundings.
struct Key {
    std::shared_ptr<const CanonicalSurroundings> surroundings;
    std::string words;
};

/// A key to look up with; copies nothing and owns nothing.
struct KeyView {
    KeyView(const CanonicalSurroundings* s, std::string_view w) : surroundings(s), words(w) {}
    KeyView(const std::shared_ptr<const CanonicalSurroundings>& s, std::string_view w)
        : surroundings(s.get()), words(w) {}
    KeyView(const Key& key) : surroundings(key.surroundings.get()), words(key.words) {}  // a Key is viewed implicitly

    const CanonicalSurroundings* surroundings;
    std::string_view words;
};

/// Surroundings by pointer first, then by bytes; words by bytes.
[[nodiscard]] inline bool operator==(const KeyView& a, const KeyView& b) noexcept {
    if (a.words != b.words) return false;
    if (a.surroundings == b.surroundings) return true;
    if (a.surroundings == nullptr || b.surroundings == nullptr) return false;
    return a.surroundings->hash == b.surroundings->hash && a.surroundings->bytes == b.surroundings->bytes;
}
[[nodiscard]] inline bool operator==(const Key& a, const Key& b) noexcept { return KeyView(a) == KeyView(b); }

struct RequestKey;

struct KeyHash {
    using is_transparent = void;
    [[nodiscard]] std::size_t operator()(const KeyView& key) const noexcept {
        const std::size_t surroundings = key.surroundings == nullptr ? 0 : key.surroundings->hash;
        return std::hash<std::string_view>{}(key.words) ^ (surroundings * 0x9e3779b97f4a7c15ULL);
    }
    [[nodiscard]] std::size_t operator()(const Key& key) const noexcept { return (*this)(KeyView(key)); }
    [[nodiscard]] std::size_t operator()(const RequestKey& key) const noexcept;
};

/// A key to ask with, hashed once for all who look for it. Owns nothing; becomes a Key when its request leads.
struct RequestKey {
    RequestKey(const std::shared_ptr<const CanonicalSurroundings>& s, std::string_view w)
        : surroundings(s), words(w), hash(KeyHash{}(KeyView(s, w))) {}
    operator KeyView() const { return {surroundings, words}; }  // and is viewed implicitly, as a Key is
    explicit operator Key() const { return {surroundings, std::string(words)}; }

    const std::shared_ptr<const CanonicalSurroundings>& surroundings;
    std::string_view words;
    std::size_t hash;
};
inline std::size_t KeyHash::operator()(const RequestKey& key) const noexcept { return key.hash; }

struct KeyEqual {
    using is_transparent = void;
    [[nodiscard]] bool operator()(const KeyView& a, const KeyView& b) const noexcept { return a == b; }
};

/// Gives equal canonical surroundings one address while anybody holds them.
/// Entries are weak and dead ones are swept as the table grows, so it never
/// holds more than twice the most surroundings alive at once. Thread-safe.
class SurroundingsTable {
  public:
    [[nodiscard]] std::shared_ptr<const CanonicalSurroundings> intern(std::string canonical) {
        return intern(CanonicalSurroundings(std::move(canonical)));
    }
    [[nodiscard]] std::shared_ptr<const CanonicalSurroundings> intern(CanonicalSurroundings canonical);
    [[nodiscard]] std::size_t size() const;  ///< entries, living and dead

  private:
    mutable std::mutex mutex_;
    std::unordered_multimap<std::size_t, std::weak_ptr<const CanonicalSurroundings>> entries_;
    std::size_t sweep_at_ = 16;
};

/// One part of a key, for a reader: {"environment: CI_JOB_ID", "CI_JOB_ID=7"}, {"directory", "/srv"}.
struct KeyPart {
    std::string name;
    std::string value;
    bool of_identity = false;  ///< many, and of interest only where they differ
    bool operator==(const KeyPart&) const = default;
};

/// The parts of a key, in the order a reader wants them (K4): argv, stdin, identity, umask, scope, directory,
/// rules, environment.
[[nodiscard]] std::vector<KeyPart> explain(const Surroundings& surroundings, const std::vector<std::string>& argv,
                                           const std::optional<std::string>& stdin_bytes, const KeyRules& rules);

/// The same from a key's own bytes. Bytes that are no key yield one part named "malformed key".
[[nodiscard]] std::vector<KeyPart> explain(std::string_view canonical_surroundings, std::string_view canonical_words);

/// The canonical bytes of each part of one half of a key: of argv together, and of all else a part by itself. Each can
/// be explained alone.
[[nodiscard]] std::vector<std::string_view> parts_of(std::string_view canonical);

/// The names of the parts that differ, each once: "environment: CI_JOB_ID", "directory", "umask", "argv", "stdin",
/// "groups", "namespace: net".
/// Empty if and only if the keys are equal.
[[nodiscard]] std::vector<std::string> differences(const std::vector<KeyPart>& a, const std::vector<KeyPart>& b);

}  // namespace coalesce
