// SPDX-License-Identifier: MIT
// U1–U3: how command lines are read. Tables of them, each with what comes of it: what is
// printed, or the mistake that is named; a command that ran by mistake would print.
#include "../catch.h"

#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "sandbox.h"

namespace {

using Words = std::vector<std::string>;

Ended coalesce(Sandbox& box, Words words, const Words& env = {}) {
    words.insert(words.begin(), tested_program());
    return box.start(words, {.env = env}).wait();
}

std::string shown(const Words& words) {
    std::string line = "coalesce";
    for (const std::string& word : words) line += " '" + word + "'";
    return line;
}

struct Read {
    Words words;
    std::string out;
};

void check(Sandbox& box, const std::vector<Read>& lines, const Words& env = {}) {
    for (const Read& line : lines) {
        INFO(shown(line.words));
        const Ended ended = coalesce(box, line.words, env);
        CHECK(ended.status == 0);
        CHECK(ended.out == line.out);
        CHECK(ended.err.empty());
    }
}

struct Misread {
    Words words;
    std::string said;
};

// One sentence, with the culprit in it and where to read on; nothing ran.
void check_refused(Sandbox& box, const std::vector<Misread>& lines) {
    for (const Misread& line : lines) {
        INFO(shown(line.words));
        const Ended ended = coalesce(box, line.words);
        CHECK(ended.status == 125);
        CHECK(ended.out.empty());
        const std::string command = line.words.front().starts_with('-') ? "batch" : line.words.front();
        CHECK(ended.err == "coalesce: " + line.said + " (see coalesce " + command + " --help)\n");
    }
}

// A part of the key that `coalesce key OPTION… true` prints, as a shell would take it; "none" if there is no such part.
std::string part_of_key(Sandbox& box, const std::string& name, Words options, const Words& env = {}) {
    options.insert(options.begin(), "key");
    options.push_back("true");
    INFO(shown(options));
    const Ended ended = coalesce(box, options, env);
    CHECK(ended.status == 0);
    const std::size_t at = ended.out.find("\n" + name + "\t");
    if (at == std::string::npos) return "none";
    const std::size_t begin = at + name.size() + 2;
    return ended.out.substr(begin, ended.out.find('\n', begin) - begin);
}

}  // namespace

TEST_CASE("U2: options end at the first word that is none; the command has the rest as it is", "[wrapper]") {
    Sandbox box;
    check(box, {
                   {{"run", "echo", "--help", "--", "-c"}, "--help -- -c\n"},
                   {{"run", "--", "echo", "--", "x"}, "-- x\n"},
                   {{"run", "--scope", "--", "--fresh", "echo", "x"}, "x\n"},
                   {{"run", "echo", "--x=", "--y=z", "--z==", "-a-b", "-5", "++", "/x:y", "@f"},
                    "--x= --y=z --z== -a-b -5 ++ /x:y @f\n"},
                   {{"run", "echo", "[a,b]", "[]", "{}", "%%", "", "x"}, "[a,b] [] {} %%  x\n"},
                   {{"run", "echo", "{}"}, "{}\n"},
                   {{"run", "printf", "%s.", "\xff\xfe=", " ", "é"}, "\xff\xfe=. .é."},
                   {{"run", "--scope", "x", "env", "A=", "printenv", "A"}, "\n"},
                   {{"run", "-c", "echo a=b", "--"}, "a=b\n"},
               });
    // Programs with names that look like options.
    box.env["PATH"] = box.path("bin") + ":/usr/bin:/bin";
    REQUIRE(::mkdir(box.path("bin").c_str(), 0700) == 0);
    for (const std::string name : {"--fresh", "-", "--x="}) {
        box.write("bin/" + name, "#!/bin/sh\necho \"this is ${0##*/} $*\"\n");
        REQUIRE(::chmod(box.path("bin/" + name).c_str(), 0700) == 0);
    }
    check(box, {
                   {{"run", "--", "--fresh", "--scope"}, "this is --fresh --scope\n"},
                   {{"run", "--fresh", "--", "--x=", "--x="}, "this is --x= --x=\n"},
                   {{"run", "-", "--fresh"}, "this is - --fresh\n"},
               });
}

