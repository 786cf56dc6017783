use crate::route_table::fold_case;
use crate::{Host, MethodSet, PathPattern, Requirement};

/// Place of a route in its table; an index for whatever else is kept for each route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteId(u32);

impl RouteId {
    /// The route at `index`.
    #[must_use]
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Index of the route.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which requests a route is for, and what they need.
#[derive(Debug)]
pub struct Route {
    /// Place in the table.
    pub id: RouteId,
    /// Unique name.
    pub name: Box<str>,
    /// The team that answers for it.
    pub owner: Box<str>,
    /// The only host it is for; `None` is any.
    pub host: Option<Host>,
    /// The paths it is for.
    pub path: PathPattern,
    /// The methods it is for.
    pub methods: MethodSet,
    /// Who may call.
    pub access: Access,
}

/// Who may call a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Anybody, with or without a token. No token is looked at.
    Public,
    /// Whoever presents an access token that meets the requirement.
    Protected(Requirement),
}

impl Route {
    /// Whether some host and path belong to both routes, whatever their methods.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.shares_hosts_with(other) && self.path.overlaps(&other.path)
    }

    /// Whether some service may take a request of one of the routes for one of the other, as
    /// [`RouteTable::find`](crate::RouteTable::find) has it: they overlap, whatever the case of their literals.
    #[must_use]
    pub fn can_be_mistaken_for(&self, other: &Self) -> bool {
        self.shares_hosts_with(other)
            && self.path.meets(&other.path, |mine, theirs| {
                fold_case(mine.as_bytes()) == fold_case(theirs.as_bytes())
            })
    }

    /// Whether the two meet once case has no regard, and not otherwise.
    #[must_use]
    pub fn meets_in_another_case(&self, other: &Self) -> bool {
        self.can_be_mistaken_for(other) && !self.overlaps(other)
    }

    /// Whether a service may serve requests of one of the routes as those of the other, although that one
    /// needs something else of its callers: the two cross, so that routers disagree on which of them comes
    /// first, or they meet in another case.
    #[must_use]
    pub fn is_contested_by(&self, other: &Self) -> bool {
        let crosses = || {
            self.host == other.host
                && self.path.overlaps(&other.path)
                && !self.path.is_within(&other.path)
                && !other.path.is_within(&self.path)
        };
        self.access != other.access
            && self.methods.intersects(other.methods)
            && (crosses() || self.meets_in_another_case(other))
    }

    fn shares_hosts_with(&self, other: &Self) -> bool {
        match (&self.host, &other.host) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (None, _) | (_, None) => true,
        }
    }

    /// Whether some request belongs to both routes with equal weight, so that neither wins.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.shares_path_with(other) && self.methods.intersects(other.methods)
    }

    /// Whether some request belongs to both routes, and this one wins.
    #[must_use]
    pub fn takes_from(&self, other: &Self) -> bool {
        self.overlaps(other)
            && match (&self.host, &other.host) {
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(_), Some(_)) | (None, None) => self.path.is_before(&other.path),
            }
    }

    /// Whether the two are for the same hosts and paths, whatever their methods.
    #[must_use]
    pub fn shares_path_with(&self, other: &Self) -> bool {
        self.host == other.host && self.path.has_shape_of(&other.path)
    }

    /// Whether `wider` would have been asked for some requests of an exact host, had this route not
    /// been more specific by its host alone.
    #[must_use]
    pub fn shadows_by_host(&self, wider: &Self) -> bool {
        self.host.is_some()
            && wider.host.is_none()
            && self.path.overlaps(&wider.path)
            && !self.path.is_within(&wider.path)
    }
}

#[cfg(test)]
mod tests;
