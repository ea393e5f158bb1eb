// SPDX-License-Identifier: MIT
// Rules files, `coalesce rules`, and links that masquerade as commands (SPEC Y, A2).
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>

#include "../catch.h"
#include "../not_tried.h"
#include "sandbox.h"

namespace {

// Behind a `$C serve --socket $PWD/socket &` of a script.
const std::string until_it_answers = "server=$!; until $C stats --socket $PWD/socket >/dev/null 2>&1; do :; done; ";

// A sandbox whose user has this configuration.
class Ruled : public Sandbox {
  public:
    explicit Ruled(std::string_view config) {
        env.erase("COALESCE_CONFIG");
        env["HOME"] = path("");
        env["XDG_CONFIG_HOME"] = path("config");
        ::mkdir(path("config").c_str(), 0700);
        ::mkdir(path("config/coalesce").c_str(), 0700);
        configure(config);
        env["XDG_CACHE_HOME"] = path("cache");
    }
    void configure(std::string_view config) {
        write("config/coalesce/config.toml", config);
        ::chmod(file().c_str(), 0600);
    }
    [[nodiscard]] std::string file() const { return path("config/coalesce/config.toml"); }
};

}  // namespace

SCENARIO("Y1, Y3: a rule's settings are options", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'sh -c *ran*'\nttl = '1h'\n");
    for (int i = 0; i < 3; ++i) CHECK(box.run({"sh", "-c", "echo x >>ran; echo y"}).out == "y\n");
    CHECK(box.lines_of("ran") == 1);
    CHECK(box.run({"sh", "-c", "echo x >>other"}).status == 0);
    CHECK(box.run({"sh", "-c", "echo x >>other"}).status == 0);
    CHECK(box.lines_of("other") == 2);
    // The line has the same words.
    CHECK(box.run({"-c", "sh -c 'echo x >>ran'; true"}).status == 0);
}

SCENARIO("Y1: the machine's file comes first, then the user's; or one that is named, or none", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'true'\nscope = 'xdg'\n");
    const auto scope = [&](const std::string& before = {}) {
        const std::string out = box.script(before + "$C key true").out;
        const std::size_t at = out.find("scope\t");
        return at == std::string::npos ? "none" : out.substr(at + 6, out.find('\n', at) - at - 6);
    };
    CHECK(scope() == "xdg");
    box.env.erase("XDG_CONFIG_HOME");
    CHECK(scope() == "none");
    ::mkdir(box.path(".config").c_str(), 0700);
    ::mkdir(box.path(".config/coalesce").c_str(), 0700);
    box.write(".config/coalesce/config.toml", "[[command]]\nmatch = 'true'\nscope = 'home'\n");
    CHECK(scope() == "home");
    CHECK(scope("COALESCE_CONFIG=" + box.file() + " ") == "xdg");
    CHECK(scope("COALESCE_CONFIG= ") == "none");
    if (!box.may_mount()) return not_tried("the machine's rules file: nothing can be mounted");
    const auto with_machine = [&](const std::string& before) {
        const std::string mount =
            "mkdir -p $PWD/etc/coalesce && cp $PWD/machine.toml $PWD/etc/coalesce/config.toml && chmod -R go-w "
            "$PWD/etc "
            "&& mount --bind $PWD/etc /etc && ";
        return box.script("unshare -m sh -c '" + mount + before + "$C rules -- true'").out;
    };
    box.write("machine.toml", "[[command]]\nmatch = 'true'\nscope = 'machine'\nignore-env = ['A']\n");
    const std::string both = with_machine("");
    CHECK(both.find("scope = home") != std::string::npos);
    CHECK(both.find("ignore-env = A") != std::string::npos);
    CHECK(both.find("scope = machine") == std::string::npos);
    CHECK(with_machine("rm $HOME/.config/coalesce/config.toml; ").find("scope = machine") != std::string::npos);
    CHECK(with_machine("COALESCE_CONFIG= ").empty());
}

