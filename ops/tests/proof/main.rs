//! The binary as people and scripts use it, and what is thrown at it: bad events, damaged files, kills, a full disk. Whatever
//! happens, it says what is wrong and how to go on, and nothing that was taken is lost or doubled.

#![allow(clippy::unwrap_used)]

mod bad_events;
mod bad_files;
mod bisecting;
mod contents;
mod equal_views;
mod heads;
mod kept_views;
mod kills;
mod receipts;
mod sealing;
mod several;
mod signing;
mod traces;
mod world;
