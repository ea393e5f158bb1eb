#include "wrapped_command.h"

#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>
#include <coalesce/service/key_hash.h>

#include <getopt.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include "complain.h"
#include "usage.h"

namespace coalesce {
namespace {

struct Typed {
    std::optional<std::string> line;
    bool standard_input = false;
    bool help = false;
};

// The table's options for getopt: each long name returns its index + 1000, a short
// name its letter.
struct GetoptTables {
    explicit GetoptTables(const CommandText& text) {
        for (std::size_t i = 0; i < text.options.size(); ++i) {
            const OptionText& option = text.options[i];
            const int argument = option.argument.empty() ? no_argument : required_argument;
            for (const std::string_view name : names_of(option)) {
                if (name.starts_with("--")) {
                    names.emplace_back(name.substr(2));
                    arguments.push_back(argument);
                    indices.push_back(static_cast<int>(i));
                } else {
                    short_options += name[1];
                    if (argument == required_argument) short_options += ':';
                    shorts.emplace_back(name[1], static_cast<int>(i));
                }
            }
        }
        for (std::size_t i = 0; i < names.size(); ++i)
            long_options.push_back({names[i].c_str(), arguments[i], nullptr, 1000 + indices[i]});
        long_options.push_back({"help", no_argument, nullptr, 'h'});
        long_options.push_back({nullptr, 0, nullptr, 0});
    }
    std::string_view name_of(const CommandText& text, int returned) const {
        int index = returned - 1000;
        for (const auto& [letter, at] : shorts)
            if (letter == returned) index = at;
        return index < 0 ? std::string_view() : names_of(text.options[static_cast<std::size_t>(index)]).back();
    }

