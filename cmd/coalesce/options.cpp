// SPDX-License-Identifier: MIT
// The definitions: every option of every subcommand, with its words, and where its value
// goes. Nothing else is to be told of an option; help, manual and completions follow.
//
// To add one:
//  1. a member for its value, in the options of the room that obeys it, or in options.h;
//  2. a line below, where --help shall show it: flag() for a switch, option() for one with
//     an argument, list() for one that may be repeated, each with what takes the value
//     (option_values.h: number, duration, size, text, filled, choice …) and its words. The
//     first line of these is --help's, so short; what follows "\n" only the manual has.
//     A last argument "COALESCE_NAME" gives it a variable, if SPEC U3 names one.
//     What run and key share stands in define_identity;
//  3. a word for its argument that is not yet in argument_texts.h goes there.
// What excludes another option is refused by the subcommand itself, with misuse().
#include "options.h"

#include <algorithm>
#include <cstdio>

#include "complain.h"
#include "option_values.h"
#include "usage.h"

namespace coalesce {
namespace {

// Of all that decide what is the same. Every line of a batch has them.
void define_rules(CommandLine& line, KeyRules& rules, const char* words_of_key) {
    line.option("--scope", "TEXT", text(rules.scope), "Add TEXT to the key.", "COALESCE_SCOPE");
    line.option("--key", "TEXT",
                filled(rules.key, ": with an unset variable in it, commands of all kinds would share one result"),
                words_of_key);
    line.list("--ignore-env", "PATTERN", each(rules.ignore_env),
              "Leave variables out of the key.\n"
              "* and ? match as in file names.");
    line.option("--only-env", "NAMES", variable_names(rules.only_env),
                "Only these variables, comma-separated, in the key.\n"
                "An empty list means no variables.");
    line.flag("--ignore-cwd", rules.ignore_cwd, "Leave the directory out of the key.");
    line.flag("--ignore-namespaces", rules.ignore_namespaces,
              "Leave namespaces and root directory out of the key.\n"
              "For containers that share a meeting place and a tree.");
    line.flag("--no-share", rules.no_share, "Join nobody, and let nobody join.");
}

// The variable of --cluster is looked at where it matters that it is one (cluster_terms.h).
void define_sharing(CommandLine& line, TypedSharing& sharing) {
    line.option(
        "--cluster", "URL", filled(sharing.url),
        "Share with machines that meet at this engine, too.\n"
        "redis://[USER@]HOST[:PORT] or redis+unix:///PATH; see MANY MACHINES. Needs --cluster-scope. Without it "
        "the variable COALESCE_CLUSTER counts.");
    line.option("--cluster-scope", "TEXT", text(sharing.scope),
                "What files the command sees there: a commit, a job.\n"
                "Only machines that give the same text share. Without a text the command stays on this machine: equal "
                "directories are not equal files.",
                "COALESCE_CLUSTER_SCOPE");
    line.flag("--no-cluster", sharing.off, "Stay on this machine.");
    line.flag("--ignore-platform", sharing.ignore_platform,
              "Share with machines of another kind, too.\n"
              "Otherwise operating system, its version and the processor's kind are part of the key.");
}

void define_grace(CommandLine& line, CommandLine::Take take) {
    line.option("--grace", "TIME", std::move(take),
                "Wait TIME from TERM to KILL.\n"
                "The default is 10 seconds.");
}

void define_place(CommandLine& line, std::string& place) {
    line.option("--place", "DIR", filled(place),
                "Meet in DIR.\n"
                "It is made if missing, and then taken as it is. Otherwise see FILES.",
                "COALESCE_PLACE");
}

void define_jobs(CommandLine& line, unsigned& into, const std::string& usually) {
    const std::string words =
        "Run N commands at a time; 0: no limit.\n"
        "Or 50% of the processors, +2 more than they are, -1 less. " +
        usually;
    line.option("-j,--jobs", "N", jobs(into), words.c_str());
}

void define_no_config(CommandLine& line, ObeyedRules& ruled) {
    line.flag("--no-config", ruled.off,
              "Obey no rules file.\n"
              "Nor the one that COALESCE_CONFIG names. See RULES.");
}

void define_terminal(CommandLine& line, TypedTerminal& terminal) {
    line.flag("--pty", terminal.wanted,
              "Give the command a terminal as its outputs.\n"
              "All it prints comes on standard output. It cannot ask there. See TERMINALS.");
    line.option("--pty-size", "COLUMNSxLINES", parsed(parse_terminal_size, terminal.size),
                "With --pty: of that size.\n"
                "The default is the width of the terminal that is asked from, or 80 columns, and 24 lines.");
}

void define_class(CommandLine& line, std::optional<RunClass>& run_class) {
    line.option("--class", "NAME[:N]", parsed(parse_run_class, run_class),
                "Run N at a time of all in this class.\n"
                "On this machine, and of this user, whoever started them. The default for N is what [class.NAME] in "
                "the rules says, or 1. See CLASSES.");
}

void define_dependencies(CommandLine& line, TypedCommand& typed) {
    const auto take = [&typed](Dependency::Kind kind) {
        return [&typed, kind](std::string_view name, const std::string& value) -> Result<> {
            if (value.empty()) return Error{{}, std::string(name) + " is empty"};
            typed.dependencies.push_back({kind, value});
            return {};
        };
    };
    line.list(
        "--depends", "PATH", take(Dependency::Kind::content),
        "The content of PATH is part of the key.\n"
        "A file, a directory with all below it, or a quoted pattern with *, ?, [ ] or **. Names, execute bits and "
        "the text of symbolic links count, owners and times do not. A result is not kept if it changed during "
        "the run.");
    line.list("--modtime", "PATH", take(Dependency::Kind::modtime), "Size and time of modification of PATH are.");
    line.option(
        "--depends-from", "FILE", filled(typed.depends_from),
        "The content of every path that FILE lists is.\n"
        "FILE - is standard input. Paths end with NUL, if there is one in it, or with newlines, as `git ls-files "
        "-coz --exclude-standard` writes them.");
}

// What `run` and `key` agree on.
void define_identity(CommandLine& line, TypedCommand& typed) {
    line.operands(typed.words);
    line.option("-c,--command", "LINE", text(typed.line), "Run LINE with the shell instead of a command.");
    line.flag("--stdin", typed.standard_input,
              "Read standard input and feed it to the command.\n"
              "It is read to its end and becomes part of the key. Without this option standard input is not read and "
              "the command gets /dev/null.");
    define_terminal(line, typed.terminal);
    define_rules(line, typed.run.rules,
                 "Use TEXT as the key, whatever the command.\n"
                 "It replaces the arguments, the directory, the environment and standard input.");
    define_place(line, typed.run.place);
    define_dependencies(line, typed);
    define_sharing(line, typed.sharing);
    define_no_config(line, typed.ruled);
}

void define_cache_directory(CommandLine& line, std::string& directory, const char* words) {
    line.option("--cache-dir", "DIR", filled(directory), words, "COALESCE_CACHE_DIR");
}

// What is kept, and for how long it is served.
void define_retention(CommandLine& line, Wish& wish, std::string& cache_directory) {
    line.option("--ttl", "TIME", time_limit(wish.ttl),
                "Serve a kept result for TIME after its run; keep one.\n"
                "A result of the same key that is no older than TIME is printed instead of running. Else the command "
                "runs, or its run is joined, and the result is kept for TIME: if it succeeded, and was not longer than "
                "64 MiB. 0 is none.",
                "COALESCE_TTL");
    line.option("--max-age", "TIME", duration(wish.max_age),
                "Only a run that started less than TIME ago will do.\n"
                "Kept or in flight. Without --ttl nothing is kept. --fresh is a TIME of 0.");
    line.option("--stale", "TIME", duration(wish.stale),
                "Serve what is older than TIME, and refresh it behind.\n"
                "A result older than TIME is printed at once, and a run is started in the background unless there is "
                "one. Shorter than --ttl. If the refresh fails, the old result stays, and the next is tried after "
                "TIME.");
    line.option("--keep-failures", "TIME", time_limit(wish.keep_failures),
                "Keep, and serve, failures that young as well.\n"
                "Exit statuses other than 0; never what was killed, timed out, cancelled or could not be started.");
    define_cache_directory(line, cache_directory,
                           "Keep results in DIR.\n"
                           "Who names a directory shares it with all who do, over boots and containers. The default is "
                           "coalesce in $XDG_CACHE_HOME, or in ~/.cache, for this boot and these namespaces only.");
}

void define_run(CommandLine& line, TypedCommand& typed) {
    line.is("run", "coalesce run [OPTION…] [--] COMMAND [ARG…]",
            "Run COMMAND, or join the run of the same command that is under way.",
            "  coalesce run make docs               twenty of these at once are one run\n"
            "  coalesce run -c 'curl -s $URL | jq .'\n"
            "  out=$(coalesce run --fresh df -h)    not older than this line\n");
    RunOptions& run = typed.run;
    FlightOrders& orders = run.orders;
    define_identity(line, typed);
    line.flag("--fresh", run.fresh,
              "Only a run that starts after this request will do.\n"
              "All fresh requests that are made during one run share the next.");
    line.option("--timeout", "TIME", time_limit(orders.limits.timeout),
                "End the run after TIME: 10, 1.5s, 5m.\n"
                "All who share it get status 124. The leader's limit holds. TERM is sent first, KILL after the grace "
                "period.");
    line.option("--wait", "TIME", duration(run.wait),
                "Give up waiting after TIME, with status 75.\n"
                "The run goes on for the others.");
    define_class(line, orders.limits.run_class);
    define_grace(line, [&run](std::string_view name, const std::string& value) {
        run.own_grace = true;
        return duration(run.orders.limits.grace)(name, value);
    });
    line.flag("--keep-running", orders.keep_running, "Let the run finish when its requesters leave.");
    define_retention(line, typed.wish, typed.cache_directory);
    line.flag("--warm", typed.wish.warm,
              "Print nothing; see that a result is kept.\n"
              "Needs --ttl. Returns 0 at once, and starts a run in the background if none is kept, or it is stale.");
    line.option("--socket", "PATH", filled(run.socket),
                "Ask the server at PATH instead.\n"
                "The command runs there with this directory, environment and umask.",
                "COALESCE_SOCKET");
    line.option("--replay-limit", "SIZE", size(orders.replay_bytes),
                "Keep up to SIZE of output: 64M, 2G.\n"
                "The default is 1 GiB. A run that writes more can no longer be joined and is paced by its slowest "
                "reader.");
    line.option("--stall", "TIME", duration(orders.stall),
                "Drop who reads nothing for TIME past that limit.\n"
                "With an error, and only while others wait for the same command. The default is 60 seconds.");
    line.option("--spool-dir", "DIR", filled(orders.spool_directory), "Keep output in DIR, not in memory.");
    line.option("--tail", "N", number(run.tail),
                "Print only the last N lines of each stream.\n"
                "When the run has ended: those of standard output, then those of standard error. Others who share the "
                "run are not concerned, and a kept result is whole. 0 prints nothing.");
    line.flag(
        "-v,--verbose", [&run](bool on) { run.verbose = run.orders.verbose = on; },
        "Say on standard error what happens.\n"
        "Where it waits, again each half minute until there is output: for how long the run has gone on, and how long "
        "it usually takes.");
}

// What the lines are, and where they come from.
void define_input(CommandLine& line, TypedBatch& typed) {
    BatchOptions& batch = typed.options;
    line.option("-a,--arg-file", "FILE", filled(typed.input), "Read FILE instead of standard input.");
    line.flag(
        "-0,--null", [&batch](bool) { batch.delimiter = '\0'; }, "Lines end with NUL, not newline.");
    line.flag(
        "--json", [&batch](bool) { batch.input = BatchOptions::Input::json; },
        "Each line is a JSON request.\n"
        "The fields are those of the socket protocol: argv or line, cwd, env, stdin, key, scope, fresh, ttl, timeout, "
        "wait, output and id. A malformed line is reported with its number and counts as a failed request; the "
        "others run.");
}

// What is written of the requests beside their output, and gone on with.
void define_accounts(CommandLine& line, BatchOptions& batch) {
    line.option(
        "--joblog", "FILE",
        [&batch](std::string_view name, const std::string& value) {
            batch.joblog_goes_on = value.starts_with('+');
            return filled(batch.joblog)(name, value.substr(batch.joblog_goes_on ? 1 : 0));
        },
        "Log each request in GNU parallel's columns.\n"
        "+FILE appends. Seq is the line of the input. A command that was ended by a signal to coalesce or by --halt "
        "has Exitval -1; one that was not started is not there.");
    line.flag(
        "--resume", [&batch](bool) { batch.resume = EarlierJobs::Skip::done; },
        "Skip what the joblog has as done, and append to it.\n"
        "The input has to be the same as it was: the commands are found by Seq, and where the joblog has another "
        "command there, nothing more is started and the status is 125. What was ended by a signal or by --halt runs "
        "again. The joblog may be GNU parallel's.");
    line.flag(
        "--resume-failed", [&batch](bool) { batch.resume = EarlierJobs::Skip::succeeded; },
        "The same, but run again what failed.");
    line.option("--report", "FILE", filled(batch.report),
                "Write one JSON line a request to FILE.\n"
                "In the order in which they end: sequence (of the input), run, key, id if the request had one, "
                "command, exit or signal, end (why, if it failed), joined, requesters, attempts, requested and started "
                "(seconds since the epoch), waited and run_time (seconds), stdout_bytes, stderr_bytes.");
    line.option("--html", "FILE", filled(batch.html), "Write the timeline to FILE, one HTML page.");
}

// Long as a table is: one option after the other, in the order of --help.
void define_batch(CommandLine& line, TypedBatch& typed) {
    line.is("batch", "coalesce [batch] [OPTION…] < LINES",
            "Run each distinct command line once; duplicates share its result.",
            "  coalesce < lines                     each line is a command\n"
            "  coalesce -j8 -k --tag -a lines       eight at a time, in order, labelled\n");
    BatchOptions& batch = typed.options;
    define_input(line, typed);
    define_jobs(line, batch.executor.jobs, "The default is the number of processors.");
    line.flag("-k,--keep-order", batch.keep_order, "Print results in the order of the input.");
    line.flag("--once", batch.once,
              "Run each distinct line once for the whole input.\n"
              "Without it, a line that comes after an equal one has ended runs again. With --cluster, once among all "
              "batches of that scope, whenever they start, for an hour at least.");
    line.flag("--unique", batch.unique,
              "Print a shared result once.\n"
              "What had been kept is nobody's run: it is printed for each, unless --once.");
    line.flag("--tag", typed.tag, "Begin each line of output with the command and a tab.");
    line.option("--format", "FORMAT", choice(typed.format, argument_text("FORMAT")),
                "Print text or json.\n"
                "With json each request gives one line, an object with id, command, exit or signal, stdout, stderr (or "
                "stdout_base64, stderr_base64 where the bytes are not UTF-8), joined, requesters, started and duration "
                "in seconds; host, if it ran on another machine.");
    line.option("--shell", "PATH", filled(batch.executor.shell),
                "Run lines with PATH -c LINE.\n"
                "The default is /bin/sh.");
    define_terminal(line, typed.terminal);
    line.option("--timeout", "TIME", time_limit(batch.timeout),
                "End a run after TIME: 10, 1.5s, 5m.\n"
                "All who share it get status 124. TERM is sent first, KILL after the grace period.");
    define_class(line, batch.run_class);
    define_grace(line, duration(batch.grace));
    line.option("--retries", "N", number(batch.retries),
                "Run a failed command up to N times more.\n"
                "Only the output of the last attempt is printed.");
    line.option("--halt", "WHEN", parsed(parse_halt, batch.halt),
                "Stop early: soon,fail=3, now,success=1 …\n"
                "After N runs that failed (fail=N), succeeded (success=N) or either (done=N) nothing new is started; "
                "with now, what runs is ended too. N% is of all requests, so nothing starts before the input has "
                "ended, or as much as is read ahead is there. "
                "The exit status is that of the failed run that made up the number; with success=N it is 0.");
    define_accounts(line, batch);
    define_retention(line, batch.wish, batch.cache_directory);
    line.flag("--dry-run", batch.dry_run,
              "Only list distinct commands and their counts.\n"
              "What differs besides the words, such as the directory of a JSON request, is told behind them.");
    line.flag(
        "--progress,--no-progress{no}", [&batch](bool on) { batch.progress = on; },
        "Draw a bar on standard error, or do not.\n"
        "It shows the progress. The default is to draw one when standard error is a terminal and the output goes "
        "elsewhere.");
    line.flag("-v,--verbose", batch.verbose, "Print a closing summary on standard error.");
    define_rules(line, batch.rules, "Use TEXT as the key: all lines are duplicates.");
    define_no_config(line, typed.ruled);
    define_sharing(line, typed.sharing);
    line.option("--read-ahead", "N", number(batch.read_ahead),
                "Read up to N distinct commands ahead.\n"
                "The default is 4096.");
    line.option("--replay-limit", "SIZE", size(batch.executor.spool.replay_bytes),
                "Keep up to SIZE of output a run: 64M, 2G.\n"
                "The default is 1 GiB. Longer output is printed as it comes for the request that led the run, and is "
                "an error for those who share it.");
    line.option("--spool-dir", "DIR", filled(batch.executor.spool.store.directory),
                "Keep large output in DIR, not in memory.\n"
                "Output past 1 MiB a run goes to an unlinked file there.");
}

void define_key(CommandLine& line, TypedCommand& typed) {
    line.is("key", "coalesce key [OPTION…] [--] COMMAND [ARG…]",
            "Print the key of a command, and why it would not join one that runs.",
            "  coalesce key make docs               its hash and each part of it\n");
    define_identity(line, typed);
    define_cache_directory(line, typed.cache_directory, "Look for a kept result in DIR.");
}

void define_status(CommandLine& line, TypedQuestion& typed) {
    line.is("status", "coalesce status [OPTION…]", "List what is in flight, and how long it will take.",
            "  coalesce status                      id, state, age, time left …\n");
    line.flag("--json", typed.json, "Print one JSON object a flight.");
    line.flag("--watch", typed.watch, "Print it again each second, until interrupted.");
    line.option("--socket", "PATH", filled(typed.socket),
                "List the flights of the server at PATH only.\n"
                "Otherwise those of the wrappers and of the server in the meeting place, or the one that "
                "COALESCE_SOCKET names.");
    line.option("--cluster", "URL", filled(typed.engine),
                "List what machines share at this engine only.\n"
                "Id, state, age, how many machines wait, host and command of each run.");
    define_place(line, typed.place);
}

void define_cancel(CommandLine& line, TypedQuestion& typed) {
    line.is("cancel", "coalesce cancel [OPTION…] ID…", "End flights for everyone who waits on them.",
            "  coalesce cancel 3f9a                 the beginning of an id is enough\n");
    line.operands(typed.ids);
    line.option("--socket", "PATH", filled(typed.socket), "End flights of the server at PATH only.");
    line.option("--cluster", "URL", filled(typed.engine),
                "End runs that machines share at this engine.\n"
                "For everyone on every machine. Their ids are those of status --cluster.");
    define_place(line, typed.place);
}

void define_stats(CommandLine& line, TypedQuestion& typed) {
    line.is("stats", "coalesce stats [OPTION…]", "Sum up how many runs, and how much time, sharing has saved.",
            "  coalesce stats                       joins and time saved\n");
    line.flag(
        "--json", typed.json,
        "Print one JSON object.\n"
        "It has joins and saved, in seconds; wrappers, an object with runs, joins, saved and since when (seconds since "
        "the epoch; 0: nothing yet); and where a server "
        "answers, server, what the protocol's stats tells. Where results are kept there is kept, with hits, "
        "refreshes, saved and since.");
    line.flag("--openmetrics", typed.openmetrics, "Print it as OpenMetrics, for Prometheus to scrape.");
    line.option("--socket", "PATH", filled(typed.socket),
                "Count what the server at PATH did only.\n"
                "Otherwise wrappers count, and the server in the meeting place or the one that COALESCE_SOCKET names.");
    define_no_config(line, typed.ruled);
    define_cache_directory(line, typed.cache_directory, "Count hits on results kept in DIR.");
    define_place(line, typed.place);
}

void define_cache(CommandLine& line, TypedCache& typed) {
    line.is("cache", "coalesce cache [OPERATION] [OPTION…] [ID…|-- COMMAND [ARG…]]",
            "Look at kept results: list, show, forget, clear, clean, limits.",
            "  coalesce cache                       what is kept, the youngest first\n"
            "  coalesce cache show --output -- make docs\n"
            "  coalesce cache forget 3f9a           the beginning of a key is enough\n");
    line.operation(typed.operation);
    define_identity(line, typed.command);
    define_cache_directory(line, typed.command.cache_directory, "Results that are kept in DIR.");
    line.flag("--json", typed.json, "Print one JSON object a result.");
    line.flag("--output", typed.output, "With show: print its output again, not its facts.");
    line.option("--max-size", "SIZE", size(typed.max_size),
                "With limits: keep up to SIZE in all.\nThe default is 1 GiB.");
    line.option("--max-entry", "SIZE", size(typed.max_entry),
                "With limits: keep results of up to SIZE.\nThe default is 64 MiB.");
    line.option("--max-results", "N", number(typed.max_results),
                "With limits: keep up to N results.\nThe default is 100000.");
}

void define_cluster(CommandLine& line, TypedCluster& typed) {
    line.is("cluster", "coalesce cluster check [OPTION…]",
            "Look whether an engine is fit for machines to share runs at.",
            "  coalesce cluster check --cluster redis://coalesce@10.0.0.5?password=FILE\n");
    line.operation(typed.operation);
    line.option("--cluster", "URL", filled(typed.url),
                "The engine: redis://[USER@]HOST[:PORT].\n"
                "Or redis+unix:///PATH. See MANY MACHINES.",
                "COALESCE_CLUSTER");
}

void define_rules_question(CommandLine& line, TypedRules& typed) {
    line.is("rules", "coalesce rules [OPTION…] [-- COMMAND [ARG…]]",
            "Print the rules that are obeyed, or what they say of a command.",
            "  coalesce rules                       the files, and all that they say\n"
            "  coalesce rules -- cargo test         what holds for it here\n");
    line.operands(typed.words);
    line.option("-c,--command", "LINE", text(typed.line), "Of LINE, a shell line, instead of a command.");
    define_no_config(line, typed.ruled);
}

void define_serve(CommandLine& line, TypedServe& typed) {
    line.is("serve", "coalesce serve [OPTION…]", "Answer requests on a unix socket.",
            "  coalesce serve --socket /run/user/1000/c.sock &\n"
            "  echo date | nc -NU /run/user/1000/c.sock\n"
            "  coalesce run --socket /run/user/1000/c.sock make docs\n");
    ServerOptions& server = typed.options;
    line.option("--socket", "PATH", filled(server.socket),
                "Listen on PATH.\n"
                "The default is server.sock in the meeting place, or the socket that systemd passes.");
    define_place(line, typed.place);
    define_jobs(line, server.executor.jobs, "The default is no limit.");
    line.option("--shell", "PATH", filled(server.executor.shell),
                "Run lines with PATH -c LINE.\n"
                "The default is /bin/sh.");
    line.list("--allow-user", "USER", each_user(server.allowed_users),
              "Serve this user too: a number or a name.\n"
              "Commands run as the server's user; different users never share a run.");
    line.option("--max-requesters", "N", number(server.requesters_max),
                "Refuse more than N waiting requests.\n"
                "The default is 100000.");
    line.option("--max-queue", "N", number(server.queue_max),
                "Refuse more than N queued flights.\n"
                "The default is 10000.");
    line.option("--drain", "TIME", duration(server.drain),
                "When told to stop, let runs finish for TIME.\n"
                "The default is 30 seconds.");
    define_grace(line, duration(server.grace));
    line.option("--replay-limit", "SIZE", size(server.executor.spool.replay_bytes),
                "Keep up to SIZE of output a run: 64M, 2G.\n"
                "The default is 1 GiB.");
    line.option("--stall", "TIME", duration(server.stall),
                "Drop who reads nothing for TIME past that limit.\n"
                "With an error, and only while others wait for the same command. The default is 60 seconds.");
    line.option("--spool-dir", "DIR", filled(server.executor.spool.store.directory),
                "Keep large output in DIR, not in memory.");
    line.option("--cluster", "URL", filled(typed.sharing.url),
                "Share at this engine what comes with cluster_scope.\n"
                "redis://[USER@]HOST[:PORT] or redis+unix:///PATH; see MANY MACHINES. Requests of other users stay on "
                "this machine. Without it the variable COALESCE_CLUSTER counts.");
    line.flag("--no-cluster", typed.sharing.off, "Share with no other machine.");
    define_cache_directory(line, server.cache_directory,
                           "Keep results in DIR.\n"
                           "Of requests that ask for it. The default is that of run, for the server's user.");
    define_no_config(line, typed.ruled);
    line.option("--log-level", "LEVEL", choice(server.log_level, argument_text("LEVEL")),
                "Log debug, info, warning, error or off.\n"
                "The default is info.");
}

template <class Typed>
using Definition = void (*)(CommandLine&, Typed&);

template <class Typed>
CommandText text_of(Definition<Typed> define) {
    Typed nothing;
    CommandLine line(CommandLine::Words::told);
    define(line, nothing);
    return line.text();
}

// Before any of it is obeyed all of it is looked at, by options of their own.
// Without `words` there is no command that rules could concern; with none of them nobody knows which it is.
Result<> obey_rules(CommandLine& line, ObeyedRules& ruled, std::optional<std::vector<std::string>> words) {
    if (ruled.off) return {};
    auto rules = own_rules();
    if (!rules) return rules.error();
    ruled.rules = std::move(*rules);
    if (ruled.rules.empty()) return {};
    TypedCommand nobodys;
    CommandLine every_option(CommandLine::Words::left_out);
    define_run(every_option, nobodys);
    if (auto checked = check_rules(ruled.rules, every_option); !checked) return checked;
    const Setting* const directory = last(ruled.rules.cache, "directory");
    // Who has no HOME has the usual one: the file may be the machine's, and that stops nobody's command.
    if (directory != nullptr && values_of(*directory).front().starts_with('/'))
        if (auto supplied = line.supply("cache-dir", values_of(*directory), directory->origin.text()); !supplied)
            return supplied;
    if (words)
        if (auto found = find_applying(ruled, std::move(*words), every_option); !found) return found;
    auto shared = supply_settings(ruled.applying, line);
    if (!shared) return shared.error();
    ruled.apart = !*shared;
    return {};
}

// What a rule says of a result gives way to a --ttl that was typed, or is in the environment, and does not fit it.
void give_way_to_ttl(const CommandLine& line, Wish& wish) {
    if (!line.given("ttl")) return;
    if (!line.given("stale") && wish.stale && (!wish.ttl || *wish.stale >= *wish.ttl)) wish.stale.reset();
    if (!line.given("keep-failures") && !wish.ttl) wish.keep_failures.reset();
}

// Each value is one; together they may still contradict one another, or what was typed. Where no rule has a part in
// that, who reads the wish says so.
Result<> fit_wish(const CommandLine& line, const std::vector<Setting>& settings, Wish& wish) {
    give_way_to_ttl(line, wish);
    const auto checked = check(wish);
    if (checked) return {};
    for (const char* const name : {"stale", "ttl", "keep-failures"})
        if (const Setting* const setting = last(settings, name); setting != nullptr && !line.given(name))
            return Error{{}, setting->origin.text() + ": " + checked.error().message()};
    return {};
}

bool names_dependencies(const Setting& setting) { return setting.name == "depends" || setting.name == "modtime"; }
bool is_of_retention(const Setting& setting) {
    return setting.name == "ttl" || setting.name == "max-age" || setting.name == "stale" ||
           setting.name == "keep-failures";
}

template <class Typed>
Result<> obey_for_command(CommandLine& line, Typed& typed) {
    if (!typed.line && typed.words.empty()) return obey_rules(line, typed.ruled, {});
    return obey_rules(line, typed.ruled, typed.line ? words_of_line(*typed.line) : typed.words);
}

// A server looks at no files: what rules say of a result that depends on some does not hold there (SPEC Y3).
void leave_out_at_server(TypedCommand& typed, const Wish& wish_of_line) {
    const std::vector<Setting>& rules = typed.ruled.applying;
    const bool depends = !typed.dependencies.empty() || !typed.depends_from.empty();
    if (typed.run.socket.empty() || !depends || typed.run.rules.no_share || typed.ruled.apart) return;
    const auto rule = std::find_if(rules.begin(), rules.end(), [](const Setting& setting) {
        return is_of_retention(setting) || names_dependencies(setting);
    });
    if (rule == rules.end() || typed.wish.warm) return;  // which is refused
    if (!typed.wish.keeps() && typed.wish.max_age == wish_of_line.max_age) return;
    fail("a server looks at no files: of the command, which " + rule->origin.text() + " concerns, nothing is kept");
    typed.wish = {.max_age = wish_of_line.max_age, .fresh = wish_of_line.fresh};
}

Result<> obey(CommandLine& line, TypedCommand& typed) {
    const Wish wish_of_line = typed.wish;
    if (auto obeyed = obey_for_command(line, typed); !obeyed) return obeyed;
    leave_out_at_server(typed, wish_of_line);
    return fit_wish(line, typed.ruled.applying, typed.wish);
}
Result<> obey(CommandLine& line, TypedCache& typed) { return obey(line, typed.command); }
Result<> obey(CommandLine& line, TypedRules& typed) { return obey_for_command(line, typed); }
Result<> obey(CommandLine& line, TypedQuestion& typed) {
    return line.has("cache-dir") ? obey_rules(line, typed.ruled, {}) : Result<>();
}
// Rules for commands are for those who ask.
template <class Door>
Result<> obey_at_door(CommandLine& line, Door& typed) {
    auto obeyed = obey_rules(line, typed.ruled, {});
    typed.options.remembers = remembers(typed.ruled.rules);
    return obeyed;
}
Result<> obey(CommandLine& line, TypedBatch& typed) { return obey_at_door(line, typed); }
Result<> obey(CommandLine& line, TypedServe& typed) { return obey_at_door(line, typed); }
Result<> obey(CommandLine&, TypedCluster&) { return {}; }

template <class Typed>
std::optional<int> read(Definition<Typed> define, int argc, char** argv, Typed& typed) {
    CommandLine line(CommandLine::Words::left_out);
    define(line, typed);
    switch (line.read(argc, argv)) {
        case CommandLine::Read::done:
            if (auto obeyed = obey(line, typed); !obeyed)
                return fail((obeyed.error().code ? "cannot " : "") + obeyed.error().message());
            return std::nullopt;
        case CommandLine::Read::refused:
            return 125;
        case CommandLine::Read::help_wanted:
            break;
    }
    std::fputs(help_of(text_of(define)).c_str(), stdout);
    return flush_output();
}

}  // namespace

std::optional<int> read_run(int argc, char** argv, TypedCommand& typed) { return read(define_run, argc, argv, typed); }
std::optional<int> read_batch(int argc, char** argv, TypedBatch& typed) {
    return read(define_batch, argc, argv, typed);
}
std::optional<int> read_key(int argc, char** argv, TypedCommand& typed) { return read(define_key, argc, argv, typed); }
std::optional<int> read_status(int argc, char** argv, TypedQuestion& typed) {
    return read(define_status, argc, argv, typed);
}
std::optional<int> read_cancel(int argc, char** argv, TypedQuestion& typed) {
    return read(define_cancel, argc, argv, typed);
}
std::optional<int> read_stats(int argc, char** argv, TypedQuestion& typed) {
    return read(define_stats, argc, argv, typed);
}
std::optional<int> read_cache(int argc, char** argv, TypedCache& typed) {
    return read(define_cache, argc, argv, typed);
}
std::optional<int> read_cluster(int argc, char** argv, TypedCluster& typed) {
    return read(define_cluster, argc, argv, typed);
}
std::optional<int> read_rules_question(int argc, char** argv, TypedRules& typed) {
    return read(define_rules_question, argc, argv, typed);
}
Result<> read_batch_with(const std::vector<const CommandRule*>& rules, int argc, char** argv, TypedBatch& typed,
                         const std::function<void(const std::string&)>& on_left_out) {
    CommandLine line(CommandLine::Words::left_out);
    define_batch(line, typed);
    if (line.read(argc, argv) != CommandLine::Read::done) return Error{{}, "the command line has changed"};
    TypedCommand nobodys;  // a rule may name what a batch has not
    CommandLine every_option(CommandLine::Words::left_out);
    define_run(every_option, nobodys);
    const auto settings = settings_of(rules, [&](std::string_view name) { return every_option.may_be_repeated(name); });
    const auto depends = std::find_if(settings.begin(), settings.end(), names_dependencies);
    std::vector<Setting> possible = settings;
    if (depends != settings.end()) {
        std::erase_if(possible, is_of_retention);
        if (possible.size() < settings.size() || typed.options.wish.anything())
            on_left_out("a batch looks at no files: for lines that " + depends->origin.text() +
                        " concerns nothing is kept");
        typed.options.wish = {};
    }
    auto shared = supply_settings(possible, line);
    if (!shared) return shared.error();
    if (!*shared) typed.options.rules.no_share = true;
    return fit_wish(line, possible, typed.options.wish);
}
std::optional<int> read_serve(int argc, char** argv, TypedServe& typed) {
    return read(define_serve, argc, argv, typed);
}

std::vector<CommandText> command_texts() {
    return {text_of(define_run),     text_of(define_batch), text_of(define_key),   text_of(define_status),
            text_of(define_cancel),  text_of(define_stats), text_of(define_cache), text_of(define_rules_question),
            text_of(define_cluster), text_of(define_serve)};
}

}  // namespace coalesce