SCENARIO("Y3: every setting is what the option is", "[wrapper]") {
    Ruled box("");
    const auto ruled = [&](std::string_view settings, const std::string& line, const Sandbox::Setting& setting = {}) {
        box.configure("[[command]]\nmatch = 'sh'\n" + std::string(settings) + "\n");
        return box.run({"sh", "-c", line}, setting);
    };
    const auto key = [&](std::string_view settings, const std::vector<std::string>& env = {}) {
        box.configure("[[command]]\nmatch = 'sh'\n" + std::string(settings) + "\n");
        return box.start({tested_program(), "key", "sh"}, {.env = env}).wait().out;
    };
    CHECK(ruled("timeout = '50ms'", "exec sleep 1000").status == 124);
    CHECK(ruled("timeout = '50ms'\ngrace = '50ms'", "trap '' TERM; while :; do sleep 1; done").status == 124);
    CHECK(ruled("wait = '50ms'", "exec sleep 1000").status == 75);
    CHECK(ruled("wait = 0\nkeep-running = true", "echo x >>went-on").status == 75);
    box.wait_for_all();
    CHECK(box.lines_of("went-on") == 1);
    CHECK(ruled("pty = true\npty-size = '99x9'", "stty size <&2").out == "9 99\n");
    CHECK(ruled("verbose = true", ":").err.starts_with("coalesce: started "));
    CHECK(ruled("ttl = '1h'\nkeep-failures = '1h'", "echo x >>failed; exit 3").status == 3);
    CHECK(ruled("ttl = '1h'\nkeep-failures = '1h'", "echo x >>failed; exit 3").status == 3);
    CHECK(box.lines_of("failed") == 1);
    for (const int runs : {1, 2}) {
        CHECK(ruled("ttl = '1h'\nmax-age = '1ms'", "echo x >>young").status == 0);
        CHECK(box.lines_of("young") == runs);
    }
    CHECK(ruled("ttl = '1h'\nstale = '2h'", ":").err.find("--stale must be shorter than --ttl") != std::string::npos);
    // A --ttl of one's own stands over what a rule says with its ttl.
    box.configure("[[command]]\nmatch = 'sh'\nttl = '1h'\nstale = '10m'\nkeep-failures = '1m'\n");
    for (const std::string ttl : {"0", "5m", "2h"}) {
        CHECK(box.run({"--ttl", ttl, "sh", "-c", "echo x >>given-" + ttl}).err.empty());
        CHECK(box.lines_of("given-" + ttl) == 1);
        CHECK(box.script("COALESCE_TTL=" + ttl + " $C run sh -c 'exit 7'").status == 7);
    }
    CHECK(key("key = 'k'").find("key\tk\n") != std::string::npos);
    CHECK(key("class = 'heavy:2'").substr(0, 32) == key("").substr(0, 32));
    CHECK(key("only-env = ['A', 'B']", {"A=1", "C=1"}).find("environment: C") == std::string::npos);
    CHECK(key("only-env = ['A', 'B']", {"A=1", "C=1"}).find("environment: A") != std::string::npos);
    CHECK(key("ignore-cwd = true").find("\ndirectory") == std::string::npos);
    CHECK(key("ignore-namespaces = true").find("namespace: mount") == std::string::npos);
    CHECK(key("modtime = 'config'").find("modtime: config\t") != std::string::npos);
}

SCENARIO("Y3, P3: the size that a rule gives a terminal holds where --pty is typed, at any door", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'stty'\npty-size = '99x9'\n");
    const std::string line = "stty size <&2; echo $COLUMNS $LINES";
    box.write("lines", line + "\n" + "true; " + line + "\n");
    box.write("requests", "{\"line\":\"" + line + "\"}\n");
    CHECK(box.run({"--pty", "-c", line}).out == "9 99\n99 9\n");
    const auto batch = [&](std::vector<std::string> options) {
        options.insert(options.begin(), {tested_program(), "batch", "-k", "-j1", "--pty"});
        return box.start(options).wait().out;
    };
    CHECK(batch({"-a", "lines"}) == "9 99\n99 9\n24 80\n80 24\n");
    CHECK(batch({"-a", "requests", "--json"}) == "9 99\n99 9\n");
    CHECK(batch({"-a", "lines", "--pty-size", "66x6"}) == "6 66\n66 6\n6 66\n66 6\n");
}

SCENARIO("Y3: ~ of the paths that a result depends on is the home", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'sh ./a'\nttl = '1h'\ndepends = ['~/home/a*', '~/b']\nmodtime = '~/c'\n");
    box.env["HOME"] = box.path("home");
    ::mkdir(box.path("home").c_str(), 0700);
    ::mkdir(box.path("home/home").c_str(), 0700);
    box.write("a", "echo >>ran\n");
    int runs = 0;
    for (const std::string changed : {"", "home/home/a", "home/b", "home/c"}) {
        CAPTURE(changed);
        if (!changed.empty()) box.write(changed, changed);
        ++runs;
        for (int i = 0; i < 2; ++i) CHECK(box.run({"sh", "./a"}).status == 0);
        CHECK(box.lines_of("ran") == runs);
    }
    // As a shell would have given them.
    CHECK(box.script("$C key sh ./a | head -n 1").out ==
          box.script("$C key --no-config --depends ~/home/'a*' --depends ~/b --modtime ~/c sh ./a | head -n 1").out);
    for (const std::string unset : {"env -u HOME ", "HOME=home "}) {
        const Ended homeless = box.script(unset + "$C run true && " + unset + "$C run sh ./a");
        CHECK(homeless.status == 125);
        CHECK(homeless.err == "coalesce: " + box.file() + ":4: depends: there is no HOME for the ~ of '~/home/a*'\n");
    }
}

SCENARIO("Y3: over a rule stands the variable, over that the command line", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'true'\nscope = 'rule'\nignore-env = ['A']\n");
    const auto scope = [&](const std::vector<std::string>& options, const Sandbox::Setting& setting = {}) {
        std::vector<std::string> words{tested_program(), "key"};
        words.insert(words.end(), options.begin(), options.end());
        words.emplace_back("true");
        const std::string out = box.start(words, setting).wait().out;
        const std::size_t at = out.find("scope\t");
        return at == std::string::npos ? "none" : out.substr(at + 6, out.find('\n', at) - at - 6);
    };
    CHECK(scope({}) == "rule");
    CHECK(scope({}, {.env = {"COALESCE_SCOPE=variable"}}) == "variable");
    CHECK(scope({"--scope", "line"}, {.env = {"COALESCE_SCOPE=variable"}}) == "line");
    CHECK(scope({"--no-config"}) == "none");
    // A list adds: both variables are left out of the key.
    const auto key = [&](const std::string& a, const std::string& b) {
        return box.start({tested_program(), "key", "--ignore-env", "B", "true"}, {.env = {"A=" + a, "B=" + b}})
            .wait()
            .out.substr(0, 32);
    };
    CHECK(key("1", "1") == key("2", "2"));
}

