//! What the repository says about itself, checked against its files: the imports between modules, the page of the
//! rules, links, counters, the versions that are supported, the words, and the length of lines.

mod counters;
mod imports;
mod links;
mod rules;
mod source;
mod versions;
mod width;
mod words;
