// SPDX-License-Identifier: MIT
// Leaving: it disturbs nobody, and the last one to leave cancels the run (F5, F6, CASES 9-15).

#include "recorder.h"

#include <memory>
#include <optional>
#include <stop_token>

using namespace coalesce;
using namespace coalesce::test;

SCENARIO("F5, 9, 10: a requester that leaves, the leader included, disturbs no one else", "[flight]") {
    GIVEN("a flight of a leader and two followers") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        bool stopped = false;
        std::vector<Ticket<int>> tickets;
        for (const char* name : {"leader", "second", "third"}) {
            tickets.push_back(group.join(1, runs.start()));
            tickets.back().then(log.callback(name));
        }
        runs.completers[0].on_cancel([&] { stopped = true; });

        WHEN("the leader leaves") {
            tickets[0].leave();
            runs.land(1);
            executor.run_all();
            THEN("the run goes on for the others") {
                CHECK(!stopped);
                CHECK(log.lines == Lines{"second: = 1", "third: = 1"});
            }
        }
        WHEN("a follower leaves, by its ticket's destruction") {
            tickets.erase(tickets.begin() + 1);
            runs.fail("bad");
            executor.run_all();
            THEN("the others get their outcome") { CHECK(log.lines == Lines{"leader: bad", "third: bad"}); }
        }
        WHEN("a ticket is moved and assigned over") {
            Ticket<int> moved = std::move(tickets[1]);
            moved = std::move(tickets[2]);
            runs.land(1);
            executor.run_all();
            THEN("the one assigned over has left") { CHECK(log.lines == Lines{"leader: = 1", "third: = 1"}); }
        }
    }
}

SCENARIO("F5, 11: when the last one leaves the run is told once, and cannot be joined from that instant", "[flight]") {
    GIVEN("a flight of two") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        int told = 0;
        auto one = group.join(1, runs.start());
        auto two = group.join(1, runs.start());
        std::optional<Ticket<int>> asked_in_callback;
        const std::stop_token token = runs.completers[0].stop_token();
        runs.completers[0].on_cancel([&] {
            ++told;
            CHECK(!runs.completers[0].joinable());
            asked_in_callback = group.join(1, runs.start());
        });
        WHEN("both leave, one of them twice") {
            one.leave();
            one.leave();
            CHECK(told == 0);
            CHECK(runs.completers[0].joinable());
            two.leave();
            one.leave();
            THEN("the run was told once") {
                CHECK(told == 1);
                CHECK(token.stop_requested());
                CHECK(runs.completers[0].cancelled());
            }
            THEN("a request made in that callback already gets the next run") {
                REQUIRE(asked_in_callback);
                asked_in_callback->then(log.callback("asked"));
                CHECK(asked_in_callback->leader());
                executor.run_all();
                CHECK(runs.started == 1);
                runs.land(1);
                executor.run_all();
                runs.land(2);
                executor.run_all();
                CHECK(log.lines == Lines{"asked: = 2"});
            }
        }
        WHEN("it lands first") {
            runs.land(1);
            one.leave();
            two.leave();
            executor.run_all();
            THEN("the run is not told") {
                CHECK(told == 0);
                CHECK(!token.stop_requested());
            }
        }
    }
}

SCENARIO("F5: a run that asks for the news of its cancellation too late still hears it", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    group.join(1, runs.start()).leave();
    int told = 0;
    runs.completers[0].on_cancel([&] { ++told; });
    CHECK(told == 0);
    CHECK(runs.completers[0].stop_token().stop_requested());
    WHEN("the loop turns") {
        executor.run_all();
        executor.run_all();
        THEN("it was called once") { CHECK(told == 1); }
    }
    WHEN("it lands before") {
        runs.land(1);
        executor.run_all();
        THEN("it is not called") { CHECK(told == 0); }
    }
}

