// SPDX-License-Identifier: MIT
#include <coalesce/reception/shared_answer.h>

namespace coalesce {

std::optional<std::string> SharedAnswer::line_for(const std::shared_ptr<const RunResult>& result,
                                                  const Delivered& delivered) {
    if (!fits(result, delivered)) {
        anybody_ = delivered;
        anybody_.id.clear();
        if (!make(result)) return std::nullopt;
    }
    if (delivered.id.empty()) return text_;
    return "{\"id\":" + delivered.id + "," + text_.substr(1);
}

bool SharedAnswer::fits(const std::shared_ptr<const RunResult>& result, const Delivered& delivered) const {
    return result_.lock() == result && anybody_.joined == delivered.joined &&
           anybody_.with_output == delivered.with_output && anybody_.command == delivered.command;
}

bool SharedAnswer::make(const std::shared_ptr<const RunResult>& result) {
    text_.clear();
    result_.reset();
    const auto rendering = render(Format::json, result, anybody_);
    while (const auto piece = rendering->next()) {
        if (piece->extent.file >= 0) return false;  // what cannot be read; else JSON is always in memory
        text_ += piece->extent.bytes;
        rendering->advance(piece->extent.length);
    }
    result_ = result;
    return true;
}

}  // namespace coalesce
