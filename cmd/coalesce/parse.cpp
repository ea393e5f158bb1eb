#include "parse.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "usage.h"

namespace coalesce {
namespace {

int explain(const CLI::App& app, const CommandText& command, const CLI::ParseError& error) {
    std::string sentence = error.what();
    const auto extras = app.remaining();
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr && !extras.empty()) {
        const std::string& word = extras.front();
        sentence = word.starts_with('-') ? "unknown option " + word : "unexpected argument '" + word + "'";
        std::vector<std::string_view> names{"--help"};
        for (const OptionText& option : command.options)
            for (const std::string_view name : names_of(option)) names.push_back(name);
        const std::string bare = word.substr(0, word.find('='));
        const std::string_view near = bare.starts_with("--") ? nearest(bare, names) : std::string_view();
        if (!near.empty()) sentence += "; did you mean " + std::string(near) + "?";
    }
    return fail(sentence + " (see coalesce " + std::string(command.name) + " --help)");
}

}  // namespace

const OptionText& text_of(const CommandText& command, std::string_view flag) {
    for (const OptionText& option : command.options) {
        const auto names = names_of(option);
        if (std::find(names.begin(), names.end(), flag) != names.end()) return option;
    }
    std::abort();
}

std::optional<int> parse(CLI::App& app, const CommandText& command, int argc, char** argv) {
    bool help = false;
    app.set_help_flag();
    app.add_flag("-h,--help", help);
    app.allow_extras();  // refused below, in our own words
    try {
        app.parse(argc, argv);
        if (help) {
            std::fputs(help_of(command).c_str(), stdout);
            return std::fflush(stdout) == 0 ? 0 : fail("cannot write the help");
        }
        if (app.remaining_size() > 0) throw CLI::ExtrasError(app.remaining());
    } catch (const CLI::ParseError& error) {
        return explain(app, command, error);
    }
    return std::nullopt;
}

}  // namespace coalesce
