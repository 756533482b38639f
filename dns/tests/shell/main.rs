//! The shell round the names: messages as bytes, and the sockets that they come by.

mod fixture;
mod messages;
mod mutations;
mod oracle;
mod parity;
mod serve;
