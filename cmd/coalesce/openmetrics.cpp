// SPDX-License-Identifier: MIT
#include "openmetrics.h"

#include <chrono>
#include <cstdint>
#include <string_view>

namespace coalesce {
namespace {

// A family, with its samples behind it.
class Family {
  public:
    Family(std::string& out, std::string_view name, std::string_view type, std::string_view help)
        : out_(out), name_("coalesce_" + std::string(name)), counter_(type == "counter") {
        out_.append("# TYPE ").append(name_).append(" ").append(type).append("\n");
        out_.append("# HELP ").append(name_).append(" ").append(help).append("\n");
    }
    Family& sample(std::string_view labels, const std::string& value, std::string_view ending = {}) {
        out_.append(name_).append(counter_ ? "_total" : ending);
        if (!labels.empty()) out_.append("{").append(labels).append("}");
        out_.append(" ").append(value).append("\n");
        return *this;
    }

  private:
    std::string& out_;
    const std::string name_;
    const bool counter_;
};

constexpr std::string_view by_wrappers = "door=\"wrapper\"";
constexpr std::string_view by_server = "door=\"server\"";

std::string number(std::uint64_t value) { return std::to_string(value); }
std::string number(const Fields& fields, const char* name) { return std::to_string(fields.number(name)); }
std::string seconds(std::chrono::nanoseconds time) {
    return json_seconds(std::chrono::duration_cast<std::chrono::microseconds>(time));
}
std::string seconds(const Fields& fields, const char* name) { return std::string(fields.raw(name)); }

// Of what a server has counted by itself.
void append_server(std::string& out, const Fields& server) {
    constexpr struct {
        const char* field;
        const char* family;
        const char* type;
        const char* help;
    } numbers[] = {
        {"requests", "requests", "counter", "Requests for commands."},
        {"runs", "processes", "counter", "Processes that were started."},
        {"failures", "failures", "counter", "Runs that ended with another status than 0, by a signal, or never began."},
        {"timeouts", "timeouts", "counter", "Runs that were ended by their time limit."},
        {"cancelled", "cancelled", "counter", "Runs that were ended because nobody waited, or on purpose."},
        {"output", "output_bytes", "counter", "Output of all runs."},
        {"running", "running", "gauge", "Flights that run."},
        {"queued", "queued", "gauge", "Flights that wait for their turn."},
        {"waiting", "waiting", "gauge", "Requests that wait."},
        {"clients", "clients", "gauge", "Connections."},
    };
    for (const auto& one : numbers)
        Family(out, one.family, one.type, one.help).sample(by_server, number(server, one.field));
    const auto durations = Fields::parse(server.raw("durations"));
    if (!durations) return;
    Family family(out, "run_duration_seconds", "histogram", "How long runs took that were not cancelled.");
    std::int64_t up_to = 0;
    for (const std::string& bound : durations->names()) {
        up_to += durations->number(bound);
        family.sample(std::string(by_server) + ",le=\"" + bound + "\"", std::to_string(up_to), "_bucket");
    }
    family.sample(by_server, std::to_string(up_to), "_count").sample(by_server, seconds(server, "run_time"), "_sum");
}

}  // namespace

std::string openmetrics(const std::optional<Savings>& wrappers, const std::optional<Savings>& kept,
                        const std::optional<Fields>& server) {
    std::string out;
    {
        Family joins(out, "joins", "counter", "Requests that shared a run instead of starting one.");
        if (wrappers) joins.sample(by_wrappers, number(wrappers->joins));
        if (server) joins.sample(by_server, number(*server, "joins"));
    }
    {
        Family saved(out, "saved_seconds", "counter", "Running time that joins spared.");
        if (wrappers) saved.sample(by_wrappers, seconds(wrappers->time));
        if (server) saved.sample(by_server, seconds(*server, "saved"));
    }
    if (wrappers)
        Family(out, "shared_runs", "counter", "Runs of wrappers that others joined.")
            .sample(by_wrappers, number(wrappers->runs));
    if (kept) {
        Family(out, "hits", "counter", "Requests that were served by a kept result.").sample({}, number(kept->joins));
        Family(out, "refreshes", "counter", "Runs that made a kept result anew since it was stale, or warmed it.")
            .sample({}, number(kept->runs));
        Family(out, "hits_saved_seconds", "counter", "Running time that hits spared.").sample({}, seconds(kept->time));
    }
    if (server) append_server(out, *server);
    return out + "# EOF\n";
}

}  // namespace coalesce
