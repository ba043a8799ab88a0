//! What listens: connections to requests, and requests to the routes.
//!
//! It is put together of the parts that actix-web's own `HttpServer` is made of, since that lets nothing come between a
//! connection and actix-http, and knows no other way with `Expect` than to ask for every body.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::error::DispatchError;
use actix_http::{HttpService, Method, Request, Response};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpMessage, ResponseError, web};
use multivac_core::runtime::hosts::KnownHosts;
use tokio::net::TcpStream;

use crate::problem::Problem;
use crate::state::State;
use crate::trace::RequestTrace;
use crate::wire::Wire;
use crate::{body, middleware, origin, routes};

/// How long an idle connection is kept: longer than nginx keeps those to its upstreams (60 s), so that nginx closes them,
/// and never sends a request on one that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long a client may take to close a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How it serves.
pub(crate) struct Settings {
    /// The threads that serve.
    pub(crate) threads: usize,
    /// Connections of each thread at once.
    pub(crate) max_connections: usize,
    /// How long requests may take to finish once it is to stop.
    pub(crate) shutdown_timeout: Duration,
}

/// Serves the routes to whoever connects, until it is stopped.
pub(crate) fn start(
    state: web::Data<State>,
    hosts: KnownHosts,
    listener: TcpListener,
    settings: Settings,
) -> io::Result<Server> {
    let hosts = web::Data::new(hosts);
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    let serve = move || {
        let app = App::new()
            .app_data(state.clone())
            .app_data(hosts.clone())
            .wrap(from_fn(origin::refuse_foreign))
            .wrap(from_fn(middleware::observe))
            .configure(routes::configure)
            .default_service(web::to(routes::not_found));
        let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
        let (connections, stopping) = (Arc::clone(&state.connections), stopping.clone());
        let limit = state.max_datum_size;
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            // The wire waits for heads.
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .on_connect_ext(move |wire: &Wire, extensions| {
                connections.count(extensions);
                extensions.insert(wire.refusal());
                extensions.insert(wire.used());
            })
            .expect(fn_service(move |request| async move { expect(request, limit) }))
            .h1(map_config(app, |()| AppConfig::default()));
        fn_service(|stream: TcpStream| async {
            let wire = Wire::new(stream);
            let peer = wire.peer_address();
            Ok::<_, DispatchError>((wire, peer))
        })
        .and_then(http)
    };
    let builder = builder
        .workers(settings.threads)
        .max_concurrent_connections(settings.max_connections)
        .shutdown_timeout(settings.shutdown_timeout.as_secs())
        .disable_signals()
        .listen("http", listener, serve)?;
    Ok(builder.run())
}

/// What a client gets that waits for leave to send a body (`Expect: 100-continue`): the leave, or the refusal of a datum whose
/// declared length is over the limit.
fn expect(request: Request, limit: usize) -> Result<Request, Response<BoxBody>> {
    let is_datum = request.method() == Method::POST && request.path() == "/multivac/data";
    if !is_datum || !body::is_declared_too_large(request.headers(), limit) {
        return Ok(request);
    }
    let trace = RequestTrace::start(request.head());
    let response = {
        let _in_request = trace.context().attach();
        Problem::too_large(limit).error_response()
    };
    trace.end(Some("/multivac/data"), response.status());
    Err(response.into())
}
