// SPDX-License-Identifier: MIT
// Table: rows for a person, each column as wide as its widest cell.
//
// Two spaces stand before the last column, which is as long as it likes. What a terminal has no room
// for is cut off; a line that goes to a file or a program is whole. The cells are one line each, and
// in letters of one column.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <vector>

namespace coalesce {

/// What is shown of a flight's or a kept result's name.
constexpr int id_columns = 12;

class Table {
  public:
    enum class Side { left, right };
    struct Column {
        std::string title;
        Side side = Side::right;
    };

    explicit Table(std::initializer_list<Column> columns);
    /// A cell a column.
    void add(std::vector<std::string> row);
    /// The titles and the rows, as standard output has room for them.
    [[nodiscard]] std::string text() const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

}  // namespace coalesce
