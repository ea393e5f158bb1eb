// SPDX-License-Identifier: MIT
// Feeds anything to the reader of kept results (SPEC T15, T17): once as it is, once with checksums that
// are right, so that what lies behind them is reached too. An entry that is taken must be whole.
#include <coalesce/kept/entry.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

using namespace coalesce;

namespace {

constexpr std::size_t header_bytes = 256;
constexpr std::size_t output_checksum_at = 168;
constexpr std::size_t rest_checksum_at = 184;
constexpr std::size_t checksum_at = 224;

void put(std::string& bytes, std::size_t at, const Checksum& checksum) {
    bytes.replace(at, checksum.size(), bytes_of(checksum));
}

std::uint64_t number_at(const std::string& bytes, std::size_t at) {
    std::uint64_t number = 0;
    for (std::size_t byte = 8; byte-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[at + byte]);
    return number;
}

void read(const std::string& bytes) {
    Descriptor file(::memfd_create("entry", MFD_CLOEXEC));
    if (!file || ::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return;
    const auto entry = Entry::read(file, nullptr);
    if (!entry) return;
    static const SpoolLimits limits{};
    auto spool = entry->replay(limits);
    std::uint64_t sum = 0;
    for (const Entry::Piece& piece : entry->pieces()) sum += piece.length;
    if (!spool || (*spool)->size() != entry->output_bytes() || sum != entry->output_bytes()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    read(bytes);
    if (size < header_bytes) return 0;
    bytes.replace(0, 16, "coalesce kept 1\n");
    const std::uint64_t output = number_at(bytes, 48);
    if (output <= size - header_bytes) {
        const std::string_view behind = std::string_view(bytes).substr(header_bytes);
        const Checksum of_output = digest_of<sizeof(Checksum)>(behind.substr(0, output));
        const Checksum of_rest = digest_of<sizeof(Checksum)>(behind.substr(output));
        put(bytes, output_checksum_at, of_output);
        put(bytes, rest_checksum_at, of_rest);
    }
    put(bytes, checksum_at, digest_of<sizeof(Checksum)>(std::string_view(bytes).substr(0, checksum_at)));
    read(bytes);
    return 0;
}
