//! Agreement with numbers computed by others, and properties over random and hostile input.

mod batches;
mod chat;
mod data;
mod masks;
mod readers;
mod training;