SCENARIO("Y2, Y3: rules hold for the lines of a batch that they concern", "[wrapper]") {
    Ruled box(
        "[[command]]\nmatch = 'sh ./kept'\nttl = '1h'\n"
        "[[command]]\nmatch = 'sh ./apart'\nshare = false\n"
        "[[command]]\nmatch = 'sh ./depends'\nttl = '1h'\ndepends = ['kept']\n");
    for (const std::string name : {"kept", "apart", "depends", "plain"}) box.write(name, "echo >>ran-" + name + "\n");
    box.write("lines", "sh ./kept\nsh ./apart\nsh ./apart\nsh ./depends && true\nsh ./plain\n");
    const auto batch = [&](std::vector<std::string> options) {
        options.insert(options.begin(), {tested_program(), "batch"});
        return box.start(options, {.standard_input = box.path("lines")}).wait();
    };
    const Ended first = batch({});
    CHECK(first.err ==
          "coalesce: a batch looks at no files: for lines that " + box.file() + ":10 concerns nothing is kept\n");
    CHECK(batch({}).status == 0);
    CHECK(box.lines_of("ran-kept") == 1);
    CHECK(box.lines_of("ran-apart") == 4);
    CHECK(box.lines_of("ran-depends") == 2);
    CHECK(box.lines_of("ran-plain") == 2);
    CHECK(batch({"--no-config"}).err.empty());
    CHECK(box.lines_of("ran-kept") == 2);
    // A request's own fields stand over the rules, as a command line does.
    box.write("lines", "{\"argv\":[\"sh\",\"./apart\"]}\n{\"line\":\"sh ./kept\",\"ttl\":0}\n");
    CHECK(batch({"--json"}).status == 0);
    CHECK(box.lines_of("ran-kept") == 3);
    CHECK(box.lines_of("ran-apart") == 6);  // with the batch that obeyed nothing, where two were one
    box.write("lines", "sh ./depends\n");
    const int before = box.lines_of("ran-depends");
    for (const int more : {1, 2}) {
        CHECK(batch({"--ttl", "1h"}).err.find("nothing is kept") != std::string::npos);
        CHECK(box.lines_of("ran-depends") == before + more);
    }
}

SCENARIO("Y3: of a command that depends on files a server keeps nothing, and that is said, as in a batch",
         "[wrapper]") {
    Ruled box(
        "[[command]]\nmatch = 'sh ./held'\nttl = '1h'\nmax-age = 0\ndepends = ['held']\n"
        "[[command]]\nmatch = 'sh ./named'\ndepends = ['named']\n");
    // The first is held until both have asked: max-age would keep the second from joining it.
    box.write("held", "echo >>ran; [ $(wc -l <ran) != 1 ] || read x <gate\n");
    box.write("named", ":\n");
    const Ended ended = box.script(
        "export COALESCE_SOCKET=$PWD/socket; mkfifo gate; $C serve --socket $PWD/socket --log-level off & " +
        until_it_answers +
        "$C run sh ./named; "
        "$C run --ttl 1h sh ./named 2>typed; "
        "$C run sh ./held 2>one & one=$!; $C run sh ./held 2>other & other=$!; "
        "asking() { $C status --json | sed 's/.*\"requesters\":\\([0-9]*\\).*/+\\1/' | tr -d '\\n'; }; "
        "until [ $(($(asking) + 0)) = 2 ]; do :; done; echo >gate; wait $one; echo $?; wait $other; echo $?; kill "
        "$server; wait");
    CHECK(ended.out == "0\n0\n");
    CHECK(ended.err.empty());
    CHECK(box.lines_of("ran") == 1);
    const auto said = [&](int line) {
        return "coalesce: a server looks at no files: of the command, which " + box.file() + ":" +
               std::to_string(line) + " concerns, nothing is kept\n";
    };
    CHECK(box.read("one") == said(5));
    CHECK(box.read("other") == said(5));
    CHECK(box.read("typed") == said(8));
}

SCENARIO("B2, Y3: a line that shares by a rule's key is tagged with its own command", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'echo'\nkey = 'k'\n");
    box.write("lines", "echo one\necho two\n");
    const Ended ended =
        box.start({tested_program(), "--tag", "--once", "-j1"}, {.standard_input = box.path("lines")}).wait();
    CHECK(ended.out == "echo one\tone\necho two\tone\n");
}

SCENARIO("Y2: a home that is a symbolic link is meant by either of its names", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'true'\ndirectory = '~/src'\nscope = 'here'\n");
    const std::string made = "mkdir -p data/src other/src && ln -s data home && ";
    CHECK(box.script(made + "cd data/src && HOME=$OLDPWD/home PWD= $C rules -- true").out.find("scope = here") !=
          std::string::npos);
    CHECK(box.script("cd home/src && HOME=$OLDPWD/home $C rules -- true").out.find("scope = here") !=
          std::string::npos);
    CHECK(box.script("cd other/src && HOME=$OLDPWD/home $C rules -- true").out.empty());
}

