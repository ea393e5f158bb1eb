// SPDX-License-Identifier: MIT
// ExecutorOptions: what holds for all runs of one executor.
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/command/run_class.h>

#include <optional>
#include <string>

#include <coalesce/io/guard.h>
#include <coalesce/io/spawn.h>
#include <coalesce/io/spool.h>

namespace coalesce {

class Sharing;
class Turnstile;

struct ExecutorOptions {
    unsigned jobs = 1;  ///< runs at a time; 0: no limit
    SpoolLimits spool;
    std::string shell = "/bin/sh";
    ChildHook in_child;      ///< for every child, between its fork and its exec
    Guard* guard = nullptr;  ///< ends what runs when this process is gone; outlives the executor
    /// This process's own directory, if a command that is to run there may inherit
    /// it: then it need not be reachable by its name.
    std::string directory;
    /// What that name led to at the start: by now it may be another's.
    std::optional<DirectoryIdentity> directory_itself;
    Sharing* sharing = nullptr;      ///< asked about every run; outlives the executor
    Turnstile* turnstile = nullptr;  ///< asked about every run that has a class; outlives the executor
    ClassJobs class_jobs;            ///< the classes that are set up
};

}  // namespace coalesce
