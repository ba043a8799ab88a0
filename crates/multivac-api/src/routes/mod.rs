//! The contract's table as code, row by row.

mod ask;
mod bulk;
mod data;
mod datum;
mod dead;
mod docs;
mod events;
mod export;
mod healthz;
mod home;
mod import;
mod metrics;
mod openapi;
mod readyz;
mod stats;
mod system;
mod zzz;

use actix_web::http::ConnectionType;
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, ResponseError, guard, web};
use multivac_core::observe::metrics as metrics_of;
use utoipa::openapi::HttpMethod;

use crate::openapi::{Described, DescribedPath};
use crate::problem::Problem;
use crate::wire;

/// Plain text, as the original application sent it.
const TEXT: &str = "text/plain; charset=utf-8";

/// Every path with its methods: what serves each, and how it is described.
fn table() -> Vec<Route> {
    vec![
        Route::new("/").get(home::home, home::describe),
        Route::new("/multivac").get(ask::ask, ask::describe),
        Route::new("/multivac/data").post(data::feed, data::describe),
        Route::new("/zzz").get(zzz::light, || zzz::describe("zzz")),
        Route::new("/zzz/").get(zzz::light, || zzz::describe("zzzSlash")),
        Route::new("/multivac/data/bulk").post(bulk::feed, bulk::describe),
        Route::new("/multivac/data/{id}")
            .get(datum::status, datum::describe_status)
            .delete(datum::retract, datum::describe_retract),
        Route::new("/multivac/stats").get(stats::stats, stats::describe),
        Route::new("/multivac/events").get(events::events, events::describe),
        Route::new("/multivac/system").get(system::system, system::describe),
        Route::new("/multivac/dead").get(dead::list, dead::describe_list),
        // Before what stands for any id.
        Route::new("/multivac/dead/retry").post(dead::retry_all, dead::describe_retry_all),
        Route::new("/multivac/dead/{id}")
            .get(dead::show, dead::describe_show)
            .delete(dead::discard, dead::describe_drop),
        Route::new("/multivac/dead/{id}/retry").post(dead::retry, dead::describe_retry),
        Route::new("/multivac/export").get(export::export, export::describe),
        Route::new("/multivac/import").post(import::import, import::describe),
        Route::new("/healthz").get(healthz::healthz, healthz::describe),
        Route::new("/readyz").get(readyz::readyz, readyz::describe),
        Route::new("/metrics").get(metrics::metrics, metrics::describe),
        Route::new("/openapi.json").get(openapi::openapi, openapi::describe),
        Route::new("/docs").get(docs::docs, docs::describe),
    ]
}

/// Has the metrics of all routes begin at 0, with the statuses that objectives are about.
pub(crate) fn expect_requests() {
    for route in table() {
        for (method, _) in &route.methods {
            let (method, statuses): (_, &[&str]) = match method {
                HttpMethod::Delete => ("DELETE", &["202", "204", "500", "503"]),
                HttpMethod::Post => ("POST", &["200", "500", "503"]),
                _ => ("GET", &["200", "500", "503"]),
            };
            statuses.iter().for_each(|status| metrics_of::expect_requests(route.path, method, status));
        }
    }
}

/// Serves the table.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    for route in table() {
        app.service(route.into_resource());
    }
}

/// 404, for every other path; for a request that was refused before it came here, what was wrong with it.
pub(crate) async fn not_found(request: HttpRequest) -> HttpResponse {
    let refusal = request.conn_data::<wire::Refusal>().filter(|_| request.path() == wire::PATH);
    let Some(wire::Refused { problem, is_head }) = refusal.and_then(wire::Refusal::take) else {
        return Problem::not_found("there is nothing here; /openapi.json says what there is").error_response();
    };
    let mut reply = problem.error_response();
    reply.head_mut().set_connection_type(ConnectionType::Close);
    if is_head { reply.drop_body().map_into_boxed_body() } else { reply }
}

/// The path in the table that a request belongs to; of one that belongs to none, none is known.
#[derive(Clone, Copy)]
pub(crate) struct RoutePath(pub(crate) &'static str);

/// A path and its methods. `GET` brings `HEAD` with it, and every path has `OPTIONS`.
struct Route {
    path: &'static str,
    resource: Resource,
    methods: Vec<(HttpMethod, fn() -> Described)>,
}

impl Route {
    fn new(path: &'static str) -> Self {
        Self { path, resource: web::resource(path), methods: Vec::new() }
    }

    fn get<F, Args>(self, handler: F, describe: fn() -> Described) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let route = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        self.method(HttpMethod::Get, route.to(handler), describe)
    }

    fn post<F, Args>(self, handler: F, describe: fn() -> Described) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method(HttpMethod::Post, web::post().to(handler), describe)
    }

    fn delete<F, Args>(self, handler: F, describe: fn() -> Described) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.method(HttpMethod::Delete, web::delete().to(handler), describe)
    }

    fn method(mut self, method: HttpMethod, route: actix_web::Route, describe: fn() -> Described) -> Self {
        self.methods.push((method, describe));
        Self { resource: self.resource.route(route), ..self }
    }

    /// The `Allow` header: every method that the path has.
    fn allow(&self) -> String {
        let names = self.methods.iter().map(|(method, _)| match method {
            HttpMethod::Get => "GET, HEAD",
            HttpMethod::Post => "POST",
            HttpMethod::Delete => "DELETE",
            _ => unreachable!("the table has no other methods"),
        });
        names.chain(["OPTIONS"]).collect::<Vec<_>>().join(", ")
    }

    fn into_resource(self) -> Resource {
        let allow = self.allow();
        let allowed = allow.clone();
        let options = move || {
            let allowed = allowed.clone();
            async move { HttpResponse::NoContent().insert_header(("Allow", allowed)).finish() }
        };
        let other = move || {
            let allow = allow.clone();
            async move { Problem::method_not_allowed(&allow) }
        };
        let options = web::route().guard(guard::Options()).to(options);
        self.resource.app_data(RoutePath(self.path)).route(options).default_service(web::to(other))
    }

    fn described(&self) -> DescribedPath {
        let operations = self.methods.iter().map(|(method, describe)| (method.clone(), describe())).collect();
        DescribedPath { path: self.path, allow: self.allow(), operations }
    }
}

/// A reply in plain text.
fn text(body: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok().content_type(TEXT).body(body.into())
}
