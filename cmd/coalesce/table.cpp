// SPDX-License-Identifier: MIT
#include "table.h"

#include <coalesce/io/terminal.h>

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

namespace coalesce {
namespace {

// The text in at most that many columns; some letters take none, or two: the line may
// then be shorter, or be wrapped after all.
std::string_view cut(std::string_view text, std::size_t columns) {
    const auto begins_letter = [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; };
    std::size_t letters = 0;
    for (std::size_t i = 0; i < text.size(); ++i)
        if (begins_letter(text[i]) && letters++ == columns) return text.substr(0, i);
    return text;
}

}  // namespace

Table::Table(std::initializer_list<Column> columns) : columns_(columns) {
    std::vector<std::string> titles;
    for (const Column& column : columns_) titles.push_back(column.title);
    rows_.push_back(std::move(titles));
}

void Table::add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

std::string Table::text() const {
    std::vector<std::size_t> widths(columns_.size());
    for (const auto& row : rows_)
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    const std::size_t room = terminal_columns(STDOUT_FILENO).value_or(SIZE_MAX);
    std::string text;
    for (const auto& row : rows_) {
        std::string line;
        for (std::size_t i = 0; i + 1 < row.size(); ++i) {
            const std::string space(widths[i] - row[i].size(), ' ');
            if (i > 0) line += ' ';
            line += columns_[i].side == Side::left ? row[i] + space : space + row[i];
        }
        line += "  " + row.back();
        text.append(cut(line, room)).append("\n");
    }
    return text;
}

}  // namespace coalesce
