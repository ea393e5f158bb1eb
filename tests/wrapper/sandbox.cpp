// SPDX-License-Identifier: MIT
#include "sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>

#include "../catch.h"

void become_nobody() {
    if (::setgid(nobody) != 0 || ::setuid(nobody) != 0) ::_exit(99);
}

std::string read_file(const std::string& path) {
    // Through the stream, not its buffer, which throws where a read fails: what is read
    // in /proc may be about a process that has just gone.
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

namespace {

bool in_state(pid_t pid, char state) {
    return read_file("/proc/" + std::to_string(pid) + "/stat").find(std::string(") ") + state + ' ') !=
           std::string::npos;
}

}  // namespace

void until_stopped(pid_t pid) {
    while (!in_state(pid, 'T')) ::poll(nullptr, 0, 1);
}

void until_waits(pid_t pid) {
    while (!in_state(pid, 'S') && !in_state(pid, 'Z')) ::poll(nullptr, 0, 1);
}

void until_dead(pid_t pid) {
    siginfo_t died{};
    while (::waitid(P_PID, static_cast<id_t>(pid), &died, WEXITED | WNOWAIT) < 0)
        if (errno != EINTR) FAIL("waitid: no such child");
}

void Process::kill(int number) const { ::kill(pid_, number); }

std::string Process::out() const { return read_file(out_); }
std::string Process::err() const { return read_file(err_); }

Ended Process::wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0)
        if (errno != EINTR) FAIL("waitpid: no such child");
    Ended ended{.status = -1, .signal = 0, .out = out(), .err = err()};
    if (WIFSIGNALED(status)) ended.signal = WTERMSIG(status);
    ended.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return ended;
}

Sandbox::Sandbox() {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    char name[] = "/tmp/coalesce-wrapper-XXXXXX";
    directory_ = ::mkdtemp(name);
    ::mkdir(path("runtime").c_str(), 0700);
    ::mkdir(path("reports").c_str(), 01777);
    ::chmod(path("reports").c_str(), 01777);
    env = {{"PATH", "/usr/local/bin:/usr/bin:/bin"},
           {"XDG_RUNTIME_DIR", path("runtime")},
           {"XDG_CACHE_HOME", path("cache")},
           {"C", tested_program()},
           {"ASAN_OPTIONS", "detect_leaks=0:log_path=" + path("reports/asan")},
           {"UBSAN_OPTIONS", "print_stacktrace=1:log_path=" + path("reports/ubsan")}};
}

Sandbox::~Sandbox() {
    wait_for_all();
    for (const auto& report : std::filesystem::directory_iterator(path("reports")))
        FAIL_CHECK(read_file(report.path().string()));
    std::filesystem::remove_all(directory_);
}

void Sandbox::wait_for_all() {
    while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    }
}

Process Sandbox::start(const std::vector<std::string>& argv, const Setting& setting) {
    const std::string number = std::to_string(++started_);
    std::vector<std::string> variables;
    for (const auto& [name, value] : env) variables.push_back(name + "=" + value);
    variables.insert(variables.end(), setting.env.begin(), setting.env.end());
    std::vector<char*> words, entries;
    for (const auto& word : argv) words.push_back(const_cast<char*>(word.c_str()));
    for (const auto& variable : variables) entries.push_back(const_cast<char*>(variable.c_str()));
    words.push_back(nullptr);
    entries.push_back(nullptr);
    const std::string directory = path(setting.directory);
    const std::string input = setting.standard_input.empty() ? "/dev/null" : setting.standard_input;
    const int out = setting.standard_output >= 0
                        ? setting.standard_output
                        : ::open(path("out." + number).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    const int err = ::open(path("err." + number).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::dup2(::open(input.c_str(), O_RDONLY), 0);
        ::dup2(out, 1);
        ::dup2(err, 2);
        if (::chdir(directory.c_str()) != 0) ::_exit(99);
        if (setting.in_child) setting.in_child();
        ::execve(words[0], words.data(), entries.data());
        ::_exit(errno == E2BIG ? 98 : 99);
    }
    if (setting.standard_output < 0) ::close(out);
    ::close(err);
    return {pid, path("out." + number), path("err." + number)};
}

Process Sandbox::request(std::vector<std::string> words, const Setting& setting) {
    words.insert(words.begin(), {tested_program(), "run"});
    return start(words, setting);
}

Ended Sandbox::coalesce(std::vector<std::string> words) {
    words.insert(words.begin(), tested_program());
    return start(words).wait();
}

namespace {

std::string member(const std::string& line, const std::string& name) {
    const std::size_t at = line.find("\"" + name + "\":");
    if (at == std::string::npos) return {};
    std::size_t begin = at + name.size() + 3;
    if (line[begin] == '"') ++begin;
    return line.substr(begin, line.find_first_of(",\"}", begin) - begin);
}

}  // namespace

std::vector<Flight> Sandbox::flights() {
    std::vector<Flight> flights;
    std::istringstream lines(coalesce({"status", "--json"}).out);
    for (std::string line; std::getline(lines, line);)
        flights.push_back({.id = member(line, "id"),
                           .state = member(line, "state"),
                           .pid = std::atoi(member(line, "pid").c_str()),
                           .supervisor = std::atoi(member(line, "supervisor").c_str()),
                           .requesters = std::atoi(member(line, "requesters").c_str()),
                           .output = std::atoll(member(line, "output").c_str())});
    return flights;
}

std::vector<Flight> Sandbox::until(const std::function<bool(const std::vector<Flight>&)>& wanted) {
    while (true) {
        auto now = flights();
        if (wanted(now)) return now;
        ::poll(nullptr, 0, 20);  // what is waited for needs the processor more than who waits
    }
}

Flight Sandbox::until_requesters(int count) {
    return until([count](const auto& all) { return all.size() == 1 && all[0].requesters == count; }).front();
}

std::string Sandbox::read(std::string_view name) const { return read_file(path(name)); }

int Sandbox::lines_of(std::string_view name) const {
    const std::string text = read(name);
    return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

void Sandbox::write(std::string_view name, std::string_view text) const {
    std::ofstream(path(name), std::ios::binary) << text;
}

std::string Sandbox::open_to_nobody() const {
    REQUIRE(::chmod(directory_.c_str(), 0755) == 0);
    REQUIRE(::chown(path("runtime").c_str(), nobody, nobody) == 0);
    std::filesystem::copy_file(tested_program(), path("c"));
    return path("c");
}

std::vector<std::string> Sandbox::left_in_place() const {
    std::vector<std::string> names;
    if (!std::filesystem::exists(place())) return names;
    for (const auto& entry : std::filesystem::directory_iterator(place())) {
        if (entry.path().filename() == "savings")
            CHECK((entry.is_regular_file() && entry.file_size() < 128));
        else
            names.push_back(entry.path().filename());
    }
    return names;
}

Gate::Gate(Sandbox& sandbox, const std::string& name) : path_(sandbox.path(name)) { ::mkfifo(path_.c_str(), 0666); }

void Gate::wait_for_command() {
    if (fd_ < 0) fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
}

void Gate::open() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}
