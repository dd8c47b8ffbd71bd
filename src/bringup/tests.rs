//! Both scripts against QEMUs of a few lines, and each step that can fail.
