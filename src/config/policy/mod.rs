//! What the site's rules and site-wide settings say about each path.

pub mod rules;
