// SPDX-License-Identifier: MIT
#include "cluster_terms.h"

#include <coalesce/cluster/platform.h>
#include <coalesce/io/boot_time.h>

#include <utility>

namespace coalesce {

Result<EngineAccess> access_to(EngineUrl url) {
    std::string password;
    if (!url.password_file.empty()) {
        auto read = read_private_file(url.password_file, "password", 1);
        if (!read) return Error{read.error().code, "cannot " + read.error().doing};
        password = std::move(*read);
    }
    return EngineAccess{std::move(url), std::move(password)};
}

Result<ClusterTerms> cluster_terms(const TypedSharing& sharing, bool no_share) {
    ClusterTerms terms;
    if (sharing.off || no_share) return terms;
    const char* const variable = std::getenv("COALESCE_CLUSTER");
    const std::string text = !sharing.url.empty() ? sharing.url : variable != nullptr ? variable : "";
    if (sharing.scope.empty()) {
        const std::string why =
            "without --cluster-scope, which says what files the command sees on the other machines, nothing is shared "
            "with them";
        if (!sharing.url.empty()) return Error{{}, why};
        if (!text.empty()) terms.stays_here = why;
        return terms;
    }
    if (text.empty()) {
        terms.stays_here = "there is a cluster scope, but no engine: --cluster or COALESCE_CLUSTER names it";
        return terms;
    }
    auto url = EngineUrl::parse(text);
    if (!url) return url.error();
    auto secret = Secret::read(url->secret_file);
    if (!secret) return Error{secret.error().code, "cannot " + secret.error().doing};
    terms.rules = ClusterRules{.engine = url->address(),
                               .scope = sharing.scope,
                               .platform = sharing.ignore_platform ? std::string() : own_platform()};
    auto access = access_to(std::move(*url));
    if (!access) return access.error();
    terms.circle = std::make_unique<Circle>(Circle{std::move(*access), std::move(*secret)});
    return terms;
}

std::shared_ptr<const ClusterOrders> cluster_orders(Circle circle, const FlightOrders& orders) {
    std::string name =
        name_at_engine(circle, cluster_surroundings(orders.canonical_surroundings), orders.canonical_words);
    return std::make_shared<const ClusterOrders>(
        ClusterOrders{.circle = std::move(circle), .shared_as = std::move(name), .asked = since_boot()});
}

}  // namespace coalesce
