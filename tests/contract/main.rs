//! What the repository says about itself, checked against its files: the imports between modules, the page of the
//! rules, links and the length of lines, counters, the versions that are supported, and the words.

mod counters;
mod imports;
mod lines;
mod links;
mod rules;
mod source;
mod versions;
mod words;
