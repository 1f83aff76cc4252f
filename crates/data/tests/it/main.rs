//! Agreement with numbers computed by others, and properties over random and hostile input.

mod chat;
