// SPDX-License-Identifier: MIT
#include <coalesce/protocol/request.h>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iterator>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include <coalesce/command/number.h>
#include <coalesce/protocol/json_reader.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/json_text.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

using Type = JsonReader::Type;

constexpr std::size_t id_bytes_max = 256;  // it comes back with every message
constexpr unsigned depth_max = 4;          // a request needs 2; more is a mistake

// Each pattern may be held against each variable: without a bound on both a request would
// stop the server for the square of its length.
constexpr std::size_t patterns_max = 256;
constexpr std::size_t comparisons_max = 4'000'000;

struct Refusal {
    std::string code;
    std::string message;
};

[[noreturn]] void refuse(std::string message) { throw Refusal{"bad_request", std::move(message)}; }

// What execve() takes at most: a quarter of the stack, but 128 KiB at least and 6 MiB at
// most, with a pointer for each word.
constexpr std::size_t exec_bytes_always = 128 << 10;
std::size_t exec_bytes_max() {
    constexpr std::size_t exec_bytes_ever = 6 << 20;
    rlimit stack{};
    if (::getrlimit(RLIMIT_STACK, &stack) != 0) return exec_bytes_ever;
    return std::clamp<rlim_t>(stack.rlim_cur / 4, exec_bytes_always, exec_bytes_ever);
}

// Of what a client sent, as much as a person wants to see.
std::string shown(std::string_view text) {
    constexpr std::size_t shown_bytes = 100;
    return json_string_in_ascii(text.substr(0, shown_bytes)) + (text.size() > shown_bytes ? "..." : "");
}

struct Reading {
    Request& request;
    std::size_t exec_bytes = 0;
    std::size_t exec_bytes_allowed = exec_bytes_always;  // until more is wanted, and the limit is looked at

    // Refused at once, since what is to be done with the words takes longer than reading them.
    void count(std::size_t word_bytes) {
        exec_bytes += word_bytes + 1 + sizeof(char*);
        if (exec_bytes <= exec_bytes_allowed) return;
        exec_bytes_allowed = exec_bytes_max();
        if (exec_bytes > exec_bytes_allowed)
            refuse("the command and its environment are more than the " + std::to_string(exec_bytes_allowed) +
                   " bytes that a process can be given");
    }
};

// One member's value, and the name it came by.
struct Value {
    std::string_view name;
    std::string_view json;

    [[noreturn]] void refuse(const std::string& why) const {
        coalesce::refuse(std::string("\"").append(name).append("\" ").append(why));
    }
    [[nodiscard]] JsonReader reader_of(Type wanted, const char* description) const {
        JsonReader reader(json, depth_max);
        if (const Type type = reader.type(); type != wanted)
            refuse(std::string("must be ") + description + ", not " + std::string(name_of(type)));
        return reader;
    }
};

// How bytes are written: as they are, or in base64.
enum class Form { text, base64 };

std::string decoded(const Value& value, Form form, std::string text) {
    if (form == Form::text) return text;
    auto bytes = from_base64(text);
    if (!bytes) value.refuse("is not base64");
    return std::move(*bytes);
}

std::string bytes_of(const Value& value, Form form) {
    return decoded(value, form, value.reader_of(Type::string, "a string").string());
}

std::string without_nul(const Value& value, std::string text) {
    if (text.find('\0') != std::string::npos) value.refuse("has a NUL byte");
    return text;
}

std::string word_of(const Value& value, Form form) { return without_nul(value, bytes_of(value, form)); }

template <class Take>
void for_each_word(const Value& value, Form form, Take take) {
    JsonReader reader = value.reader_of(Type::array, "an array of strings");
    reader.elements([&] {
        if (const Type type = reader.type(); type != Type::string)
            value.refuse("must be an array of strings, not of " + std::string(name_of(type)));
        take(without_nul(value, decoded(value, form, reader.string())));
    });
}

