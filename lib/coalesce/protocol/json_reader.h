// SPDX-License-Identifier: MIT
// JsonReader: a JSON text read strictly, once, from its front to its end.
//
// RFC 8259 and no more: UTF-8, paired surrogates, no leading zeros, no trailing commas.
// It builds no tree: whoever knows what the text means takes its values as they come,
// and nothing is held but what is wanted. It bounds the depth, and leaves names that are
// given twice to whoever collects the members. Reading 8 MiB must not stop a server's loop
// for longer than 0.1 s: the JSON library's own event reader takes twice that with nobody
// listening, a tenth of it is taken here. What the library accepts is the reference that
// the fuzzer compares with.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace coalesce {

class JsonReader {
  public:
    enum class Type { null, boolean, number, string, array, object };
    /// What is thrown at bytes that are no JSON; `why` holds nothing of them.
    struct Malformed {
        std::string why;
    };

    /// More than `depth_max` arrays and objects inside one another are malformed.
    explicit JsonReader(std::string_view text, unsigned depth_max = 16) noexcept
        : text_(text), depth_left_(depth_max) {}

    /// What comes next is a value of this type, judged by its first byte.
    [[nodiscard]] Type type();

    /// Each of these takes the value that comes next, which must be of that type.
    void null();
    [[nodiscard]] bool boolean();
    [[nodiscard]] std::string_view number();  ///< as it is written
    [[nodiscard]] std::string string();
    /// Calls `take()` for each element; it must take one value.
    template <class Take>
    void elements(Take take) {
        list('[', ']', [&] { take(); });
    }
    /// Calls `take(name)` for each member; it must take one value. The name is valid until then.
    template <class Take>
    void members(Take take) {
        std::string unescaped;
        list('{', '}', [&] { take(member_name(unescaped)); });
    }

    /// Takes the value that comes next, whatever it is: its text, which has been checked.
    [[nodiscard]] std::string_view value();

    /// Nothing but blanks may follow.
    void end();

  private:
    struct Content {
        std::string_view text;  // between the quotes
        bool escaped;
    };

    template <class Take>
    void list(char open, char close, Take take) {
        enter(open);
        for (bool more = !takes(close); more; more = goes_on(close)) take();
        ++depth_left_;
    }
    void enter(char open);
    bool goes_on(char close);
    std::string_view member_name(std::string& unescaped);
    Content string_content();
    void escape();
    unsigned four_digits();
    void literal(std::string_view word);
    void digits();

    [[noreturn]] void malformed(std::string_view why) const;
    void skip_blanks() noexcept;
    [[nodiscard]] bool at_end() const noexcept { return at_ == text_.size(); }
    [[nodiscard]] char here() const noexcept { return at_end() ? '\0' : text_[at_]; }
    bool takes(char wanted) noexcept;

    std::string_view text_;
    std::size_t at_ = 0;
    unsigned depth_left_;
};

/// "object", "string" …, as a person is told.
[[nodiscard]] std::string_view name_of(JsonReader::Type type) noexcept;

}  // namespace coalesce
