// SPDX-License-Identifier: MIT
// The client as a consumer uses it, where there is no server.
#include <coalesce/client/client.h>

#include <iostream>
#include <string>
#include <system_error>

int main() {
    using namespace coalesce;
    Loop loop;
    Client client(loop, "/nowhere/socket");
    Request request;
    request.argv = {"true"};
    Ticket<Answered> ticket = client.run(request);
    ticket.then([](const Landing<Answered>& landing) {
        try {
            std::cout << landing.get()->outcome.describe() << '\n';
        } catch (const std::system_error& error) {
            const std::string said = error.what();
            std::cout << said << '\n';
        }
    });
    loop.run();
}