std::vector<std::string> patterns_of(const Value& value, Form form) {
    std::vector<std::string> patterns;
    for_each_word(value, form, [&](std::string pattern) {
        if (patterns.size() == patterns_max)
            value.refuse("has more than " + std::to_string(patterns_max) + " patterns");
        patterns.push_back(std::move(pattern));
    });
    return patterns;
}

std::chrono::milliseconds seconds_of(const Value& value) {
    constexpr double century = 100.0 * 365 * 86400;
    const std::string_view number = value.reader_of(Type::number, "a number of seconds").number();
    double seconds = 0;
    const auto [end, error] = std::from_chars(number.begin(), number.end(), seconds);
    if (error != std::errc() || !(seconds >= 0) || seconds > century) value.refuse("is out of range");
    return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1000)));
}

bool flag_of(const Value& value) { return value.reader_of(Type::boolean, "true or false").boolean(); }

unsigned number_of(const Value& value, unsigned most) {
    unsigned number = 0;
    if (!read_whole_number(value.json, number) || number > most)
        value.refuse("must be a whole number from 0 to " + std::to_string(most));
    return number;
}

// Whether a number means to other readers what its digits say: beyond 64 bits, and beyond
// 2^53 for a floating one, it would not come back as it was.
bool comes_back(std::string_view number) {
    const auto fits = [number](auto value) {
        return std::from_chars(number.begin(), number.end(), value).ec == std::errc();
    };
    if (number.find_first_of(".eE") == std::string_view::npos) return fits(std::uint64_t()) || fits(std::int64_t());
    constexpr double exact_below = 9007199254740992;  // 2^53
    double value = 0;
    const auto [end, error] = std::from_chars(number.begin(), number.end(), value);
    return error == std::errc() && std::abs(value) < exact_below;
}

std::string id_of(const Value& value) {
    JsonReader reader(value.json);
    std::string id;
    if (const Type type = reader.type(); type == Type::string) {
        append_json_string(id, reader.string());
    } else if (type == Type::number) {
        id = value.json;
        if (!comes_back(id)) value.refuse("is a number that would not come back as it was; send it as a string");
    } else {
        value.refuse("must be a string or a number, not " + std::string(name_of(type)));
    }
    if (id.size() > id_bytes_max) value.refuse("is longer than " + std::to_string(id_bytes_max) + " bytes");
    return id;
}

void read_whole_env(const Value& value, Form form, Reading& reading) {
    std::vector<std::string>& env = reading.request.env.emplace();
    for_each_word(value, form, [&](std::string entry) {
        if (entry.find('=') == std::string::npos || entry.front() == '=')
            value.refuse("entry " + shown(entry) + " is not NAME=value");
        reading.count(entry.size());
        env.push_back(std::move(entry));
    });
}

void read_env_changes(const Value& value, Reading& reading) {
    auto& changes = reading.request.env_changes;
    JsonReader reader = value.reader_of(Type::object, "an object of changes or an array of \"NAME=value\"");
    reader.members([&](std::string_view name) {
        if (name.empty() || name.find('=') != std::string_view::npos || name.find('\0') != std::string_view::npos)
            value.refuse("has no valid variable name in " + shown(name));
        auto& [variable, text] = changes.emplace_back(name, std::nullopt);
        if (const Type type = reader.type(); type == Type::string)
            text = without_nul(value, reader.string());
        else if (type == Type::null)
            reader.null();
        else
            value.refuse("must set a variable to a string or to null, not to " + std::string(name_of(type)));
        reading.count(variable.size() + 1 + (text ? text->size() : 0));
    });
    std::unordered_set<std::string_view> names;
    names.reserve(changes.size());
    for (const auto& [name, text] : changes)
        if (!names.insert(name).second) refuse(shown(name) + " is given twice");
}

template <Form form>
void read_env(const Value& value, Reading& reading) {
    if (form == Form::base64 || JsonReader(value.json).type() == Type::array)
        read_whole_env(value, form, reading);
    else
        read_env_changes(value, reading);
}

