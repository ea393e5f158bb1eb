// SPDX-License-Identifier: MIT
#include <coalesce/meeting/leftovers.h>

#include <vector>

namespace coalesce {
namespace {

struct Search {
    const FlightRecord& record;
    const std::function<bool(const std::vector<std::string>&)>& names_run;
    const Numbering& own;
    bool leader_is_there = false;  // so that its number can be nobody else's

    [[nodiscard]] bool has(pid_t pid) const {
        const auto facts = ProcessFacts::of(pid);
        if (!facts || !facts->alive()) return false;
        if (pid == record.pid) return is_recorded(record, *facts, own);
        return facts->session == record.session && (leader_is_there || names_run(environment_of(pid)));
    }
};

}  // namespace

Leftovers end_leftovers(const FlightRecord& record,
                        const std::function<bool(const std::vector<std::string>&)>& names_run) {
    const auto own = Numbering::own();
    if (!own || record.numbering != own->text() || !Numbering::shown_by_proc()) return Leftovers::none;
    Search search{.record = record, .names_run = names_run, .own = *own};
    if (const auto leader = ProcessFacts::of(record.pid)) {
        // The kernel gives a number to nobody else while a group or a session has it.
        search.leader_is_there = is_recorded(record, *leader, *own);
        if (!search.leader_is_there && record.session == record.pid) return Leftovers::none;
    }
    return kill_each([&search](pid_t pid) { return search.has(pid); }) ? Leftovers::dying : Leftovers::none;
}

}  // namespace coalesce