SCENARIO("Y2, Y4: a directory that a request of a batch names is meant by its real name", "[wrapper]") {
    Ruled box("");
    box.configure("[[command]]\ndirectory = '" + box.path("apart") + "/**'\nshare = false\n");
    for (const std::string name : {"apart", "apart/b", "shared"}) ::mkdir(box.path(name).c_str(), 0700);
    REQUIRE(::symlink(box.path("apart").c_str(), box.path("link").c_str()) == 0);
    const std::map<std::string, int> runs_in{{"apart", 2},           {"apart/b/", 2},     {"link", 2},
                                             {"shared/../apart", 2}, {"link/b/../..", 1}, {"apart/../shared", 1},
                                             {"shared", 1}};
    int asked = 0;
    for (const auto& [directory, runs] : runs_in) {
        CAPTURE(directory);
        const std::string ran = "ran-" + std::to_string(++asked);
        const std::string request =
            "{\"argv\":[\"sh\",\"-c\",\"echo >>" + box.path(ran) + "\"],\"cwd\":\"" + box.path(directory) + "\"}\n";
        box.write("lines", request + request);
        CHECK(box.start({tested_program(), "batch", "--json", "--once"}, {.standard_input = box.path("lines")})
                  .wait()
                  .status == 0);
        CHECK(box.lines_of(ran) == runs);
    }
    // As `run` has it of its own directory, whatever a PWD says.
    CHECK(box.script("cd shared && PWD=$OLDPWD/apart/../shared $C rules true").out.empty());
    CHECK(box.script("cd link && $C rules true").out.find("share = false") != std::string::npos);
}

SCENARIO("Y2: without an absolute HOME a rule below ~ holds nowhere, and others hold as ever", "[wrapper]") {
    Ruled box("");
    box.configure(
        "[[command]]\nmatch = 'true'\ndirectory = '~/**'\nscope = 'home'\n"
        "[[command]]\nmatch = 'true'\ndirectory = '" +
        box.path("") + "**'\nignore-env = ['A']\n");
    CHECK(box.script("HOME=$PWD $C rules true").out.find("scope = home") != std::string::npos);
    for (const std::string home : {"env -u HOME ", "HOME= ", "HOME=. ", "HOME=work "}) {
        CAPTURE(home);
        const std::string holding = box.script("mkdir -p work; cd work; " + home + "$C rules true").out;
        CHECK(holding.find("scope") == std::string::npos);
        CHECK(holding.find("ignore-env = A") != std::string::npos);
    }
}

SCENARIO("Y2, Y4: a rule for every command holds for a line of which no word is known", "[wrapper]") {
    Ruled box("[[command]]\nshare = false\n");
    box.write("in", "typed\n");
    for (const std::string line : {"(cat)", "{ cat; }", "$CAT", "\"cat\"", "cat"}) {
        INFO(line);
        box.env["CAT"] = "cat";
        CHECK(box.run({"-c", line}, {.standard_input = box.path("in")}).out == "typed\n");
    }
}

SCENARIO("Y2, Y4: newlines and comments before its first word take no line from a rule, at any door", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'sh ./apart'\nshare = false\n[[command]]\nmatch = 'sh ./kept'\nttl = '1h'\n");
    box.write("apart", "cat >>got; echo >>ran-apart\n");
    box.write("kept", "echo >>ran-kept\n");
    box.write("in", "typed\n");
    std::string null_ended;
    std::string json;
    int ran_apart = 0;
    for (const std::string before : {"\n", " \n\t\n ", "# c\n", "\n # c; d\n#\n  "}) {
        CAPTURE(before);
        const std::string apart = before + "sh ./apart";
        CHECK(box.run({"-c", apart}, {.standard_input = box.path("in")}).status == 0);
        CHECK(box.lines_of("got") == ++ran_apart);
        CHECK(box.coalesce({"rules", "-c", apart}).out.starts_with("  share = false"));
        CHECK(box.coalesce({"key", "-c", apart}).out.find("rule\tshare = false\t") != std::string::npos);
        const std::string kept = before + "sh ./kept";
        for (int i = 0; i < 2; ++i) CHECK(box.run({"-c", kept}).status == 0);
        for (const std::string& line : {apart, apart, kept, kept}) {
            null_ended += line + '\0';
            json += "{\"line\":\"";
            for (const char c : line) json += c == '\n' ? "\\n" : c == '\t' ? "\\t" : std::string(1, c);
            json += "\"}\n";
        }
    }
    CHECK(box.lines_of("ran-kept") == 4);
    box.write("lines", null_ended);
    CHECK(box.start({tested_program(), "batch", "-0"}, {.standard_input = box.path("lines")}).wait().status == 0);
    CHECK(box.lines_of("ran-apart") == ran_apart + 8);
    box.write("lines", json);
    CHECK(box.start({tested_program(), "batch", "--json"}, {.standard_input = box.path("lines")}).wait().status == 0);
    CHECK(box.lines_of("ran-apart") == ran_apart + 16);
    CHECK(box.lines_of("ran-kept") == 4);
    const Ended served =
        box.script("$C serve --socket $PWD/socket --log-level off & " + until_it_answers +
                   "$C run --socket $PWD/socket -c '\n# c\nsh ./apart' <in; echo $?; kill $server; wait");
    CHECK(served.out == "0\n");
    CHECK(box.lines_of("got") == ran_apart + 1);
}

