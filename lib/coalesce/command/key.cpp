// SPDX-License-Identifier: MIT
// What is told about a key comes from its bytes (canonical.h), never from the request.
#include <coalesce/command/key.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <random>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/canonical.h>
#include <coalesce/command/shell_line.h>
#include <coalesce/command/text.h>

namespace coalesce {
namespace {

// Tags of the surroundings, then of the words. No tag is used in both halves.
namespace tag {
constexpr char kUser = 'w';
constexpr char kIdentity = 'I';      // a canonical text of its own (identity.h)
constexpr char kNoNamespaces = 'N';  // present, with no bytes, when they do not count
constexpr char kUmask = 'u';
constexpr char kState = 'f';  // what of which file; its digest follows
constexpr char kStateDigest = 'h';
constexpr char kScope = 's';
constexpr char kTerminal = 't';  // "120x24"
constexpr char kDirectory = 'd';
constexpr char kDirectoryItself = 'D';  // "device inode"
constexpr char kSpelling = 'p';
constexpr char kIgnored = 'i';
constexpr char kOnly = 'O';  // present, with no bytes, when there is a list; its patterns follow
constexpr char kOnlyPattern = 'o';
constexpr char kVariable = 'e';
constexpr char kEngine = 'c';
constexpr char kClusterScope = 'C';
constexpr char kPlatform = 'P';  // with no bytes, when it does not count

constexpr char kArgument = 'a';
constexpr char kStdin = 'n';
constexpr char kReplaced = 'k';
constexpr char kUnshared = 'U';
}  // namespace tag

// In doubt a variable is not here: a missed join costs a run, a wrong one a wrong
// result. TERM, DISPLAY, TERM_PROGRAM, COLORTERM, VTE_VERSION change output;
// COLUMNS and LINES are obeyed off a terminal too; SSH_AUTH_SOCK, TMUX, STY,
// ZELLIJ_SESSION_NAME, KITTY_LISTEN_ON, WEZTERM_UNIX_SOCKET, NOTIFY_SOCKET decide whom a
// command talks to; WINDOW (screen) and LISTEN_FDS are names a script may use for
// something else; CLAUDECODE, CODEX_CI, CURSOR_AGENT, AI_AGENT make programs write for an
// agent. All of them stay in the key.
constexpr std::array kIgnoredByDefault = std::to_array<IgnoredVariable>({
    {"COALESCE_*", "coalesce's own"},
    {"SHLVL", "counts nested shells"},
    {"_", "the command the shell ran last"},
    {"OLDPWD", "the directory the shell was in before"},
    {"PWD", "the directory is a part of its own, with the spelling that PWD gives it"},
    {"WINDOWID", "number of the X window"},
    {"DESKTOP_STARTUP_ID", "token of one launch from the desktop, spent at the start"},
    {"XDG_ACTIVATION_TOKEN", "token of one launch from the desktop, spent at the start"},
    {"TERM_SESSION_ID", "names one terminal tab"},
    {"SHELL_SESSION_ID", "names one terminal tab"},
    {"ITERM_SESSION_ID", "names one iTerm2 tab"},
    {"ITERM_PROFILE", "looks of the iTerm2 tab"},
    {"KONSOLE_DBUS_SERVICE", "names one Konsole"},
    {"KONSOLE_DBUS_SESSION", "names one Konsole tab"},
    {"KONSOLE_DBUS_WINDOW", "names one Konsole window"},
    {"GNOME_TERMINAL_SCREEN", "names one GNOME Terminal tab"},
    {"GNOME_TERMINAL_SERVICE", "names one GNOME Terminal"},
    {"GUAKE_TAB_UUID", "names one Guake tab"},
    {"TERMINATOR_UUID", "names one Terminator tab"},
    {"TILIX_ID", "names one Tilix tab"},
    {"WT_SESSION", "names one Windows Terminal tab"},
    {"WT_PROFILE_ID", "looks of the Windows Terminal tab"},
    {"KITTY_WINDOW_ID", "names one kitty window"},
    {"KITTY_PID", "process id of the terminal"},
    {"KITTY_PUBLIC_KEY", "made anew by each kitty"},
    {"ALACRITTY_WINDOW_ID", "names one Alacritty window"},
    {"ALACRITTY_LOG", "log file of one Alacritty"},
    {"WEZTERM_PANE", "names one WezTerm pane"},
    {"TMUX", "the session's number, its last field, does not count; the tmux server does", true},
    {"TMUX_PANE", "names one tmux pane"},
    {"ZELLIJ_PANE_ID", "names one Zellij pane"},
    {"SSH_CONNECTION", "addresses and ports of the login"},
    {"SSH_CLIENT", "addresses and ports of the login"},
    {"SSH_TTY", "terminal device of the login"},
    {"GPG_TTY", "where gpg-agent may ask, not what it answers"},
    {"P9K_TTY", "terminal device, left by a zsh prompt"},
    {"_P9K_TTY", "terminal device, left by a zsh prompt"},
    {"_P9K_SSH_TTY", "terminal device, left by a zsh prompt"},
    {"STARSHIP_SESSION_KEY", "made anew by each shell's prompt"},
    {"XDG_SESSION_ID", "number of the login session"},
    {"INVOCATION_ID", "made anew by each start of a systemd unit"},
    {"JOURNAL_STREAM", "the journal's pipe, which the command does not get"},
    {"SYSTEMD_EXEC_PID", "process id of the unit"},
    {"MANAGERPID", "process id of the service manager"},
    {"LISTEN_PID", "process id that sockets were meant for, never the command's"},
    {"WATCHDOG_PID", "process id that the watchdog was meant for, never the command's"},
    {"MEMORY_PRESSURE_WATCH", "the unit's own control group"},
    {"MEMORY_PRESSURE_WRITE", "set with MEMORY_PRESSURE_WATCH"},
    {"CLAUDE_CODE_SESSION_ID", "names one session of a coding agent"},
    {"CLAUDE_CODE_REMOTE_SESSION_ID", "names one session of a coding agent"},
    {"CODEX_SESSION_ID", "names one session of a coding agent"},
    {"CODEX_THREAD_ID", "names one session of a coding agent"},
    {"CURSOR_TRACE_ID", "names one session of a coding agent"},
    {"AMP_CURRENT_THREAD_ID", "names one session of a coding agent"},
    {"AGENT_THREAD_ID", "names one session of a coding agent"},
    {"OPENCODE_RUN_ID", "names one session of a coding agent"},
});

bool matches_any(const std::vector<std::string>& patterns, std::string_view name) {
    return std::any_of(patterns.begin(), patterns.end(),
                       [name](const std::string& pattern) { return matches_pattern(pattern, name); });
}

// Each variable is held against all of them, so the first letter is looked at first.
static_assert(std::none_of(kIgnoredByDefault.begin(), kIgnoredByDefault.end(), [](const IgnoredVariable& v) {
    return v.pattern.front() == '*' || v.pattern.front() == '?';
}));
const IgnoredVariable* ignored_by_default(std::string_view name) {
    if (name.empty()) return nullptr;
    const auto* const found =
        std::find_if(kIgnoredByDefault.begin(), kIgnoredByDefault.end(), [name](const IgnoredVariable& v) {
            return v.pattern.front() == name.front() && matches_pattern(v.pattern, name);
        });
    return found == kIgnoredByDefault.end() ? nullptr : found;
}

// What counts of an environment entry; nothing of one that does not. Naming a variable in
// only_env overrides the default list, not ignore_env; the ancestry is never part of a
// key (F11), nor is what only says a second time how large the terminal is (P4).
std::optional<std::string_view> counted(std::string_view entry, bool on_terminal, const KeyRules& rules) {
    const std::string_view name = env_name(entry);
    if (on_terminal && is_terminal_variable(name)) return std::nullopt;
    if (name == kAncestryVariable || matches_any(rules.ignore_env, name)) return std::nullopt;
    if (rules.only_env) return matches_any(*rules.only_env, name) ? std::optional(entry) : std::nullopt;
    const IgnoredVariable* const ignored = ignored_by_default(name);
    if (ignored == nullptr) return entry;
    return ignored->last_field_only ? std::optional(entry.substr(0, entry.rfind(','))) : std::nullopt;
}

// Sorted by name only and stably: duplicates keep their order, because getenv()
// sees the first and a shell the last.
std::vector<std::string_view> counted_variables(const Surroundings& surroundings, const KeyRules& rules) {
    std::vector<std::string_view> entries;
    for (const std::string& entry : surroundings.env)
        if (const auto what_counts = counted(entry, surroundings.terminal.has_value(), rules))
            entries.push_back(*what_counts);
    std::stable_sort(entries.begin(), entries.end(),
                     [](std::string_view a, std::string_view b) { return env_name(a) < env_name(b); });
    return entries;
}

std::vector<std::string_view> sorted_unique(const std::vector<std::string>& texts) {
    std::vector<std::string_view> sorted(texts.begin(), texts.end());
    std::sort(sorted.begin(), sorted.end());
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    return sorted;
}

bool same_directory(const std::string& a, const std::string& b) {
    const auto directory = identity_of_directory(a);
    return directory && directory == identity_of_directory(b);
}

// $PWD where it names cwd by another path. The last PWD is looked at, and the first too
// where they differ: a shell takes one, getenv() the other.
void append_spellings(std::string& out, const Surroundings& surroundings) {
    const auto is_pwd = [](const std::string& entry) { return env_name(entry) == "PWD"; };
    const auto& env = surroundings.env;
    const auto first = std::find_if(env.begin(), env.end(), is_pwd);
    if (first == env.end()) return;
    const auto last = std::find_if(env.rbegin(), env.rend(), is_pwd);
    std::vector<std::string_view> looked_at{*first};
    if (*last != *first) looked_at.emplace_back(*last);
    for (const std::string_view entry : looked_at) {
        if (entry.size() <= 4 || entry[4] != '/') continue;
        const std::string spelling(entry.substr(4));
        if (spelling != surroundings.cwd && same_directory(spelling, surroundings.cwd))
            append_field(out, tag::kSpelling, spelling);
    }
}

std::string octal(mode_t mode) {
    std::array<char, 16> digits{};
    const char* end = std::to_chars(digits.data(), digits.data() + digits.size(), mode, 8).ptr;
    return std::string(digits.data(), static_cast<std::size_t>(end - digits.data()));
}

void append_env(std::string& out, const Surroundings& surroundings, const KeyRules& rules) {
    for (const std::string_view pattern : sorted_unique(rules.ignore_env)) append_field(out, tag::kIgnored, pattern);
    if (rules.only_env) {
        append_field(out, tag::kOnly, {});
        for (const std::string_view pattern : sorted_unique(*rules.only_env))
            append_field(out, tag::kOnlyPattern, pattern);
    }
    for (const std::string_view entry : counted_variables(surroundings, rules))
        append_field(out, tag::kVariable, entry);
}

void append_cluster(std::string& out, const ClusterRules& cluster) {
    append_field(out, tag::kEngine, cluster.engine);
    append_field(out, tag::kClusterScope, cluster.scope);
    append_field(out, tag::kPlatform, cluster.platform);
}

KeyPart env_part(std::string_view entry) {
    return {"environment: " + display_word(env_name(entry)), display_word(entry)};
}

constexpr std::string_view kDirectoryItself = "directory's device and inode";

bool append_identity_parts(std::vector<KeyPart>& parts, std::string_view identity) {
    const auto said = parts_of_identity(identity);
    if (!said) return false;
    for (const IdentityPart& part : *said) parts.push_back({std::string(part.name), display_word(part.value), true});
    return true;
}

// The part of one field; nothing for a tag that is unknown.
std::optional<KeyPart> part_of(const CanonicalField& field) {
    switch (field.tag) {
        case tag::kUser:
            return KeyPart{"user", std::string(field.bytes)};
        case tag::kUmask:
            return KeyPart{"umask", "0" + std::string(field.bytes)};
        case tag::kNoNamespaces:
            return KeyPart{"namespaces", "(ignored)"};
        case tag::kDirectoryItself:
            return KeyPart{std::string(kDirectoryItself), std::string(field.bytes)};
        case tag::kScope:
            return KeyPart{"scope", display_word(field.bytes)};
        case tag::kTerminal:
            return KeyPart{"terminal", std::string(field.bytes)};
        case tag::kDirectory:
            return KeyPart{"directory", display_word(field.bytes)};
        case tag::kSpelling:
            return KeyPart{"directory as PWD spells it", display_word(field.bytes)};
        case tag::kIgnored:
            return KeyPart{"ignored environment", display_word(field.bytes)};
        case tag::kOnly:
            return KeyPart{"only environment", "(nothing but what is named)"};
        case tag::kOnlyPattern:
            return KeyPart{"only environment", display_word(field.bytes)};
        case tag::kVariable:
            return env_part(field.bytes);
        case tag::kEngine:
            return KeyPart{"cluster", display_word(field.bytes)};
        case tag::kClusterScope:
            return KeyPart{"cluster scope", display_word(field.bytes)};
        case tag::kPlatform:
            return KeyPart{"platform", field.bytes.empty() ? "(ignored)" : display_word(field.bytes)};
        case tag::kStdin:
            return KeyPart{"stdin", display_word(field.bytes)};
        case tag::kUnshared:
            return KeyPart{"no-share", "(shared with nobody)"};
        case tag::kReplaced:
            return KeyPart{"key", display_word(field.bytes)};
        default:
            return std::nullopt;
    }
}

bool append_parts(std::vector<KeyPart>& parts, std::string_view canonical) {
    std::vector<std::string> argv;
    std::vector<KeyPart> others;
    while (!canonical.empty()) {
        const auto field = take_field(canonical);
        if (!field) return false;
        if (field->tag == tag::kArgument) {
            argv.emplace_back(field->bytes);
            continue;
        }
        if (field->tag == tag::kIdentity) {
            if (!append_identity_parts(others, field->bytes)) return false;
            continue;
        }
        if (field->tag == tag::kState) {
            const auto digest = take_field(canonical);
            if (!digest || digest->tag != tag::kStateDigest) return false;
            others.push_back({visible(field->bytes), std::string(digest->bytes)});
            continue;
        }
        auto part = part_of(*field);
        if (!part) return false;
        others.push_back(*std::move(part));
    }
    if (!argv.empty()) parts.push_back({"argv", display(argv)});
    parts.insert(parts.end(), others.begin(), others.end());
    return true;
}

// Takes all the fields of the part that begins there. False: they are malformed.
bool take_part(std::string_view& rest) {
    const auto first = take_field(rest);
    if (!first) return false;
    if (first->tag == tag::kState) return take_field(rest).has_value();
    while (first->tag == tag::kArgument && rest.starts_with(tag::kArgument))
        if (!take_field(rest)) return false;
    return true;
}

std::vector<std::string_view> values_named(const std::vector<KeyPart>& parts, std::string_view name) {
    std::vector<std::string_view> values;
    for (const KeyPart& part : parts)
        if (part.name == name) values.emplace_back(part.value);
    return values;
}

}  // namespace

std::span<const IgnoredVariable> default_ignored_env() { return kIgnoredByDefault; }

bool matches_pattern(std::string_view pattern, std::string_view name) {
    std::size_t p = 0;
    std::size_t n = 0;
    std::size_t star = std::string_view::npos;  // the last '*' seen, and where the name stood then
    std::size_t retry = 0;
    while (n < name.size()) {
        if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            retry = n;
        } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
            ++p;
            ++n;
        } else if (star != std::string_view::npos) {
            p = star + 1;
            n = ++retry;
        } else {
            return false;
        }
    }
    return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::string canonical_surroundings(const Surroundings& surroundings, const KeyRules& rules) {
    std::string out;
    if (rules.user) append_field(out, tag::kUser, std::to_string(*rules.user));
    if (!surroundings.identity.empty())
        append_field(out, tag::kIdentity,
                     rules.ignore_namespaces ? without_namespaces(surroundings.identity) : surroundings.identity);
    if (rules.ignore_namespaces) append_field(out, tag::kNoNamespaces, {});
    append_field(out, tag::kUmask, octal(surroundings.umask));
    if (!rules.scope.empty()) append_field(out, tag::kScope, rules.scope);
    if (surroundings.terminal) append_field(out, tag::kTerminal, text_of(*surroundings.terminal));
    for (const auto& [what, digest] : rules.states) {
        append_field(out, tag::kState, what);
        append_field(out, tag::kStateDigest, digest);
    }
    if (rules.cluster && !rules.cluster->scope.empty()) append_cluster(out, *rules.cluster);
    if (rules.key) return out;
    if (!rules.ignore_cwd) {
        append_field(out, tag::kDirectory, surroundings.cwd);
        if (const auto& directory = surroundings.directory)
            append_field(out, tag::kDirectoryItself,
                         std::to_string(directory->device) + " " + std::to_string(directory->inode));
        append_spellings(out, surroundings);
    }
    append_env(out, surroundings, rules);
    return out;
}