template <Form form>
void read_argv(const Value& value, Reading& reading) {
    std::vector<std::string>& argv = reading.request.argv;
    for_each_word(value, form, [&](std::string word) {
        reading.count(word.size());
        argv.push_back(std::move(word));
    });
    if (argv.empty() || argv.front().empty()) value.refuse("names no command");
}

template <Form form>
void read_cwd(const Value& value, Reading& reading) {
    reading.request.cwd = word_of(value, form);
    if (!reading.request.cwd->starts_with('/'))
        value.refuse("must be an absolute path, not " + shown(*reading.request.cwd));
}

template <Form form>
void read_key(const Value& value, Reading& reading) {
    reading.request.key = bytes_of(value, form);
    if (reading.request.key->empty()) value.refuse("is empty");  // all that were meant to differ would be one
}

void read_op(const Value& value, Reading& reading) {
    reading.request.op = bytes_of(value, Form::text);
    if (reading.request.op.empty()) value.refuse("is empty");
}

void read_output(const Value& value, Reading& reading) {
    const std::string mode = bytes_of(value, Form::text);
    static constexpr std::pair<std::string_view, Request::Output> modes[] = {{"whole", Request::Output::whole},
                                                                             {"stream", Request::Output::stream},
                                                                             {"fd", Request::Output::fd},
                                                                             {"none", Request::Output::none}};
    const auto* const found =
        std::find_if(std::begin(modes), std::end(modes), [&mode](const auto& known) { return known.first == mode; });
    if (found == std::end(modes)) value.refuse("must be whole, stream, fd or none, not " + shown(mode));
    reading.request.output = found->second;
}

void read_pty(const Value& value, Reading& reading) {
    if (flag_of(value)) reading.request.terminal.emplace();
}

// Behind the one above.
void read_pty_size(const Value& value, Reading& reading) {
    if (!reading.request.terminal) value.refuse("is for \"pty\":true");
    auto size = parse_terminal_size(bytes_of(value, Form::text));
    if (!size) value.refuse("must be a size such as \"120x24\"");
    reading.request.terminal = *size;
}

void read_class(const Value& value, Reading& reading) {
    auto run_class = parse_run_class(bytes_of(value, Form::text));
    if (!run_class) value.refuse("must be a name, or a name and a number such as \"heavy:2\"");
    reading.request.run_class = std::move(*run_class);
}

// The simple ones: read into a member of Request.
template <auto member, Form form>
void read_word(const Value& value, Reading& reading) {
    reading.request.*member = word_of(value, form);
}
template <auto member, Form form>
void read_bytes(const Value& value, Reading& reading) {
    reading.request.*member = bytes_of(value, form);
}
template <auto member, Form form>
void read_patterns(const Value& value, Reading& reading) {
    reading.request.*member = patterns_of(value, form);
}
template <auto member>
void read_flag(const Value& value, Reading& reading) {
    reading.request.*member = flag_of(value);
}
template <auto member>
void read_seconds(const Value& value, Reading& reading) {
    reading.request.*member = seconds_of(value);
}
template <auto member>
void read_kept_time(const Value& value, Reading& reading) {
    reading.request.wish.*member = seconds_of(value);
    reading.request.own_wish = true;
}
template <auto member, unsigned most>
void read_number(const Value& value, Reading& reading) {
    reading.request.*member = number_of(value, most);
}

// `place` is the operation that takes the field; empty: a request for a command.
struct Field {
    std::string_view name;
    void (*read)(const Value&, Reading&);
    std::string_view place = {};
};

constexpr std::string_view anywhere = "*";
constexpr std::string_view of_a_command = "+";  // what makes its key: also where no run is asked for
constexpr std::string_view forget = "forget";

