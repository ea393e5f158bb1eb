// SPDX-License-Identifier: MIT
#include <coalesce/kept/entry.h>

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace coalesce {
namespace {

constexpr std::string_view magic{"coalesce kept 1\n", 16};
constexpr std::size_t header_bytes = 256;
constexpr std::size_t mark_at = 240;  // the one place that is written later, so behind what the checksum covers
constexpr std::size_t checksum_at = mark_at - sizeof(Checksum);
constexpr std::uint64_t order_bytes_max = 1 << 24;
constexpr std::uint64_t facts_bytes_max = 1 << 24;
constexpr std::int64_t time_max = std::int64_t{1} << 62;  // past the year 2100; the difference of two is a number, too
constexpr std::uint32_t error_stream_bit = std::uint32_t{1} << 31;

// Fixed fields in a fixed order, whatever machine wrote them.
class Writer {
  public:
    void number(std::uint64_t value) {
        for (int shift = 0; shift < 64; shift += 8) bytes_ += static_cast<char>(value >> shift & 0xff);
    }
    void number(std::int64_t value) { number(static_cast<std::uint64_t>(value)); }
    void raw(std::string_view bytes) { bytes_ += bytes; }
    void text(std::string_view bytes) {
        number(std::uint64_t{bytes.size()});
        raw(bytes);
    }
    [[nodiscard]] std::string& bytes() noexcept { return bytes_; }

  private:
    std::string bytes_;
};

class Reader {
  public:
    explicit Reader(std::string_view bytes) : rest_(bytes) {}
    [[nodiscard]] std::uint64_t number() {
        const std::string_view bytes = raw(8);
        std::uint64_t value = 0;
        for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
        return value;
    }
    [[nodiscard]] std::int64_t signed_number() { return static_cast<std::int64_t>(number()); }
    [[nodiscard]] std::string_view raw(std::uint64_t length) {
        if (length > rest_.size()) {
            failed_ = true;
            return {};
        }
        const std::string_view bytes = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return bytes;
    }
    [[nodiscard]] std::string text() { return std::string(raw(number())); }
    template <std::size_t Bytes>
    void array(std::array<unsigned char, Bytes>& into) {
        const std::string_view bytes = raw(Bytes);
        std::copy(bytes.begin(), bytes.end(), into.begin());
    }
    [[nodiscard]] bool failed() const noexcept { return failed_; }
    [[nodiscard]] bool at_end() const noexcept { return rest_.empty() && !failed_; }

  private:
    std::string_view rest_;
    bool failed_ = false;
};

struct Header {
    EntryFacts facts;  // without what lies behind the output
    std::uint64_t output_bytes = 0;
    std::uint64_t order_bytes = 0;
    std::uint64_t facts_bytes = 0;
    Checksum output{};
    Checksum rest{};
};

std::string encode(const Header& header) {
    Writer writer;
    const EntryFacts& facts = header.facts;
    writer.raw(magic);
    writer.raw(bytes_of(facts.key));
    writer.number(header.output_bytes);
    writer.number(header.order_bytes);
    writer.number(header.facts_bytes);
    writer.number(std::uint64_t{static_cast<unsigned>(facts.exit_status)});
    writer.number(facts.started.wall_ns);
    writer.number(facts.started.boot_ns);
    writer.number(facts.ended.wall_ns);
    writer.number(facts.ended.boot_ns);
    writer.raw({reinterpret_cast<const char*>(facts.ended.boot.data()), facts.ended.boot.size()});
    writer.number(std::int64_t{facts.duration.count()});
    writer.number(facts.program.device);
    writer.number(facts.program.inode);
    writer.number(facts.program.size);
    writer.number(facts.program.modified_ns);
    writer.raw(bytes_of(header.output));
    writer.raw(bytes_of(header.rest));
    static_assert(16 + 32 + 8 * 8 + 16 + 5 * 8 + 2 * 16 <= checksum_at);
    std::string& bytes = writer.bytes();
    bytes.resize(checksum_at, '\0');
    bytes += bytes_of(digest_of<sizeof(Checksum)>(bytes));
    bytes.resize(header_bytes, '\0');
    return std::move(bytes);
}

std::optional<Header> decode(std::string_view bytes) {
    if (bytes.size() < header_bytes || !bytes.starts_with(magic)) return std::nullopt;
    if (bytes_of(digest_of<sizeof(Checksum)>(bytes.substr(0, checksum_at))) !=
        bytes.substr(checksum_at, sizeof(Checksum)))
        return std::nullopt;
    Header header;
    EntryFacts& facts = header.facts;
    Reader reader(bytes.substr(magic.size(), checksum_at - magic.size()));
    reader.array(facts.key);
    header.output_bytes = reader.number();
    header.order_bytes = reader.number();
    header.facts_bytes = reader.number();
    facts.exit_status = static_cast<int>(reader.number() & 0xff);
    facts.started.wall_ns = reader.signed_number();
    facts.started.boot_ns = reader.signed_number();
    facts.ended.wall_ns = reader.signed_number();
    facts.ended.boot_ns = reader.signed_number();
    reader.array(facts.ended.boot);
    facts.started.boot = facts.ended.boot;
    facts.duration = std::chrono::nanoseconds(reader.signed_number());
    facts.program.device = reader.number();
    facts.program.inode = reader.number();
    facts.program.size = reader.number();
    facts.program.modified_ns = reader.signed_number();
    reader.array(header.output);
    reader.array(header.rest);
    if (header.order_bytes > order_bytes_max || header.facts_bytes > facts_bytes_max) return std::nullopt;
    for (const Moment& moment : {facts.started, facts.ended})
        for (const std::int64_t time : {moment.wall_ns, moment.boot_ns})
            if (time <= -time_max || time >= time_max) return std::nullopt;
    // It is added to what others spared, at most twice as much.
    if (facts.duration.count() < 0 || facts.duration.count() > time_max / 2) return std::nullopt;
    return header;
}

// What nobody but who has synced this very file can have written there.
std::string synced_mark(std::string_view header) {
    const Checksum mark = digest_of<sizeof(Checksum)>(header.substr(0, mark_at), "coalesce: synced");
    return std::string(bytes_of(mark));
}

std::string encode_facts(const EntryFacts& facts) {
    Writer writer;
    writer.text(facts.title);
    writer.text(facts.directory);
    writer.text(facts.salt);
    writer.number(std::uint64_t{facts.parts.size()});
    for (const PartDigest& part : facts.parts) {
        writer.text(part.name);
        writer.raw(bytes_of(part.value));
    }
    return std::move(writer.bytes());
}

bool decode_facts(std::string_view bytes, EntryFacts& facts) {
    Reader reader(bytes);
    facts.title = reader.text();
    facts.directory = reader.text();
    facts.salt = reader.text();
    for (std::uint64_t count = reader.number(); count > 0 && !reader.failed(); --count) {
        PartDigest part{.name = reader.text(), .value = {}};
        reader.array(part.value);
        facts.parts.push_back(std::move(part));
    }
    return reader.at_end();
}

bool read_fully(int file, std::uint64_t offset, char* into, std::size_t length) {
    while (length > 0) {
        const ssize_t got = ::pread(file, into, length, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = EIO;  // it is shorter than it was
        if (got <= 0) return false;
        into += got;
        offset += static_cast<std::uint64_t>(got);
        length -= static_cast<std::size_t>(got);
    }
    return true;
}

// `look` is shown all of the output, piece by piece.
template <class Look>
bool read_output(int file, std::uint64_t length, const Look& look) {
    std::string block(std::min<std::uint64_t>(length, 1 << 20), '\0');
    for (std::uint64_t done = 0; done < length;) {
        const std::size_t piece = static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), length - done));
        if (!read_fully(file, header_bytes + done, block.data(), piece)) return false;
        look(std::string_view(block.data(), piece));
        done += piece;
    }
    return true;
}

