// SPDX-License-Identifier: MIT
// What this process passes on, read without touching it, and command lines
// written so that a terminal is safe and a paste gives the same words back.
#include <coalesce/command/command.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include <coalesce/command/text.h>

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX declares it in no header

namespace coalesce {
namespace {

// Words the shell would read as syntax where a command name stands.
constexpr std::array<std::string_view, 22> kReservedWords = {
    "!",  "case", "coproc", "do",   "done", "elif",  "else",  "esac", "fi", "for", "function",
    "if", "in",   "select", "then", "time", "until", "while", "[[",   "]]", "{",   "}"};

bool is_safe(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::strchr("_%+,./:@=-", c) != nullptr;
}

// '=' may not lead (zsh expands =ls) nor stand in the first word (an assignment).
bool needs_no_quotes(std::string_view word, bool first) {
    if (word.empty() || word.front() == '=') return false;
    if (!std::all_of(word.begin(), word.end(), [](char c) { return c != '\0' && is_safe(c); })) return false;
    if (!first) return true;
    return word.find('=') == std::string_view::npos &&
           std::find(kReservedWords.begin(), kReservedWords.end(), word) == kReservedWords.end();
}

void append_ansi_quoted(std::string& out, std::string_view word) {
    out += "$'";
    while (!word.empty()) {
        const std::size_t shown = printable_length(word);
        if (shown == 0) append_escaped(out, static_cast<unsigned char>(word.front()));
        if (word.front() == '\\' || word.front() == '\'') out += '\\';
        out += word.substr(0, shown);
        word.remove_prefix(shown == 0 ? 1 : shown);
    }
    out += '\'';
}

void append_single_quoted(std::string& out, std::string_view word) {
    out += '\'';
    for (const char c : word) {
        if (c == '\'')
            out += "'\\''";
        else
            out += c;
    }
    out += '\'';
}

void append_word(std::string& out, std::string_view word, bool first) {
    if (needs_no_quotes(word, first))
        out += word;
    else if (printable(word))
        append_single_quoted(out, word);
    else
        append_ansi_quoted(out, word);
}

// A directory that has been deleted, or lies outside the root, has no path, and commands run
// in it all the same. What the kernel shows for it, "/x (deleted)", stands in; which
// directory it is, its identity tells.
std::string nameless_directory() {
    std::string shown(4096, '\0');
    const ssize_t got = ::readlink("/proc/self/cwd", shown.data(), shown.size());
    shown.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return shown.empty() ? "(deleted)" : shown;
}

Result<std::string> current_directory() {
    std::string path(256, '\0');
    while (::getcwd(path.data(), path.size()) == nullptr) {
        if (errno == ENOENT) return nameless_directory();
        if (errno != ERANGE) return system_error_now("read the current directory");
        path.resize(path.size() * 2);
    }
    path.resize(std::strlen(path.c_str()));
    return path;
}

// /proc/self/status would tell without setting it, at 30 times the cost.
mode_t current_umask() {
    const mode_t mask = ::umask(077);
    ::umask(mask);
    return mask;
}

}  // namespace

Result<Surroundings> own_surroundings(std::optional<mode_t> known_umask) {
    auto cwd = current_directory();
    if (!cwd) return cwd.error();
    const mode_t umask = known_umask ? *known_umask : current_umask();
    Surroundings surroundings{*std::move(cwd), {}, umask, identity_of_current_directory()};
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) surroundings.env.emplace_back(*entry);
    return surroundings;
}

std::string display(const std::vector<std::string>& argv) {
    std::string out;
    bool first = true;
    for (const std::string& word : argv) {
        if (!first) out += ' ';
        append_word(out, word, first);
        first = false;
    }
    return out;
}

std::string display_word(std::string_view word) {
    std::string out;
    append_word(out, word, false);
    return out;
}

std::string_view env_name(std::string_view entry) { return entry.substr(0, entry.find('=')); }

std::optional<std::string_view> env_value(const std::vector<std::string>& env, std::string_view name) {
    for (const std::string& entry : env) {
        if (entry.size() > name.size() && entry[name.size()] == '=' && entry.compare(0, name.size(), name) == 0)
            return std::string_view(entry).substr(name.size() + 1);
    }
    return std::nullopt;
}

void give_terminal(Surroundings& surroundings, TerminalSize size) {
    surroundings.terminal = size;
    set_terminal_variables(surroundings.env, size);
}

void set_env(std::vector<std::string>& env, std::string_view name, std::string_view value) {
    std::string entry;
    entry.reserve(name.size() + value.size() + 1);
    entry.append(name).append(1, '=').append(value);
    const auto has_name = [name](const std::string& e) { return env_name(e) == name; };
    const auto first = std::find_if(env.begin(), env.end(), has_name);
    if (first == env.end()) {
        env.push_back(std::move(entry));
        return;
    }
    *first = std::move(entry);
    env.erase(std::remove_if(first + 1, env.end(), has_name), env.end());
}

}  // namespace coalesce
