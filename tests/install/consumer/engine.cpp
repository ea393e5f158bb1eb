// SPDX-License-Identifier: MIT
// The engine as a consumer uses it: two requests for one command, which really runs, once.
#include <coalesce/engine/command_executor.h>
#include <coalesce/io/loop.h>

#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

int main() {
    using namespace coalesce;
    Loop loop;
    CommandExecutor executor(loop, {});
    const std::vector<std::string> argv{"sh", "-c", "echo out; echo err >&2; exit 3"};
    const auto surroundings = std::make_shared<const Surroundings>(own_surroundings().value());
    const auto identity = std::make_shared<const CanonicalSurroundings>(canonical_surroundings(*surroundings, {}));
    const std::string words = canonical_words(argv, std::nullopt, {});
    const auto make_job = [&] {
        Job job;
        job.command.argv = argv;
        job.command.surroundings = surroundings;
        return job;
    };
    const auto print = [](const Landing<RunResult>& landing) {
        const RunResult& result = *landing.get();
        SpoolReader reader(*result.spool);
        while (const auto piece = reader.next()) {
            std::cout << (piece->stream == Stream::out ? "stdout: " : "stderr: ") << piece->extent.bytes;
            reader.advance(piece->extent.length);
        }
        std::cout << result.outcome.describe() << '\n';
    };
    RunTicket leader = executor.submit({identity, words}, make_job);
    RunTicket joiner = executor.submit({identity, words}, make_job);
    joiner.then(print);
    loop.run();
    std::cout << executor.counts().runs << " run\n";
}