std::string portable_surroundings(std::string_view canonical) {
    std::string out;
    while (const auto field = take_field(canonical)) {
        if (field->tag == tag::kDirectoryItself) continue;
        if (field->tag == tag::kIdentity)
            append_field(out, field->tag, without_namespaces(field->bytes));
        else
            append_field(out, field->tag, field->bytes);
    }
    return out;
}

std::string canonical_command(std::string_view surroundings, std::string_view words, uid_t own) {
    constexpr std::string_view lasting{"akdsw"};
    static_assert(lasting[0] == tag::kArgument && lasting[1] == tag::kReplaced && lasting[2] == tag::kDirectory &&
                  lasting[3] == tag::kScope && lasting[4] == tag::kUser);
    std::string out;
    for (std::string_view half : {words, surroundings})
        while (const auto field = take_field(half)) {
            const bool of_own_user = field->tag == tag::kUser && field->bytes == std::to_string(own);
            if (lasting.find(field->tag) != std::string_view::npos && !of_own_user)
                append_field(out, field->tag, field->bytes);
        }
    return out;
}

std::string cluster_surroundings(std::string_view canonical) {
    std::string out;
    while (const auto field = take_field(canonical)) {
        switch (field->tag) {
            case tag::kUser:
            case tag::kIdentity:
            case tag::kNoNamespaces:
            case tag::kDirectoryItself:
            case tag::kEngine:
                continue;
            case tag::kVariable:
                if (const auto name = env_name(field->bytes); name == "HOSTNAME" || name == "HOST") continue;
                break;
            default:
                break;
        }
        append_field(out, field->tag, field->bytes);
    }
    return out;
}

