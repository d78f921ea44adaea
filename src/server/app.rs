//! The actix App of a worker.

use std::cell::RefCell;
use std::rc::Rc;

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::{App, Error};

use crate::admin::health::Health;
use crate::site::handler::Site;

/// Builds the App: the health routes, and the site as the default service.
pub(super) async fn app(
    site: &Rc<RefCell<Rc<Site>>>,
    health: &Health,
) -> Result<impl Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static, ()> {
    let site = Rc::clone(site);
    let app = App::new()
        .configure(|app| health.configure(app))
        .default_service(fn_service(move |request: ServiceRequest| Rc::clone(&site.borrow()).serve(request)));
    map_config(app, |()| AppConfig::default()).into_factory().new_service(()).await
}
