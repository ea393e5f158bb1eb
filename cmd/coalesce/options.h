// SPDX-License-Identifier: MIT
// The words of every option, told once: --help prints them, the man page is built
// from them, the completions list them, and suggestions are picked from them.
#pragma once

#include <span>
#include <string_view>

namespace coalesce {

struct OptionText {
    std::string_view flags;      ///< "-j,--jobs"
    std::string_view argument;   ///< "N"; empty for a switch
    std::string_view brief;      ///< one line of --help, and the first sentence in the manual
    std::string_view more = {};  ///< what the manual says beyond that
};

struct CommandText {
    std::string_view name;
    std::string_view synopsis;
    std::string_view brief;
    std::span<const OptionText> options;
    std::string_view examples;  ///< lines of --help
};

/// What the word for an argument stands for, so that a shell can offer something.
/// Every word that the tables below use is here.
struct ArgumentText {
    enum class Kind { anything, file, directory, variable, variables, user, choice };
    std::string_view word;
    Kind kind;
    std::string_view choices = {};  ///< with Kind::choice, separated by spaces
};

inline constexpr ArgumentText argument_texts[] = {
    {"FILE", ArgumentText::Kind::file},
    {"PATH", ArgumentText::Kind::file},
    {"DIR", ArgumentText::Kind::directory},
    {"PATTERN", ArgumentText::Kind::variable},
    {"NAMES", ArgumentText::Kind::variables},
    {"USER", ArgumentText::Kind::user},
    {"FORMAT", ArgumentText::Kind::choice, "text json"},
    {"LEVEL", ArgumentText::Kind::choice, "debug info warning error off"},
    {"WHEN", ArgumentText::Kind::choice, "soon,fail=1 now,fail=1"},
    {"N", ArgumentText::Kind::anything},
    {"TIME", ArgumentText::Kind::anything},
    {"SIZE", ArgumentText::Kind::anything},
    {"TEXT", ArgumentText::Kind::anything},
    {"LINE", ArgumentText::Kind::anything},
};

inline constexpr OptionText batch_options[] = {
    {"-a,--arg-file", "FILE", "Read FILE instead of standard input."},
    {"-0,--null", "", "Lines end with NUL, not newline."},
    {"--json", "", "Each line is a JSON request.",
     "The fields are those of the socket protocol: argv or line, cwd, env, stdin, key, scope, fresh, timeout, wait, "
     "output and id. A malformed line is reported with its number and counts as a failed request; the others run."},
    {"-j,--jobs", "N", "Run N commands at a time; 0: no limit.", "The default is the number of processors."},
    {"-k,--keep-order", "", "Print results in the order of the input."},
    {"--once", "", "Run each distinct line once for the whole input.",
     "Without it, a line that comes after an equal one has ended runs again."},
    {"--unique", "", "Print a shared result once."},
    {"--tag", "", "Begin each line of output with the command and a tab."},
    {"--format", "FORMAT", "Print text or json.",
     "With json each request gives one line, an object with id, command, exit or signal, stdout, stderr (or "
     "stdout_base64, stderr_base64 where the bytes are not UTF-8), joined, requesters, started and duration in "
     "seconds."},
    {"--shell", "PATH", "Run lines with PATH -c LINE.", "The default is /bin/sh."},
    {"--timeout", "TIME", "End a run after TIME: 10, 1.5s, 5m.",
     "All who share it get status 124. TERM is sent first, KILL after the grace period."},
    {"--grace", "TIME", "Wait TIME from TERM to KILL.", "The default is 10 seconds."},
    {"--retries", "N", "Run a failed command up to N times more.", "Only the output of the last attempt is printed."},
    {"--halt", "WHEN", "Stop early: soon,fail=N or now,fail=N.",
     "After N failed runs nothing new is started; with now, what runs is ended too. The exit status is that of the run "
     "that made up the number."},
    {"--joblog", "FILE", "Log each request in GNU parallel's columns."},
    {"--report", "FILE", "Write one JSON line a request to FILE.",
     "In the order in which they end: sequence (of the input), run, key, id if the request had one, command, exit or "
     "signal, end (why, if it "
     "failed), joined, requesters, attempts, requested and started (seconds since the epoch), waited and run_time "
     "(seconds), stdout_bytes, stderr_bytes."},
    {"--html", "FILE", "Write the timeline to FILE, one HTML page."},
    {"--dry-run", "", "Only list distinct commands and their counts."},
    {"--progress,--no-progress", "", "Draw a bar on standard error, or do not.",
     "It shows the progress. The default is to draw one when standard error is a terminal and the output goes "
     "elsewhere."},
    {"-v,--verbose", "", "Print a closing summary on standard error."},
    {"--scope", "TEXT", "Add TEXT to the key."},
    {"--key", "TEXT", "Use TEXT as the key: all lines are duplicates."},
    {"--ignore-env", "PATTERN", "Leave variables out of the key.", "May be repeated. * and ? match as in file names."},
    {"--only-env", "NAMES", "Only these variables, comma-separated, in the key.", "An empty list means no variables."},
    {"--ignore-cwd", "", "Leave the directory out of the key."},
    {"--read-ahead", "N", "Read up to N distinct commands ahead.", "The default is 4096."},
    {"--replay-limit", "SIZE", "Keep up to SIZE of output a run: 64M, 2G.",
     "The default is 1 GiB. Longer output is printed as it comes for the request that led the run, and is an error for "
     "those who share it."},
    {"--spool-dir", "DIR", "Keep large output in DIR, not in memory.",
     "Output past 1 MiB a run goes to an unlinked file there."},
};

inline constexpr CommandText batch_text{
    "batch",
    "coalesce [batch] [OPTION…] < LINES",
    "Run each distinct command line once; duplicates share its result.",
    batch_options,
    "  coalesce < lines                     each line is a command\n"
    "  coalesce -j8 -k --tag -a lines       eight at a time, in order, labelled\n"
    "  coalesce --json --format json < requests\n",
};

// What `run` and `key` agree on.
#define COALESCE_IDENTITY_OPTIONS                                                                                     \
    {"-c,--command", "LINE", "Run LINE with the shell instead of a command."},                                        \
        {"--stdin", "", "Read standard input and feed it to the command.",                                            \
         "It is read to its end and becomes part of the key. Without this option standard input is not read and the " \
         "command gets /dev/null."},                                                                                  \
        {"--scope", "TEXT", "Add TEXT to the key."},                                                                  \
        {"--key", "TEXT", "Use TEXT as the key, whatever the command.",                                               \
         "It replaces the arguments, the directory, the environment and standard input."},                            \
        {"--ignore-env", "PATTERN", "Leave variables out of the key.",                                                \
         "May be repeated. * and ? match as in file names."},                                                         \
        {"--only-env", "NAMES", "Only these variables, comma-separated, in the key.",                                 \
         "An empty list means no variables."},                                                                        \
    {                                                                                                                 \
        "--ignore-cwd", "", "Leave the directory out of the key."                                                     \
    }

inline constexpr OptionText run_options[] = {
    COALESCE_IDENTITY_OPTIONS,
    {"--fresh", "", "Only a run that starts after this request will do.",
     "All fresh requests that are made during one run share the next."},
    {"--timeout", "TIME", "End the run after TIME: 10, 1.5s, 5m.",
     "All who share it get status 124. The leader's limit holds. TERM is sent first, KILL after the grace period."},
    {"--wait", "TIME", "Give up waiting after TIME, with status 75.", "The run goes on for the others."},
    {"--grace", "TIME", "Wait TIME from TERM to KILL.", "The default is 10 seconds."},
    {"--keep-running", "", "Let the run finish when its requesters leave."},
    {"--socket", "PATH", "Ask the server at PATH instead.",
     "So does the variable COALESCE_SOCKET. The command runs there with this directory, environment and umask."},
    {"--replay-limit", "SIZE", "Keep up to SIZE of output: 64M, 2G.",
     "The default is 1 GiB. A run that writes more can no longer be joined and is paced by its slowest reader."},
    {"--spool-dir", "DIR", "Keep output in DIR, not in memory."},
    {"-v,--verbose", "", "Say on standard error what happens."},
};

inline constexpr CommandText run_text{
    "run",
    "coalesce run [OPTION…] [--] COMMAND [ARG…]",
    "Run COMMAND, or join the run of the same command that is under way.",
    run_options,
    "  coalesce run make docs               twenty of these at once are one run\n"
    "  coalesce run -c 'curl -s $URL | jq .'\n"
    "  out=$(coalesce run --fresh df -h)    not older than this line\n",
};

inline constexpr OptionText serve_options[] = {
    {"--socket", "PATH", "Listen on PATH.",
     "The default is server.sock in the meeting place, or the socket that systemd passes."},
    {"-j,--jobs", "N", "Run N commands at a time; 0: no limit.", "The default is no limit."},
    {"--shell", "PATH", "Run lines with PATH -c LINE.", "The default is /bin/sh."},
    {"--allow-user", "USER", "Serve this user too: a number or a name.",
     "May be repeated. Commands run as the server's user; different users never share a run."},
    {"--max-requesters", "N", "Refuse more than N waiting requests.", "The default is 100000."},
    {"--max-queue", "N", "Refuse more than N queued flights.", "The default is 10000."},
    {"--drain", "TIME", "When told to stop, let runs finish for TIME.", "The default is 30 seconds."},
    {"--grace", "TIME", "Wait TIME from TERM to KILL.", "The default is 10 seconds."},
    {"--replay-limit", "SIZE", "Keep up to SIZE of output a run: 64M, 2G.", "The default is 1 GiB."},
    {"--spool-dir", "DIR", "Keep large output in DIR, not in memory."},
    {"--log-level", "LEVEL", "Log debug, info, warning, error or off.", "The default is info."},
};

inline constexpr CommandText serve_text{
    "serve",
    "coalesce serve [OPTION…]",
    "Answer requests on a unix socket.",
    serve_options,
    "  coalesce serve --socket /run/user/1000/c.sock &\n"
    "  echo date | nc -NU /run/user/1000/c.sock\n"
    "  coalesce run --socket /run/user/1000/c.sock make docs\n",
};

inline constexpr OptionText key_options[] = {COALESCE_IDENTITY_OPTIONS};

inline constexpr CommandText key_text{
    "key",
    "coalesce key [OPTION…] [--] COMMAND [ARG…]",
    "Print the key of a command, and why it would not join one that runs.",
    key_options,
    "  coalesce key make docs               its hash and each part of it\n",
};

inline constexpr OptionText status_options[] = {
    {"--json", "", "Print one JSON object a flight."},
    {"--watch", "", "Print it again each second, until interrupted."},
    {"--socket", "PATH", "List the flights of the server at PATH only.",
     "Otherwise those of the wrappers and of the server in the meeting place, or the one that COALESCE_SOCKET names."},
};

inline constexpr CommandText status_text{
    "status",
    "coalesce status [OPTION…]",
    "List what is in flight.",
    status_options,
    "  coalesce status                      id, state, age, requesters, pid …\n",
};

inline constexpr OptionText cancel_options[] = {
    {"--socket", "PATH", "End flights of the server at PATH only."},
};

inline constexpr CommandText cancel_text{
    "cancel",
    "coalesce cancel [OPTION…] ID…",
    "End flights for everyone who waits on them.",
    cancel_options,
    "  coalesce cancel 3f9a                 the beginning of an id is enough\n",
};

inline constexpr OptionText stats_options[] = {
    {"--json", "", "Print one JSON object.",
     "It has joins and saved, in seconds; wrappers, an object with runs, joins and saved; and where a server answers, "
     "server, what the protocol's stats tells."},
    {"--socket", "PATH", "Count what the server at PATH did only.",
     "Otherwise wrappers count, and the server in the meeting place or the one that COALESCE_SOCKET names."},
};

inline constexpr CommandText stats_text{
    "stats",
    "coalesce stats [OPTION…]",
    "Sum up how many runs, and how much time, sharing has saved.",
    stats_options,
    "  coalesce stats                       joins and time saved\n",
};

inline constexpr const CommandText* command_texts[] = {&run_text,    &batch_text, &key_text,  &status_text,
                                                       &cancel_text, &stats_text, &serve_text};

}  // namespace coalesce
