//! pagecast serves a directory.
