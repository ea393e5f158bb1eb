// SPDX-License-Identifier: MIT
// Any bytes as a request: refused with a code and a sentence, or understood; and
// what was understood holds what the rest of the program relies on.
#include <coalesce/protocol/request.h>

#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace coalesce;
    const auto parsed = parse_request({reinterpret_cast<const char*>(bytes), size});
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
