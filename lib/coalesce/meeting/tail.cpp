// SPDX-License-Identifier: MIT
#include <coalesce/meeting/tail.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include <coalesce/meeting/past_output.h>

namespace coalesce {
namespace {

constexpr std::uint64_t block_bytes = 16 * 1024;  // on the stack, which may be small

}  // namespace

Result<> Tail::take(Stream stream, const Extent& extent) {
    LastLines& lines = streams_[index_of(stream)];
    if (extent.file < 0) return lines.append(extent.bytes);
    std::array<char, block_bytes> block;
    for (std::uint64_t taken = 0; taken < extent.length;) {
        const ssize_t got =
            ::pread(extent.file, block.data(),
                    static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), extent.length - taken)),
                    static_cast<off_t>(extent.offset + taken));
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = EIO;  // the file is shorter than promised
        if (got <= 0) return system_error_now("read the output");
        if (auto appended = lines.append(std::span(block.data(), static_cast<std::size_t>(got))); !appended)
            return appended;
        taken += static_cast<std::uint64_t>(got);
    }
    return {};
}

std::optional<RunEnd> Tail::pass_on(const std::string& title, OutputRelay& relay) {
    for (const Stream stream : {Stream::out, Stream::err}) {
        auto extents = streams_[index_of(stream)].extents();
        if (!extents) {
            relay.say("coalesce: cannot " + extents.error().message() + "\n");
            return RunEnd{125, 0};
        }
        for (const Extent& extent : *extents)
            if (const auto end = pass_on_past(stream, extent, title, relay)) return end;
    }
    return std::nullopt;
}

}  // namespace coalesce
