//! The contract's table as code, row by row.

mod ask;
mod bulk;
mod data;
mod home;
mod ops;
mod stats;
mod zzz;

use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder, guard, web};

use crate::problem::Problem;

/// What a path that takes only reading has.
const READ: &str = "GET, HEAD, OPTIONS";

/// Plain text, as the original sent it.
const TEXT: &str = "text/plain; charset=utf-8";

/// Every path and what it has.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    app.service(read("/", home::home))
        .service(read("/multivac", ask::ask))
        .service(resource("/multivac/data", "POST, OPTIONS").route(web::post().to(data::feed)))
        .service(resource("/multivac/data/bulk", "POST, OPTIONS").route(web::post().to(bulk::feed)))
        .service(
            resource("/multivac/data/{id}", "GET, HEAD, DELETE, OPTIONS")
                .route(reading().to(data::status))
                .route(web::delete().to(data::retract)),
        )
        .service(read("/multivac/stats", stats::stats))
        .service(read("/zzz", zzz::light))
        .service(read("/zzz/", zzz::light))
        .service(read("/healthz", ops::healthz))
        .service(read("/readyz", ops::readyz))
        .service(read("/metrics", ops::metrics))
        .service(read("/openapi.json", ops::openapi));
}

/// 404, for every other path.
pub(crate) async fn not_found() -> Problem {
    Problem::not_found("there is nothing here; /openapi.json says what there is")
}

impl Responder for Problem {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &actix_web::HttpRequest) -> HttpResponse {
        actix_web::ResponseError::error_response(&self)
    }
}

/// GET, and HEAD with the same headers.
fn reading() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn read<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    resource(path, READ).route(reading().to(handler))
}

/// A path that says what it has to who asks, and to who asks for something else.
fn resource(path: &'static str, allow: &'static str) -> Resource {
    web::resource(path)
        .route(
            web::route()
                .guard(guard::Options())
                .to(move || async move { HttpResponse::NoContent().insert_header(("Allow", allow)).finish() }),
        )
        .default_service(web::to(move || async move { Problem::method_not_allowed(allow) }))
}

/// A reply in plain text.
fn text(body: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok().content_type(TEXT).body(body.into())
}
