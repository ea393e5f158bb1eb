// SPDX-License-Identifier: MIT
// coalesce cluster check: is the engine there, and is it fit (SPEC M8)?

#include <coalesce/cluster/check.h>
#include <coalesce/cluster/secret.h>
#include <coalesce/command/text.h>
#include <coalesce/io/loop.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "cluster_terms.h"
#include "commands.h"
#include "complain.h"
#include "options.h"

namespace coalesce {
namespace {

int check(const std::string& text) {
    auto url = EngineUrl::parse(text);
    if (!url) return fail(url.error().message());
    EngineReport report;
    auto secret = Secret::read(url->secret_file);
    if (secret)
        report.findings.emplace_back(
            "secret", "its fingerprint is " + secret->fingerprint() + ", on every machine that is to share");
    else
        report.faults.push_back("cannot " + secret.error().message());
    auto read = access_to(std::move(*url));
    if (!read) return fail(read.error().message());
    const EngineAccess& access = *read;
    const auto loop = std::make_unique<Loop>();
    EngineReport engine = check_engine(*loop, access);
    report.findings.insert(report.findings.end(), engine.findings.begin(), engine.findings.end());
    report.faults.insert(report.faults.end(), engine.faults.begin(), engine.faults.end());
    for (const auto& [what, how] : report.findings) std::printf("%-14s %s\n", what.c_str(), visible(how).c_str());
    if (const int status = flush_output(); status != 0) return status;
    for (const std::string& fault : report.faults) fail(fault);
    return report.faults.empty() ? 0 : 125;
}

}  // namespace

int cluster_command(int argc, char** argv) {
    TypedCluster typed;
    if (const auto status = read_cluster(argc, argv, typed)) return *status;
    if (typed.operation.empty()) return misuse("cluster", "what of it? check");
    if (typed.operation != "check") return misuse("cluster", "there is no operation '" + typed.operation + "'");
    if (typed.url.empty()) return misuse("cluster", "which engine? --cluster URL, or COALESCE_CLUSTER");
    return check(typed.url);
}

}  // namespace coalesce
