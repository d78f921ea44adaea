//! `/`: the dashboard and its files. It loads nothing from other sites and runs no other script.

use std::future::ready;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use actix_web::web::ServiceConfig;

use super::respond::{Allow, route, uncached};

/// Adds the routes to an App.
pub(super) fn configure(app: &mut ServiceConfig) {
    for Embedded { path, media_type, text } in FILES {
        // Not cached: another version of the server has another page.
        let response = || {
            uncached(StatusCode::OK)
                .insert_header((CONTENT_SECURITY_POLICY, POLICY))
                .insert_header((REFERRER_POLICY, "no-referrer"))
                .insert_header(("cross-origin-opener-policy", "same-origin"))
                .insert_header(("cross-origin-resource-policy", "same-origin"))
                .content_type(*media_type)
                .body(*text)
        };
        route(app, path, Allow::GetHead, move |_| ready(response()));
    }
}

struct Embedded {
    path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const FILES: &[Embedded] = &[
    Embedded {
        path: "/",
        media_type: "text/html; charset=utf-8",
        text: include_str!("dashboard/index.html"),
    },
    Embedded {
        path: "/dashboard.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("dashboard/dashboard.css"),
    },
    Embedded {
        path: "/dashboard.js",
        media_type: "text/javascript; charset=utf-8",
        text: include_str!("dashboard/dashboard.js"),
    },
    Embedded {
        path: "/favicon.svg",
        media_type: "image/svg+xml",
        text: include_str!("dashboard/favicon.svg"),
    },
];

/// Allows only the script, style, image and events of this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
