//! The actix App of a worker: the table of contents of a request.

use std::cell::RefCell;
use std::rc::Rc;

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, apply_fn, boxed, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::{App, Error};
use futures_util::future::Either;

use crate::admin::health::Health;
use crate::site::middleware::{
    Next, Outcome, admission, authentication, cors, https_policy, transport_security,
};
use crate::site::settings::{Site, SiteSettings};

/// Wraps the site in its middleware, in the order in which they act on a request; on the response they act the other way round.
/// What is off is not in the chain: a reload builds another chain.
///
/// Request ids and log records begin and end outside, in `net::request_log`: heads that are malformed never get here and have a record
/// too, and a record is complete only when the last byte has left. The health routes answer before the chain, whatever it says.
///
/// Decision: docs/decisions/052-middleware-chain.md.
fn chain(site: &Rc<Site>) -> Chain {
    let SiteSettings { files, has_access_rules, https_policy: policy, limits, .. } = &site.settings;
    let wraps = [
        // Strict-Transport-Security belongs on every response, whichever step makes it.
        wrap(site, policy.adds_headers(), transport_security),
        // A page may read every response, errors of the following steps included.
        wrap(site, files.loader.rules.vary_by_origin(), cors),
        // Before any work is done for a client that is over its limit.
        wrap(site, limits.is_active(), admission),
        // Before credentials are read: none are requested over plain HTTP.
        wrap(site, policy.rejects(), https_policy),
        // Before the path is looked up: a closed path does not tell whether it exists.
        wrap(site, *has_access_rules, authentication),
    ];
    let site = Rc::clone(site);
    if wraps.iter().all(Option::is_none) {
        return Chain::Bare(site);
    }
    let site = boxed::rc_service(fn_service(move |request: ServiceRequest| Rc::clone(&site).serve(request)));
    Chain::Wrapped(wraps.into_iter().rev().flatten().fold(site, |next, wrap| wrap(next)))
}

/// Builds the App: the health routes, and the site as the default service.
pub(super) async fn app(
    site: &Rc<CurrentSite>,
    health: &Health,
) -> Result<impl Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static, ()> {
    let site = Rc::clone(site);
    let app = App::new()
        .configure(|app| health.configure(app))
        .default_service(fn_service(move |request: ServiceRequest| site.0.borrow().serve(request)));
    map_config(app, |()| AppConfig::default()).into_factory().new_service(()).await
}

/// The site of a worker with its middleware. Requests finish with the one that they began with.
pub(super) struct CurrentSite(RefCell<Chain>);

impl CurrentSite {
    pub(super) fn new(site: &Rc<Site>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(chain(site))))
    }

    /// Serves requests that begin from now on with `site`.
    pub(super) fn replace(&self, site: &Rc<Site>) {
        self.0.replace(chain(site));
    }
}

/// The site in its middleware. Without any the site is called directly: a boxed service costs an allocation per request.
enum Chain {
    Bare(Rc<Site>),
    Wrapped(Next),
}

impl Chain {
    /// Not `async`: a future around the site's would be as large again, and moved twice.
    fn serve(&self, request: ServiceRequest) -> impl Future<Output = Outcome> + use<> {
        match self {
            Self::Bare(site) => Either::Left(Rc::clone(site).serve(request)),
            Self::Wrapped(service) => Either::Right(service.call(request)),
        }
    }
}

/// Puts a middleware around what follows it.
type Wrap = Box<dyn FnOnce(Next) -> Next>;

/// `middleware` for `site`, if it is on. As a middleware of `from_fn`, with one allocation per request in place of three.
fn wrap<F>(site: &Rc<Site>, is_on: bool, middleware: F) -> Option<Wrap>
where
    F: AsyncFn(&Site, ServiceRequest, &Next) -> Outcome + Copy + 'static,
{
    let site = Rc::clone(site);
    let wrap = move |next| {
        boxed::rc_service(apply_fn(next, move |request, next: &Next| {
            let (site, next) = (Rc::clone(&site), Rc::clone(next));
            async move { middleware(&site, request, &next).await }
        }))
    };
    is_on.then(|| Box::new(wrap) as Wrap)
}