using R = Request;
constexpr Field fields[] = {
    {"id", [](const Value& value, Reading& reading) { reading.request.id = id_of(value); }, anywhere},
    {"op", read_op, anywhere},
    {"line", read_word<&R::line, Form::text>, of_a_command},
    {"line_base64", read_word<&R::line, Form::base64>, of_a_command},
    {"argv", read_argv<Form::text>, of_a_command},
    {"argv_base64", read_argv<Form::base64>, of_a_command},
    {"cwd", read_cwd<Form::text>, of_a_command},
    {"cwd_base64", read_cwd<Form::base64>, of_a_command},
    {"env", read_env<Form::text>, of_a_command},
    {"env_base64", read_env<Form::base64>, of_a_command},
    {"umask", read_number<&R::umask, 0777>, of_a_command},
    {"class", read_class},
    {"pty", read_pty, of_a_command},
    {"pty_size", read_pty_size, of_a_command},
    {"stdin", read_bytes<&R::stdin_bytes, Form::text>, of_a_command},
    {"stdin_base64", read_bytes<&R::stdin_bytes, Form::base64>, of_a_command},
    {"output", read_output},
    {"quiet", read_flag<&R::quiet>},
    {"fresh", read_flag<&R::fresh>},
    {"key", read_key<Form::text>, of_a_command},
    {"key_base64", read_key<Form::base64>, of_a_command},
    {"scope", read_bytes<&R::scope, Form::text>, of_a_command},
    {"scope_base64", read_bytes<&R::scope, Form::base64>, of_a_command},
    {"cluster_scope", read_bytes<&R::cluster_scope, Form::text>, of_a_command},
    {"cluster_scope_base64", read_bytes<&R::cluster_scope, Form::base64>, of_a_command},
    {"ignore_platform", read_flag<&R::ignore_platform>, of_a_command},
    {"ignore_env", read_patterns<&R::ignore_env, Form::text>, of_a_command},
    {"ignore_env_base64", read_patterns<&R::ignore_env, Form::base64>, of_a_command},
    {"only_env", read_patterns<&R::only_env, Form::text>, of_a_command},
    {"only_env_base64", read_patterns<&R::only_env, Form::base64>, of_a_command},
    {"ignore_cwd", read_flag<&R::ignore_cwd>, of_a_command},
    {"ignore_namespaces", read_flag<&R::ignore_namespaces>, of_a_command},
    {"no_share", read_flag<&R::no_share>},
    {"timeout", read_seconds<&R::timeout>},
    {"wait", read_seconds<&R::wait>},
    {"grace", read_seconds<&R::grace>},
    {"keep_running", read_flag<&R::keep_running>},
    {"ttl", read_kept_time<&Wish::ttl>},
    {"max_age", read_kept_time<&Wish::max_age>},
    {"stale", read_kept_time<&Wish::stale>},
    {"keep_failures", read_kept_time<&Wish::keep_failures>},
    {"warm",
     [](const Value& value, Reading& reading) {
         reading.request.wish.warm = flag_of(value);
         reading.request.own_wish = true;
     }},
    {"flight", read_bytes<&R::flight, Form::text>, "cancel"},
    {"signal", read_number<&R::signal, 64>, "signal"},
};

constexpr bool is_base64_of_the_one_before(std::size_t i) {
    return fields[i].name.starts_with(fields[i - 1].name) &&
           fields[i].name.substr(fields[i - 1].name.size()) == base64_ending;
}
static_assert([] {
    for (std::size_t i = 1; i < std::size(fields); ++i)
        if (fields[i].name.ends_with(base64_ending) && !is_base64_of_the_one_before(i)) return false;
    return true;
}());

// The members of a request: the text of each field's value, empty where it is not given.
bool belongs_in(std::string_view place, const std::string& op) {
    if (place == of_a_command) return op.empty() || op == forget;
    return place == anywhere || place == op;
}

class Members {
  public:
    // Throws what the text is malformed by; what was read till then is there.
    void read(JsonReader& reader) {
        reader.members([&](std::string_view name) {
            const auto* const field = std::find_if(std::begin(fields), std::end(fields),
                                                   [name](const Field& known) { return known.name == name; });
            const std::string_view value = reader.value();
            if (field == std::end(fields)) {
                if (unknown_.empty()) unknown_ = shown(name);
            } else if (std::string_view& given = values_[static_cast<std::size_t>(field - fields)]; given.empty()) {
                given = value;
            } else if (twice_ == nullptr) {
                twice_ = field;
            }
        });
        reader.end();
    }

