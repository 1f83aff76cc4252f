//! The store, its sinks and the pages made from it.

mod pages;
mod stores;
