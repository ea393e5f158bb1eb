// SPDX-License-Identifier: MIT
// Any bytes as a request: refused with a code and a sentence, or understood; and
// what was understood holds what the rest of the program relies on. What is JSON and
// what is none the JSON library says, too, which is not used for it.
#include <coalesce/protocol/json_reader.h>
#include <coalesce/protocol/message.h>
#include <coalesce/protocol/request.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>

#include "../protocol/json_tree.h"

namespace {

// But for what follows a NUL, which ends the text for it, and a byte order mark.
void compare_with_the_library(std::string_view text) {
    if (text.find('\0') != std::string_view::npos || text.starts_with("\xef\xbb\xbf")) return;
    nlohmann::json tree;
    bool accepted = true;
    try {
        coalesce::JsonReader reader(text, 1000);
        tree = tree_of(reader);
        reader.end();
    } catch (const coalesce::JsonReader::Malformed&) {
        accepted = false;
    }
    const auto reference = nlohmann::json::parse(text, nullptr, false);
    if (reference.is_discarded() && accepted && beyond_the_library(text)) return;
    const bool too_deep = std::count(text.begin(), text.end(), '[') + std::count(text.begin(), text.end(), '{') > 1000;
    if (accepted == reference.is_discarded() && !too_deep) std::abort();
    if (accepted && tree != reference) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace coalesce;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    compare_with_the_library(text);
    if (const auto fields = Fields::parse(text))
        static_cast<void>(fields->text("id") + std::string(fields->raw("env")));
    const auto parsed = parse_request(text);
    if (const auto* error = std::get_if<RequestError>(&parsed)) {
        static const std::set<std::string> codes{"bad_json", "bad_request", "unknown_field"};
        if (!codes.contains(error->code) || error->message.empty()) std::abort();
        return 0;
    }
    const auto& request = std::get<Request>(parsed);
    const auto has_nul = [](const std::string& text) { return text.find('\0') != std::string::npos; };
    for (const std::string& word : request.argv)
        if (has_nul(word)) std::abort();
    if (request.line && has_nul(*request.line)) std::abort();
    if (request.op.empty() && request.argv.empty() == !request.line) std::abort();
    if (request.env)
        for (const std::string& entry : *request.env)
            if (entry.find('=') == std::string::npos || has_nul(entry)) std::abort();
    if (request.cwd && !request.cwd->starts_with('/')) std::abort();
    return 0;
}
