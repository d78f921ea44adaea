//! Files are served as they are on the disk.

use crate::site::Site;

#[test]
fn a_file_is_served_with_its_length_type_and_validators() {
    let server = Site::with([("a.css", b"body{}")]).serve();
    let reply = server.get("/a.css");
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"body{}"[..]));
    assert_eq!(reply.field("content-type"), Some("text/css; charset=utf-8"));
    for name in ["etag", "last-modified", "date", "accept-ranges", "x-content-type-options"] {
        assert!(reply.field(name).is_some(), "{name}");
    }
}