bool has_cluster_scope(std::string_view canonical) {
    while (const auto field = take_field(canonical))
        if (field->tag == tag::kClusterScope) return true;
    return false;
}

std::string canonical_words(const std::vector<std::string>& argv, const std::optional<std::string>& stdin_bytes,
                            const KeyRules& rules) {
    std::string out;
    if (rules.key) {
        append_field(out, tag::kReplaced, *rules.key);
        return out;
    }
    constexpr std::size_t field_bytes_beside = 8;  // of most
    std::size_t bytes = 0;
    for (const std::string& word : argv) bytes += field_bytes_beside + word.size();
    out.reserve(bytes);
    for (const std::string& word : argv) append_field(out, tag::kArgument, word);
    if (stdin_bytes) append_field(out, tag::kStdin, *stdin_bytes);
    return out;
}

void append_unshared(std::string& words) {
    static const std::uint64_t random = [] {
        std::random_device device;
        return std::uint64_t{device()} << 32 | device();
    }();
    static std::atomic<std::uint64_t> count = 0;
    append_field(words, tag::kUnshared,
                 std::to_string(::getpid()) + " " + std::to_string(random) + " " + std::to_string(++count));
}

bool is_unshared(std::string_view words) {
    while (const auto field = take_field(words))
        if (field->tag == tag::kUnshared) return true;
    return false;
}