    std::vector<std::string> names;
    std::vector<int> arguments;
    std::vector<int> indices;
    std::vector<std::pair<int, int>> shorts;
    std::vector<option> long_options;
    std::string short_options = "+:h";  // + : options end at the first word that is none
};

Result<std::chrono::milliseconds> duration_of(std::string_view name, const char* value) {
    auto parsed = parse_duration(value);
    if (!parsed) return Error{{}, std::string(name) + ": " + parsed.error().message()};
    return *parsed;
}

Result<> take(std::string_view name, const char* value, WrappedCommand& command, Typed& typed) {
    RunOptions& run = command.run;
    if (name == "--command") {
        typed.line = value;
    } else if (name == "--stdin") {
        typed.standard_input = true;
    } else if (name == "--scope") {
        command.rules.scope = value;
    } else if (name == "--key") {
        command.rules.key = value;
    } else if (name == "--ignore-env") {
        command.rules.ignore_env.emplace_back(value);
    } else if (name == "--only-env") {
        command.rules.only_env = split_list(value);
    } else if (name == "--ignore-cwd") {
        command.rules.ignore_cwd = true;
    } else if (name == "--fresh") {
        run.fresh = true;
    } else if (name == "--keep-running") {
        run.orders.keep_running = true;
    } else if (name == "--verbose") {
        run.verbose = true;
    } else if (name == "--spool-dir") {
        run.orders.spool_directory = value;
    } else if (name == "--replay-limit") {
        auto size = parse_size(value);
        if (!size) return Error{{}, "--replay-limit: " + size.error().message()};
        run.orders.replay_bytes = *size;
    } else {
        auto duration = duration_of(name, value);
        if (!duration) return duration.error();
        if (name == "--timeout" && duration->count() > 0) run.orders.timeout = *duration;  // 0: none, as with timeout(1)
        if (name == "--wait") run.wait = *duration;
        if (name == "--grace") run.orders.grace = *duration;
    }
    return {};
}

int explain(const CommandText& text, const std::string& sentence) {
    return fail(sentence + " (see coalesce " + std::string(text.name) + " --help)");
}

int unknown_option(const CommandText& text, const std::string& word) {
    std::vector<std::string_view> names{"--help"};
    for (const OptionText& option : text.options)
        for (const std::string_view name : names_of(option)) names.push_back(name);
    const std::string_view near = word.starts_with("--") ? nearest(word.substr(0, word.find('=')), names) : std::string_view();
    return explain(text, "unknown option " + word + (near.empty() ? "" : "; did you mean " + std::string(near) + "?"));
}

// An exit status when that is the end of it.
std::optional<int> read_options(const CommandText& text, int argc, char** argv, WrappedCommand& command, Typed& typed) {
    const GetoptTables tables(text);
    opterr = 0;
    while (true) {
        const int word = optind;
        const int found = ::getopt_long(argc, argv, tables.short_options.c_str(), tables.long_options.data(), nullptr);
        if (found == -1) return std::nullopt;
        if (found == 'h') {
            typed.help = true;
            return std::nullopt;
        }
        if (found == ':') return explain(text, "option " + std::string(argv[optind - 1]) + " needs an argument");
        if (found == '?')
            return unknown_option(text, optopt != 0 && optopt < 1000 ? std::string("-") + static_cast<char>(optopt)
                                                                     : std::string(argv[word]));
        if (auto taken = take(tables.name_of(text, found), optarg, command, typed); !taken)
            return explain(text, taken.error().message());
    }
}

Result<std::string> read_to_end(int fd) {
    std::string bytes;
    char block[65536];
    while (true) {
        const ssize_t got = ::read(fd, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_error_now("read standard input");
        if (got == 0) return bytes;
        bytes.append(block, static_cast<std::size_t>(got));
    }
}

// The flights this process runs under, the nearest last: "KEY:KEY".
std::string ancestry_of(const std::vector<std::string>& env) {
    return std::string(env_value(env, kAncestryVariable).value_or(""));
}

}  // namespace

std::variant<WrappedCommand, int> read_wrapped_command(const CommandText& text, int argc, char** argv) {
    WrappedCommand wrapped;
    Typed typed;
    if (const auto status = read_options(text, argc, argv, wrapped, typed)) return *status;
    if (typed.help) {
        std::fputs(help_of(text).c_str(), stdout);
        return std::fflush(stdout) == 0 ? 0 : fail("cannot write to standard output");
    }
    FlightOrders& orders = wrapped.run.orders;
    const std::vector<std::string> words(argv + optind, argv + argc);
    if (typed.line && !words.empty()) return explain(text, "-c LINE takes no command besides; there is '" + words.front() + "'");
    if (!typed.line && words.empty()) return explain(text, "no command given");

    auto own = own_surroundings();
    if (!own) return fail("cannot " + own.error().message());
    auto surroundings = std::make_shared<Surroundings>(std::move(*own));
    orders.command.argv = typed.line ? std::vector<std::string>{"/bin/sh", "-c", *typed.line} : words;
    orders.line = typed.line;
    orders.title = typed.line ? *typed.line : display(words);
    if (typed.standard_input) {
        auto bytes = read_to_end(STDIN_FILENO);
        if (!bytes) return fail("cannot " + bytes.error().message());
        orders.command.stdin_bytes = std::move(*bytes);
    }
    orders.canonical_surroundings = canonical_surroundings(*surroundings, wrapped.rules);
    orders.canonical_words = canonical_words(orders.command.argv, orders.command.stdin_bytes, wrapped.rules);
    const CanonicalSurroundings canonical(orders.canonical_surroundings);
    orders.key = key_hash({&canonical, orders.canonical_words});

    const std::string ancestry = ancestry_of(surroundings->env);
    orders.on_behalf_of = ancestry.substr(ancestry.rfind(':') + 1);
    set_env(surroundings->env, kAncestryVariable, ancestry.empty() ? orders.key : ancestry + ":" + orders.key);
    surroundings->cwd.clear();  // it is where we are: nothing to enter
    orders.command.surroundings = std::move(surroundings);
    return wrapped;
}

}  // namespace coalesce
