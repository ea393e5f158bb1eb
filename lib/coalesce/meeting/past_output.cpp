// SPDX-License-Identifier: MIT
#include <coalesce/meeting/past_output.h>

#include <signal.h>
#include <unistd.h>

#include <string_view>

#include <coalesce/command/outcome.h>
#include <coalesce/meeting/attention.h>

namespace coalesce {
namespace {

RunEnd end_without_all(OutputRelay::End end, const std::string& title, OutputRelay& relay) {
    if (end == OutputRelay::End::reader_gone) return {128 + SIGPIPE, SIGPIPE};
    if (end == OutputRelay::End::refused) {
        relay.say("coalesce: " + relay.refusal() + "\n");
        return {125, 0};
    }
    if (const auto number = Attention::take_signal()) return {128 + *number, *number};
    relay.say("coalesce: gave up waiting for " + title + "\n");
    return {gave_up_status, 0};
}

}  // namespace

std::optional<RunEnd> pass_on_past(Stream stream, const Extent& extent, const std::string& title, OutputRelay& relay) {
    const int to = stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO;
    std::string_view bytes = extent.bytes;
    Stretch stretch{.offset = extent.offset, .length = extent.length};
    while (true) {
        const OutputRelay::End end = extent.file < 0 ? relay.pass(to, bytes) : relay.pass(to, extent.file, stretch);
        if (end == OutputRelay::End::done) return std::nullopt;
        if (end == OutputRelay::End::interrupted && !Attention::out_of_time()) {
            while (Attention::take_user_signal()) {
            }
            if (!Attention::called()) continue;
        }
        return end_without_all(end, title, relay);
    }
}

}  // namespace coalesce
