// SPDX-License-Identifier: MIT
// RESP: what is said to the engine, and the reader of what it says.
//
// A request is an array of byte strings, which is all that the engine takes. Replies are
// read by hiredis' reader, the part of that library that has been fed by strangers for ten
// years, and become values here. What no engine would send ends the connection rather than
// this process: a reply of more than 8 MiB or of more values than that could hold, deeper
// nesting, anything that is not RESP2.
#pragma once

#include <coalesce/command/result.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct redisReader;

namespace coalesce {

struct RespValue {
    enum class Kind : std::uint8_t { nothing, status, error, integer, bytes, array };

    Kind kind = Kind::nothing;
    long long number = 0;             ///< of an integer
    std::string text;                 ///< of bytes, a status or an error
    std::vector<RespValue> elements;  ///< of an array

    [[nodiscard]] bool is_error() const noexcept { return kind == Kind::error; }
    /// An element of an array; nothing where there is none.
    [[nodiscard]] const RespValue& at(std::size_t index) const noexcept;
    /// The text of bytes or a status; of an integer its digits; otherwise empty.
    [[nodiscard]] std::string words() const;
    /// The number of an integer, or of bytes that are one; nothing otherwise.
    [[nodiscard]] std::optional<std::int64_t> integer() const noexcept;
};

/// Appends a request.
void append_request(std::string& out, std::span<const std::string_view> words);
void append_request(std::string& out, std::span<const std::string> words);

class RespReader {
  public:
    static constexpr std::size_t reply_bytes_max = 8 << 20;
    static constexpr std::size_t reply_values_max = 1 << 16;
    static constexpr int reply_depth_max = 8;  ///< arrays in arrays; a stream's entries take five

    RespReader();
    ~RespReader();
    RespReader(const RespReader&) = delete;
    RespReader& operator=(const RespReader&) = delete;

    /// What has come. A refusal is for good.
    Result<> feed(std::span<const char> bytes);
    /// The next whole reply, if it is there; nothing where more has to come. A refusal is for good.
    Result<std::optional<RespValue>> next();

    struct Tree;  ///< a reply that is being read

  private:
    struct Free {
        void operator()(redisReader* reader) const noexcept;
    };
    std::unique_ptr<Tree> tree_;
    std::unique_ptr<redisReader, Free> reader_;
    std::size_t since_reply_ = 0;  // bytes that were fed
};

}  // namespace coalesce
