// SPDX-License-Identifier: MIT
#include <coalesce/cluster/resp.h>

#include <hiredis/read.h>

#include <new>
#include <system_error>
#include <utility>

#include <coalesce/command/number.h>

namespace coalesce {
namespace {

// An old hiredis has a bound of its own, a newer one none, and to put away what is nested takes a stack.
bool may_nest(const redisReadTask* task) {
    int depth = 0;
    for (; task != nullptr; task = task->parent) ++depth;
    return depth <= RespReader::reply_depth_max;
}

}  // namespace

// hiredis builds a reply through callbacks. Only the innermost open array grows, so the places
// of those around it stay where they are.
struct RespReader::Tree {
    RespValue root;
    std::size_t values = 0;
    bool refused = false;

    RespValue* add(const redisReadTask* task, RespValue::Kind kind) {
        if (++values > reply_values_max || !may_nest(task)) {
            refused = true;
            return nullptr;  // which hiredis takes for want of memory
        }
        RespValue* value = &root;
        if (task->parent != nullptr)
            value = &static_cast<RespValue*>(task->parent->obj)->elements.emplace_back();
        else
            root = {};
        value->kind = kind;
        return value;
    }
};

namespace {

RespReader::Tree& tree_of(const redisReadTask* task) { return *static_cast<RespReader::Tree*>(task->privdata); }

void* make_text(const redisReadTask* task, char* text, std::size_t length) {
    RespValue::Kind kind = RespValue::Kind::bytes;
    if (task->type == REDIS_REPLY_STATUS) kind = RespValue::Kind::status;
    if (task->type == REDIS_REPLY_ERROR) kind = RespValue::Kind::error;
    RespValue* const value = tree_of(task).add(task, kind);
    if (value != nullptr) value->text.assign(text, length);
    return value;
}

void* make_integer(const redisReadTask* task, long long number) {
    RespValue* const value = tree_of(task).add(task, RespValue::Kind::integer);
    if (value != nullptr) value->number = number;
    return value;
}

void* make_nothing(const redisReadTask* task) { return tree_of(task).add(task, RespValue::Kind::nothing); }

// The counts are of different types in 0.14 and 1.0, which also has kinds of RESP3, refused here.
template <class Functions>
Functions functions_for_hiredis() {
    Functions functions{};
    functions.createString = make_text;
    functions.createArray = [](const redisReadTask* task, auto) -> void* {
        return task->type == REDIS_REPLY_ARRAY ? tree_of(task).add(task, RespValue::Kind::array) : nullptr;
    };
    functions.createInteger = make_integer;
    functions.createNil = make_nothing;
    if constexpr (requires { functions.createDouble; })
        functions.createDouble = [](const redisReadTask*, double, char*, std::size_t) -> void* { return nullptr; };
    if constexpr (requires { functions.createBool; })
        functions.createBool = [](const redisReadTask*, int) -> void* { return nullptr; };
    functions.freeObject = [](void*) {};  // the tree is ours
    return functions;
}

Error not_understood(const std::string& why) {
    return {std::make_error_code(std::errc::protocol_error), "understand the engine's answer (" + why + ")"};
}

template <class Words>
void append_words(std::string& out, const Words& words) {
    const auto append_number = [&out](char kind, std::size_t number) {
        out += kind;
        out += std::to_string(number);
        out += "\r\n";
    };
    append_number('*', words.size());
    for (const auto& word : words) {
        append_number('$', word.size());
        out += word;
        out += "\r\n";
    }
}

}  // namespace

const RespValue& RespValue::at(std::size_t index) const noexcept {
    static const RespValue none;
    return index < elements.size() ? elements[index] : none;
}

std::string RespValue::words() const {
    if (kind == Kind::integer) return std::to_string(number);
    return kind == Kind::bytes || kind == Kind::status ? text : std::string();
}

std::optional<std::int64_t> RespValue::integer() const noexcept {
    if (kind == Kind::integer) return number;
    if (kind != Kind::bytes) return std::nullopt;
    std::int64_t read = 0;
    if (!read_whole_number(text, read)) return std::nullopt;
    return read;
}

void append_request(std::string& out, std::span<const std::string_view> words) { append_words(out, words); }
void append_request(std::string& out, std::span<const std::string> words) { append_words(out, words); }

void RespReader::Free::operator()(redisReader* reader) const noexcept { redisReaderFree(reader); }

RespReader::RespReader() : tree_(std::make_unique<Tree>()) {
    static redisReplyObjectFunctions functions = functions_for_hiredis<redisReplyObjectFunctions>();
    reader_.reset(redisReaderCreateWithFunctions(&functions));
    if (!reader_) throw std::bad_alloc();
    reader_->privdata = tree_.get();
    reader_->maxbuf = 0;  // keeps no empty buffer of a long reply
}

RespReader::~RespReader() = default;

Result<> RespReader::feed(std::span<const char> bytes) {
    if (since_reply_ + bytes.size() > reply_bytes_max) return not_understood("it is longer than 8 MiB");
    since_reply_ += bytes.size();
    if (redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) != REDIS_OK) return not_understood(reader_->errstr);
    return {};
}

Result<std::optional<RespValue>> RespReader::next() {
    void* reply = nullptr;
    if (redisReaderGetReply(reader_.get(), &reply) != REDIS_OK)
        return not_understood(tree_->refused ? "it has too many values, or nests too deep" : reader_->errstr);
    if (reply == nullptr) return std::optional<RespValue>();
    tree_->values = 0;
    since_reply_ = reader_->len - reader_->pos;
    return std::optional(std::move(tree_->root));
}

}  // namespace coalesce