bool output_is(const Checksum& expected, int file, std::uint64_t length) {
    Digester<sizeof(Checksum)> digester;
    return read_output(file, length, [&](std::string_view piece) { digester.add(piece); }) &&
           digester.end() == expected;
}

// Appends to a file at its end.
class FileWriter {
  public:
    explicit FileWriter(int file) : file_(file) {}
    Result<> append(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t wrote = ::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(at_));
            if (wrote < 0 && errno == EINTR) continue;
            if (wrote < 0) return system_error_now("write a result");
            if (wrote == 0) return system_error_of(ENOSPC, "write a result");
            at_ += static_cast<std::uint64_t>(wrote);
            bytes.remove_prefix(static_cast<std::size_t>(wrote));
        }
        return {};
    }
    void seek(std::uint64_t at) noexcept { at_ = at; }

  private:
    int file_;
    std::uint64_t at_ = 0;
};

}  // namespace

// Not libsodium's generator, which would open a device at start. Where the kernel has none to give yet,
// a salt that is no secret will do: it keeps apart what two entries digest.
std::string new_salt() {
    std::string salt(16, '\0');
    if (::getrandom(salt.data(), salt.size(), GRND_NONBLOCK) != static_cast<ssize_t>(salt.size())) {
        timespec time{};
        ::clock_gettime(CLOCK_MONOTONIC, &time);
        salt.replace(0, 8, reinterpret_cast<const char*>(&time.tv_nsec), 8);
    }
    return salt;
}

