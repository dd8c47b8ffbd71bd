//! What the repository says about itself, checked against its files: which module may know which,
//! that the page of the rules names what there is, and that every counter is counted.

mod counters;
mod imports;
mod rules;
mod source;