SCENARIO("Y4: share = false becomes the command, with its own standard input", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'sh'\nshare = false\n");
    box.write("in", "typed\n");
    const std::string script = "cat; ps -o pid= -p $$ >/dev/null 2>&1; echo $$ >>pids; kill -PIPE $$; echo alive";
    Process process = box.request({"sh", "-c", script}, {.standard_input = box.path("in")});
    const pid_t pid = process.pid();
    const Ended ended = process.wait();
    CHECK(ended.out == "typed\n");
    CHECK(ended.signal == SIGPIPE);  // which we ignore, and it does not
    CHECK(box.read("pids") == std::to_string(pid) + "\n");
    CHECK(box.run({"-c", "sh -c 'exit 3'"}).status == 3);
    CHECK(box.run({"--no-config", "sh", "-c", "cat"}, {.standard_input = box.path("in")}).out.empty());
    box.configure(
        "[[command]]\nmatch = 'nosuchprogram'\nshare = false\n[[command]]\nmatch = './plain'\nshare = false\n");
    CHECK(box.run({"nosuchprogram"}).status == 127);
    box.write("plain", "echo plain\n");
    CHECK(box.run({"./plain"}).status == 126);
    // As a program that is found on PATH, and may not be executed, is told by run itself (R2).
    box.configure("[[command]]\nmatch = 'plain'\nshare = false\n");
    box.env["PATH"] = box.path("") + ":/nowhere";
    const Ended refused = box.run({"plain"});
    CHECK(refused.status == 126);
    CHECK(refused.err == "coalesce: cannot execute plain: Permission denied\n");
}

SCENARIO("Y5: a wrong rule stops every command, with file and line", "[wrapper]") {
    Ruled box("");
    const auto refused = [&](std::string_view config) {
        box.configure(config);
        const Ended ended = box.run({"sh", "-c", "echo >>ran"});
        CHECK(ended.status == 125);
        CHECK(box.lines_of("ran") == 0);
        return ended.err.substr(0, ended.err.find('\n'));
    };
    const std::string at = "coalesce: " + box.file();
    CHECK(refused("[[command]]\nmatch = 'x'\ntlt = '1h'\n") == at + ":3: there is no setting 'tlt'; did you mean ttl?");
    CHECK(refused("[[command]]\nmatch = 'x'\nttl = '1 parsec'\n")
              .starts_with(at + ":3: ttl: '1 parsec' is not a duration"));
    CHECK(refused("[[command]]\nmatch = 'x'\nignore-cwd = 'no'\n") == at + ":3: ignore-cwd: 'no' is not true or false");
    CHECK(refused("[[command]]\nmatch = 'x'\nttl = ['1h', '2h']\n") == at + ":3: ttl has one value");
    CHECK(refused("[[command]]\nmatch = 'x'\nshare = 'no'\n") == at + ":3: share is true or false");
    for (const std::string directory : {"$HOME/src/**", "./x", "src", "~bob/x", "../**", "*/src"})
        CHECK(refused("[[command]]\nmatch = 'x'\ndirectory = '" + directory + "'\n") ==
              at + ":3: directory: '" + directory + "' is no absolute path, and begins with neither ~/ nor **");
    CHECK(refused("[cache]\nmax-size = 'x'\n").starts_with(at + ":2: max-size: "));
    CHECK(refused("[cache]\nsize = '1G'\n").starts_with(at + ":2: there is no setting 'size'"));
    CHECK(refused("[cache]\ndirectory = 'kept'\n") == at + ":2: directory: 'kept' is no absolute path");
    CHECK(refused("[cache]\ndirectory = '~u/kept'\n") == at + ":2: directory: '~u/kept' is no absolute path");
    CHECK(refused("[cache]\ndirectory = ''\n") == at + ":2: directory: '' is no absolute path");
    CHECK(refused("[history]\nkeep = 3\n") == at + ":2: keep is true or false");
    CHECK(refused("[class.x]\njobs = 'x'\n").starts_with(at + ":2: jobs: "));
    CHECK(refused("[class.x]\njobs = 0\n") == at + ":2: jobs is at least 1");
    CHECK(refused("[class.'a b']\njobs = 1\n") == at + ":2: [class.a b]: no --class has that name");
    CHECK(refused("[class.'a:2']\njobs = 1\n") == at + ":2: [class.a:2]: no --class has that name");
    CHECK(refused("= 3\n").starts_with(at + ":1: "));
    // Right by themselves, wrong together.
    CHECK(refused("[[command]]\nmatch = 'sh'\nkeep-failures = '1m'\n") == at + ":3: --keep-failures needs --ttl");
    const std::string longer =
        "[[command]]\nmatch = 'sh'\nttl = '1h'\n[[command]]\nmatch = 'sh'\nstale = '2h'\n"
        "[[command]]\nmatch = 'sh'\nscope = 's'\n";
    const std::string why = at + ":6: --stale must be shorter than --ttl";
    CHECK(refused(longer) == why);
    box.write("lines", "sh -c :\n");
    CHECK(box.start({tested_program()}, {.standard_input = box.path("lines")}).wait().err == why + "\n");
    box.configure("");
    ::chmod(box.file().c_str(), 0620);
    CHECK(box.run({"true"}).err.starts_with(at + ":1: others may write this file"));
    CHECK(box.run({"--no-config", "true"}).status == 0);
    CHECK(box.run({"true"}, {.env = {"COALESCE_CONFIG="}}).status == 0);
    CHECK(box.run({"true"}, {.env = {"COALESCE_CONFIG=" + box.path("none")}}).err ==
          "coalesce: cannot open " + box.path("none") + ": No such file or directory\n");
}

