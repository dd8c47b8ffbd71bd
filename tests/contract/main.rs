//! What the repository says about itself, checked against its files: which module may know which,
//! and that the page of the rules names what there is.

mod imports;
mod rules;
mod source;