TEST_CASE("U2: what is wrong is named, with the near word and where to read on, and nothing runs", "[wrapper]") {
    Sandbox box;
    check_refused(
        box, {
                 {{"run", "--tiemout", "5", "ls"}, "unknown option --tiemout; did you mean --timeout?"},
                 {{"key", "--scoop=x", "ls"}, "unknown option --scoop=x; did you mean --scope?"},
                 {{"run", "--fresh", "--tiemout", "--wait", "x"}, "unknown option --tiemout; did you mean --timeout?"},
                 {{"run", "--tiemout", "--wait"}, "unknown option --tiemout; did you mean --timeout?"},
                 {{"run", "--tiemout", "--help"}, "unknown option --tiemout; did you mean --timeout?"},
                 // An unknown option, whatever it may look like to CLI11.
                 {{"run", "-5", "ls"}, "unknown option -5"},
                 {{"run", "-vz", "ls"}, "unknown option -z"},
                 {{"run", "-v-", "ls"}, "unknown option -v-"},
                 {{"run", "-v-fresh", "ls"}, "unknown option -v-fresh"},
                 {{"run", "---", "ls"}, "unknown option ---"},
                 {{"run", "---fresh", "ls"}, "unknown option ---fresh; did you mean --fresh?"},
                 {{"run", "- x", "ls"}, "unknown option - x"},
                 {{"run", "-- x", "ls"}, "unknown option -- x"},
                 {{"run", "-!", "ls"}, "unknown option -!"},
                 {{"run", "--=x", "ls"}, "unknown option --=x"},
                 {{"run", "--FRESH", "ls"}, "unknown option --FRESH"},
                 {{"run", "--config", "x", "ls"}, "unknown option --config"},
                 // Not abbreviated, as getopt_long(3) would have it; the whole one is suggested.
                 {{"run", "--time", "5", "ls"}, "unknown option --time; did you mean --timeout?"},
                 {{"run", "--keep", "ls"}, "unknown option --keep; did you mean --keep-running?"},
                 // Values.
                 {{"run", "--scope"}, "option --scope needs an argument"},
                 {{"run", "-vc"}, "option -vc needs an argument"},
                 {{"run", "--fresh=", "ls"}, "option --fresh= takes no argument"},
                 {{"run", "--fresh=true", "ls"}, "option --fresh=true takes no argument"},
                 {{"--no-progress=1"}, "option --no-progress=1 takes no argument"},
                 {{"run", "--help=x", "ls"}, "option --help=x takes no argument"},
                 {{"run", "--scope", "ls"}, "no command given"},
                 {{"run", "--key", "--"}, "no command given"},
                 {{"run", "-c", "ls", "ls"}, "-c LINE takes no command besides; there is 'ls'"},
                 {{"--jobs=", "5"}, "unexpected argument '5'"},
                 {{"--jobs="}, "--jobs: '' is not a number of jobs: use one such as 8, 50%, +2 or -1"},
                 {{"-j=8"}, "--jobs: '=8' is not a number of jobs: use one such as 8, 50%, +2 or -1"},
                 {{"-j", "-8x"}, "--jobs: -8x is not a number of jobs: use one such as 8, 50%, +2 or -1"},
                 {{"--format", "yaml"}, "--format: 'yaml' is not text or json"},
                 {{"status", "--jsno"}, "unknown option --jsno; did you mean --json?"},
                 {{"serve", "--log-level", ""}, "--log-level: '' is not debug, info, warning, error or off"},
                 // Empty where an unset variable would be a mistake.
                 {{"run", "--socket", "", "ls"}, "--socket is empty"},
                 {{"status", "--socket="}, "--socket is empty"},
                 {{"cancel", "--socket", "", "x"}, "--socket is empty"},
                 {{"stats", "--socket="}, "--socket is empty"},
                 {{"serve", "--socket="}, "--socket is empty"},
                 {{"--joblog="}, "--joblog is empty"},
                 {{"run", "--spool-dir=", "ls"}, "--spool-dir is empty"},
                 {{"run", "--only-env", "A B", "ls"},
                  "--only-env: 'A B' is no variable's name; names are separated by commas"},
                 {{"--only-env", "A,B\tC"}, "--only-env: 'B\\tC' is no variable's name; names are separated by commas"},
                 {{"key", "--only-env", "A=1", "ls"},
                  "--only-env: 'A=1' is no variable's name; names are separated by commas"},
             });
}