std::vector<PartDigest> digests_of(const std::vector<KeyPart>& parts, std::string_view salt) {
    std::vector<PartDigest> digests;
    digests.reserve(parts.size());
    for (const KeyPart& part : parts) digests.push_back({part.name, digest_of<sizeof(Checksum)>(part.value, salt)});
    return digests;
}

std::vector<std::string> differences(const EntryFacts& entry, const std::vector<KeyPart>& parts) {
    const std::vector<PartDigest> others = digests_of(parts, entry.salt);
    std::vector<std::string> names;
    const auto look_at = [&](const std::vector<PartDigest>& from, const std::vector<PartDigest>& in) {
        for (const PartDigest& part : from)
            if (std::find(in.begin(), in.end(), part) == in.end() &&
                std::find(names.begin(), names.end(), part.name) == names.end())
                names.push_back(part.name);
    };
    look_at(entry.parts, others);
    look_at(others, entry.parts);
    return names;
}

std::optional<Entry> Entry::read(Descriptor& file, const Digest* key, Check check) {
    Entry entry;
    entry.file_ = std::move(file);
    if (entry.read_head() && entry.take(key, check)) return entry;
    file = std::move(entry.file_);
    return std::nullopt;
}

bool Entry::read_head() {
    struct stat info {};
    if (::fstat(file(), &info) != 0) return false;
    file_bytes_ = static_cast<std::uint64_t>(info.st_size);
    kept_until_ns_ = nanoseconds_of(info.st_mtim);
    if (file_bytes_ < header_bytes) return false;  // so the head's bytes stay where they are when an Entry is moved
    head_.resize(std::min<std::uint64_t>(file_bytes_, header_bytes + checked_always_bytes));
    return read_fully(file(), 0, head_.data(), head_.size());
}

bool Entry::take(const Digest* key, Check check) {
    auto header = decode(head_);
    if (!header || (key != nullptr && header->facts.key != *key)) return false;
    const std::uint64_t behind_output = header->order_bytes + header->facts_bytes;
    if (file_bytes_ < header_bytes + behind_output ||
        header->output_bytes != file_bytes_ - header_bytes - behind_output)
        return false;
    facts_ = std::move(header->facts);
    output_bytes_ = header->output_bytes;

    const std::uint64_t rest_at = header_bytes + output_bytes_;
    const bool whole_in_head = file_bytes_ == head_.size();
    std::string behind_head;
    if (!whole_in_head) {
        behind_head.resize(behind_output);
        if (!read_fully(file(), rest_at, behind_head.data(), behind_head.size())) return false;
    }
    const std::string_view rest = whole_in_head ? std::string_view(head_).substr(rest_at) : behind_head;
    if (digest_of<sizeof(Checksum)>(rest) != header->rest) return false;

    const bool in_head = output_bytes_ <= checked_always_bytes;
    if (in_head) {
        if (digest_of<sizeof(Checksum)>(std::string_view(head_).substr(header_bytes, output_bytes_)) != header->output)
            return false;
    } else if (check == Check::all && head_.compare(mark_at, sizeof(Checksum), synced_mark(head_)) != 0 &&
               !output_is(header->output, file(), output_bytes_)) {
        return false;
    }
    return take_pieces(rest.substr(0, header->order_bytes), in_head) &&
           decode_facts(rest.substr(header->order_bytes), facts_);
}

bool Entry::take_pieces(std::string_view order, bool in_head) {
    if (order.size() % sizeof(std::uint32_t) != 0) return false;
    std::uint64_t offset = 0;
    for (std::uint64_t at = 0; at < order.size(); at += sizeof(std::uint32_t)) {
        std::uint32_t word = 0;
        for (std::size_t byte = sizeof word; byte-- > 0;)
            word = word << 8 | static_cast<unsigned char>(order[at + byte]);
        const std::uint32_t length = word & ~error_stream_bit;
        if (length == 0 || length > output_bytes_ - offset) return false;
        pieces_.push_back(
            {.stream = (word & error_stream_bit) != 0 ? Stream::err : Stream::out,
             .bytes = in_head ? std::string_view(head_).substr(header_bytes + offset, length) : std::string_view(),
             .offset = header_bytes + offset,
             .length = length});
        offset += length;
    }
    return offset == output_bytes_;
}

