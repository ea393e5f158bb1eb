// SPDX-License-Identifier: MIT
#include <coalesce/engine/line_program.h>

#include <coalesce/command/shell_line.h>

namespace coalesce {

LinePrograms::LinePrograms(const std::string& shell) : shell_(shell) {}

std::optional<LineProgram> LinePrograms::find(std::string_view line,
                                              const std::shared_ptr<const Surroundings>& surroundings) {
    if (!shell_understood_) shell_understood_ = shell_is_understood(shell_);
    if (!*shell_understood_) return std::nullopt;
    auto words = plain_words(line);
    if (!words) return std::nullopt;
    if (surroundings != surroundings_) {
        surroundings_ = surroundings;
        env_.reset();
        if (!shell_may_interfere(surroundings->env)) env_ = env_as_shell_would(*surroundings);
        path_ = env_ ? std::string(env_value(*env_, "PATH").value_or("")) : "";
    }
    if (!env_) return std::nullopt;
    std::string path = words->front();
    if (path.find('/') == std::string::npos) {
        auto found = find_program(path, path_);
        if (!found) return std::nullopt;
        path = std::move(*found);
    }
    return LineProgram{std::move(*words), std::move(path), &*env_};
}

}  // namespace coalesce