std::string words_of_key(const std::vector<std::string>& argv, const std::optional<std::string>& stdin_bytes,
                         const KeyRules& rules) {
    std::string words = canonical_words(argv, stdin_bytes, rules);
    if (rules.no_share) append_unshared(words);
    return words;
}

std::string canonical_shell(std::string_view shell) {
    std::string begin;
    append_field(begin, tag::kArgument, shell);
    append_field(begin, tag::kArgument, "-c");
    return begin;
}

void append_canonical_line(std::string& out, std::string_view begin, std::string_view line) {
    out += begin;
    if (reads_as_options(line)) append_field(out, tag::kArgument, "--");
    append_field(out, tag::kArgument, line);
}

std::shared_ptr<const CanonicalSurroundings> SurroundingsTable::intern(CanonicalSurroundings canonical) {
    auto fresh = std::make_shared<const CanonicalSurroundings>(std::move(canonical));
    const std::lock_guard lock(mutex_);
    const auto [first, last] = entries_.equal_range(fresh->hash);
    for (auto entry = first; entry != last; ++entry) {
        if (auto known = entry->second.lock(); known && known->bytes == fresh->bytes) return known;
    }
    if (entries_.size() >= sweep_at_) {
        std::erase_if(entries_, [](const auto& entry) { return entry.second.expired(); });
        sweep_at_ = std::max<std::size_t>(16, entries_.size() * 2);
    }
    entries_.emplace(fresh->hash, fresh);
    return fresh;
}

