//! One file for each action.

mod apply;
mod bind;
mod create;
mod delete;
mod delete_collection;
mod get;
mod list;
mod patch;
mod token;
mod update;
mod watch;

pub use bind::bind;
pub use create::create;
pub use delete::delete;
pub use delete_collection::delete_collection;
pub use get::get;
pub use list::list;
pub use patch::{CONTENT_TYPES as PATCH_CONTENT_TYPES, patch};
pub use token::token;
pub use update::update;
pub use watch::watch;
