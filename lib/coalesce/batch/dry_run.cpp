// SPDX-License-Identifier: MIT
#include <coalesce/batch/dry_run.h>

#include <unistd.h>

#include <algorithm>
#include <utility>

#include <coalesce/command/text.h>
#include <coalesce/protocol/format.h>

namespace coalesce {
namespace {

constexpr std::size_t chunk_bytes = 64 * 1024;
constexpr std::string_view variable_prefix = "environment: ";
constexpr std::size_t shown_of_a_value = 60;  // a command's input may have 8 MiB

}  // namespace

DryRun::DryRun(Loop& loop, std::shared_ptr<const CanonicalSurroundings> usual,
               UniqueFunction<void(const Error&)> on_refused)
    : usual_(std::move(usual)), on_refused_(std::move(on_refused)), out_(loop, STDOUT_FILENO, "standard output") {}

void DryRun::count(const RequestKey& key, const std::string& title) {
    const auto found = places_.find(KeyView(key));
    if (found != places_.end()) {
        ++commands_[found->second].count;
        return;
    }
    const auto placed = places_.emplace(Key(key), commands_.size()).first;
    commands_.push_back({&placed->first, title, 1});
}

void DryRun::list() {
    if (std::exchange(listing_, true)) return;
    write();
}

void DryRun::write() {
    while (true) {
        if (written_ == text_.size()) {
            text_.clear();
            written_ = 0;
            while (next_ < commands_.size() && text_.size() < chunk_bytes) text_ += row(commands_[next_++]);
            if (text_.empty()) return;
        }
        const auto wrote = out_.write(std::string_view(text_).substr(written_));
        if (!wrote) return on_refused_(wrote.error());
        if (wrote.value() == 0) return out_.wait([this] { write(); });
        written_ += wrote.value();
    }
}

std::string DryRun::row(const Command& command) const {
    const std::string more = difference(*command.key);
    return formatted("{:7} {}{}{}\n", command.count, command.title, more.empty() ? "" : "  # ", more);
}

std::string DryRun::difference(const Key& key) const {
    const auto parts = explain(key.surroundings->bytes, key.words);
    std::vector<std::string> names;
    if (key.surroundings != usual_) names = differences(parts, explain(usual_->bytes, key.words));
    names.emplace_back("stdin");
    std::string text;
    for (const std::string& name : names) {
        const auto part = std::find_if(parts.begin(), parts.end(), [&](const KeyPart& p) { return p.name == name; });
        if (part == parts.end() && name == names.back()) continue;
        if (!text.empty()) text += ", ";
        if (part == parts.end()) {
            text += "no " + name;
            continue;
        }
        const bool long_value = part->value.size() > shown_of_a_value;
        const bool variable = name.starts_with(variable_prefix);  // whose value names it
        text += (variable ? std::string(variable_prefix) : name + " ") +
                visible(std::string_view(part->value).substr(0, shown_of_a_value)) +
                (long_value ? formatted("… ({} bytes)", part->value.size()) : "");
    }
    return text;
}

}  // namespace coalesce
