#include <coalesce/service/json_text.h>

#include <nlohmann/json.hpp>
#include <sodium.h>

#include <cstdlib>

namespace coalesce {

// The Unicode standard's table 3-7: the first byte says how many follow and what
// the second may be; all later ones are 80..BF.
void Utf8Check::add(std::string_view piece) noexcept {
    for (const char raw : piece) {
        const auto byte = static_cast<unsigned char>(raw);
        if (pending_ > 0) {
            if (byte < low_ || byte > high_) valid_ = false;
            low_ = 0x80;
            high_ = 0xBF;
            --pending_;
        } else if (byte >= 0x80) {
            if (byte < 0xC2 || byte > 0xF4) {
                valid_ = false;
                continue;
            }
            pending_ = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
            if (byte == 0xE0) low_ = 0xA0;
            if (byte == 0xED) high_ = 0x9F;
            if (byte == 0xF0) low_ = 0x90;
            if (byte == 0xF4) high_ = 0x8F;
        }
        if (!valid_) return;
    }
}

void append_json_escaped(std::string& out, std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    for (const char raw : bytes) {
        const auto byte = static_cast<unsigned char>(raw);
        if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f) {
            out += raw;
            continue;
        }
        switch (raw) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            default:
                out += "\\u00";
                out += digits[byte >> 4];
                out += digits[byte & 15];
        }
    }
}

void append_json_string(std::string& out, std::string_view text) {
    out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void append_base64(std::string& out, std::string_view bytes) {
    const std::size_t had = out.size();
    const std::size_t room = sodium_base64_ENCODED_LEN(bytes.size(), sodium_base64_VARIANT_ORIGINAL);
    out.resize(had + room);  // room counts the terminating NUL
    sodium_bin2base64(out.data() + had, room, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                      sodium_base64_VARIANT_ORIGINAL);
    out.pop_back();
}

}  // namespace coalesce
