//! Rules across keys and files, one file each, named after the code they report.

pub(crate) mod access;
pub(crate) mod contested_route;
pub(crate) mod names;
pub(crate) mod overlapping_route;
pub(crate) mod route_of_another_team;
pub(crate) mod scope_defined_twice;
pub(crate) mod shadowed_route;
pub(crate) mod unknown_name;
pub(crate) mod unregistered_scope;
pub(crate) mod unused_scope;
pub(crate) mod websocket_impossible;

pub(crate) use unknown_name::Names;