SCENARIO("Y5: another user's file is passed over", "[wrapper]") {
    if (::geteuid() != 0) return not_tried("a rules file of another user: not root");
    Ruled box("[[command]]\nmatch = 'true'\nscope = 'theirs'\n");
    REQUIRE(::chown(box.file().c_str(), nobody, nobody) == 0);
    CHECK(box.start({tested_program(), "key", "true"}).wait().out.find("theirs") == std::string::npos);
    CHECK(box.coalesce({"rules"}).out == "passed over, since it is another user's: " + box.file() + "\n");
    // Root's file is obeyed by everybody.
    REQUIRE(::chown(box.file().c_str(), 0, 0) == 0);
    CHECK(box.start({tested_program(), "key", "true"}).wait().out.find("theirs") != std::string::npos);
}

SCENARIO("Y5: key and rules name what applies, and from where", "[wrapper]") {
    Ruled box(
        "[[command]]\nmatch = 'make'\ndirectory = '~/**'\nttl = '10m'\ndepends = ['src']\n[cache]\nmax-size = '1G'\n");
    const std::string depends = "depends = src";
    const std::string key = box.coalesce({"key", "make", "docs"}).out;
    CHECK(key.find("rule\tttl = 10m\t" + box.file() + ":4\n") != std::string::npos);
    CHECK(key.find("rule\t" + depends + "\t" + box.file() + ":5\n") != std::string::npos);
    CHECK(key.find("depends: src\t") != std::string::npos);
    const std::string applies = box.coalesce({"rules", "--", "make"}).out;
    CHECK(applies.find("  " + depends) != std::string::npos);
    CHECK(applies.find(box.file() + ":4\n") != std::string::npos);
    CHECK(applies.find("max-size") == std::string::npos);
    CHECK(box.coalesce({"rules", "-c", "make; x"}).out == applies);
    const Ended none = box.coalesce({"rules", "true"});
    CHECK(none.out.empty());
    CHECK_THAT(none.err, Contains("no rule concerns this command"));
    CHECK_THAT(box.coalesce({"rules", "--no-config"}).err, Contains("no rules file is read"));
    const std::string all = box.coalesce({"rules"}).out;
    CHECK(all.starts_with("file " + box.file() + "\nmake in ~/**\n"));
    CHECK(all.find("[cache]\n  max-size = 1G") != std::string::npos);
}

SCENARIO("Y6: the store's bounds and place are the configuration's", "[wrapper]") {
    Ruled box("");
    box.configure("[cache]\nmax-size = '3M'\nmax-entry = '1K'\ndirectory = '" + box.path("elsewhere") + "'\n");
    CHECK(box.coalesce({"cache", "limits"}).out == "");
    CHECK(box.run({"--ttl", "1h", "-v", "sh", "-c", "echo >>ran; seq 300"}).err.find("the limit is 1 KiB") !=
          std::string::npos);
    CHECK(box.run({"--ttl", "1h", "sh", "-c", "echo >>short"}).status == 0);
    CHECK(box.run({"--ttl", "1h", "sh", "-c", "echo >>short"}).status == 0);
    CHECK(box.lines_of("short") == 1);
    CHECK(::access(box.path("elsewhere").c_str(), F_OK) == 0);
    CHECK(::access(box.path("cache").c_str(), F_OK) != 0);
    CHECK(box.coalesce({"cache", "limits"}).out.find("3 MiB") != std::string::npos);
    CHECK(box.coalesce({"cache"}).out.find("short") != std::string::npos);
}

SCENARIO("Y6, T19: what cache limits sets is the store's own, and what it shows is what holds", "[wrapper]") {
    Ruled box("[cache]\nmax-size = '3M'\n");
    const auto limits = [&](const std::vector<std::string>& options) {
        std::vector<std::string> words{"cache", "limits"};
        words.insert(words.end(), options.begin(), options.end());
        return box.coalesce(words).out;
    };
    const auto shown = [](const std::string& all, const std::string& one, const std::string& results) {
        return "all results  " + all + "\na result     " + one + "\nresults      " + results + "\n";
    };
    const std::string ruled = "3 MiB  as " + box.file() + ":2 says";
    CHECK(limits({"--max-results", "5"}) == shown(ruled, "64 MiB", "5"));
    CHECK(limits({}) == shown(ruled, "64 MiB", "5"));
    CHECK(limits({"--no-config"}) == shown("1 GiB", "64 MiB", "5"));
    CHECK(limits({"--max-size", "3M"}) == shown(ruled, "64 MiB", "5"));
    CHECK(limits({"--no-config"}) == shown("3 MiB", "64 MiB", "5"));
    CHECK(limits({"--max-size", "2G", "--max-entry", "1M"}) == shown(ruled, "1 MiB", "5"));
    CHECK(limits({"--no-config"}) == shown("2 GiB", "1 MiB", "5"));
    box.configure("[cache]\nmax-entry = '9K'\n");
    CHECK(limits({}) == shown("2 GiB", "9 KiB  as " + box.file() + ":2 says", "5"));
}

