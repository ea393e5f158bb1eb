// SPDX-License-Identifier: MIT
// coalesce cache: the kept results, to look at and to forget (SPEC T23).

#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>
#include <coalesce/command/text.h>
#include <coalesce/command/title.h>
#include <coalesce/kept/store.h>
#include <coalesce/meeting/kept_answer.h>
#include <coalesce/protocol/message.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <variant>
#include <vector>

#include "commands.h"
#include "complain.h"
#include "options.h"
#include "table.h"
#include "wrapped_command.h"

namespace coalesce {
namespace {

using namespace std::chrono;

nanoseconds age_at(const EntryFacts& facts, const Moment& moment) {
    return age_of(facts.ended, moment).value_or(nanoseconds(0));
}

// What was asked for is not there: no failure of ours.
int not_there(const std::string& sentence) {
    fail(sentence);
    return 1;
}

Message facts_of(const KeptStore::Listed& kept, const Moment& moment) {
    const EntryFacts& facts = kept.facts;
    Message message;
    message.text("key", kept.name)
        .seconds("age", duration<double>(age_at(facts, moment)).count())
        .seconds("left", duration<double>(kept.left).count())
        .number("exit", facts.exit_status)
        .seconds("started", static_cast<double>(facts.started.wall_ns) / 1e9)
        .seconds("duration", duration<double>(facts.duration).count())
        .number("size", static_cast<std::int64_t>(kept.output_bytes))
        .text("directory", facts.directory)
        .text("command", facts.title);
    return message;
}

int list(const KeptStore& store, bool json) {
    const Moment moment = now();
    std::string table = json ? "" : "KEY               AGE     LEFT EXIT      RAN       SIZE  COMMAND\n";
    const auto listing = store.list(moment);
    for (const KeptStore::Listed& kept : listing.results) {
        const EntryFacts& facts = kept.facts;
        if (json) {
            table += facts_of(kept, moment).line();
            continue;
        }
        char columns[128];
        std::snprintf(columns, sizeof columns, "%-*.*s %8s %8s %4d %8s %10s  ", id_columns, id_columns,
                      kept.name.c_str(), format_duration(age_at(facts, moment)).c_str(),
                      kept.left > nanoseconds(0) ? format_duration(kept.left).c_str() : "-", facts.exit_status,
                      format_duration(facts.duration).c_str(), format_size(kept.output_bytes).c_str());
        table += columns + facts.title + "\n";
    }
    std::fputs(table.c_str(), stdout);
    const int status = flush_output();
    return listing.complete ? status : fail("cannot " + listing.complete.error().message());
}

// Which key an id means: a whole name, or the beginning of one alone.
std::variant<std::string, int> key_named(const KeptStore& store, const std::string& id) {
    const auto found = store.keys(id);
    if (!found) return fail("cannot " + found.error().message());
    if (found.value().size() == 1) return *found.value().begin();
    if (found.value().empty()) return not_there("nothing is kept under " + title(id));
    return fail(title(id) + " is the beginning of " + std::to_string(found.value().size()) + " keys");
}

int show_output(const Entry& entry) {
    OutputRelay relay;
    const auto end = pass_on_output(entry, entry.facts().title, relay);
    return end ? end->status : 0;
}

int show(const KeptStore& store, const std::string& name, bool output, bool json) {
    const auto found = store.look(name, output ? Entry::Check::all : Entry::Check::all_but_output);
    if (!found) return fail("cannot " + found.error().message());
    if (!found.value()) return not_there("nothing is kept under " + name);
    if (output) return show_output(*found.value());
    const Moment moment = now();
    const KeptStore::Listed kept(name, *found.value(), moment);
    const EntryFacts& facts = kept.facts;
    if (json) {
        std::fputs(facts_of(kept, moment).line().c_str(), stdout);
        return flush_output();
    }
    std::printf(
        "key        %s\ncommand    %s\ndirectory  %s\nexit       %d\nage        %s\nleft       %s\nran        %s\n"
        "output     %s\n",
        kept.name.c_str(), facts.title.c_str(), title(facts.directory).c_str(), facts.exit_status,
        format_duration(age_at(facts, moment)).c_str(),
        kept.left > nanoseconds(0) ? format_duration(kept.left).c_str() : "-", format_duration(facts.duration).c_str(),
        format_size(kept.output_bytes).c_str());
    std::string parts;
    for (const PartDigest& part : found.value()->facts().parts) parts += (parts.empty() ? "" : "; ") + part.name;
    std::printf("made of    %s\n", parts.c_str());
    return flush_output();
}

bool sets_limits(const TypedCache& typed) { return typed.max_size || typed.max_entry || typed.max_results; }

// With the rule that says so, if one does.
std::string bound(std::uint64_t bytes, const Setting* rule) {
    return format_size(bytes) + (rule == nullptr ? "" : "  as " + visible(rule->origin.text()) + " says");
}

// Of a store that was opened without the rules' bounds, which are not to get into its own (SPEC Y6).
int set_limits(const KeptStore& store, const TypedCache& typed) {
    KeptLimits limits = store.limits();
    limits.total_bytes = typed.max_size.value_or(limits.total_bytes);
    limits.entry_bytes = typed.max_entry.value_or(limits.entry_bytes);
    limits.results = typed.max_results.value_or(limits.results);
    if (sets_limits(typed))
        if (auto set = store.set_limits(limits); !set) return fail("cannot " + set.error().message());
    const Rules& rules = typed.command.ruled.rules;
    const StoreBounds bounds = store_bounds(rules);
    const std::string all = bound(bounds.total_bytes.value_or(limits.total_bytes), last(rules.cache, "max-size"));
    const std::string one = bound(bounds.entry_bytes.value_or(limits.entry_bytes), last(rules.cache, "max-entry"));
    std::printf("all results  %s\na result     %s\nresults      %llu\n", all.c_str(), one.c_str(),
                static_cast<unsigned long long>(limits.results));
    return flush_output();
}

int clean(const KeptStore& store) {
    const auto cleaned = store.clean(now(), true);
    if (!cleaned) return fail("another process is cleaning " + store.place().path());
    std::printf("removed %zu, %s\n", cleaned->removed, format_size(cleaned->bytes).c_str());
    return flush_output();
}

// The keys that the words after show and forget mean: ids, or after `--` or -c one command.
std::variant<std::vector<std::string>, int> keys_of(const KeptStore& store, TypedCache& typed, bool command) {
    std::vector<std::string> keys;
    if (command) {
        auto wrapped = wrapped_command("cache", std::move(typed.command));
        if (const int* status = std::get_if<int>(&wrapped)) return *status;
        keys.push_back(store_key_of(std::get<RunOptions>(wrapped).orders).name);
        return keys;
    }
    for (const std::string& id : typed.command.words) {
        auto key = key_named(store, id);
        if (const int* status = std::get_if<int>(&key)) return *status;
        keys.push_back(std::get<std::string>(key));
    }
    return keys;
}

constexpr std::string_view operations[] = {"list", "show", "forget", "clear", "clean", "limits"};

}  // namespace

int cache_command(int argc, char** argv) {
    TypedCache typed;
    if (const auto status = read_cache(argc, argv, typed)) return *status;
    const std::string operation = typed.operation.empty() ? "list" : typed.operation;
    if (std::find(std::begin(operations), std::end(operations), operation) == std::end(operations))
        return misuse("cache", "there is no operation '" + operation + "'");
    const std::vector<std::string>& words = typed.command.words;
    const bool takes_words = operation == "show" || operation == "forget";
    const auto before_words = static_cast<std::size_t>(argc) - words.size() - 1;
    const bool command = typed.command.line || (!words.empty() && argv[before_words] == std::string_view("--"));
    if (!takes_words && (!words.empty() || typed.command.line))
        return misuse("cache", operation + " takes no command, and no id");
    // Every key begins with an empty id, which is what a variable that is not set gives.
    if (takes_words && !command && (words.empty() || std::find(words.begin(), words.end(), "") != words.end()))
        return misuse("cache",
                      words.empty() ? "which result? an id, or -- and a command" : "an empty id names no result");
    if (operation == "show" && !command && words.size() > 1) return misuse("cache", "show takes one id");
    if (operation != "limits" && sets_limits(typed))
        return misuse("cache", "limits are set by `coalesce cache limits`");
    for (const auto& limit : {typed.max_size, typed.max_entry, typed.max_results})
        if (limit == 0U)
            return misuse("cache", "a limit of 0 would keep nothing: remove what keeps, or use cache clear");
    if (operation != "show" && typed.output) return misuse("cache", "--output is for show");

    auto found = own_store_place(typed.command.cache_directory, typed.command.ruled.rules);
    if (!found) return fail("cannot " + found.error().message());
    if (operation == "limits") found->bounds = {};
    const StorePlace& place = *found;
    // What is forgotten before there is a store is noted, too: a run under way might be the first that is kept (T21).
    const bool notes =
        operation == "clear" || (operation == "forget" && command) || (operation == "limits" && sets_limits(typed));
    auto opened = KeptStore::open(place, notes);
    if (!opened) return fail("cannot " + opened.error().message());
    if (!opened.value()) {
        if (takes_words) return not_there("nothing is kept in " + place.path());
        return 0;
    }
    const KeptStore& store = *opened.value();
    if (operation == "list") return list(store, typed.json);
    if (operation == "limits") return set_limits(store, typed);
    if (operation == "clean") return clean(store);
    if (operation == "clear") {
        if (auto cleared = store.clear(now()); !cleared) return fail("cannot " + cleared.error().message());
        return 0;
    }
    auto keys = keys_of(store, typed, command);
    if (const int* status = std::get_if<int>(&keys)) return *status;
    for (const std::string& key : std::get<std::vector<std::string>>(keys)) {
        if (operation == "show") return show(store, key, typed.output, typed.json);
        if (auto forgotten = store.forget(key, now()); !forgotten) return fail("cannot " + forgotten.error().message());
    }
    return 0;
}

}  // namespace coalesce
