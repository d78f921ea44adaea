//! `/`: the page that an operator looks at, and its files. It loads nothing from elsewhere, and runs nothing else.

use actix_web::http::Method;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

/// Adds the routes to an App.
pub(super) fn configure(app: &mut ServiceConfig) {
    for Embedded { path, media_type, text } in FILES {
        app.service(web::resource(*path).to(move |request: HttpRequest| async move {
            if ![Method::GET, Method::HEAD].contains(request.method()) {
                return HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET, HEAD")).finish();
            }
            HttpResponse::Ok()
                // Another version of the server has another page.
                .insert_header((CACHE_CONTROL, "no-store"))
                .insert_header((CONTENT_SECURITY_POLICY, POLICY))
                .insert_header((REFERRER_POLICY, "no-referrer"))
                .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .insert_header(("cross-origin-opener-policy", "same-origin"))
                .insert_header(("cross-origin-resource-policy", "same-origin"))
                .content_type(*media_type)
                .body(*text)
        }));
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

/// Its own script, style, picture and events, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