SCENARIO("Y6: ~ of the store's directory is the home, at every door", "[wrapper]") {
    Ruled box("[cache]\ndirectory = '~/elsewhere'\n");
    box.env["HOME"] = box.path("home");
    for (const char* const name : {"home", "work"}) ::mkdir(box.path(name).c_str(), 0700);
    const Ended ended = box.script(
        "cd work; line='echo >>ran'; $C run --ttl 1h -c \"$line\"; echo \"$line\" | $C batch --ttl 1h; "
        "$C serve --socket ../s --log-level off & until $C stats --socket ../s >/dev/null 2>&1; do :; done; "
        "$C run --socket ../s --ttl 1h -c \"$line\"; $C cache show -c \"$line\" >shown; echo $?; kill $!; wait; ls");
    CHECK(box.lines_of("work/ran") == 1);
    CHECK(ended.out == "0\nran\nshown\n");
    CHECK(ended.err.empty());
    CHECK(::access(box.path("home/elsewhere").c_str(), F_OK) == 0);
    // Without one it is the usual directory: a machine's file stops nobody's command.
    const Ended homeless = box.script("export XDG_CACHE_HOME=$PWD/usual; env -u HOME $C run --ttl 1h echo");
    CHECK(homeless.status == 0);
    CHECK(homeless.err.empty());
    CHECK(::access(box.path("usual/coalesce").c_str(), F_OK) == 0);
    CHECK(::access(box.path("~").c_str(), F_OK) != 0);
}

SCENARIO("Y6: without [history] keep no door remembers how long runs took, or tells it", "[wrapper]") {
    Ruled box("");
    const std::string work = "sleep 1.1";  // what is shorter than a second is never remembered
    const auto verbose = [&] { return box.run({"-v", "-c", work}).err; };
    const std::map<std::string, std::function<void()>> doors{
        {"run",
         [&] {
             CHECK(box.run({"-c", work}).status == 0);
         }},
        {"batch",
         [&] {
             box.write("lines", work + "\n");
             CHECK(box.start({tested_program(), "batch"}, {.standard_input = box.path("lines")}).wait().status == 0);
         }},
        {"serve", [&] {
             CHECK(box.script("$C serve --socket $PWD/socket --log-level off & until $C stats --socket $PWD/socket "
                              ">/dev/null 2>&1; do :; done; $C run --socket $PWD/socket -c '" +
                              work + "'; echo $?; kill $!; wait $!")
                       .out == "0\n");
         }}};
    for (const auto& [name, ask] : doors) {
        CAPTURE(name);
        const std::string state = box.env["XDG_STATE_HOME"] = box.path("state-of-" + name);
        for (const std::string keep : {"false", "true"}) {
            box.configure("[history]\nkeep = " + keep + "\n");
            ask();
            box.wait_for_all();  // it is written when those who asked have been told
            CHECK((::access((state + "/coalesce/history").c_str(), F_OK) == 0) == (keep == "true"));
        }
    }
    box.env["XDG_STATE_HOME"] = box.path("state-of-run");
    CHECK(verbose().find("), last time ") != std::string::npos);
    box.configure("[history]\nkeep = false\n");
    CHECK(verbose().find("), ") == std::string::npos);
    // A mistake stops these doors, too.
    box.configure("[history]\nkeeps = false\n");
    for (const std::string door : {"batch", "serve"}) {
        const Ended ended = box.coalesce({door});
        CHECK(ended.status == 125);
        CHECK(ended.err == "coalesce: " + box.file() + ":2: there is no setting 'keeps'; did you mean keep?\n");
    }
    CHECK(box.coalesce({"batch", "--no-config"}).status == 0);
}

SCENARIO("Y7: a file in the directory at hand decides nothing", "[wrapper]") {
    Ruled box("");
    box.write("config.toml", "[[command]]\nmatch = 'true'\nscope = 'cloned'\n");
    box.write("coalesce.toml", "[[command]]\nmatch = 'true'\nscope = 'cloned'\n");
    CHECK(box.coalesce({"key", "true"}).out.find("cloned") == std::string::npos);
    CHECK(box.start({tested_program(), "key", "true"}, {.env = {"COALESCE_CONFIG=config.toml"}})
              .wait()
              .out.find("cloned") != std::string::npos);
}

SCENARIO("Y7: a server obeys its own [cache] and [class], and the rules for commands are the client's", "[wrapper]") {
    Ruled box("");
    box.env.erase("XDG_CONFIG_HOME");
    box.write("server.toml",
              "[cache]\ndirectory = '" + box.path("elsewhere") +
                  "'\nmax-entry = '1K'\n[class.pair]\njobs = 2\n[[command]]\nmatch = 'sh'\nttl = '1h'\n");
    box.write("client.toml", "[cache]\ndirectory = '" + box.path("nowhere") +
                                 "'\n[class.pair]\njobs = 9\n[[command]]\nmatch = 'sh ./ruled'\nttl = '1h'\n");
    for (const std::string name : {"ruled", "plain", "long"}) box.write(name, "echo >>ran-" + name + "\n");
    box.write("long", "echo >>ran-long; seq 1000\n");
    // Three that wait for each other by twos: the third has begun only when one of the first two has been let go.
    box.write("turn", "echo $1 >>begun; cat gate-$1\n");
    const Ended ended = box.script(
        "export COALESCE_CONFIG=$PWD/client.toml COALESCE_SOCKET=$PWD/socket; mkfifo gate-1 gate-2 gate-3; "
        "COALESCE_CONFIG=$PWD/server.toml $C serve --socket $PWD/socket --log-level off & " +
        until_it_answers +
        "for i in 1 2; do $C run sh ./ruled; $C run sh ./plain; $C run --ttl 1h sh ./long >/dev/null; done; "
        "for i in 1 2 3; do $C run --class pair sh ./turn $i & until $C status | grep -q \"turn $i\"; do :; done; "
        "done; "
        "until [ $(wc -l <begun) = 2 ]; do :; done; $C status --json | grep -c queued; "
        ": >gate-1; until [ $(wc -l <begun) = 3 ]; do :; done; : >gate-2; : >gate-3; kill $server; wait");
    CHECK(ended.out == "1\n");
    CHECK(box.lines_of("ran-ruled") == 1);
    CHECK(box.lines_of("ran-plain") == 2);
    CHECK(box.lines_of("ran-long") == 2);
    CHECK(::access(box.path("elsewhere").c_str(), F_OK) == 0);
    CHECK(::access(box.path("nowhere").c_str(), F_OK) != 0);
}