SCENARIO("F5: the leader may leave from inside its own start", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    std::stop_source source;
    std::optional<Completer<int>> run;
    Log log;
    bool told = false;
    auto ticket = group.join(1,
                             [&](Completer<int> completer) {
                                 completer.on_cancel([&] { told = true; });
                                 source.request_stop();
                                 CHECK(told);
                                 run = std::move(completer);
                             },
                             {.stop = source.get_token()});
    ticket.then(log.callback("it"));
    executor.run_all();
    CHECK(log.lines == Lines{"it: operation_canceled"});
    CHECK(group.size() == 1);
    run->value(1);
    CHECK(group.empty());
}

SCENARIO("F6, 12, 52: a cancelled flight is waited out, and its cancellation is never inherited", "[flight]") {
    GIVEN("a run that everybody left and that winds down") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        group.join(1, runs.start()).leave();
        REQUIRE(group.find_state(1) == nullptr);

        WHEN("two others ask meanwhile") {
            auto one = group.join(1, runs.start());
            auto two = group.join(1, runs.start());
            one.then(log.callback("one"));
            two.then(log.callback("two"));
            executor.run_all();
            THEN("they share one flight, which has not started") {
                CHECK(one.leader());
                CHECK(!two.leader());
                CHECK(runs.started == 1);
            }
            AND_WHEN("the old run ends, in whatever way") {
                switch (GENERATE(0, 1, 2)) {
                    case 0:
                        runs.land(1);
                        break;
                    case 1:
                        runs.fail("killed");
                        break;
                    default:
                        runs.completers.pop_front();
                }
                CHECK(runs.started == 1);  // starts from a posted task
                executor.run_all();
                CHECK(runs.started == 2);
                runs.land(2);
                executor.run_all();
                THEN("they get the second run's result") { CHECK(log.lines == Lines{"one: = 2", "two: = 2"}); }
            }
            AND_WHEN("both leave before it ends") {
                one.leave();
                two.leave();
                runs.land(1);
                executor.run_all();
                THEN("the second run never starts") {
                    CHECK(runs.started == 1);
                    CHECK(group.empty());
                }
            }
            AND_WHEN("both leave between its end and the posted start") {
                runs.land(1);
                one.leave();
                two.leave();
                CHECK(group.empty());
                auto third = group.join(1, runs.start());
                executor.run_all();
                THEN("the second run never starts, and a third one does") { CHECK(runs.started == 2); }
            }
            AND_WHEN("both leave and another asks before it ends") {
                one.leave();
                two.leave();
                auto third = group.join(1, runs.start());
                third.then(log.callback("third"));
                CHECK(third.leader());
                runs.land(1);
                executor.run_all();
                CHECK(runs.started == 2);
                runs.land(2);
                executor.run_all();
                THEN("that one runs") { CHECK(log.lines == Lines{"third: = 2"}); }
            }
        }
    }
}

SCENARIO("F12, 62: the start of a flight that never starts is destroyed with the last requester", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    group.join(1, runs.start()).leave();
    auto captured = std::make_shared<int>();
    const std::weak_ptr<int> watch = captured;
    auto pending = group.join(1, [captured = std::move(captured)](Completer<int>) { FAIL("everybody left"); });
    CHECK(!watch.expired());
    pending.leave();
    CHECK(watch.expired());
}

SCENARIO("14: a request whose token is already stopped neither runs nor counts", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    std::stop_source source;
    source.request_stop();
    auto alone = group.join(1, runs.start(), {.stop = source.get_token()});
    CHECK(alone.id() == 0);
    CHECK(group.empty());
    CHECK(runs.started == 0);
    auto leader = group.join(1, runs.start());
    auto joined = group.join(1, runs.start(), {.stop = source.get_token()});
    CHECK(runs.completers[0].waiters() == 1);
    alone.then(log.callback("alone"));
    joined.then(log.callback("joined"));
    CHECK(log.lines.empty());
    executor.run_all();
    CHECK(log.lines == Lines{"alone: operation_canceled", "joined: operation_canceled"});
}

