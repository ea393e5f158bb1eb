// SPDX-License-Identifier: MIT
// coalesce run: a command, or the run of the same command that is under way. Also by the command's own name,
// where a link of that name to this program comes first on PATH.

#include <coalesce/command/ancestry.h>
#include <coalesce/command/shell_line.h>
#include <coalesce/io/own_program.h>
#include <coalesce/meeting/requester.h>

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "commands.h"
#include "complain.h"
#include "wrapped_command.h"

namespace coalesce {
namespace {

std::string_view last_component(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// The program behind a link of its name to us.
int become_behind_link(const std::vector<std::string>& words) {
    return become(words,
                  " behind the link of that name to coalesce, by which it was called; call it by its own name: "
                  "coalesce");
}

// The command itself, with our standard input and terminal: nobody else is to have to do with it (SPEC Y4).
int run_apart(const TypedCommand& typed) {
    if (typed.run.verbose)
        for (const Setting& setting : typed.ruled.applying)
            if (setting.name == "share") fail("not shared: " + text_of(setting) + " in " + setting.origin.text());
    return become(typed.line ? argv_of_line("/bin/sh", *typed.line) : typed.words);
}

bool has_command(const TypedCommand& typed) { return typed.line.has_value() != !typed.words.empty(); }

// By its own name, what asks for itself is the run that wants the program (SPEC A2).
enum class Called { as_run, by_name };

int run(TypedCommand typed, Called called) {
    if (typed.ruled.apart && has_command(typed)) return run_apart(typed);
    const std::vector<std::string> words = called == Called::by_name ? typed.words : std::vector<std::string>();
    auto wrapped = wrapped_command("run", std::move(typed));
    if (const int* status = std::get_if<int>(&wrapped)) return *status;
    RunOptions& run = std::get<RunOptions>(wrapped);
    if (run.socket.empty() && runs_under(run.orders.ancestry, run.orders.key)) {  // it asks for itself (SPEC F11)
        if (called == Called::by_name) return become_behind_link(words);
        return fail(run.orders.title + " would wait for itself");
    }
    const bool looks_like_a_line = !run.orders.line && run.orders.command.argv.size() == 1 &&
                                   run.orders.command.argv.front().find(' ') != std::string::npos;
    auto end = request_run(std::move(run));
    if (!end) return fail("cannot " + end.error().message());
    if (end->status == 127 && looks_like_a_line) fail("to run a shell line: coalesce run -c LINE");
    if (end->die_of != 0) die_of(end->die_of);
    return end->status;
}

}  // namespace

int run_command(int argc, char** argv) {
    TypedCommand typed;
    if (const auto status = read_run(argc, argv, typed)) return *status;
    return run(std::move(typed), Called::as_run);
}

bool masquerades(const char* called_as) {
    const std::string_view name = last_component(called_as);
    if (name == "coalesce" || name.empty()) return false;
    if (std::string_view(called_as).starts_with("/proc/")) return false;  // by what the kernel calls an executed file
    std::array<char, 4096> path;
    const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
    return length > 0 && last_component({path.data(), static_cast<std::size_t>(length)}) != name;
}

// What executed us is this program, too: a run whose command is a link to us wants what is behind that, whatever the
// options were that made its key another one than ours would be.
bool is_command_of_a_run() { return is_own_program("/proc/" + std::to_string(::getppid()) + "/exe"); }

bool is_other_program(const char* called_as) {
    return static_cast<bool>(find_other_program(last_component(called_as)));
}

int masquerade(int argc, char** argv) {
    std::vector<std::string> words(argv, argv + argc);
    words.front() = last_component(words.front());
    if (is_command_of_a_run()) return become_behind_link(words);
    std::vector<std::string> line{"run", "--"};
    line.insert(line.end(), words.begin(), words.end());
    std::vector<char*> arguments;
    arguments.reserve(line.size() + 1);
    for (std::string& word : line) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    TypedCommand typed;
    if (const auto status = read_run(static_cast<int>(line.size()), arguments.data(), typed)) return *status;
    return typed.ruled.concerned ? run(std::move(typed), Called::by_name) : become_behind_link(words);
}

}  // namespace coalesce