TEST_CASE("U2: a value may be glued, empty, or look like an option; of two the last holds", "[wrapper]") {
    Sandbox box;
    for (const auto& [options, scope] : std::vector<std::pair<Words, std::string>>{
             {{}, "none"},
             {{"--scope", "x"}, "x"},
             {{"--scope=x"}, "x"},
             {{"--scope=x=y"}, "x=y"},
             {{"--scope=="}, "'='"},
             {{"--scope", "-x"}, "-x"},
             {{"--scope=-x"}, "-x"},
             {{"--scope", "--ignore-cwd"}, "--ignore-cwd"},
             {{"--scope", "--x="}, "--x="},
             {{"--scope", "-x-y"}, "-x-y"},
             {{"--scope", "--"}, "--"},
             {{"--scope", "-5"}, "-5"},
             {{"--scope", "{}"}, "'{}'"},
             {{"--scope", "[a,b]"}, "'[a,b]'"},
             {{"--scope", "a,b"}, "a,b"},
             {{"--scope", "a", "--scope", "b"}, "b"},
             {{"--scope", "a", "--scope="}, "none"},
             {{"--scope=", "--scope", "b"}, "b"},
             {{"--scope="}, "none"},
         })
        CHECK(part_of_key(box, "scope", options) == scope);
    check(box, {{{"run", "-cecho a-b --c=d"}, "a-b --c=d\n"}, {{"run", "--command=echo x=y"}, "x=y\n"}});
    // Only what holds is looked at.
    check(box, {{{"run", "--wait", "never", "--wait=1d", "echo", "x"}, "x\n"}});
    box.write("lines", "echo x\necho x\n");
    check(box, {
                   {{"-j8", "-a", "lines", "--joblog", "one", "--joblog=two"}, "x\nx\n"},
                   {{"-kj8", "-alines", "--unique"}, "x\n"},
                   {{"batch", "-k", "-j", "8", "--arg-file=lines", "--tag"}, "echo x\tx\necho x\tx\n"},
                   {{"--no-progress", "--progress", "--no-progress", "-a", "lines"}, "x\nx\n"},
                   {{"--format", "json", "--format", "text", "-a", "lines"}, "x\nx\n"},
               });
    CHECK(box.read("one").empty());
    CHECK_FALSE(box.read("two").empty());
}

TEST_CASE("U2: lists add", "[wrapper]") {
    Sandbox box;
    box.env["FIRST"] = "1";
    box.env["SECOND"] = "2";
    box.env["[x]"] = "3";
    CHECK(part_of_key(box, "environment: FIRST", {}) == "FIRST=1");
    const Words options{"--ignore-env", "FIRST", "--ignore-env=SECOND", "--ignore-env", "[x]"};
    for (const std::string name : {"FIRST", "SECOND", "[x]"})
        CHECK(part_of_key(box, "environment: " + name, options) == "none");
}

TEST_CASE("U2: a wrong value is told under the name by which it came", "[wrapper]") {
    Sandbox box;
    box.env["COALESCE_TTL"] = "1x";
    CHECK(coalesce(box, {"run", "true"}).err.starts_with("coalesce: COALESCE_TTL: 1x is "));
    CHECK(coalesce(box, {"run", "--ttl", "2x", "true"}).err.starts_with("coalesce: --ttl: 2x is "));
    CHECK(coalesce(box, {"run", "--ttl", "1h", "true"}).status == 0);
}

TEST_CASE("U2: an operation is the first word that is no option, and options go on behind it", "[wrapper]") {
    Sandbox box;
    const std::string directory = box.path("kept");
    CHECK(coalesce(box, {"run", "--ttl", "1h", "--cache-dir", directory, "echo", "x"}).out == "x\n");
    box.wait_for_all();
    const std::string listed = coalesce(box, {"cache", "list", "--cache-dir", directory, "--json"}).out;
    const std::size_t at = listed.find("\"key\":\"") + 7;
    const std::string key = listed.substr(at, listed.find('"', at) - at);
    CHECK(key.size() == 32);
    check(box, {
                   {{"cache", "show", "--cache-dir", directory, "--output", key}, "x\n"},
                   {{"cache", "--cache-dir", directory, "show", "--output", key}, "x\n"},
                   {{"cache", "--output", "--cache-dir=" + directory, "show", key}, "x\n"},
                   {{"cache", "--cache-dir", directory, "show", "--output", "--", "echo", "x"}, "x\n"},
                   {{"cache", "--cache-dir", directory, "--output", "show", "--", "echo", "x"}, "x\n"},
                   {{"cache", "--cache-dir", directory, "forget", key}, ""},
                   {{"cache", "--json", "--cache-dir", directory, "list"}, ""},
               });
    check_refused(box, {
                           {{"cache", "--json", "nonsense"}, "there is no operation 'nonsense'"},
                           {{"cache", "--json", "show", "--fresh"}, "unknown option --fresh"},
                           {{"cache", "--", "list"}, "list takes no command, and no id"},
                           {{"cache", ""}, "list takes no command, and no id"},
                           {{"cluster", "--cluster", "redis+unix:///x", "chekc"}, "there is no operation 'chekc'"},
                           {{"cluster", "check", "--cluster", "redis+unix:///x", "y"}, "unexpected argument 'y'"},
                           {{"cluster"}, "what of it? check"},
                       });
    const std::string engine = "redis+unix:///nowhere";
    const Ended before = coalesce(box, {"cluster", "check", "--cluster", engine});
    const Ended behind = coalesce(box, {"cluster", "--cluster", engine, "check"});
    CHECK(before.err.find("unexpected") == std::string::npos);
    CHECK(behind.err == before.err);
    CHECK(behind.out == before.out);
}

