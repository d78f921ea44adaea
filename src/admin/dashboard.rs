//! `/`: the dashboard and its files. It loads nothing from other sites and runs no other script.

use std::future::ready;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use actix_web::web::ServiceConfig;

use super::respond::{Allow, route, uncached};

/// Adds the routes to an App.
pub(super) fn configure(app: &mut ServiceConfig) {
    for (path, media_type, text) in FILES {
        // Not cached: another version of the server has another page.
        let respond = move |(), _| {
            let response = uncached(StatusCode::OK)
                .insert_header((CONTENT_SECURITY_POLICY, POLICY))
                .insert_header((REFERRER_POLICY, "no-referrer"))
                .insert_header(("cross-origin-opener-policy", "same-origin"))
                .insert_header(("cross-origin-resource-policy", "same-origin"))
                .content_type(media_type)
                .body(text);
            ready(response)
        };
        route(app, path, Allow::GetHead, &(), respond);
    }
}

/// Path, media type and text of each file.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("dashboard/index.html")),
    ("/dashboard.css", "text/css; charset=utf-8", include_str!("dashboard/dashboard.css")),
    ("/dashboard.js", "text/javascript; charset=utf-8", include_str!("dashboard/dashboard.js")),
    ("/favicon.svg", "image/svg+xml", include_str!("dashboard/favicon.svg")),
];

/// Allows only the script, style, image and events of this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
