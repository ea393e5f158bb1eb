// SPDX-License-Identifier: MIT
// Feeds anything to the reader of an engine's answers, cut where the input says; whatever comes
// of it is bounded, and the same however it is cut. Then what an INFO would tell, a URL, sealed
// bytes, of which none may open, and what others who have the secret could have sealed.
#include <coalesce/cluster/engine_facts.h>
#include <coalesce/cluster/engine_url.h>
#include <coalesce/cluster/records.h>
#include <coalesce/cluster/resp.h>
#include <coalesce/cluster/secret.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

using namespace coalesce;

namespace {

std::size_t count(const RespValue& value) {
    std::size_t all = 1;
    for (const RespValue& element : value.elements) all += count(element);
    return all;
}

// How many replies there were, and whether it ended in a refusal.
std::string read(std::string_view bytes, std::size_t piece) {
    RespReader reader;
    std::size_t replies = 0;
    std::size_t values = 0;
    while (!bytes.empty()) {
        const std::string_view next = bytes.substr(0, piece);
        bytes.remove_prefix(next.size());
        if (!reader.feed(next)) return "refused";
        while (true) {
            auto reply = reader.next();
            if (!reply) return "refused after " + std::to_string(replies) + " " + std::to_string(values);
            if (!reply->has_value()) break;
            ++replies;
            values += count(**reply);
            if (count(**reply) > RespReader::reply_values_max) std::abort();
        }
    }
    return std::to_string(replies) + " " + std::to_string(values);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    if (size == 0) return 0;
    const std::size_t piece = std::max<std::size_t>(1, data[0]);
    if (read(bytes.substr(1), piece) != read(bytes.substr(1), size)) std::abort();
    (void)EngineFacts::of(bytes).fit();
    if (const auto url = EngineUrl::parse(bytes); url) (void)url.value().address();
    std::uint64_t length = 0;
    const auto chunk = read_chunk(bytes, 0, [&](Stream, std::string_view piece) { length += piece.size(); });
    if (chunk.value_or(0) != length) std::abort();
    if (const auto end = EndRecord::of(bytes); end && EndRecord::of(end->text()) != end) std::abort();
    if (const auto info = RunInfo::of(bytes); info && RunInfo::of(info->text()) != info) std::abort();
    static const Secret secret(std::string(32, 's'));
    static const Seal seal = secret.seal_of("K", "a.1");
    if (seal.open(Seal::Kind::chunk, 2, bytes)) std::abort();
    return 0;
}