SCENARIO("13, 54: a stop request takes out that requester only, and tells it", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    std::stop_source source;
    auto leader = group.join(1, runs.start());
    auto stoppable = group.join(1, runs.start(), {.stop = source.get_token()});
    leader.then(log.callback("leader"));
    stoppable.then(log.callback("stoppable"));

    WHEN("it is stopped") {
        source.request_stop();
        CHECK(stoppable.landed());
        CHECK(!leader.landed());
        CHECK(log.lines.empty());
        executor.run_all();
        THEN("it is told, and the other gets the result") {
            CHECK(log.take() == Lines{"stoppable: operation_canceled"});
            runs.land(1);
            executor.run_all();
            CHECK(log.take() == Lines{"leader: = 1"});
        }
    }
    WHEN("it is stopped as the last one") {
        leader.leave();
        source.request_stop();
        THEN("the run is cancelled") { CHECK(runs.completers[0].cancelled()); }
    }
    WHEN("it is stopped after the landing, before the delivery") {
        runs.land(1);
        source.request_stop();
        executor.run_all();
        THEN("exactly one outcome arrives, the landing") {
            CHECK(log.take() == Lines{"leader: = 1", "stoppable: = 1"});
        }
    }
    WHEN("it leaves or is dropped, and is stopped then") {
        if (GENERATE(true, false))
            stoppable.leave();
        else
            stoppable = {};
        source.request_stop();
        executor.run_all();
        THEN("nothing is called") { CHECK(log.lines.empty()); }
    }
    WHEN("its ticket is detached, and it is stopped then") {
        std::move(stoppable).detach();
        source.request_stop();
        executor.run_all();
        THEN("it is told all the same") { CHECK(log.lines == Lines{"stoppable: operation_canceled"}); }
    }
    WHEN("its callback comes after it was stopped and passed over") {
        auto late = group.join(1, runs.start(), {.stop = source.get_token()});
        source.request_stop();
        executor.run_all();
        log.take();
        runs.land(1);
        executor.run_all();
        late.then(log.callback("late"));
        executor.run_all();
        THEN("it is told that it was stopped") { CHECK(log.lines == Lines{"leader: = 1", "late: operation_canceled"}); }
    }
}

SCENARIO("13: the ticket may be destroyed by the cancel callback its own stop request causes", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    std::stop_source source;
    std::optional<Ticket<int>> ticket = group.join(1, runs.start(), {.stop = source.get_token()});
    runs.completers[0].on_cancel([&] {
        ticket.reset();
        runs.completers.clear();
    });
    source.request_stop();
    executor.run_all();
    CHECK(group.empty());
}

SCENARIO("15: after leave returns no callback is called, whatever has been posted", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    auto ticket = group.join(1, runs.start());
    ticket.then(log.callback("it"));
    runs.land(1);
    REQUIRE(executor.queued() == 1);
    ticket.leave();
    ticket.then(log.callback("dropped"));
    executor.run_all();
    CHECK(log.lines.empty());
}

SCENARIO("37: the last of several kinds of membership to go cancels the run", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    std::stop_source source;
    auto held = group.join(1, runs.start());
    auto with_callback = group.join(1, runs.start());
    with_callback.then([](const Landing<int>&) {});
    auto stoppable = group.join(1, runs.start(), {.stop = source.get_token()});
    CHECK(runs.completers[0].waiters() == 3);
    held.leave();
    with_callback = {};
    CHECK(!runs.completers[0].cancelled());
    source.request_stop();
    CHECK(runs.completers[0].cancelled());
}