std::size_t SurroundingsTable::size() const {
    const std::lock_guard lock(mutex_);
    return entries_.size();
}

std::vector<KeyPart> explain(std::string_view canonical_surroundings, std::string_view canonical_words) {
    std::vector<KeyPart> parts;
    if (!append_parts(parts, canonical_words) || !append_parts(parts, canonical_surroundings))
        return {{"malformed key", display_word(canonical_words) + " " + display_word(canonical_surroundings)}};
    return parts;
}

std::vector<KeyPart> explain(const Surroundings& surroundings, const std::vector<std::string>& argv,
                             const std::optional<std::string>& stdin_bytes, const KeyRules& rules) {
    return explain(canonical_surroundings(surroundings, rules), canonical_words(argv, stdin_bytes, rules));
}

std::vector<std::string_view> parts_of(std::string_view canonical) {
    std::vector<std::string_view> parts;
    for (std::string_view rest = canonical; !rest.empty();) {
        const std::string_view part = rest;
        if (!take_part(rest)) return parts;
        parts.push_back(part.substr(0, part.size() - rest.size()));
    }
    return parts;
}

std::vector<std::string> differences(const std::vector<KeyPart>& a, const std::vector<KeyPart>& b) {
    std::vector<std::string> names;
    const auto look_at = [&](const KeyPart& part) {
        if (std::find(names.begin(), names.end(), part.name) != names.end()) return;
        if (values_named(a, part.name) != values_named(b, part.name)) names.push_back(part.name);
    };
    for (const KeyPart& part : a) look_at(part);
    for (const KeyPart& part : b) look_at(part);
    // A directory of another name is another directory; there is no more to say of it.
    const auto itself = std::find(names.begin(), names.end(), kDirectoryItself);
    if (itself == names.end()) return names;
    if (std::find(names.begin(), names.end(), "directory") != names.end())
        names.erase(itself);
    else
        *itself = "directory: replaced by another of the same name";
    return names;
}

}  // namespace coalesce