TEST_CASE("U2: asked for help, a subcommand prints nothing else and runs nothing", "[wrapper]") {
    Sandbox box;
    for (const std::string name : {"run", "batch", "key", "status", "cancel", "stats", "serve"}) {
        const std::string help = coalesce(box, {name, "--help"}).out;
        CHECK(help.starts_with("Usage: coalesce "));
        CHECK(std::count(help.begin(), help.end(), '\n') <= 52);  // more than a screen, and no more than two
        check(box, {
                       {{name, "-h"}, help},
                       {{"help", name}, help},
                       {{name, "--help", "x", "-y"}, help},
                   });
    }
    const std::string help = coalesce(box, {"run", "--help"}).out;
    check(box, {{{"run", "-vh", "echo", "x"}, help}, {{"run", "--wait", "never", "--help", "echo"}, help}});
}

TEST_CASE("U3: COALESCE_SCOPE is the scope of run, key and batch, and the command line wins over it", "[wrapper]") {
    Sandbox box;
    const Words scope{"COALESCE_SCOPE=of the variable"};
    CHECK(part_of_key(box, "scope", {}, scope) == "'of the variable'");
    CHECK(part_of_key(box, "scope", {"--scope", "typed"}, scope) == "typed");
    CHECK(part_of_key(box, "scope", {"--scope="}, scope) == "none");
    CHECK(part_of_key(box, "scope", {}, {"COALESCE_SCOPE="}) == "none");
    CHECK(part_of_key(box, "scope", {}, {"COALESCE_SCOPE={}"}) == "'{}'");
    CHECK(part_of_key(box, "scope", {}, {"COALESCE_SCOPE=--x="}) == "--x=");

    const auto key = [&box](const Words& words, const Words& env = {}) {
        return coalesce(box, words, env).out.substr(0, 32);
    };
    const std::string scoped = key({"key", "--scope", "of the variable", "true"});
    CHECK(key({"key", "true"}, scope) == scoped);
    // The same request as the one that names the scope, by way of the variable.
    Gate gate(box, "gate");
    Process one = box.request({"--scope", "of the variable", "-c", "echo ran >>runs; cat gate"});
    gate.wait_for_command();
    Process other = box.request({"-c", "echo ran >>runs; cat gate"}, {.env = scope});
    box.until_requesters(2);
    gate.open();
    CHECK(one.wait().status == 0);
    CHECK(other.wait().status == 0);
    CHECK(box.lines_of("runs") == 1);
    // A batch's report tells keys.
    box.write("lines", "true\n");
    const auto reported = [&](const Words& options, const Words& env = {}) {
        Words words{"-a", "lines", "--report", "report"};
        words.insert(words.end(), options.begin(), options.end());
        coalesce(box, words, env);
        const std::string report = box.read("report");
        const std::size_t at = report.find("\"key\":\"");
        REQUIRE(at != std::string::npos);
        return report.substr(at, 40);
    };
    CHECK(reported({}, scope) == reported({"--scope", "of the variable"}));
    CHECK(reported({}, scope) != reported({}));
    CHECK(reported({"--scope", "x"}, scope) == reported({"--scope", "x"}));
}

TEST_CASE("U3: COALESCE_SOCKET names the server that run asks, and the command line wins over it", "[wrapper]") {
    Sandbox box;
    const Words nowhere{"COALESCE_SOCKET=nowhere"};
    CHECK(coalesce(box, {"run", "echo", "x"}, nowhere).err ==
          "coalesce: cannot reach the server at nowhere: No such file or directory\n");
    CHECK(coalesce(box, {"run", "--socket", "elsewhere", "echo", "x"}, nowhere).err ==
          "coalesce: cannot reach the server at elsewhere: No such file or directory\n");
    check(box, {{{"run", "echo", "x"}, "x\n"}}, {"COALESCE_SOCKET="});
}

TEST_CASE("U3: no other variable is one of an option", "[wrapper]") {
    Sandbox box;
    check(box, {{{"run", "echo", "x"}, "x\n"}},
          {"COALESCE_WAIT=never", "COALESCE_KEY=", "COALESCE_TIMEOUT=x", "COALESCE_COMMAND=false"});
}