SCENARIO("F5: a detached membership keeps the run going", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    auto silent = group.join(1, runs.start());
    auto watching = group.join(1, runs.start());
    watching.then(log.callback("watching"));
    std::move(silent).detach();
    std::move(watching).detach();
    group.join(1, runs.start()).leave();
    CHECK(!runs.completers[0].cancelled());
    CHECK(runs.completers[0].waiters() == 2);
    runs.land(1);
    executor.run_all();
    CHECK(log.lines == Lines{"watching: = 1"});
}

SCENARIO("F5: a run that is kept is asked when the last one leaves, and goes on", "[flight]") {
    GIVEN("a kept run with one requester") {
        ManualExecutor executor;
        auto group = std::make_unique<Group<int, int>>(executor);
        Runs<> runs;
        Log log;
        int alone = 0, stopped = 0;
        auto one = group->join(1, runs.start());
        auto& completer = runs.completers[0];
        completer.on_cancel([&] { ++stopped; });
        completer.keep([&] { ++alone; });

        WHEN("it leaves") {
            one.leave();
            THEN("the run is asked at once, is not cancelled, and can still be joined") {
                CHECK(alone == 1);
                CHECK(stopped == 0);
                CHECK(completer.joinable());
            }
            AND_WHEN("another joins, and leaves as well") {
                auto two = group->join(1, runs.start());
                CHECK(runs.completers.size() == 1);
                two.leave();
                THEN("it is asked again") { CHECK(alone == 2); }
            }
            AND_WHEN("the run lets go of it") {
                completer.let_go();
                THEN("it is cancelled") {
                    CHECK(stopped == 1);
                    CHECK(!completer.joinable());
                }
            }
            AND_WHEN("it is cancelled for everyone") {
                group->cancel(1);
                THEN("the run is told, once") {
                    completer.let_go();
                    CHECK(stopped == 1);
                }
            }
            AND_WHEN("the group ends") {
                group.reset();
                THEN("the run is told") { CHECK(stopped == 1); }
            }
            AND_WHEN("it lands") {
                completer.value(1);
                THEN("its key is free, and nobody is asked or told any more") {
                    completer.let_go();
                    CHECK(group->empty());
                    CHECK(alone == 1);
                    CHECK(stopped == 0);
                }
            }
        }
        WHEN("the run lets go while somebody waits") {
            completer.let_go();
            THEN("nothing happens until the last one leaves") {
                CHECK(stopped == 0);
                one.leave();
                CHECK(stopped == 1);
                CHECK(alone == 0);
            }
        }
    }
    GIVEN("a kept run whose callback joins, leaves and keeps anew") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        std::vector<std::string> told;
        auto one = group.join(1, runs.start());
        auto& completer = runs.completers[0];
        completer.keep([&, name = std::string("first")] {
            told.push_back(name);
            if (told.size() == 1) group.join(1, runs.start()).leave();
            completer.keep([&] { told.emplace_back("second"); });
            told.push_back(name);
        });
        WHEN("the last one leaves") {
            one.leave();
            THEN("each of them is told, and the callback outlives its replacement") {
                CHECK(told == std::vector<std::string>{"first", "first", "first", "first"});
                group.join(1, runs.start()).leave();
                CHECK(told.back() == "second");
            }
        }
    }
}

SCENARIO("F9: a run that was closed to joiners may be opened again", "[flight]") {
    GIVEN("a closed run") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        auto one = group.join(1, runs.start());
        runs.completers[0].close_to_joiners();
        WHEN("it is opened") {
            runs.completers[0].open_to_joiners();
            auto two = group.join(1, runs.start());
            THEN("who asks joins it") { CHECK(two.id() == one.id()); }
        }
        WHEN("somebody asked before it was opened") {
            auto two = group.join(1, runs.start());
            runs.completers[0].open_to_joiners();
            auto three = group.join(1, runs.start());
            THEN("the run that was promised stays, and who asks now joins the first") {
                CHECK(two.id() != one.id());
                CHECK(three.id() == one.id());
                runs.land(1);
                executor.run_all();
                CHECK(runs.started == 2);
            }
        }
    }
}
