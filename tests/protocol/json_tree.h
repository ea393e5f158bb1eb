// SPDX-License-Identifier: MIT
// A text taken by JsonReader as a tree of the JSON library's, which is the reference for
// what JSON is in the tests and in the fuzzer.
#pragma once

#include <coalesce/protocol/json_reader.h>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

inline nlohmann::json tree_of(coalesce::JsonReader& reader) {
    using Type = coalesce::JsonReader::Type;
    switch (reader.type()) {
        case Type::null:
            reader.null();
            return nullptr;
        case Type::boolean:
            return reader.boolean();
        case Type::number:
            return nlohmann::json::parse(reader.number(), nullptr, false);
        case Type::string:
            return reader.string();
        case Type::array: {
            auto array = nlohmann::json::array();
            reader.elements([&] { array.push_back(tree_of(reader)); });
            return array;
        }
        case Type::object: {
            auto object = nlohmann::json::object();
            reader.members([&](std::string_view name) {
                const std::string key(name);
                object[key] = tree_of(reader);
            });
            return object;
        }
    }
    return {};
}

// Numbers that the library's types cannot hold are errors for it.
inline bool beyond_the_library(std::string_view text) {
    constexpr std::size_t digits_of_the_greatest = 308;
    return text.size() > digits_of_the_greatest || text.find_first_of("eE") != std::string_view::npos;
}
