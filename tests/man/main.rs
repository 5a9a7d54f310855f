//! The manual pages and the READMEs say what the program does: every command, option, exit code, element, attribute,
//! method, property, signal, field and message id is in them, and nothing else is.

mod bus;
mod commands;
mod configuration;
mod documents;
mod page;
mod schema;