// What is long is not copied: a thousand may be slow to read it. But it is read once, here, where a disk may take its
// time and a failure is no more than a miss (SPEC T15); what passes it on finds it in the page cache.
Result<std::shared_ptr<Spool>> Entry::replay(const SpoolLimits& limits) const {
    SpoolLimits own = limits;
    own.replay_bytes = std::max(own.replay_bytes, output_bytes_);
    own.always_kept_bytes = std::max(own.always_kept_bytes, output_bytes_);  // it is the whole, or no result
    auto spool = std::make_shared<Spool>(own);
    if (output_bytes_ > checked_always_bytes &&
        (output_bytes_ > limits.store.heap_bytes || limits.store.budget->exhausted())) {
        Descriptor file(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0));
        if (!file || !read_output(file_.get(), output_bytes_, [](std::string_view /*piece*/) {}))
            return system_error_now("read a kept result");
        std::vector<Spool::Segment> segments;
        segments.reserve(pieces_.size());
        for (const Piece& piece : pieces_) segments.push_back({piece.stream, static_cast<std::uint32_t>(piece.length)});
        if (auto lies = spool->lie_in(std::move(file), header_bytes, segments); !lies) return lies.error();
        return spool;
    }
    std::string block;
    for (const Piece& piece : pieces_) {
        std::string_view bytes = piece.bytes;
        if (bytes.empty()) {
            block.resize(piece.length);
            if (!read_fully(file(), piece.offset, block.data(), block.size()))
                return system_error_now("read a kept result");
            bytes = block;
        }
        if (auto kept = spool->append(piece.stream, bytes); !kept) return kept.error();
    }
    spool->close();
    return spool;
}

Result<> write_entry(int file, Spool& spool, const EntryFacts& facts,
                     std::optional<std::chrono::steady_clock::time_point> until) {
    FileWriter writer(file);
    writer.seek(header_bytes);
    Header header{.facts = facts, .output_bytes = spool.size()};
    Digester<sizeof(Checksum)> output;
    std::string rest;
    std::string block;
    SpoolReader reader(spool);
    while (const auto piece = reader.next()) {
        std::uint64_t length = std::min<std::uint64_t>(piece->extent.length, 1 << 20);
        std::string_view bytes = piece->extent.bytes.substr(0, length);
        if (piece->extent.file >= 0) {
            block.resize(length);
            if (!read_fully(piece->extent.file, piece->extent.offset, block.data(), length))
                return system_error_now("read a run's output");
            bytes = block;
        }
        output.add(bytes);
        if (auto written = writer.append(bytes); !written) return written;
        const std::uint32_t word =
            static_cast<std::uint32_t>(length) | (piece->stream == Stream::err ? error_stream_bit : 0);
        for (int shift = 0; shift < 32; shift += 8) rest += static_cast<char>(word >> shift & 0xff);
        reader.advance(length);
        if (until && std::chrono::steady_clock::now() > *until) return system_error_of(ETIMEDOUT, "keep a result");
    }
    header.order_bytes = rest.size();
    rest += encode_facts(facts);
    header.facts_bytes = rest.size() - header.order_bytes;
    if (header.order_bytes > order_bytes_max || header.facts_bytes > facts_bytes_max)
        return system_error_of(EFBIG, "keep a result");
    header.output = output.end();
    header.rest = digest_of<sizeof(Checksum)>(rest);
    if (auto written = writer.append(rest); !written) return written;
    writer.seek(0);
    return writer.append(encode(header));
}

Result<> sync_entry(int file) {
    std::string header(header_bytes, '\0');
    struct stat before {};
    if (::fstat(file, &before) != 0 || ::fdatasync(file) != 0 || !read_fully(file, 0, header.data(), header.size()))
        return system_error_now("sync a result");
    FileWriter writer(file);
    writer.seek(mark_at);
    auto written = writer.append(synced_mark(header));
    // Its times say until when it is kept, and when it was used last.
    const timespec times[2] = {before.st_atim, before.st_mtim};
    if (::futimens(file, times) != 0) return system_error_now("sync a result");
    return written;
}

}  // namespace coalesce
