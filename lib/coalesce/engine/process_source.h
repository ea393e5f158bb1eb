// SPDX-License-Identifier: MIT
// ProcessSource: a run that is a process of this machine.
//
// It turns a Job into a process: a shell line without shell syntax is executed directly, with
// the shell's own last words where the shell would have had some (SPEC B1); input becomes a
// sealed file; a start that fails names the culprit (F4); of what is written to a terminal, questions to it are left
// out (P5). What the process does is Child's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/engine/executor_options.h>
#include <coalesce/engine/job.h>
#include <coalesce/engine/line_program.h>
#include <coalesce/engine/run_source.h>
#include <coalesce/io/terminal_questions.h>

namespace coalesce {

class Loop;

class ProcessSource final : public RunSource {
  public:
    /// All of them must outlive it. A process that the job has launched already is taken over.
    ProcessSource(Loop& loop, const ExecutorOptions& options, LinePrograms& line_programs, Job& job,
                  ProcessMark mark = {});

    std::optional<Refusal> start(Events events) override;
    [[nodiscard]] pid_t pid() const noexcept override { return child_ ? child_->pid() : -1; }
    void terminate(std::chrono::milliseconds grace) override;
    void signal(int number) noexcept override;
    void pause() noexcept override;
    void resume() override;

  private:
    Child::Start start_child(const Descriptor& input);
    Child::Start execute(const std::vector<std::string>& argv, const std::vector<std::string>& env, const char* path,
                         const Descriptor& input);
    Child::Events child_events();
    void on_ended(Outcome outcome);

    Loop& loop_;
    const ExecutorOptions& options_;
    LinePrograms& line_programs_;
    Job& job_;
    const ProcessMark mark_;
    Events events_;
    std::unique_ptr<Child> child_;
    std::optional<TerminalQuestions> questions_;  // where its outputs are a terminal
    bool direct_ = false;                         // a shell line that is executed without the shell
    bool told_to_end_ = false;
    bool over_ = false;
};

}  // namespace coalesce
