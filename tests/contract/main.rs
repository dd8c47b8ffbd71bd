//! What the repository says about itself, checked against its files: which module may know which,
//! that the page of the rules names what there is, that links lead somewhere, that every counter is counted, and that the
//! versions that are supported are the same everywhere.

mod counters;
mod imports;
mod links;
mod rules;
mod source;
mod versions;
