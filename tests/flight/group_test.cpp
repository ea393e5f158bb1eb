#include "recorder.h"

using namespace coalesce;
using namespace coalesce::test;

SCENARIO("F2: a request made on completion starts a new run, and three of them share it", "[flight]") {
    GIVEN("three waiters that all ask again on completion") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        for (int i = 0; i < 3; ++i) {
            auto ticket = group.join(1, runs.start());
            ticket.then([&, i](const Landing<int>&) {
                auto again = group.join(1, runs.start());
                again.then(log.callback(std::to_string(i)));
                std::move(again).detach();
            });
            std::move(ticket).detach();
        }
        REQUIRE(runs.started == 1);

        WHEN("the flight lands") {
            runs.land(1);
            THEN("the key is free before anything is delivered") { CHECK(group.empty()); }
            executor.run_all();
            THEN("exactly one second run has started") { CHECK(runs.started == 2); }
            runs.land(2);
            executor.run_all();
            THEN("all three get its result, in order") { CHECK(log.lines == Lines{"0: = 2", "1: = 2", "2: = 2"}); }
        }
    }
}
