// SPDX-License-Identifier: MIT
// The tokenizer of plain lines, and what dash does to its children, as measured and
// as the differential test keeps measuring. The lists of names err on the long side:
// a name too many costs a shell, one too few a wrong result.
#include <coalesce/command/shell_line.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <coalesce/command/number.h>

namespace coalesce {
namespace {

// Every name that POSIX, dash, bash, ksh, zsh or mksh gives a meaning of its own where
// a command stands: reserved words, special and regular built-ins, and the names whose
// meaning POSIX leaves open (XCU 2.9.1.4). Sorted in byte order for binary search.
// clang-format off
constexpr auto kShellNames = std::to_array<std::string_view>({
    "!", ".", ":", "[", "[[", "]]", "alias", "alloc", "autoload", "bg", "bind", "bindkey", "break", "builtin",
    "bye", "caller", "cap", "case", "cd", "chdir", "clone", "command", "compadd", "comparguments", "compcall",
    "compctl", "compdescribe", "compfiles", "compgen", "compgroups", "complete", "compopt", "compound",
    "compquote", "compset", "comptags", "comptry", "compvalues", "continue", "coproc", "declare", "dirs",
    "disable", "disown", "do", "done", "dosh", "echo", "echotc", "echoti", "elif", "else", "emulate", "enable",
    "end", "enum", "esac", "eval", "exec", "exit", "export", "false", "fc", "fg", "fi", "float", "for",
    "foreach", "function", "functions", "getln", "getopts", "global", "hash", "help", "hist", "histcmd",
    "history", "if", "in", "integer", "jobs", "kill", "let", "limit", "local", "log", "login", "logout", "map",
    "mapfile", "nameref", "namespace", "newgrp", "nocorrect", "noglob", "popd", "print", "printf", "private",
    "pushd", "pushln", "pwd", "r", "read", "readarray", "readonly", "rehash", "rename", "repeat", "return",
    "savehistory", "sched", "select", "set", "setopt", "shift", "shopt", "source", "stop", "suspend", "test",
    "then", "time", "times", "trap", "true", "ttyctl", "type", "typeset", "ulimit", "umask", "unalias",
    "unfunction", "unhash", "unlimit", "unset", "unsetopt", "until", "vared", "wait", "whence", "where",
    "which", "while", "zcompile", "zformat", "zle", "zmodload", "zparseopts", "zregexparse", "zstyle", "{", "}"});
// clang-format on
static_assert(std::is_sorted(kShellNames.begin(), kShellNames.end()));

// The kernel takes no single argument as long as this (MAX_ARG_STRLEN, 32 pages, its NUL
// included), so `sh -c LINE` itself would fail.
constexpr std::size_t kArgumentBytesMax = 32UL * 4096UL;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_printable(char c) { return c >= ' ' && c <= '~'; }

// Bytes that no shell gives a meaning anywhere in an unquoted word, except that '=' and
// a few others matter in the first one.
constexpr std::array<bool, 256> kPlain = [] {
    std::array<bool, 256> plain{};
    for (const char c : std::string_view("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_%+,./:@=-"))
        plain[static_cast<unsigned char>(c)] = true;
    return plain;
}();

bool is_plain(char c) { return kPlain[static_cast<unsigned char>(c)]; }

bool is_plain_in_double_quotes(char c) {
    return is_printable(c) && c != '$' && c != '`' && c != '\\' && c != '"' && c != '!';
}

// Reads words off a line. `doubt` is final.
class WordReader {
  public:
    explicit WordReader(std::string_view line) : rest_(line) {}

    // The next word; nothing at the end of the line or in doubt.
    std::optional<std::string> next() {
        skip_blanks();
        if (rest_.empty() || doubt_) return std::nullopt;
        std::string word;
        while (!rest_.empty() && !is_blank(rest_.front()) && !doubt_) take_piece(word);
        if (doubt_) return std::nullopt;
        return word;
    }

    [[nodiscard]] bool doubt() const { return doubt_; }
    [[nodiscard]] bool quoted() const { return quoted_; }  // any word so far

