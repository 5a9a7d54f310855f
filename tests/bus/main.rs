//! The service side of the bus, against a real bus daemon: private, with the policy that is installed. The other end of
//! the channels is a stand-in for the daemon that answers as it is told.

mod bus;
mod client;
mod instance;
mod stand_in;

mod acting;
mod contract;
mod names;
mod rights;
mod told;
