// SPDX-License-Identifier: MIT
#include <coalesce/meeting/run_limits.h>

#include <coalesce/meeting/members.h>

namespace coalesce {
namespace {

template <class Members, class Limits>
void name_members(Members&& members, Limits& limits) {
    auto& [timeout, grace, run_class] = limits;
    members("timeout", timeout);
    members("grace", grace);
    members("class", run_class);
}

}  // namespace

void add_run_limits(Message& message, const RunLimits& limits) { name_members(MemberWriter(message), limits); }

RunLimits run_limits_in(const Fields& message) {
    RunLimits limits;
    name_members(MemberReader(message), limits);
    return limits;
}

}  // namespace coalesce