  private:
    void skip_blanks() {
        while (!rest_.empty() && is_blank(rest_.front())) rest_.remove_prefix(1);
    }

    void take_piece(std::string& word) {
        const char first = rest_.front();
        if (first == '\'')
            take_quoted(word, is_printable);
        else if (first == '"')
            take_quoted(word, is_plain_in_double_quotes);
        else
            take_plain(word);
    }

    void take_plain(std::string& word) {
        const auto end = std::find_if_not(rest_.begin(), rest_.end(), is_plain);
        const auto length = static_cast<std::size_t>(end - rest_.begin());
        if (length == 0) doubt_ = true;
        word.append(rest_.substr(0, length));
        rest_.remove_prefix(length);
    }

    void take_quoted(std::string& word, bool (*allowed)(char)) {
        quoted_ = true;
        const std::size_t close = rest_.find(rest_.front(), 1);
        const std::string_view inside = rest_.substr(1, close - 1);
        if (close == std::string_view::npos || !std::all_of(inside.begin(), inside.end(), allowed)) {
            doubt_ = true;
            return;
        }
        word.append(inside);
        rest_.remove_prefix(close + 1);
    }

    std::string_view rest_;
    bool doubt_ = false;
    bool quoted_ = false;
};

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// Programs that print the environment in its order: dash's is reproduced, another
// shell's need not be.
bool shows_environment(std::string_view program) {
    const std::string_view name = base_name(program);
    return name == "env" || name == "printenv";
}

// Programs that notice whether a shell is their parent and leads their session: setsid
// forks and exits 0 at once where it is the leader itself, `pkill -f WORD` kills the
// `sh -c` whose line holds WORD, the others list it. Looked for in every word, because
// another program may start them (nice setsid …).
bool notices_its_parent(std::string_view word) {
    static constexpr auto kNames =
        std::to_array<std::string_view>({"fuser", "htop", "killall", "lsof", "pgrep", "pidof", "pkill", "ps", "pstree",
                                         "setsid", "start-stop-daemon", "top"});
    static_assert(std::is_sorted(kNames.begin(), kNames.end()));
    return std::binary_search(kNames.begin(), kNames.end(), base_name(word));
}

// A first word that begins with '-' or '+' may be taken for an option of sh itself, with
// '%' for a job; digits alone are half a redirection.
bool is_plain_command_name(std::string_view word) {
    if (word.empty() || word.find('=') != std::string_view::npos) return false;
    if (!is_letter(word.front()) && !is_digit(word.front()) && std::strchr("_./", word.front()) == nullptr)
        return false;
    if (std::all_of(word.begin(), word.end(), is_digit)) return false;
    if (shows_environment(word) || notices_its_parent(word)) return false;
    if (word.find('/') != std::string_view::npos) return word.back() != '/';
    return !std::binary_search(kShellNames.begin(), kShellNames.end(), word);
}

bool is_shell_name(std::string_view name) {
    if (name.empty() || is_digit(name.front())) return false;
    return std::all_of(name.begin(), name.end(), [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
}

// Calls visit for each element of a PATH, until it says false.
template <class Visit>
bool every_path_element(std::string_view path, Visit visit) {
    while (true) {
        const std::size_t colon = path.find(':');
        if (!visit(path.substr(0, colon))) return false;
        if (colon == std::string_view::npos) return true;
        path.remove_prefix(colon + 1);
    }
}

// dash gives '%' in PATH a meaning (%builtin, %func), and an empty element is the
// directory of the moment.
bool is_plain_path_element(std::string_view element) {
    return !element.empty() && element.front() == '/' && element.find('%') == std::string_view::npos;
}

// Variables that a shell obeys or rewrites. Of LD_*, only the library path is let
// through: it is common, and dash needs no library but libc.
bool steers_a_shell(std::string_view name) {
    static constexpr auto kNames = std::to_array<std::string_view>(
        {"BASHOPTS", "BASH_ARGV0", "BASH_COMPAT", "BASH_ENV", "BASH_XTRACEFD", "IFS", "OPTIND", "PPID", "SHELLOPTS"});
    if (std::find(kNames.begin(), kNames.end(), name) != kNames.end()) return true;
    return name.starts_with("BASH_FUNC_") || (name.starts_with("LD_") && name != "LD_LIBRARY_PATH");
}

constexpr std::size_t kChains = 39;

std::size_t chain_number(std::string_view name) {
    unsigned hash = static_cast<unsigned>(static_cast<unsigned char>(name.front())) << 4U;
    for (const char c : name) hash += static_cast<unsigned char>(c);
    return hash % kChains;
}

// dash's table of variables: 39 chains, new names at a chain's end; printed to a child
// chain by chain. MAIL and the like are in it from the start, exported or not.
class DashVariables {
  public:
    DashVariables() {
        // Each of these goes to the front of its chain.
        for (const std::string_view name : {"IFS", "MAIL", "MAILPATH", "PATH", "PS1", "PS2", "PS4", "OPTIND"}) {
            auto& chain = chain_of(name);
            chain.insert(chain.begin(), Variable{std::string(name), {}});
        }
    }

    void import(const std::string& entry) {
        const std::string_view name = env_name(entry);
        if (name.size() < entry.size() && is_shell_name(name)) set(name, entry);
    }

    void set(std::string_view name, std::string entry) { variable(name).entry = std::move(entry); }

    [[nodiscard]] std::string_view value(std::string_view name) {
        const std::string_view entry = variable(name).entry;
        return entry.empty() ? entry : entry.substr(name.size() + 1);
    }

    [[nodiscard]] std::vector<std::string> exported() const {
        std::vector<std::string> env;
        for (const auto& chain : chains_)
            for (const Variable& v : chain)
                if (!v.entry.empty()) env.push_back(v.entry);
        return env;
    }

  private:
    struct Variable {
        std::string name;
        std::string entry;  // "NAME=value"; empty while not exported
    };

    std::vector<Variable>& chain_of(std::string_view name) { return chains_[chain_number(name)]; }

    Variable& variable(std::string_view name) {
        auto& chain = chain_of(name);
        const auto known =
            std::find_if(chain.begin(), chain.end(), [name](const Variable& v) { return v.name == name; });
        return known != chain.end() ? *known : chain.emplace_back(Variable{std::string(name), {}});
    }

    std::array<std::vector<Variable>, kChains> chains_;
};

// strsignal() in the C locale, which is the only one dash knows; empty for INT and
// PIPE, of which it says nothing.
std::string signal_notice(int signal_number) {
    struct Notice {
        int number;
        const char* text;
    };
    static constexpr auto kNotices = std::to_array<Notice>({
        {SIGHUP, "Hangup"},
        {SIGINT, ""},
        {SIGQUIT, "Quit"},
        {SIGILL, "Illegal instruction"},
        {SIGTRAP, "Trace/breakpoint trap"},
        {SIGABRT, "Aborted"},
        {SIGBUS, "Bus error"},
        {SIGFPE, "Floating point exception"},
        {SIGKILL, "Killed"},
        {SIGUSR1, "User defined signal 1"},
        {SIGSEGV, "Segmentation fault"},
        {SIGUSR2, "User defined signal 2"},
        {SIGPIPE, ""},
        {SIGALRM, "Alarm clock"},
        {SIGTERM, "Terminated"},
        {SIGXCPU, "CPU time limit exceeded"},
        {SIGXFSZ, "File size limit exceeded"},
        {SIGVTALRM, "Virtual timer expired"},
        {SIGPROF, "Profiling timer expired"},
        {SIGSYS, "Bad system call"},
#ifdef __linux__
        {SIGSTKFLT, "Stack fault"},
        {SIGPOLL, "I/O possible"},
        {SIGPWR, "Power failure"},
#endif
    });
    for (const Notice& notice : kNotices)
        if (notice.number == signal_number) return notice.text;
    if (signal_number >= SIGRTMIN && signal_number <= SIGRTMAX)
        return "Real-time signal " + std::to_string(signal_number - SIGRTMIN);
    return "Unknown signal " + std::to_string(signal_number);
}

struct Free {
    void operator()(char* text) const noexcept { std::free(text); }
};

// What getcwd() will say in a child that was put into this directory.
std::optional<std::string> physical_path(const std::string& directory) {
    if (directory.empty() || directory.front() != '/') return std::nullopt;
    const std::unique_ptr<char, Free> path(::realpath(directory.c_str(), nullptr));
    if (!path) return std::nullopt;
    return std::string(path.get());
}

bool names_directory(const std::string& path, const struct stat& directory) {
    struct stat found {};
    return !path.empty() && path.front() == '/' && ::stat(path.c_str(), &found) == 0 &&
           found.st_dev == directory.st_dev && found.st_ino == directory.st_ino;
}

}  // namespace

bool reads_as_options(std::string_view line) { return line.starts_with('-') || line.starts_with('+'); }

std::vector<std::string> argv_of_line(std::string_view shell, std::string_view line) {
    std::vector<std::string> argv;
    argv.reserve(4);  // a list would copy each twice
    argv.emplace_back(shell);
    argv.emplace_back("-c");
    if (reads_as_options(line)) argv.emplace_back("--");
    argv.emplace_back(line);
    return argv;
}

std::optional<std::vector<std::string>> plain_words(std::string_view line) {
    if (line.size() >= kArgumentBytesMax) return std::nullopt;
    WordReader reader(line);
    auto name = reader.next();
    if (!name || reader.quoted() || !is_plain_command_name(*name)) return std::nullopt;
    std::vector<std::string> words;
    words.push_back(*std::move(name));
    while (auto word = reader.next()) {
        if (notices_its_parent(*word)) return std::nullopt;
        words.push_back(*std::move(word));
    }
    if (reader.doubt()) return std::nullopt;
    return words;
}

bool shell_is_understood(const std::string& shell) {
    const auto path = physical_path(shell);
    return path && base_name(*path) == "dash";
}

bool shell_may_interfere(const std::vector<std::string>& env) {
    std::size_t paths = 0;
    for (const std::string& entry : env) {
        const std::string_view name = env_name(entry);
        if (steers_a_shell(name)) return true;
        if (name != "PATH" || name.size() == entry.size()) continue;
        ++paths;
        if (!every_path_element(std::string_view(entry).substr(5), is_plain_path_element)) return true;
    }
    return paths != 1;  // none: the shell has its own; two: it takes the last, getenv() the first
}

std::optional<std::string> find_program(std::string_view word, std::string_view path) {
    if (word.empty() || word.find('/') != std::string_view::npos) return std::nullopt;
    std::optional<std::string> found;
    every_path_element(path, [&](std::string_view element) {
        if (!is_plain_path_element(element)) return false;
        std::string candidate = std::string(element).append(1, '/').append(word);
        struct stat status {};
        if (::stat(candidate.c_str(), &status) != 0) return errno == ENOENT || errno == ENOTDIR;
        if (S_ISREG(status.st_mode) && ::faccessat(AT_FDCWD, candidate.c_str(), X_OK, AT_EACCESS) == 0)
            found = std::move(candidate);
        return false;
    });
    return found;
}

std::optional<std::vector<std::string>> env_as_shell_would(const Surroundings& surroundings) {
    DashVariables variables;
    for (const std::string& entry : surroundings.env) variables.import(entry);
    struct stat directory {};
    if (::stat(surroundings.cwd.c_str(), &directory) != 0 || !S_ISDIR(directory.st_mode)) return std::nullopt;
    const std::string pwd(variables.value("PWD"));
    if (pwd != surroundings.cwd && !names_directory(pwd, directory)) {
        const auto path = physical_path(surroundings.cwd);
        if (!path) return std::nullopt;
        variables.set("PWD", "PWD=" + *path);
    }
    return variables.exported();
}

ShellEnd end_as_shell_would(const Outcome& program) {
    if (program.kind != Outcome::Kind::signalled) return {program, {}};
    std::string notice = signal_notice(program.code);
    if (!notice.empty()) notice += program.core_dumped ? " (core dumped)\n" : "\n";
    return {Outcome::exited(program.status()), std::move(notice)};
}

}  // namespace coalesce
