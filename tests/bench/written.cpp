// SPDX-License-Identifier: MIT
// written BYTES: writes so many bytes to its standard output. What a static C++ program
// takes to start and to say something, which is the least that a kept result could cost.
#include <cstdio>
#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
    const std::string text(argc == 2 ? std::strtoull(argv[1], nullptr, 10) : 0, 'x');
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0 ? 0 : 1;
}
