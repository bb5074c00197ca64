//! Models of a hub with the real binary, against a server on loopback that speaks the hub's routes: what is fetched,
//! what is not fetched again, and what every fault of a hub looks like.

#[path = "../common/mod.rs"]
mod common;
#[path = "../cli/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the command line")]
mod world;

mod cache;
mod faults;
mod fetch;
mod server;
mod site;
