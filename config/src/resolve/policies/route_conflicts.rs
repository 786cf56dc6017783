//! Routes against each other: which overlap, which cross the border of another team, which a service may
//! take for each other, and which are shadowed by a host.

use std::collections::HashSet;
use std::sync::Arc;

use portcullis_policy::{MethodSet, PathIndex, Route, RouteTable};

use super::{Found, PolicyResolver};
use crate::check::contested_route::contested_route;
use crate::check::overlapping_route::overlapping_route;
use crate::check::route_of_another_team::route_of_another_team;
use crate::check::shadowed_route::shadowed_route;

impl PolicyResolver<'_> {
    pub(super) fn route_table(&mut self) -> Option<RouteTable> {
        for second in &self.found {
            for (first, _) in &self.surroundings.routes {
                if first.conflicts_with(&second.route.policy) {
                    let path = second.path.join("match");
                    let error = overlapping_route(
                        second.source,
                        &path,
                        &second.route.policy,
                        first,
                        None,
                        None,
                    );
                    self.diagnostics.push(error);
                }
            }
        }
        let conflicts = match RouteTable::new(
            self.found
                .iter()
                .map(|found| Arc::clone(&found.route.policy)),
        ) {
            Ok(table) => return Some(table),
            Err(conflicts) => conflicts,
        };
        for conflict in conflicts {
            let (first, second) = (
                self.found.get(conflict.first.index()),
                self.found.get(conflict.second.index()),
            );
            let (Some(first), Some(second)) = (first, second) else {
                continue;
            };
            let place = first.source.place_name(&first.path.join("match"));
            self.diagnostics.push(overlapping_route(
                second.source,
                &second.path.join("match"),
                &second.route.policy,
                &first.route.policy,
                Some(first.source.path()),
                Some(place),
            ));
        }
        None
    }

    /// No route takes requests from one of another team that does not yield to it. Reported once for
    /// each route and team.
    pub(super) fn check_borders(&mut self) {
        struct Wider<'w> {
            route: &'w Route,
            yields_to: &'w [String],
            found: Option<&'w Found<'w>>,
        }
        let foreign = self.surroundings.routes.iter();
        let foreign = foreign.map(|(route, yields_to)| Wider {
            route,
            yields_to,
            found: None,
        });
        let own = self.found.iter().map(|found| Wider {
            route: &found.route.policy,
            yields_to: &found.route.yields_to,
            found: Some(found),
        });
        let all = foreign.chain(own);
        let all = PathIndex::new(all.map(|wider| (&wider.route.path, wider)));
        let mut errors = Vec::new();
        for found in &self.found {
            let route = &*found.route.policy;
            let mut told = HashSet::new();
            for wider in all.near(&route.path) {
                let other = wider.route;
                if other.owner == route.owner {
                    continue;
                }
                // A path has one owner, for all its methods and in all its cases, unless both of two
                // agree. It is told once; with methods in common it is an overlap.
                let shares_path =
                    route.shares_path_with(other) || route.meets_in_another_case(other);
                let is_second = || {
                    let first = wider.found.map(|first| first.route.policy.id.index());
                    first.is_none_or(|first| first < route.id.index())
                };
                let meets = match shares_path {
                    true => is_second() && !route.conflicts_with(other),
                    false => route.takes_from(other),
                };
                if !meets {
                    continue;
                }
                let yields = |owner: &str, to: &[String]| to.iter().any(|team| *team == *owner);
                let is_agreed = yields(&route.owner, wider.yields_to)
                    && (!shares_path || yields(&other.owner, &found.route.yields_to));
                if !is_agreed && told.insert(&other.owner) {
                    let place = wider
                        .found
                        .map(|found| found.source.place_name(&found.path.join("match")));
                    errors.push(route_of_another_team(
                        found.source,
                        &found.path.join("match"),
                        route,
                        wider.route,
                        wider.found.map(|found| found.source.path()),
                        place,
                    ));
                }
            }
        }
        self.diagnostics.extend(errors);
    }

    /// Routes of one service that it may rank or compare in another way, unless routes of their own say what
    /// is needed for the requests that they have in common. Told once for each route.
    pub(super) fn warn_about_contested_routes(&mut self) {
        let found = self.found.iter();
        let all = PathIndex::new(found.map(|found| (&found.route.policy.path, found)));
        let is_settled = |one: &Route, other: &Route| {
            let Some(meeting) = one.path.meeting(&other.path) else {
                return false;
            };
            let settling = all
                .near(&meeting)
                .into_iter()
                .map(|found| &found.route.policy);
            let methods = settling
                .filter(|it| it.host == one.host && it.path.has_shape_of(&meeting))
                .fold(MethodSet::default(), |all, it| all.union(it.methods));
            let shared = one.methods.intersection(other.methods);
            methods.intersection(shared) == shared
        };
        for second in &self.found {
            let route = &*second.route.policy;
            let contested = all.near(&route.path).into_iter().find(|first| {
                let other = &*first.route.policy;
                first.route.upstream == second.route.upstream
                    && other.id.index() < route.id.index()
                    && route.is_contested_by(other)
                    && !is_settled(route, other)
            });
            if let Some(first) = contested {
                let place = first.source.place_name(&first.path.join("match"));
                self.diagnostics.push(contested_route(
                    second.source,
                    &second.path.join("match"),
                    route,
                    &first.route.policy,
                    &place,
                ));
            }
        }
    }

    pub(super) fn warn_about_shadowed_routes(&mut self) {
        let (of_a_host, of_any): (Vec<_>, Vec<_>) = self
            .found
            .iter()
            .partition(|found| found.route.policy.host.is_some());
        for shadowing in of_a_host {
            for wider in of_any
                .iter()
                // Of another team it is an error already, or meant.
                .filter(|found| found.route.policy.owner == shadowing.route.policy.owner)
                .filter(|found| shadowing.route.policy.shadows_by_host(&found.route.policy))
            {
                let place = wider.source.place_name(&wider.path.join("match"));
                self.diagnostics.push(shadowed_route(
                    shadowing.source,
                    &shadowing.path.join("match"),
                    &shadowing.route.policy,
                    &wider.route.policy,
                    &place,
                ));
            }
        }
    }
}