SCENARIO("A2: a link by another program's name runs it where a rule concerns it", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'tool shared'\nttl = '1h'\n[[command]]\nmatch = 'tool apart'\nshare = false\n");
    ::mkdir(box.path("links").c_str(), 0700);
    ::mkdir(box.path("bin").c_str(), 0700);
    REQUIRE(::symlink(tested_program().c_str(), box.path("links/tool").c_str()) == 0);
    REQUIRE(::symlink(tested_program().c_str(), box.path("links/lost").c_str()) == 0);
    box.write("bin/tool", "#!/bin/sh\necho x >>ran-$1\necho $1\n[ \"$1\" != nested ] || tool shared\ncat\nexit 4\n");
    ::chmod(box.path("bin/tool").c_str(), 0700);
    box.env["PATH"] = box.path("links") + ":" + box.path("bin") + ":/usr/bin:/bin";
    box.write("in", "typed\n");
    const auto tool = [&](const std::string& word) {
        return box.start({"/usr/bin/env", "tool", word}, {.standard_input = box.path("in")}).wait();
    };
    GIVEN("a rule") {
        box.write("bin/tool", "#!/bin/sh\necho x >>ran-$1\necho $1\n");
        CHECK(tool("shared").out == "shared\n");
        CHECK(tool("shared").out == "shared\n");
        CHECK(box.lines_of("ran-shared") == 1);
        // `run` of it is the same command.
        CHECK(box.run({"tool", "shared"}).out == "shared\n");
        CHECK(box.lines_of("ran-shared") == 1);
        // And with a key of its own it is run, and not answered by what the rule keeps.
        int runs = 1;
        using Words = std::vector<std::string>;
        for (const Words& options :
             {Words{"--fresh", "--no-share"}, {"--fresh", "--scope", "s"}, {"--no-config"}, {"--only-env", "PATH"}}) {
            Words words = options;
            words.insert(words.end(), {"tool", "shared"});
            CHECK(box.run(words).out == "shared\n");
            CHECK(box.lines_of("ran-shared") == ++runs);
        }
    }
    GIVEN("none") {
        const Ended ended = tool("plain");
        CHECK(ended.out == "plain\ntyped\n");
        CHECK(ended.status == 4);
        CHECK(tool("apart").out == "apart\ntyped\n");
        CHECK(tool("nested").out.starts_with("nested\nshared\n"));
    }
    for (const std::string word : {"", "--help", "word"}) {
        const Ended lost = box.start({"/usr/bin/env", "lost", word}).wait();
        CHECK(lost.status == 127);
        CHECK(lost.err ==
              "coalesce: there is no program lost behind the link of that name to coalesce, by which it was called; "
              "call it by its own name: coalesce\n");
    }
    CHECK(box.start({"/usr/bin/env", "lost", "status"}).wait().status == 0);
    box.write("bin/lost", "found, but not to be executed\n");
    CHECK(box.start({"/usr/bin/env", "lost", "word"}).wait().status == 126);
}

SCENARIO("A2, F11: a link that asks a server is run by it as the program itself", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'tool'\nwait = '1h'\n");
    ::mkdir(box.path("links").c_str(), 0700);
    ::mkdir(box.path("bin").c_str(), 0700);
    REQUIRE(::symlink(tested_program().c_str(), box.path("links/tool").c_str()) == 0);
    box.write("bin/tool", "#!/bin/sh\necho ran >>runs\necho $1\n");
    ::chmod(box.path("bin/tool").c_str(), 0700);
    box.env["PATH"] = box.path("links") + ":" + box.path("bin") + ":/usr/bin:/bin";
    const Ended ended = box.script("$C serve --socket $PWD/socket --log-level off & " + until_it_answers +
                                   "COALESCE_SOCKET=$PWD/socket tool word; echo $?; kill $server; wait");
    CHECK(ended.out == "word\n0\n");
    CHECK(ended.err.empty());
    CHECK(box.lines_of("runs") == 1);
}

SCENARIO("T11, A2: behind a link it is the program itself whose change is seen", "[wrapper]") {
    Ruled box("[[command]]\nmatch = 'tool'\nttl = '1h'\n");
    ::mkdir(box.path("links").c_str(), 0700);
    ::mkdir(box.path("bin").c_str(), 0700);
    REQUIRE(::symlink(tested_program().c_str(), box.path("links/tool").c_str()) == 0);
    box.env["PATH"] = box.path("links") + ":" + box.path("bin") + ":/usr/bin:/bin";
    box.write("bin/tool", "#!/bin/sh\necho one\n");
    ::chmod(box.path("bin/tool").c_str(), 0700);
    CHECK(box.start({"/usr/bin/env", "tool"}).wait().out == "one\n");
    box.write("bin/tool", "#!/bin/sh\necho another\n");
    CHECK(box.start({"/usr/bin/env", "tool"}).wait().out == "another\n");
}
