#![allow(missing_docs)]
#[derive(Default, Debug, Clone, PartialEq)]
pub struct Redirects;
pub enum Redirect {
    To { status: u16, location: String },
    Rewrite { path: Vec<u8>, status: u16 },
}
impl Redirects {
    pub fn has_forced(&self) -> bool {
        false
    }
    pub fn is_empty(&self) -> bool {
        true
    }
    pub fn find(&self, _: &[u8], _: Option<&[u8]>, _: bool) -> Option<Redirect> {
        None
    }
}

pub struct BadLine {
    pub line: usize,
    pub reason: String,
}
impl Redirects {
    pub fn parse(_: &[u8]) -> Result<Self, Vec<BadLine>> {
        Ok(Self)
    }
}