    void read_id(Reading& reading) const {
        if (!values_[0].empty()) fields[0].read({fields[0].name, values_[0]}, reading);
    }

    void check_names() const {
        if (twice_ != nullptr) refuse("\"" + std::string(twice_->name) + "\" is given twice");
        if (!unknown_.empty()) throw Refusal{"unknown_field", "unknown field " + unknown_};
        for (std::size_t i = 1; i < std::size(fields); ++i)
            if (!values_[i].empty() && !values_[i - 1].empty() && is_base64_of_the_one_before(i))
                refuse("\"" + std::string(fields[i - 1].name) + "\" and \"" + std::string(fields[i].name) +
                       "\" exclude each other");
    }

    void read_fields(Reading& reading) const {
        for (std::size_t i = 1; i < std::size(fields); ++i)
            if (!values_[i].empty()) fields[i].read({fields[i].name, values_[i]}, reading);
    }

    // A field in the wrong place is a mistake like one that does not exist.
    void check_places(const std::string& op) const {
        for (std::size_t i = 0; i < std::size(fields); ++i)
            if (const Field& field = fields[i]; !values_[i].empty() && !belongs_in(field.place, op))
                refuse("\"" + std::string(field.name) + "\" does not belong in " +
                       (op.empty() ? "a request for a command" : "\"op\":\"" + op + "\""));
    }

    [[nodiscard]] bool given(std::string_view name) const {
        for (std::size_t i = 0; i < std::size(fields); ++i)
            if (fields[i].name == name) return !values_[i].empty();
        return false;
    }

  private:
    std::array<std::string_view, std::size(fields)> values_;
    const Field* twice_ = nullptr;
    std::string unknown_;
};

void check_whole(const Members& members, Request& request) {
    members.check_places(request.op);
    if (request.op == "cancel" && request.flight.empty()) refuse("\"flight\" is missing, or empty");
    if (request.op == "signal" && !members.given("signal")) refuse("\"signal\" is missing");
    if (!request.op.empty() && request.op != forget) return;
    const std::size_t patterns = request.ignore_env.size() + (request.only_env ? request.only_env->size() : 0);
    const std::size_t variables = request.env_changes.size() + (request.env ? request.env->size() : 0);
    if (patterns * variables > comparisons_max) refuse("there are too many patterns for so many variables");
    if (request.line && !request.argv.empty()) refuse("\"argv\" and \"line\" exclude each other");
    if (!request.line && request.argv.empty()) refuse("neither \"argv\" nor \"line\" is given");
    if (const auto wish = check(request.wish, WishWords::fields); !wish) refuse(wish.error().doing);
}

void read_object(JsonReader& reader, Reading& reading) {
    if (const Type type = reader.type(); type != Type::object) {
        static_cast<void>(reader.value());
        reader.end();
        refuse("a request must be an object, not " + std::string(name_of(type)));
    }
    Members members;
    try {
        members.read(reader);
    } catch (const JsonReader::Malformed&) {
        members.read_id(reading);
        throw;
    }
    members.read_id(reading);  // before all that may be refused: errors carry it
    members.check_names();
    members.read_fields(reading);
    check_whole(members, reading.request);
}

}  // namespace

std::variant<Request, RequestError> parse_request(std::string_view text) {
    std::variant<Request, RequestError> parsed;  // a request is large: it is read into its place
    Reading reading{std::get<Request>(parsed)};
    const auto error = [&reading](Refusal refusal) {
        return RequestError{std::move(reading.request.id), std::move(refusal.code), std::move(refusal.message)};
    };
    try {
        JsonReader reader(text, depth_max);
        read_object(reader, reading);
    } catch (Refusal& refusal) {
        parsed = error(std::move(refusal));
    } catch (const JsonReader::Malformed& malformed) {
        parsed = error(Refusal{"bad_json", "not JSON: " + malformed.why});
    }
    return parsed;
}

}  // namespace coalesce
